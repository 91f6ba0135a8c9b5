//! One process of a race: counts on the session by the protocol that it is told.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use cgi_session::{Config, FileStore, Record, SessionId, SessionManager, Store};

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
    let counter = Counter::new(&directory, &setting(ID));
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
    store: FileStore,
    id: SessionId,
    path: PathBuf,
}

impl Counter {
    fn new(directory: &Path, id: &str) -> Self {
        let config = Config::new()
            .set("storageFileDir", directory.join("sessions"))
            .unwrap();
        let config = config.set("lockTimeout", "60s").unwrap();
        let store = FileStore::new(&config).unwrap();
        let id = SessionId::parse(id.as_bytes()).unwrap();
        Counter {
            manager: SessionManager::new(config).unwrap(),
            path: store.path(&id),
            store,
            id,
        }
    }

    /// Counts one, in a record that is `size` bytes larger than it must be.
    fn count(&self, variant: &str, size: u64) {
        match variant {
            "session" => self.by_session(size),
            "store" => self.by_store(size),
            "no-lock" => self.without_lock(size),
            "no-link-check" => self.by_rename(size),
            "shared-lock" => self.with_shared_lock(size),
            "truncate" => self.by_truncation(),
            other => panic!("no variant {other}"),
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

    fn without_lock(&self, size: u64) {
        let file = File::options()
            .read(true)
            .write(true)
            .open(&self.path)
            .unwrap();
        rewrite(&file, size);
    }

    /// Who waited for the old file goes on to use it.
    fn by_rename(&self, size: u64) {
        let file = File::open(&self.path).unwrap();
        file.lock().unwrap();
        let n = raw_number(&read(&file)).expect("a whole record");
        hold();
        let temporary = self.path.with_extension(std::process::id().to_string());
        fs::write(&temporary, raw_text(n + 1, size)).unwrap();
        fs::rename(&temporary, &self.path).unwrap();
    }

    /// Two may read the same before one of them writes.
    fn with_shared_lock(&self, size: u64) {
        let file = File::options()
            .read(true)
            .write(true)
            .open(&self.path)
            .unwrap();
        file.lock_shared().unwrap();
        let n = raw_number(&read(&file)).expect("a whole record");
        hold();
        file.lock().unwrap();
        file.write_all_at(&raw_text(n + 1, size), 0).unwrap();
    }

    /// Killed in between, it leaves nothing, or a part.
    fn by_truncation(&self) {
        let mut file = File::options()
            .read(true)
            .write(true)
            .open(&self.path)
            .unwrap();
        file.lock().unwrap();
        let n = raw_number(&read(&file)).expect("a whole record");
        file.set_len(0).unwrap();
        file.rewind().unwrap();
        for part in raw_text(n + 1, 200_000).chunks(4096) {
            file.write_all(part).unwrap();
        }
    }
}

fn rewrite(file: &File, size: u64) {
    let n = raw_number(&read(file)).expect("a whole record");
    hold();
    file.write_all_at(&raw_text(n + 1, size), 0).unwrap();
}

fn read(mut file: &File) -> Vec<u8> {
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).unwrap();
    bytes
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

/// What the broken protocols keep: a number of fixed width, padding, an end.
pub(crate) fn raw_text(n: u64, size: u64) -> Vec<u8> {
    format!("{n:020}{}.", padding(size)).into_bytes()
}

pub(crate) fn raw_number(bytes: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(bytes).ok()?;
    let digits = text.get(..20).filter(|_| text.ends_with('.'))?;
    digits.parse().ok()
}

/// Whether a variant keeps its own file instead of the library's.
pub(crate) fn is_raw(variant: &str) -> bool {
    !matches!(variant, "session" | "store")
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
