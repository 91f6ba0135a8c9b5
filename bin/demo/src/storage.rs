//! [`DemoStorage`]: where the sessions of the demo site are, for the server and its programs alike.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cgi_session::{FileStore, SessionManager};
use cgi_session_tools::serve::Storage;

/// When sessions end, as the configuration says.
#[derive(Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) timeout: Duration,
    pub(crate) lifetime: Option<Duration>,
}

/// The store that all programs of the site share.
pub(crate) struct DemoStorage {
    storage: Storage,
    manager: SessionManager,
    store: FileStore,
}

impl DemoStorage {
    /// What the command line names; then what the environment names; then, for a program that cargo
    /// built, a directory beside it; then the configuration that every program finds.
    pub(crate) fn find(config: Option<&Path>, directory: Option<&Path>) -> Result<Self, String> {
        let is_told = config.is_some() || directory.is_some() || Storage::is_in_environment();
        let home = cargo_target().filter(|_| !is_told);
        let own = home.map(|target| {
            let home = target.join("cgi-session-demo");
            make_home(&home)
                .map_err(|error| format!("cannot keep sessions in {}: {error}", home.display()))
        });
        let own = own.transpose()?;
        let storage = Storage::find(config.or(own.as_deref()), directory)?;
        let config = storage.config();
        Ok(DemoStorage {
            store: FileStore::new(config).map_err(|error| error.to_string())?,
            manager: SessionManager::new(config.clone()).map_err(|error| error.to_string())?,
            storage,
        })
    }

    /// Where the session files are.
    pub(crate) fn directory(&self) -> &Path {
        self.store.directory()
    }

    /// How long a session lives unused, and in any case.
    pub(crate) fn limits(&self) -> Limits {
        let config = self.manager.config();
        Limits {
            timeout: config.timeout(),
            lifetime: config.lifetime(),
        }
    }

    /// What a program needs in its environment to find the same sessions.
    pub(crate) fn variables(&self) -> impl Iterator<Item = (OsString, OsString)> {
        self.storage.variables()
    }

    /// The file of the session that a Cookie header names, whether or not there is one.
    pub(crate) fn file_of(&self, cookie_header: &[u8]) -> Option<PathBuf> {
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

/// Creates the home of the demo's sessions and a configuration file that leads there, so that
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
