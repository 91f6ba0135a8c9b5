//! [`Settings`]: a store of the library, as the programs of a site have it, tried in another place.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::stores;
use cgi_session::{Config, Error, Result, SessionManager};

use super::{Subject, TIMEOUT};

const VARIABLE: &str = "_CGI_SESSION_STORM_STORE";
const FILE: &str = "CGI_SESSION_CONFIG";
/// What is tried as it is configured; where it lies and how long anything lives is the storm's own.
const KEYS: [&str; 3] = ["storageType", "durability", "shards"];
/// What is not tried, and would get in the way.
const LIMITS: [(&str, &str); 5] = [
    ("app", ""),
    ("lifetime", "0"),
    ("lockLease", "10m"),
    ("maxRecordBytes", "1048576"),
    ("maxSessions", "0"),
];
const DATABASE: &str = "sessions.db";

/// How a store is configured.
#[derive(Clone, Debug)]
pub struct Settings {
    values: [String; 3],
    /// The configuration file of a store in an engine, which says how to get there.
    file: Option<PathBuf>,
}

impl Settings {
    /// Those of the programs that read this configuration.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        Settings {
            values: KEYS.map(|key| config.get(key).unwrap_or_default()),
            file: config.file().map(Path::to_owned),
        }
    }

    /// Those that this process was given; `None` when it was given none.
    #[must_use]
    pub fn find() -> Option<Self> {
        let text = env::var_os(VARIABLE)?.into_string().ok()?;
        let values: Vec<String> = text.split(' ').map(str::to_owned).collect();
        Some(Settings {
            values: values.try_into().ok()?,
            file: env::var_os(FILE).map(PathBuf::from),
        })
    }

    /// Gives them to a process that is about to be started.
    pub fn give_to(&self, command: &mut Command) {
        command.env(VARIABLE, self.values.join(" "));
        if self.is_in_engine() {
            // It reads the configuration as this process has: a password goes no other way.
            if let Some(file) = &self.file {
                command.env(FILE, file);
            }
            return;
        }
        for (name, _) in env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"CGI_SESSION_") {
                command.env_remove(name);
            }
        }
    }

    fn is_in_engine(&self) -> bool {
        matches!(self.values[0].as_str(), "mysql" | "postgres" | "redis")
    }

    fn is(&self, storage_type: &str) -> bool {
        self.values[0] == storage_type
    }

    fn config(&self, directory: &Path, cap: Option<u64>) -> Result<Config> {
        let config = if self.is_in_engine() {
            in_engine(Config::find_with(self.file.as_deref(), &[])?, directory)?
        } else {
            let config = Config::new().set("storageFileDir", directory)?;
            let mut keys = KEYS.iter().zip(&self.values);
            let config = keys.try_fold(config, |config, (key, value)| config.set(key, value))?;
            config.set("database", directory.join(DATABASE))?
        };
        let config = match cap {
            Some(cap) => config
                .set("maxSessions", cap.to_string())?
                .set("whenFull", "evictOldest")?,
            None => config,
        };
        config
            .set("timeout", format!("{}s", TIMEOUT.as_secs()))?
            // Whoever waits a minute here waits for somebody who is dead.
            .set("lockTimeout", "60s")
    }
}

/// In the engine of the site, under a name of the storm's own.
fn in_engine(config: Config, directory: &Path) -> Result<Config> {
    let name = directory.file_name().unwrap_or_default().to_string_lossy();
    let table = config.get("table").unwrap_or_default();
    let table = format!("{table}_storm_{name}");
    let mut limits = LIMITS.iter();
    let config = limits.try_fold(config, |config, (key, value)| config.set(key, value))?;
    config.set("table", table)
}

impl Subject for Settings {
    fn open(&self, directory: &Path, cap: Option<u64>) -> Result<SessionManager> {
        if self.is("sqlite") {
            // Two may get here at once.
            fs::create_dir_all(directory)
                .map_err(|error| Error::store("cannot make the database's directory", error))?;
        }
        stores::manager(self.config(directory, cap)?)
    }

    fn prepare(&self, directory: &Path) -> Result<()> {
        if !self.is_in_engine() {
            return Ok(());
        }
        let manager = self.open(directory, None)?;
        let (left, mut problems) = (manager.uninstall(), manager.install());
        problems.extend(left.errors);
        problems.pop().map_or(Ok(()), Err)
    }

    fn has_cap(&self) -> bool {
        !self.is("redis")
    }

    fn longest_wake(&self) -> Duration {
        // An engine must first notice that a connection has ended, or a mark must run out.
        let wake = if self.is_in_engine() { 3 } else { 0 };
        Duration::from_secs(wake)
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
