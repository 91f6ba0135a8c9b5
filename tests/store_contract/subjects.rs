//! The stores under test, and what a test does with one.

use std::path::Path;
use std::sync::Arc;
#[cfg(feature = "redis")]
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

#[cfg(feature = "redis")]
use cgi_session::RedisStore;
#[cfg(feature = "sqlite")]
use cgi_session::SqliteStore;
use cgi_session::{
    Config, CustomStore, FileStore, Lease, MemoryStore, Record, SessionDigest, SessionId, Store,
};

use crate::rows::Rows;
#[cfg(all(feature = "mysql", feature = "postgres"))]
use crate::sql_server::shared_url;
#[cfg(feature = "redis")]
use testkit::redis::RedisServer;
#[cfg(feature = "redis")]
use testkit::redis_cluster::RedisCluster;

pub(crate) const WAIT: Duration = Duration::from_secs(60);

/// A store, and what must live as long as it.
pub(crate) struct Subject {
    pub(crate) name: &'static str,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) place: tempfile::TempDir,
}

/// The stores that several processes can share, by name.
pub(crate) fn shared() -> impl Iterator<Item = &'static &'static str> {
    ALL.iter()
        .filter(|name| !name.contains(' ') && **name != "memory" && is_there(name))
}

const ALL: &[&str] = &[
    "file",
    "file with 256 shards",
    "file with durability",
    "memory",
    "custom",
    "custom that can be listed",
    #[cfg(feature = "sqlite")]
    "sqlite",
    #[cfg(feature = "sqlite")]
    "sqlite with durability",
    #[cfg(feature = "redis")]
    "redis",
    #[cfg(feature = "redis")]
    "redis-cluster",
    #[cfg(all(feature = "mysql", feature = "postgres"))]
    "postgres",
    #[cfg(all(feature = "mysql", feature = "postgres"))]
    "mysql",
];

/// Whether what the store needs is installed.
fn is_there(name: &str) -> bool {
    match name {
        #[cfg(feature = "redis")]
        "redis" | "redis-cluster" => redis_url(name).is_some(),
        #[cfg(all(feature = "mysql", feature = "postgres"))]
        "postgres" | "mysql" => shared_url(name).is_some(),
        _ => true,
    }
}

/// Whether a store makes what it needs with the first session. Where `install` must do it, nothing can
/// be asked of a store before that.
pub(crate) fn makes_itself(name: &str) -> bool {
    !matches!(name, "postgres" | "mysql")
}

/// Whether a store that was removed holds this session no more.
pub(crate) fn is_gone(name: &str, store: &dyn Store, session: &SessionDigest) -> bool {
    match store.read(session, SystemTime::now()) {
        Ok(found) => found.is_none(),
        Err(error) => !makes_itself(name) && error.one_line().contains("cgi-session init"),
    }
}

/// The server or the cluster that all processes of this test share.
#[cfg(feature = "redis")]
pub(crate) fn redis_url(name: &str) -> Option<String> {
    static SERVER: OnceLock<Option<RedisServer>> = OnceLock::new();
    static CLUSTER: OnceLock<Option<RedisCluster>> = OnceLock::new();
    if let Ok(url) = std::env::var(REDIS) {
        return Some(url);
    }
    if name == "redis" {
        let server = SERVER.get_or_init(|| RedisServer::start(&[]));
        return server.as_ref().map(RedisServer::url);
    }
    let cluster = CLUSTER.get_or_init(RedisCluster::start);
    cluster.as_ref().map(RedisCluster::url)
}

/// Names it to the processes that a test starts.
#[cfg(feature = "redis")]
pub(crate) const REDIS: &str = "CONTRACT_REDIS";

/// Every store, empty, with an idle time of 60 minutes and further settings.
pub(crate) fn stores(settings: &[(&str, &str)]) -> Vec<Subject> {
    subjects(ALL.iter(), settings)
}

/// The stores that can have a greatest number of sessions.
pub(crate) fn capped_stores(settings: &[(&str, &str)]) -> Vec<Subject> {
    let capped = |name: &&&str| !name.starts_with("custom") && !name.starts_with("redis");
    subjects(ALL.iter().filter(capped), settings)
}

/// The stores that know each of their sessions: functions of a program's own are not asked for so much.
pub(crate) fn counting_stores(settings: &[(&str, &str)]) -> Vec<Subject> {
    let counting = ALL.iter().filter(|name| !name.starts_with("custom"));
    subjects(counting, settings)
}

