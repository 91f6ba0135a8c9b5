//! [`Subject`]: a store under measurement, and the engine that it lives in.

use std::sync::atomic::{AtomicU32, Ordering};

use cgi_session::{Config, SessionManager};
use cgi_session_redis::REDIS;
use cgi_session_sql::{MYSQL, POSTGRES};
use cgi_session_sqlite::SQLITE;
use tempfile::TempDir;

use crate::measured::Outcome;
use crate::settings::Settings;
use testkit::mysql::MysqlServer;
use testkit::postgres::PostgresServer;
use testkit::redis::RedisServer;

pub(crate) struct Subject {
    pub(crate) name: &'static str,
    pub(crate) version: String,
    pub(crate) manager: SessionManager,
    config: Config,
    places: AtomicU32,
    _engine: Engine,
}

/// What must be there as long as the store.
enum Engine {
    Directory { _files: TempDir },
    Redis { _server: RedisServer },
    Postgres { _server: PostgresServer },
    Mysql { _server: MysqlServer },
}

impl Subject {
    /// Every store that this machine has.
    pub(crate) fn all(settings: &Settings) -> Outcome<Vec<Self>> {
        let mut all = vec![files()?];
        if settings.wants("sqlite") {
            all.push(sqlite()?);
        }
        if settings.wants("redis") {
            all.extend(redis()?);
        }
        for (name, commit) in [("postgres", "on"), ("postgres, less durable", "off")] {
            if settings.wants(name) {
                all.extend(postgres(name, commit)?);
            }
        }
        for (name, flush) in [("mysql", 1), ("mysql, less durable", 2)] {
            if settings.wants(name) {
                all.extend(mysql(name, flush)?);
            }
        }
        Ok(all)
    }

    fn new(name: &'static str, version: String, config: Config, engine: Engine) -> Outcome<Self> {
        let manager = manager(config.clone())?;
        if let Some(error) = manager.install().into_iter().next() {
            return Err(error.one_line().into());
        }
        Ok(Subject {
            name,
            version,
            manager,
            config,
            places: AtomicU32::new(0),
            _engine: engine,
        })
    }

    /// The same store once more, which has connected to nothing yet.
    pub(crate) fn open(&self) -> Outcome<SessionManager> {
        Ok(manager(self.config.clone())?)
    }

    /// The same with nothing in it.
    pub(crate) fn place_of_its_own(&self) -> Outcome<SessionManager> {
        let number = self.places.fetch_add(1, Ordering::Relaxed);
        let config = self.config.clone();
        let config = match self.config.get("storageFileDir") {
            Some(directory) if !directory.is_empty() => {
                config.set("storageFileDir", format!("{directory}-{number}"))?
            }
            _ => config.set("table", format!("place_{number}"))?,
        };
        let manager = manager(config)?;
        if let Some(error) = manager.install().into_iter().next() {
            return Err(error.one_line().into());
        }
        Ok(manager)
    }
}

fn manager(config: Config) -> cgi_session::Result<SessionManager> {
    SessionManager::with_kinds(config, &[SQLITE, REDIS, POSTGRES, MYSQL])
}

fn directory() -> Outcome<TempDir> {
    Ok(tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?)
}

fn files() -> Outcome<Subject> {
    let files = directory()?;
    let config = Config::new().set("storageFileDir", files.path().join("sessions"))?;
    let version = "durability = none, below target".to_owned();
    Subject::new("file", version, config, Engine::Directory { _files: files })
}

fn sqlite() -> Outcome<Subject> {
    let files = directory()?;
    let config = Config::new().set("storageType", "sqlite")?;
    let config = config.set("database", files.path().join("sessions.db"))?;
    let version = "durability = none, below target".to_owned();
    Subject::new(
        "sqlite",
        version,
        config,
        Engine::Directory { _files: files },
    )
}

fn redis() -> Outcome<Option<Subject>> {
    let Some(server) = RedisServer::start(&["--appendfsync", "everysec"]) else {
        return Ok(None);
    };
    let config = Config::new().set("storageType", "redis")?;
    let config = config.set("database", server.url())?;
    let information = server.tell(&["INFO", "server"]);
    let version = information
        .lines()
        .find(|line| line.starts_with("redis_version"));
    let version = format!(
        "{}, appendonly yes, appendfsync everysec, Unix socket",
        version.unwrap_or_default().trim()
    );
    let engine = Engine::Redis { _server: server };
    Subject::new("redis", version, config, engine).map(Some)
}
fn postgres(name: &'static str, commit: &str) -> Outcome<Option<Subject>> {
    let synchronous = format!("synchronous_commit={commit}");
    let Some(server) = PostgresServer::start(&["fsync=on", &synchronous]) else {
        return Ok(None);
    };
    let config = Config::new().set("storageType", "postgres")?;
    let config = config.set("database", server.socket_url())?;
    let version = server.ask("SHOW server_version").unwrap_or_default();
    let version =
        format!("PostgreSQL {version}, fsync = on, synchronous_commit = {commit}, Unix socket");
    Subject::new(name, version, config, Engine::Postgres { _server: server }).map(Some)
}
fn mysql(name: &'static str, flush: u8) -> Outcome<Option<Subject>> {
    let flush = format!("innodb-flush-log-at-trx-commit={flush}");
    let Some(server) = MysqlServer::start(&[&format!("--{flush}")]) else {
        return Ok(None);
    };
    let config = Config::new().set("storageType", "mysql")?;
    let config = config.set("database", server.socket_url())?;
    let version = server.ask("SELECT VERSION()").unwrap_or_default();
    let version = format!("{version}, {flush}, Unix socket");
    Subject::new(name, version, config, Engine::Mysql { _server: server }).map(Some)
}
