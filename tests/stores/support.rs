//! A store in a directory of its own, session files made byte by byte, and child processes.

use std::sync::mpsc;

use cgi_session::{Stored, SweepReport};
use testkit::prelude::*;
use xxhash_rust::xxh3::xxh3_64_with_seed;

pub(crate) use testkit::skip::{not_installed, skip};

/// So long nothing may take.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);
/// The `timeout` of the stores here, in seconds.
pub(crate) const IDLE: u64 = 3600;

/// A store, and the directory that goes with it.
pub(crate) struct Place {
    pub(crate) store: FileStore,
    pub(crate) config: Config,
    _parent: tempfile::TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        Place::with(&[])
    }

    pub(crate) fn with(settings: &[(&str, &str)]) -> Self {
        Place::below(tempfile::tempdir().unwrap(), settings)
    }

    pub(crate) fn below(parent: tempfile::TempDir, settings: &[(&str, &str)]) -> Self {
        let config = Config::new().set("storageFileDir", parent.path().join("sessions"));
        let config = config.unwrap().set("timeout", format!("{IDLE}s")).unwrap();
        let config = set(config, settings);
        Place {
            store: FileStore::new(&config).unwrap(),
            config,
            _parent: parent,
        }
    }

    /// A second store in the same directory, as another process would have it.
    pub(crate) fn another(&self, settings: &[(&str, &str)]) -> FileStore {
        FileStore::new(set(self.config.clone(), settings)).unwrap()
    }

    pub(crate) fn path(&self) -> &Path {
        self.store.directory()
    }

    /// A new session that holds `n`, committed and let go.
    #[track_caller]
    pub(crate) fn create(&self, n: u64) -> SessionId {
        self.create_record(&record(n))
    }

    #[track_caller]
    pub(crate) fn create_record(&self, record: &Record) -> SessionId {
        let id = SessionId::generate().unwrap();
        assert!(self.try_create(&id, record).unwrap());
        id
    }

    /// A session whose file holds exactly these bytes.
    pub(crate) fn plant(&self, bytes: impl FnOnce(&str) -> Vec<u8>) -> SessionId {
        let id = self.create(0);
        fs::write(self.store.path(&id), bytes(id.digest().as_str())).unwrap();
        id
    }

    #[track_caller]
    pub(crate) fn lock(&self, id: &SessionId) -> Option<(Stored, Box<dyn Lease>)> {
        self.store
            .lock(&id.digest(), DEADLINE, SystemTime::now())
            .unwrap()
    }

    /// Creates a session under an id; `false` where it is taken.
    pub(crate) fn try_create(&self, id: &SessionId, record: &Record) -> cgi_session::Result<bool> {
        let lease = self.store.create(&id.digest(), record, SystemTime::now())?;
        Ok(lease.is_some())
    }

    /// What the next request finds, under the lock.
    #[track_caller]
    pub(crate) fn locked_n(&self, id: &SessionId) -> Option<u64> {
        self.lock(id).map(|(stored, _)| n(&stored.record))
    }

    /// What a reader without a lock finds.
    #[track_caller]
    pub(crate) fn read_n(&self, id: &SessionId) -> Option<u64> {
        let stored = self.store.read(&id.digest(), SystemTime::now()).unwrap();
        stored.map(|stored| n(&stored.record))
    }

    #[track_caller]
    pub(crate) fn commit(&self, id: &SessionId, record: &Record) {
        let (_, mut lease) = self.lock(id).expect("a session");
        lease.commit(record, SystemTime::now()).unwrap();
    }

    /// Cleans up at this time.
    #[track_caller]
    pub(crate) fn sweep(&self, now: SystemTime) -> SweepReport {
        self.store.delete_expired(&Sweep::new(), now).unwrap()
    }

    /// How many sessions such a clean-up deletes, and how many live.
    #[track_caller]
    pub(crate) fn swept(&self, now: SystemTime) -> (u64, u64) {
        let report = self.sweep(now);
        (report.deleted, report.live)
    }

    /// So many new sessions.
    pub(crate) fn create_many(&self, sessions: u64) {
        for n in 0..sessions {
            self.create(n);
        }
    }

    pub(crate) fn modified(&self, id: &SessionId) -> SystemTime {
        fs::metadata(self.store.path(id))
            .unwrap()
            .modified()
            .unwrap()
    }

    pub(crate) fn set_modified(&self, id: &SessionId, time: SystemTime) {
        set_modified(&self.store.path(id), time);
    }

    pub(crate) fn exists(&self, id: &SessionId) -> bool {
        self.store.path(id).symlink_metadata().is_ok()
    }

    /// What `.count` says.
    pub(crate) fn count(&self) -> u64 {
        let bytes = fs::read(self.file(".count")).unwrap();
        u64::from_le_bytes(bytes[..8].try_into().unwrap())
    }

    /// Makes `.count` say this.
    pub(crate) fn set_count(&self, sessions: u64) {
        let numbers = [sessions, sessions, 0, 0].map(u64::to_le_bytes);
        fs::write(self.file(".count"), numbers.as_flattened()).unwrap();
    }

    /// The number of session files, in shards or not.
    pub(crate) fn sessions(&self) -> usize {
        let names = self.names();
        names.iter().filter(|name| is_session(name)).count()
    }

    /// The names of all files, in shards or not, sorted.
    pub(crate) fn names(&self) -> Vec<String> {
        let mut names = Vec::new();
        let mut folders = vec![self.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let entry = entry.unwrap();
                if entry.file_type().unwrap().is_dir() {
                    folders.push(entry.path());
                } else {
                    names.push(entry.file_name().into_string().unwrap());
                }
            }
        }
        names.sort();
        names
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }
}

