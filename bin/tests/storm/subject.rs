//! [`Own`]: stores that the shipped tool does not have, in processes of this test itself.

use std::env;
use std::fs;
use std::path::Path;
use std::process::{self, Command, ExitCode};
use std::sync::OnceLock;
use std::sync::atomic::AtomicUsize;

use cgi_session::{Config, Result, SessionManager};
use cgi_session_tools::stores::manager;
use cgi_session_tools::storm::{Outcome, Storm, Subject, TIMEOUT, Task};
use tempfile::TempDir;

use testkit::broken::{BrokenStore, Fault};
use testkit::mysql::MysqlServer;
use testkit::postgres::PostgresServer;
use testkit::redis::RedisServer;

const NAME: &str = "STORM_SUBJECT";
const DATABASE: &str = "sessions.db";
/// The server that the processes of a storm share.
const SERVER: &str = "STORM_SERVER";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Own {
    Broken(Fault),
    Mysql,
    Postgres,
    Redis,
    Sqlite,
}

impl Subject for Own {
    fn open(&self, directory: &Path, cap: Option<u64>) -> Result<SessionManager> {
        let config = Config::new()
            .set("storageFileDir", directory)?
            .set("timeout", format!("{}s", TIMEOUT.as_secs()))?
            .set("lockTimeout", "60s")?
            .set("database", directory.join(DATABASE))?;
        let config = match cap {
            Some(cap) => config
                .set("maxSessions", cap.to_string())?
                .set("whenFull", "evictOldest")?,
            None => config,
        };
        match self {
            Own::Broken(fault) => SessionManager::with_store(
                config,
                BrokenStore::open(*fault, directory).with_cap(cap),
            ),
            Own::Sqlite => {
                fs::create_dir_all(directory).unwrap();
                manager(config.set("storageType", "sqlite")?)
            }
            Own::Mysql | Own::Postgres | Own::Redis => {
                let kind = format!("{self:?}").to_lowercase();
                let config = self.in_server(config, directory)?;
                let manager = manager(config.set("storageType", kind)?)?;
                // Of several processes that begin at once, each makes the table or finds it made.
                let problem = manager.install().pop();
                problem.map_or(Ok(manager), Err)
            }
        }
    }

    fn has_cap(&self) -> bool {
        match self {
            // Another fault would let the newcomers find what somebody else is to find.
            Own::Broken(fault) => matches!(
                fault,
                Fault::Nothing | Fault::NoCap | Fault::EvictWithoutLock
            ),
            Own::Redis => false,
            Own::Mysql | Own::Postgres | Own::Sqlite => true,
        }
    }

    fn is_of_empty_store(&self, name: &str) -> bool {
        match self {
            // Whoever is killed leaves it, and the next one takes it: a fault, but another one.
            Own::Broken(_) => Path::new(name).extension().is_some_and(|end| end == "lock"),
            Own::Mysql | Own::Postgres | Own::Redis => false,
            Own::Sqlite => is_of_empty_database(name),
        }
    }
}

/// The database, what SQLite has beside it, and the directory of the locks.
fn is_of_empty_database(name: &str) -> bool {
    let ending = name.strip_prefix(DATABASE);
    ending.is_some_and(|ending| {
        matches!(ending, "" | "-wal" | "-shm") || ending.starts_with(".locks")
    })
}

/// A process of a storm: of no use when it runs as a test.
#[test]
fn a_process() {
    let Some(task) = Task::find() else {
        return;
    };
    let name = env::var(NAME).unwrap();
    let own = match name.as_str() {
        "Mysql" => Own::Mysql,
        "Postgres" => Own::Postgres,
        "Redis" => Own::Redis,
        "Sqlite" => Own::Sqlite,
        fault => Own::Broken(Fault::parse(fault).unwrap()),
    };
    // Not by a panic, whose words would be taken for a complaint.
    process::exit(i32::from(task.run(&own) != ExitCode::SUCCESS));
}

impl Own {
    pub(crate) fn storm(self, goes_on: impl Fn(&Outcome) -> bool) -> Outcome {
        let place = self.place();
        let command = || {
            let mut command = Command::new(env::current_exe().unwrap());
            command.args(["subject::a_process", "--exact", "--nocapture"]);
            command.arg("--test-threads=1");
            command.env(NAME, self.name());
            command.envs(self.url().map(|url| (SERVER, url)));
            command
        };
        let storm = Storm {
            place: place.path(),
            subject: &self,
            command: &command,
            seed: fastrand::u64(..),
            signal: &AtomicUsize::new(0),
        };
        storm.run(&goes_on).unwrap()
    }

    fn place(self) -> TempDir {
        // These stores sync much. In memory that costs nothing; on the disk it is a good time to die.
        let place = match self {
            Own::Broken(fault) if fault != Fault::LeaveTemporary => {
                tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir())
            }
            _ => tempfile::tempdir(),
        };
        place.unwrap()
    }

    fn name(self) -> String {
        match self {
            Own::Broken(fault) => format!("{fault:?}"),
            own => format!("{own:?}"),
        }
    }

    /// Every directory has keys or a table of its own, and a lock ends with its holder alone.
    fn in_server(self, config: Config, directory: &Path) -> Result<Config> {
        fs::create_dir_all(directory).unwrap();
        let table = directory.to_string_lossy().replace(['/', '.', '-'], "_");
        let config = config.set("database", self.url().unwrap())?;
        config.set("table", table)?.set("lockLease", "10")
    }

    /// The server that all processes of a storm share, if this is one of a server that is installed.
    pub(crate) fn url(self) -> Option<String> {
        static MYSQL: OnceLock<Option<MysqlServer>> = OnceLock::new();
        static POSTGRES: OnceLock<Option<PostgresServer>> = OnceLock::new();
        static REDIS: OnceLock<Option<RedisServer>> = OnceLock::new();
        if let Ok(url) = env::var(SERVER) {
            return Some(url);
        }
        match self {
            Own::Mysql => {
                let server = MYSQL.get_or_init(|| MysqlServer::start(&[])).as_ref();
                server.map(MysqlServer::url)
            }
            Own::Postgres => {
                let server = POSTGRES.get_or_init(|| PostgresServer::start(&[])).as_ref();
                server.map(PostgresServer::url)
            }
            Own::Redis => {
                let server = REDIS.get_or_init(|| RedisServer::start(&[])).as_ref();
                server.map(RedisServer::url)
            }
            Own::Broken(_) | Own::Sqlite => None,
        }
    }
}