fn subjects<'a>(
    names: impl Iterator<Item = &'a &'static str>,
    settings: &[(&str, &str)],
) -> Vec<Subject> {
    let subjects = names.filter(|name| is_there(name));
    subjects.map(|name| subject(name, settings)).collect()
}

/// The store of this name, empty, in a place of its own.
pub(crate) fn subject(name: &'static str, settings: &[(&str, &str)]) -> Subject {
    let place = tempfile::tempdir().unwrap();
    let store = open(name, place.path(), settings);
    if !makes_itself(name) {
        let problems = store.install();
        assert!(problems.is_empty(), "{name}: {problems:?}");
    }
    Subject { name, store, place }
}

/// The stores that can be listed.
pub(crate) fn listed_stores() -> Vec<Subject> {
    subjects(ALL.iter().filter(|name| **name != "custom"), &[])
}

/// Opens the store of this name in a directory, by as many processes as you like.
pub(crate) fn open(name: &str, place: &Path, settings: &[(&str, &str)]) -> Arc<dyn Store> {
    let config = Config::new()
        .set("storageFileDir", place.join("sessions"))
        .unwrap();
    let database = place.join("sessions.db");
    let config = config.set("database", database).unwrap();
    let more = match name {
        name if name.contains("shards") => ("shards", "256"),
        name if name.contains("durability") => ("durability", "data"),
        _ => ("timeout", "60"),
    };
    let config = [more]
        .iter()
        .chain(settings)
        .fold(config, |config, (key, value)| {
            config.set(key, value).unwrap()
        });
    match name.split([' ', '-']).next() {
        Some("file") => Arc::new(FileStore::new(&config).unwrap()),
        Some("memory") => Arc::new(MemoryStore::new(&config).unwrap()),
        Some("custom") => {
            let rows = Rows::new(&place.join("rows"), name.contains("listed"));
            Arc::new(CustomStore::new(&config, rows).unwrap())
        }
        #[cfg(feature = "sqlite")]
        Some("sqlite") => Arc::new(SqliteStore::new(&config).unwrap()),
        #[cfg(feature = "redis")]
        Some("redis") => {
            // Every place has keys of its own.
            let config = config.set("table", table(place)).unwrap();
            let url = redis_url(name).unwrap();
            let config = config.set("database", url).unwrap();
            // So long that whoever waits for the end of a lock fails.
            let config = match settings.iter().find(|(key, _)| *key == "lockLease") {
                Some(_) => config,
                None => config.set("lockLease", "10").unwrap(),
            };
            Arc::new(RedisStore::new(&config).unwrap())
        }
        #[cfg(all(feature = "mysql", feature = "postgres"))]
        Some(kind @ ("postgres" | "mysql")) => {
            let config = config.set("table", table(place)).unwrap();
            let config = config.set("database", shared_url(kind).unwrap()).unwrap();
            crate::sql_server::open_with(kind, &config).unwrap()
        }
        _ => panic!("no store {name}"),
    }
}

/// The name that a place has in a server that others share.
pub(crate) fn table(place: &Path) -> String {
    let name = place.file_name().unwrap().to_str().unwrap();
    name.replace('.', "t")
}

pub(crate) fn record(count: u64, now: SystemTime) -> Record {
    Record::new(now).with_values(format!(r#"{{"":{{"count":{count}}}}}"#).into_bytes())
}

/// A record with these members.
pub(crate) fn record_of(members: &str, now: SystemTime) -> Record {
    let created = now.duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let created = created.as_secs();
    let text = format!(r#"{{"v":1,"created":{created},{members},"values":{{}}}}"#);
    Record::from_json(text.into_bytes()).unwrap()
}

pub(crate) fn count(record: &Record) -> u64 {
    let values: serde_json::Value = serde_json::from_slice(record.values()).unwrap();
    values[""]["count"].as_u64().unwrap()
}

pub(crate) fn create(
    store: &dyn Store,
    number: u64,
    now: SystemTime,
) -> (SessionId, Box<dyn Lease>) {
    let id = SessionId::generate().unwrap();
    let lease = store
        .create(&id.digest(), &record(number, now), now)
        .unwrap()
        .expect("a new id");
    (id, lease)
}

/// What a session counts now, without its lock.
pub(crate) fn counted(store: &dyn Store, session: &SessionDigest) -> Option<u64> {
    let stored = store.read(session, SystemTime::now()).unwrap();
    stored.map(|stored| count(&stored.record))
}

pub(crate) fn later(now: SystemTime, minutes: u64) -> SystemTime {
    now + Duration::from_secs(60 * minutes)
}