/// Whether a name in the directory is that of a session.
pub(crate) fn is_session(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|end| end == "json")
}

/// Whether a name in the directory is that of an index of a user.
pub(crate) fn is_index(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|end| end == "user")
}

pub(crate) fn set_modified(path: &Path, time: SystemTime) {
    let file = fs::File::options().write(true).open(path).unwrap();
    file.set_modified(time).unwrap();
}

pub(crate) fn ago(seconds: u64) -> SystemTime {
    SystemTime::now() - Duration::from_secs(seconds)
}

pub(crate) fn ahead(seconds: u64) -> SystemTime {
    SystemTime::now() + Duration::from_secs(seconds)
}

pub(crate) fn unix(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap().as_secs()
}

/// A record that holds the number `n`.
pub(crate) fn record(n: u64) -> Record {
    Record::from_json(data(n).into_bytes()).unwrap()
}

/// A record that holds `n` and needs about `size` bytes.
pub(crate) fn record_of_size(n: u64, size: usize) -> Record {
    let text = format!(r#"{{"":{{"n":{n},"x":"{}"}}}}"#, "x".repeat(size));
    record(n).with_values(text.into_bytes())
}

/// A record of now with an end of its own.
pub(crate) fn record_until(n: u64, end: SystemTime) -> Record {
    let (created, end) = (unix(SystemTime::now()), unix(end));
    let text =
        format!(r#"{{"v":1,"created":{created},"expires":{end},"values":{{"":{{"n":{n}}}}}}}"#);
    Record::from_json(text.into_bytes()).unwrap()
}

/// What a change of id leaves now under the id before.
pub(crate) fn marker(now: SystemTime) -> Record {
    let now = unix(now);
    let end = now + 61;
    let text = format!(
        r#"{{"v":1,"created":{now},"expires":{end},"idle":60,"changed":{now},"replaced":"marker","values":{{}}}}"#
    );
    Record::from_json(text.into_bytes()).unwrap()
}

/// DATA as the format has it.
pub(crate) fn data(n: u64) -> String {
    format!(r#"{{"v":1,"created":1767225600,"values":{{"":{{"n":{n}}}}}}}"#)
}

#[track_caller]
pub(crate) fn n(record: &Record) -> u64 {
    let values: serde_json::Value = serde_json::from_slice(record.values()).unwrap();
    values[""]["n"].as_u64().expect("the number of this test")
}

/// A slot as docs/format.md describes it, made without the library.
pub(crate) fn slot(digest: &str, first: bool, generation: u64, cap: usize, data: &str) -> Vec<u8> {
    seeded_slot(0xfedc_ba98_7654_3210, digest, first, generation, cap, data)
}

pub(crate) fn seeded_slot(
    seed: u64,
    digest: &str,
    first: bool,
    generation: u64,
    cap: usize,
    data: &str,
) -> Vec<u8> {
    let (g, length) = (format!("{generation:20}"), format!("{:10}", data.len()));
    let hash = xxh3_64_with_seed(format!("{digest}{g}{length}{data}").as_bytes(), seed);
    let (open, close) = if first { ('[', '\n') } else { (',', ']') };
    let text =
        format!(r#"{open}{{"g":{g},"h":"{hash:016x}","s":"{seed:016x}","n":{length},"d":{data}}}"#);
    assert!(text.len() < cap);
    format!("{text:<width$}{close}", width = cap - 1).into_bytes()
}

/// The seed of a file's checksums; both of its slots have the same.
#[track_caller]
pub(crate) fn seed(path: &Path) -> u64 {
    let envelopes: Vec<serde_json::Value> =
        serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let seeds = envelopes.iter().filter_map(|envelope| envelope.get("s"));
    let mut seeds: Vec<_> = seeds.map(|seed| seed.as_str().unwrap()).collect();
    seeds.dedup();
    assert_eq!(seeds.len(), 1, "{seeds:?}");
    u64::from_str_radix(seeds[0], 16).unwrap()
}

/// The second half of a file in which only one record was ever written.
pub(crate) fn no_slot(cap: usize) -> Vec<u8> {
    format!("{:<width$}]", ",null", width = cap - 1).into_bytes()
}

pub(crate) fn file(first: Vec<u8>, second: Vec<u8>) -> Vec<u8> {
    [first, second].concat()
}

/// Runs `work` and fails when it does not end.
#[track_caller]
pub(crate) fn ends<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || sender.send(work()));
    receiver.recv_timeout(DEADLINE).expect("it hangs")
}

/// This test program again through a shell that prepares its process.
pub(crate) fn again_after(shell: &str, name: &str) -> Command {
    let mut command = Command::new("sh");
    let script = format!("{shell}; exec \"$0\" {name} --exact --nocapture --test-threads=1");
    command.args(["-c", &script]);
    command.arg(std::env::current_exe().unwrap());
    command
}
