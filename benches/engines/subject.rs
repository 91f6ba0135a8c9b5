//! [`Subject`]: a store under measurement, and the engine that it lives in.

use std::any::Any;
use std::env;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use cgi_session::{Config, SessionManager};
use cgi_session_redis::REDIS;
use cgi_session_sql::{MYSQL, POSTGRES};
use cgi_session_sqlite::SQLITE;

use crate::measured::Outcome;
use testkit::database::DatabaseServer as _;
use testkit::mysql::MysqlServer;
use testkit::postgres::PostgresServer;
use testkit::redis::RedisServer;

pub(crate) struct Subject {
    pub(crate) name: &'static str,
    pub(crate) version: String,
    pub(crate) manager: SessionManager,
    config: Config,
    /// Where its server listens.
    pub(crate) socket: Option<PathBuf>,
    places: AtomicU32,
    /// What must be there as long as the store.
    _engine: Box<dyn Any + Sync>,
}

impl Subject {
    /// Every store that this machine has, of those that `ENGINES_ONLY` names.
    pub(crate) fn all() -> Outcome<Vec<Self>> {
        let only = env::var("ENGINES_ONLY").unwrap_or_default();
        let wants = |name: &str| only.is_empty() || only.split(',').any(|it| it == name);
        let mut all = vec![below_target("file", "storageFileDir", "sessions")?];
        if wants("sqlite") {
            all.push(below_target("sqlite", "database", "sessions.db")?);
        }
        if wants("redis") {
            all.extend(redis()?);
        }
        for (name, commit) in [("postgres", "on"), ("postgres, less durable", "off")] {
            if wants(name) {
                all.extend(postgres(name, commit)?);
            }
        }
        for (name, flush) in [("mysql", 1), ("mysql, less durable", 2)] {
            if wants(name) {
                all.extend(mysql(name, flush)?);
            }
        }
        Ok(all)
    }

    fn new(
        name: &'static str,
        version: String,
        settings: [(&str, &str); 2],
        socket: Option<PathBuf>,
        engine: impl Any + Sync,
    ) -> Outcome<Self> {
        let mut config = Config::new();
        for (key, value) in settings {
            config = config.set(key, value)?;
        }
        Ok(Subject {
            name,
            version,
            manager: installed(config.clone())?,
            config,
            socket,
            places: AtomicU32::new(0),
            _engine: Box::new(engine),
        })
    }

    /// The same store once more, which has connected to nothing yet.
    pub(crate) fn open(&self) -> Outcome<SessionManager> {
        Ok(manager(self.config.clone())?)
    }

    /// The same, whose server is reached by a socket in another directory.
    pub(crate) fn open_by(&self, own: &str, other: &str) -> Outcome<SessionManager> {
        let database = self.config.database().unwrap_or_default();
        let database = database.replace(own, other);
        Ok(manager(self.config.clone().set("database", database)?)?)
    }

    /// The same with nothing in it.
    pub(crate) fn place_of_its_own(&self) -> Outcome<SessionManager> {
        let number = self.places.fetch_add(1, Ordering::Relaxed);
        let config = self.config.clone();
        installed(match self.config.get("storageFileDir") {
            Some(directory) if !directory.is_empty() => {
                config.set("storageFileDir", format!("{directory}-{number}"))?
            }
            _ => config.set("table", format!("place_{number}"))?,
        })
    }

    /// This program as a page with a session in the store.
    pub(crate) fn page(&self) -> Outcome<Command> {
        let mut command = Command::new(env::current_exe()?);
        command.env_clear().env("ENGINES_PAGE", "1");
        for (name, key) in [
            ("CGI_SESSION_STORAGE_TYPE", "storageType"),
            ("CGI_SESSION_STORAGE_FILE_DIR", "storageFileDir"),
        ] {
            let value = self.config.get(key).filter(|value| !value.is_empty());
            command.envs(value.map(|value| (name, value)));
        }
        let database = self.config.database().unwrap_or_default();
        command.env("CGI_SESSION_DATABASE", database);
        Ok(command)
    }
}

fn manager(config: Config) -> cgi_session::Result<SessionManager> {
    SessionManager::with_kinds(config, &[SQLITE, REDIS, POSTGRES, MYSQL])
}

fn installed(config: Config) -> Outcome<SessionManager> {
    let manager = manager(config)?;
    match manager.install().into_iter().next() {
        Some(error) => Err(error.one_line().into()),
        None => Ok(manager),
    }
}

/// A store in files below `target`.
fn below_target(kind: &'static str, key: &str, name: &str) -> Outcome<Subject> {
    let files = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let place = files.path().join(name).display().to_string();
    let settings = [("storageType", kind), (key, &place)];
    let version = "durability = none, below target".to_owned();
    Subject::new(kind, version, settings, None, files)
}

fn redis() -> Outcome<Option<Subject>> {
    let Some(server) = RedisServer::start(["--appendfsync", "everysec"]) else {
        return Ok(None);
    };
    let information = server.tell(["INFO", "server"]);
    let mut lines = information.lines();
    let version = lines.find(|line| line.starts_with("redis_version"));
    let version = format!(
        "{}, appendonly yes, appendfsync everysec, Unix socket",
        version.unwrap_or_default().trim()
    );
    let (url, socket) = (server.url(), server.socket());
    let settings = [("storageType", "redis"), ("database", &url)];
    Subject::new("redis", version, settings, Some(socket), server).map(Some)
}

fn postgres(name: &'static str, commit: &str) -> Outcome<Option<Subject>> {
    let synchronous = format!("synchronous_commit={commit}");
    let Some(server) = PostgresServer::start(&["fsync=on", &synchronous]) else {
        return Ok(None);
    };
    let version = server.ask("SHOW server_version").unwrap_or_default();
    let version =
        format!("PostgreSQL {version}, fsync = on, synchronous_commit = {commit}, Unix socket");
    let (url, socket) = (server.socket_url(), server.socket());
    let settings = [("storageType", "postgres"), ("database", &url)];
    Subject::new(name, version, settings, Some(socket), server).map(Some)
}

fn mysql(name: &'static str, flush: u8) -> Outcome<Option<Subject>> {
    let flush = format!("innodb-flush-log-at-trx-commit={flush}");
    let Some(server) = MysqlServer::start(&[&format!("--{flush}")]) else {
        return Ok(None);
    };
    let version = server.ask("SELECT VERSION()").unwrap_or_default();
    let version = format!("{version}, {flush}, Unix socket");
    let (url, socket) = (server.socket_url(), server.socket());
    let settings = [("storageType", "mysql"), ("database", &url)];
    Subject::new(name, version, settings, Some(socket), server).map(Some)
}
