//! [`Settings`]: a store of the library, as the programs of a site have it, tried in another place.

use std::env;
use std::path::Path;
use std::process::Command;

use cgi_session::{Config, Error, FileStore, Result, SessionManager};

use super::{Opened, Subject, TIMEOUT};

const VARIABLE: &str = "_CGI_SESSION_STORM_STORE";
/// What is tried as it is configured; where it lies and how long anything lives is the storm's own.
const KEYS: [&str; 3] = ["storageType", "durability", "shards"];

/// How a store is configured.
#[derive(Clone, Debug)]
pub struct Settings([String; 3]);

impl Settings {
    /// Those of the programs that read this configuration.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        Settings(KEYS.map(|key| config.get(key).unwrap_or_default()))
    }

    /// Those that this process was given; `None` when it was given none.
    #[must_use]
    pub fn find() -> Option<Self> {
        let text = env::var_os(VARIABLE)?.into_string().ok()?;
        let values: Vec<String> = text.split(' ').map(str::to_owned).collect();
        values.try_into().ok().map(Settings)
    }

    /// Gives them to a process that is about to be started.
    pub fn give_to(&self, command: &mut Command) {
        for (name, _) in env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"CGI_SESSION_") {
                command.env_remove(name);
            }
        }
        command.env(VARIABLE, self.0.join(" "));
    }

    fn config(&self, directory: &Path) -> Result<Config> {
        let config = Config::new()
            .set("storageFileDir", directory)?
            .set("timeout", format!("{}s", TIMEOUT.as_secs()))?
            // Whoever waits a minute here waits for somebody who is dead.
            .set("lockTimeout", "60s")?;
        let mut keys = KEYS.iter().zip(&self.0);
        let config = keys.try_fold(config, |config, (key, value)| config.set(key, value))?;
        config.set("database", directory.join(DATABASE))
    }

    fn is(&self, storage_type: &str) -> bool {
        self.0[0] == storage_type
    }
}

const DATABASE: &str = "sessions.db";

impl Subject for Settings {
    fn open(&self, directory: &Path) -> Result<Opened> {
        let config = self.config(directory)?;
        if self.is("file") {
            let store = FileStore::new(&config)?;
            return Ok(Opened {
                manager: SessionManager::with_store(config, store.clone())?,
                store: Box::new(store),
            });
        }
        #[cfg(feature = "sqlite")]
        if self.is("sqlite") {
            // Two may get here at once.
            std::fs::create_dir_all(directory)
                .map_err(|error| Error::store("cannot make the database's directory", error))?;
            let store = cgi_session::SqliteStore::new(&config)?;
            return Ok(Opened {
                manager: SessionManager::with_store(config, store.clone())?,
                store: Box::new(store),
            });
        }
        let storage_type = &self.0[0];
        Err(Error::Config(format!(
            "storageType = {storage_type}: this program cannot try it"
        )))
    }

    fn is_of_empty_store(&self, name: &str) -> bool {
        if self.is("file") {
            return matches!(name, ".gc" | ".count");
        }
        // The database, what SQLite has beside it, and the directory of the locks.
        name.strip_prefix(DATABASE).is_some_and(|ending| {
            matches!(ending, "" | "-wal" | "-shm") || ending.starts_with(".locks")
        })
    }
}
