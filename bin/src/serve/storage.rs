//! [`Storage`]: the configuration that a server and its programs have in common.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::DirBuilder;
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use cgi_session::{Config, SessionManager};

use crate::stores;

const PREFIX: &str = "CGI_SESSION_";
const CONFIG: &str = "CGI_SESSION_CONFIG";
const DIRECTORY: &str = "CGI_SESSION_STORAGE_FILE_DIR";
const TYPE: &str = "CGI_SESSION_STORAGE_TYPE";
const FILES: &str = "file";

/// The configuration of all programs of a site, and the variables that give it to them.
pub struct Storage {
    manager: SessionManager,
    variables: Vec<(OsString, OsString)>,
}

impl Storage {
    /// Whether the environment says where sessions are.
    #[must_use]
    pub fn is_in_environment() -> bool {
        let names = [CONFIG, DIRECTORY];
        names.iter().any(|name| env::var_os(name).is_some())
    }

    /// What the command line names, or else what every program finds.
    ///
    /// # Errors
    ///
    /// The text says why the configuration cannot be used, and what to do.
    pub fn find(config: Option<&Path>, directory: Option<&Path>) -> Result<Self, String> {
        let absolute = |path: &Path| {
            std::path::absolute(path)
                .map_err(|error| format!("cannot use {}: {error}", path.display()))
        };
        let file = config.map(absolute).transpose()?;
        let directory = directory.map(absolute).transpose()?;
        // Whatever store the site's file names.
        let settings = directory.as_deref().map(|directory| {
            [
                ("storageFileDir", directory.as_os_str()),
                ("storageType", OsStr::new(FILES)),
            ]
        });
        let found = Config::find_with(file.as_deref(), settings.as_slice().as_flattened());
        let config = found.map_err(|error| {
            let line = error.one_line();
            format!("{line}; or pass --storage-file-dir DIR or --config FILE")
        })?;
        if let Some(directory) = &directory {
            // Here, because root's commands make none for themselves.
            match DirBuilder::new().mode(0o700).create(directory) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                    return Err(format!("cannot make {}: {error}", directory.display()));
                }
                _ => {}
            }
        }
        // A store that cannot be used is reported here, not by the first program.
        let manager = stores::manager(config).map_err(|error| error.to_string())?;
        let inherited = env::vars_os()
            .filter(|(name, _)| name.to_str().is_some_and(|name| name.starts_with(PREFIX)));
        let mut variables: Vec<_> = inherited.collect();
        // The last of several variables of one name counts.
        let kind = directory.as_ref().map(|_| FILES.into());
        let file = manager.config().file().map(absolute).transpose()?;
        for (name, path) in [(CONFIG, file), (DIRECTORY, directory), (TYPE, kind)] {
            variables.extend(path.map(|path| (name.into(), path.into())));
        }
        Ok(Storage { manager, variables })
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &Config {
        self.manager.config()
    }

    /// The store of this configuration.
    pub(super) fn manager(&self) -> &SessionManager {
        &self.manager
    }

    /// What a program needs in its environment to find the same sessions.
    pub fn variables(&self) -> impl Iterator<Item = (OsString, OsString)> {
        self.variables.iter().cloned()
    }
}
