//! A directory with sessions and the configuration that names it.

use crate::prelude::*;

/// A site's files, deleted with the value.
pub struct Site {
    directory: tempfile::TempDir,
}

impl Site {
    /// A site with the shipped configuration, whose `storageFileDir` does not exist yet.
    pub fn new() -> Self {
        Site::with_settings("")
    }

    /// The same with further lines in the configuration.
    pub fn with_settings(settings: &str) -> Self {
        // Short, because the path of a socket below it must be shorter than 108 bytes.
        let directory = tempfile::Builder::new()
            .prefix("site")
            .tempdir_in("/tmp")
            .unwrap();
        // The web server's user must be able to pass.
        fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
        let site = Site { directory };
        fs::write(site.config(), site.shipped_settings() + settings).unwrap();
        site
    }

    fn shipped_settings(&self) -> String {
        let shipped = fs::read_to_string(repository("examples/deploy/cgi-session.ini")).unwrap();
        let sessions = self.sessions();
        let set = shipped.replace("/var/lib/cgi-session", sessions.to_str().unwrap());
        assert_ne!(
            set, shipped,
            "the shipped configuration names another directory"
        );
        set
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    pub fn config(&self) -> PathBuf {
        self.path().join("cgi-session.ini")
    }

    pub fn sessions(&self) -> PathBuf {
        self.path().join("sessions")
    }

    /// A directory in which programs of Apache's find commands, for a test to make.
    pub fn tools(&self) -> PathBuf {
        self.path().join("tools")
    }

    /// Makes the directory of the sessions, for this user if root runs the tests.
    pub fn make_sessions(&self, owner: Option<(u32, u32)>) {
        fs::create_dir(self.sessions()).unwrap();
        fs::set_permissions(self.sessions(), Permissions::from_mode(0o700)).unwrap();
        give(&self.sessions(), owner);
    }

    /// The names in the directory of the sessions, sorted, without those of the clean-up.
    pub fn files(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.sessions()) else {
            return Vec::new();
        };
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name != ".gc" && name != ".count")
            .collect();
        names.sort();
        names
    }

    /// The file of the only session.
    #[track_caller]
    pub fn only_file(&self) -> PathBuf {
        let files = self.files();
        assert_eq!(files.len(), 1, "{files:?}");
        self.sessions().join(&files[0])
    }
}
