//! One process of a race: counts on the session by the protocol that it is told.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use cgi_session::{Config, FileStore, Record, SessionId, SessionManager, Store};

use testkit::broken::{BrokenStore, Fault};

pub(crate) const VARIANT: &str = "RACE_VARIANT";
pub(crate) const DIRECTORY: &str = "RACE_DIRECTORY";
pub(crate) const ID: &str = "RACE_ID";
pub(crate) const INCREMENTS: &str = "RACE_INCREMENTS";
pub(crate) const SIZES: &str = "RACE_SIZES";

/// Between loading and saving a program has something to do.
const HOLD: Duration = Duration::from_micros(20);

/// The process: of no use when it runs as a test.
#[test]
fn process() {
    let Ok(variant) = std::env::var(VARIANT) else {
        return;
    };
    let setting = |name| std::env::var(name).unwrap();
    let directory = PathBuf::from(setting(DIRECTORY));
    let ledger = directory.join(format!("ledger-{}", std::process::id()));
    let mut ledger = File::options()
        .create(true)
        .append(true)
        .open(ledger)
        .unwrap();
    let counter = Counter::new(&directory, &variant, &setting(ID));
    let sizes: u64 = setting(SIZES).parse().unwrap();
    let mut chance = u64::from(std::process::id()) | 1;
    for _ in 0..setting(INCREMENTS).parse().unwrap() {
        chance ^= chance << 13;
        chance ^= chance >> 7;
        chance ^= chance << 17;
        counter.count(&variant, chance % (sizes + 1));
        ledger.write_all(b".").unwrap();
        if directory.join("stop").exists() {
            break;
        }
    }
}

struct Counter {
    manager: SessionManager,
    store: Arc<dyn Store>,
    id: SessionId,
}

impl Counter {
    fn new(directory: &Path, variant: &str, id: &str) -> Self {
        let config = Config::new()
            .set("storageFileDir", directory.join("sessions"))
            .unwrap();
        let config = config.set("lockTimeout", "60s").unwrap();
        Counter {
            store: store(variant, &config),
            manager: SessionManager::new(config).unwrap(),
            id: SessionId::parse(id.as_bytes()).unwrap(),
        }
    }

    /// Counts one, in a record that is `size` bytes larger than it must be.
    fn count(&self, variant: &str, size: u64) {
        match variant {
            "session" => self.by_session(size),
            _ => self.by_store(size),
        }
    }

    fn by_session(&self, size: u64) {
        let header = format!("sessionId={}", self.id.secret());
        let counted = self.manager.update(header, |session| {
            assert!(!session.is_new(), "the session is gone");
            let n: u64 = session.require("n")?;
            hold();
            session.insert("x", padding(size))?;
            session.insert("n", n + 1)
        });
        counted.unwrap();
    }

    /// Makes the session anew when somebody has destroyed it.
    fn by_store(&self, size: u64) {
        let now = SystemTime::now;
        loop {
            let found = self
                .store
                .lock(&self.id.digest(), Duration::from_secs(60), now())
                .unwrap();
            if let Some((stored, mut lease)) = found {
                hold();
                let n = number(&stored.record) + 1;
                lease.commit(&record(n, size, false), now()).unwrap();
                return;
            }
            let created = self
                .store
                .create(&self.id.digest(), &record(1, size, false), now());
            if created.unwrap().is_some() {
                return;
            }
        }
    }
}

fn hold() {
    let start = Instant::now();
    while start.elapsed() < HOLD {
        std::hint::spin_loop();
    }
}

fn padding(size: u64) -> String {
    "x".repeat(usize::try_from(size).unwrap())
}

/// The store of a variant: the library's, or one with a fault.
pub(crate) fn store(variant: &str, config: &Config) -> Arc<dyn Store> {
    match Fault::parse(variant) {
        Some(fault) => Arc::new(BrokenStore::open(fault, config.storage_file_dir().unwrap())),
        None => Arc::new(FileStore::new(config).unwrap()),
    }
}

/// Whether a variant is the library.
pub(crate) fn is_sound(variant: &str) -> bool {
    Fault::parse(variant).is_none()
}

pub(crate) fn record(n: u64, size: u64, own_end: bool) -> Record {
    let values = format!(r#"{{"":{{"n":{n},"x":"{}"}}}}"#, padding(size));
    let start = Record::new(SystemTime::now());
    if !own_end {
        return start.with_values(values.into_bytes());
    }
    let created = start
        .created()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let expires = created + 24 * 3600;
    let text = format!(r#"{{"v":1,"created":{created},"expires":{expires},"values":{values}}}"#);
    Record::from_json(text.into_bytes()).unwrap()
}

pub(crate) fn number(record: &Record) -> u64 {
    let values: serde_json::Value = serde_json::from_slice(record.values()).unwrap();
    values[""]["n"].as_u64().unwrap()
}
