//! [`Subject`]: a store under test, which every process opens for itself.

use cgi_session::Result;
use cgi_session_redis::REDIS;
use cgi_session_sql::{MYSQL, POSTGRES};
use cgi_session_sqlite::SQLITE;
use serde::{Deserialize, Serialize};

use testkit::broken::{BrokenStore, Fault};
use testkit::engines;
use testkit::prelude::*;

/// How long a session lives unused in every subject.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(3600);

const DATABASE: &str = "sessions.db";

/// The name of a kind of store, or of what is wrong with one that is broken on purpose, and its settings.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Subject {
    pub(crate) name: String,
    settings: Vec<(String, String)>,
}

impl Subject {
    /// Engines that machines share.
    pub(crate) const ENGINES: [&str; 3] = ["redis", "postgres", "mysql"];

    /// A kind of store of the library: `file`, `sqlite`, `redis`, `postgres` or `mysql`.
    pub(crate) fn of(name: &str) -> Self {
        Subject {
            name: name.to_owned(),
            settings: Vec::new(),
        }
    }

    pub(crate) fn file() -> Self {
        Subject::of("file")
    }

    pub(crate) fn broken(fault: Fault) -> Self {
        Subject::of(&format!("{fault:?}"))
    }

    pub(crate) fn with(mut self, key: &str, value: &str) -> Self {
        self.settings.push((key.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn fault(&self) -> Option<Fault> {
        Fault::parse(&self.name)
    }

    pub(crate) fn is_engine(&self) -> bool {
        Subject::ENGINES.contains(&&*self.name)
    }

    /// Whether each session is a file.
    pub(crate) fn has_files(&self) -> bool {
        !self.is_engine() && self.name != "sqlite"
    }

    /// The same in a running engine, if it is one; `None` where that is not installed.
    pub(crate) fn in_engine(&self) -> Option<Self> {
        if !self.is_engine() {
            return Some(self.clone());
        }
        engines::url(&self.name).map(|url| self.clone().with("database", &url))
    }

    pub(crate) fn setting(&self, key: &str) -> Option<&str> {
        let mut found = self.settings.iter().filter(|(known, _)| known == key);
        found.next_back().map(|(_, value)| value.as_str())
    }

    pub(crate) fn config(&self, directory: &Path) -> Result<Config> {
        // Every directory has keys or a table of its own, and a lock ends with its holder alone.
        let table = directory.to_string_lossy().replace(['/', '.', '-'], "_");
        let mut config = Config::new()
            .set("storageFileDir", directory)?
            .set("timeout", format!("{}s", TIMEOUT.as_secs()))?
            .set("lockTimeout", "60s")?;
        if self.fault().is_none() {
            config = config.set("storageType", &self.name)?;
        }
        if self.is_engine() {
            config = config.set("table", table)?.set("lockLease", "10")?;
        } else if self.name == "sqlite" {
            config = config.set("database", directory.join(DATABASE))?;
        }
        let mut settings = self.settings.iter();
        settings.try_fold(config, |config, (key, value)| config.set(key, value))
    }

    /// Opens the store that belongs to this directory.
    pub(crate) fn open(&self, directory: &Path) -> Result<SessionManager> {
        let config = self.config(directory)?;
        if let Some(fault) = self.fault() {
            let cap = self.setting("maxSessions").and_then(|cap| cap.parse().ok());
            let store = BrokenStore::open(fault, directory).with_cap(cap);
            return SessionManager::with_store(config, store);
        }
        SessionManager::with_kinds(config, &[REDIS, POSTGRES, MYSQL, SQLITE])
    }

    /// Makes what all processes need, in place of what an earlier run may have left.
    pub(crate) fn prepare(&self, directory: &Path) {
        if self.name == "sqlite" {
            fs::create_dir_all(directory).unwrap();
        }
        if self.is_engine() {
            let store = self.open(directory).unwrap();
            let mut problems = store.uninstall().errors;
            problems.extend(store.install());
            assert!(problems.is_empty(), "{problems:?}");
        }
    }

    /// Whether the store knows of a cap.
    pub(crate) fn has_cap(&self) -> bool {
        match self.fault() {
            // Another fault would let new sessions find what something else is to find.
            Some(fault) => [Fault::Nothing, Fault::NoCap, Fault::EvictWithoutLock].contains(&fault),
            None => self.name != "redis",
        }
    }

    /// How long the lock of a process may outlive it: an engine must first notice that a connection has ended.
    pub(crate) fn lock_delay(&self) -> Duration {
        Duration::from_secs(if self.is_engine() { 15 } else { 0 })
    }

    /// Whether an empty store may have a file of this name in its directory.
    pub(crate) fn is_of_empty_store(&self, name: &str) -> bool {
        match self.name.as_str() {
            "file" => matches!(name, ".gc" | ".count"),
            "sqlite" => name.strip_prefix(DATABASE).is_some_and(|ending| {
                matches!(ending, "" | "-wal" | "-shm") || ending.starts_with(".locks")
            }),
            // A process that is killed leaves it, and the next one takes it: a fault, but another one.
            _ => Path::new(name).extension().is_some_and(|end| end == "lock"),
        }
    }
}
