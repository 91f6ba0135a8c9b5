//! [`Storage`]: where the sessions of the demo site live, for the server and its programs alike.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cgi_session::{Config, FileStore, SessionManager};

const PREFIX: &str = "CGI_SESSION_";
const CONFIG: &str = "CGI_SESSION_CONFIG";
const DIRECTORY: &str = "CGI_SESSION_STORAGE_FILE_DIR";

/// When sessions end, as the configuration says.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    pub(super) timeout: Duration,
    pub(super) lifetime: Option<Duration>,
}

/// The store that all programs of the site share, and the variables that tell them so.
pub(super) struct Storage {
    manager: SessionManager,
    store: FileStore,
    variables: Vec<(OsString, OsString)>,
}

impl Storage {
    /// What the command line names; then what the environment names; then, for a binary that cargo
    /// built, a directory beside it; then the configuration that every program finds.
    pub(super) fn find(config: Option<&Path>, directory: Option<&Path>) -> Result<Self, String> {
        let absolute = |path: &Path| {
            std::path::absolute(path)
                .map_err(|error| format!("cannot use {}: {error}", path.display()))
        };
        let mut config = config.map(absolute).transpose()?;
        let directory = directory.map(absolute).transpose()?;
        let is_told = [CONFIG, DIRECTORY]
            .iter()
            .any(|name| env::var_os(name).is_some());
        if config.is_none()
            && directory.is_none()
            && !is_told
            && let Some(target) = cargo_target()
        {
            let home = target.join("cgi-session-demo");
            let file = make_home(&home)
                .map_err(|error| format!("cannot keep sessions in {}: {error}", home.display()))?;
            config = Some(file);
        }
        Storage::open(config.as_deref(), directory.as_deref())
    }

    fn open(config: Option<&Path>, directory: Option<&Path>) -> Result<Self, String> {
        let settings = directory.map(|directory| ("storageFileDir", directory.as_os_str()));
        let found = Config::find_with(config, settings.as_slice()).map_err(|error| {
            format!("{error}\n  or pass --storage-file-dir DIR or --config FILE")
        })?;
        let store = FileStore::new(&found).map_err(|error| error.to_string())?;
        let manager =
            cgi_session_tools::stores::manager(found).map_err(|error| error.to_string())?;
        let inherited = env::vars_os()
            .filter(|(name, _)| name.to_str().is_some_and(|name| name.starts_with(PREFIX)));
        let mut variables: Vec<_> = inherited.collect();
        // The last of several variables of one name counts.
        for (name, path) in [(CONFIG, config), (DIRECTORY, directory)] {
            variables.extend(path.map(|path| (name.into(), path.into())));
        }
        Ok(Storage {
            manager,
            store,
            variables,
        })
    }

    /// Where the session files are.
    pub(super) fn directory(&self) -> &Path {
        self.store.directory()
    }

    /// How long a session lives unused, and in any case.
    pub(super) fn limits(&self) -> Limits {
        let config = self.manager.config();
        Limits {
            timeout: config.timeout(),
            lifetime: config.lifetime(),
        }
    }

    /// What a program needs in its environment to find the same sessions.
    pub(super) fn variables(&self) -> impl Iterator<Item = (&OsStr, &OsStr)> {
        let pairs = self.variables.iter();
        pairs.map(|(name, value)| (name.as_os_str(), value.as_os_str()))
    }

    /// The file of the session that a visitor's Cookie header names, whether or not there is one.
    pub(super) fn file_of(&self, cookie_header: &[u8]) -> Option<PathBuf> {
        let id = self.manager.session_id(cookie_header)?;
        Some(self.store.path(&id))
    }
}

/// The target directory that this binary was built in, known by the mark that cargo leaves there.
fn cargo_target() -> Option<PathBuf> {
    let program = env::current_exe().ok()?;
    let is_target = |directory: &&Path| {
        fs::read_to_string(directory.join("CACHEDIR.TAG"))
            .is_ok_and(|text| text.contains("created by cargo"))
    };
    let target = program.ancestors().skip(1).find(is_target)?;
    Some(target.to_owned())
}

/// Makes the home of the demo's sessions and a configuration file that leads there, so that
/// neither a configuration of this machine nor the demo disturbs the other.
fn make_home(home: &Path) -> io::Result<PathBuf> {
    fs::create_dir_all(home)?;
    let file = home.join("cgi-session.ini");
    let text = format!(
        "# Written by `cgi-session serve`, for the demo site only.\n[session]\nstorageFileDir = {}\n",
        home.join("sessions").display()
    );
    if fs::read_to_string(&file).is_ok_and(|known| known == text) {
        return Ok(file);
    }
    // Another server may be starting: it sees the old file or the new one, never half of it.
    let temporary = home.join(format!(".cgi-session.ini.{}", std::process::id()));
    fs::write(&temporary, text)?;
    fs::rename(&temporary, &file)?;
    Ok(file)
}
