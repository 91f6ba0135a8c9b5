//! What every store keeps, as a suite for the tests of a store (feature `store-contract`).
//!
//! ```
//! use cgi_session::FileStore;
//! use cgi_session::store_contract::StoreContract;
//!
//! fn contract() -> StoreContract {
//!     StoreContract::new("file", |config, _| Ok(Box::new(FileStore::new(&config)?)))
//! }
//!
//! # fn the_store_keeps_the_contract() {
//! contract().check(); // in one test
//! # }
//! # fn processes_share_the_store() {
//! contract().check_processes("processes_share_the_store"); // in another, of this name
//! # }
//! ```
//!
//! [`record`], [`count`], [`create`], [`counted`], [`later`] and [`WAIT`] are for further tests of the store.

mod listing;
mod markers;
mod processes;
mod sessions;

use std::any::type_name;
use std::fs;
use std::ops::Deref;
use std::path::Path;
use std::time::{Duration, SystemTime};

use tempfile::TempDir;

use crate::{Config, Lease, Record, Result, SessionDigest, SessionId, Store};

/// Longer than any wait for a lock that is free in the end.
pub const WAIT: Duration = Duration::from_secs(60);

type Open = dyn Fn(Config, &Path) -> Result<Box<dyn Store>>;
type Control = dyn Fn(&Path, &SessionDigest) -> Box<dyn FnMut()>;

/// A store under test: how it is opened, and what it can do. By default that is everything.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each says what the store can do"
)]
pub struct StoreContract {
    name: String,
    open: Box<Open>,
    control: Option<Box<Control>>,
    environment: Vec<(String, String)>,
    is_listed: bool,
    is_counted: bool,
    is_capped: bool,
    is_slow: bool,
    names_holders: bool,
    needs_install: bool,
    has_lock_lease: bool,
}

impl StoreContract {
    /// A store of this name, which the messages begin with. `open` is given the settings of a case and a
    /// directory that belongs to one store of the suite, and opens the store that belongs to that directory: a new
    /// one is empty, and several may be opened in one, also by several processes. In the settings `storageFileDir`
    /// and `database` are paths in that directory; a store in a server sets `database` and a `table` of its own.
    ///
    /// The suite panics where the store cannot be opened.
    pub fn new(
        name: &str,
        open: impl Fn(Config, &Path) -> Result<Box<dyn Store>> + 'static,
    ) -> Self {
        StoreContract {
            name: name.to_owned(),
            open: Box::new(open),
            control: None,
            environment: Vec::new(),
            is_listed: true,
            is_counted: true,
            is_capped: true,
            is_slow: false,
            names_holders: true,
            needs_install: false,
            has_lock_lease: false,
        }
    }

    /// The store cannot list its sessions.
    #[must_use]
    pub fn without_listing(mut self) -> Self {
        (self.is_listed, self.is_counted) = (false, false);
        self
    }

    /// A clean-up does not say how many sessions live or are in use.
    #[must_use]
    pub fn without_counts(mut self) -> Self {
        self.is_counted = false;
        self
    }

    /// `maxSessions` has no effect on the store, or is refused.
    #[must_use]
    pub fn without_cap(mut self) -> Self {
        self.is_capped = false;
        self
    }

    /// [`Error::Busy`](crate::Error::Busy) does not say which process has the lock.
    #[must_use]
    pub fn without_holders(mut self) -> Self {
        self.names_holders = false;
        self
    }

    /// [`Store::install`] must run before the first session.
    #[must_use]
    pub fn installed_first(mut self) -> Self {
        self.needs_install = true;
        self
    }

    /// A server keeps the locks, and each ends after `lockLease`.
    #[must_use]
    pub fn with_lock_lease(mut self) -> Self {
        self.has_lock_lease = true;
        self
    }

    /// A commit waits for a disk: cases that repeat something do it less often.
    #[must_use]
    pub fn slow(mut self) -> Self {
        self.is_slow = true;
        self
    }

    /// What [`StoreContract::check_processes`] must notice as losing updates. `open` is given the directory of a store
    /// and one of its sessions; what it returns adds 1 to the session's [`count`], without the store's lock.
    #[must_use]
    pub fn with_control(
        mut self,
        open: impl Fn(&Path, &SessionDigest) -> Box<dyn FnMut()> + 'static,
    ) -> Self {
        self.control = Some(Box::new(open));
        self
    }

    /// A variable for the processes that [`StoreContract::check_processes`] starts: where the server is, say.
    #[must_use]
    pub fn with_variable(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Tries everything that can be tried within one process.
    ///
    /// # Panics
    ///
    /// When the store does not keep the contract. The name of the case is printed before.
    pub fn check(&self) {
        sessions::check(self);
        listing::check(self);
        markers::check(self);
    }

    fn run<F: Fn(&StoreContract)>(&self, case: F) {
        self.announce::<F>();
        case(self);
    }

    fn announce<F>(&self) {
        let path = type_name::<F>();
        println!(
            "{}: {}",
            self.name,
            path.rsplit("::").next().unwrap_or(path)
        );
    }

    /// An empty store with these settings, and its name.
    fn open(&self, settings: &[(&str, &str)]) -> (&str, OpenStore) {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let store = self.open_in(directory.path(), settings);
        if self.needs_install {
            let problems = store.install();
            assert!(problems.is_empty(), "{}: {problems:?}", self.name);
        }
        let before = names(directory.path());
        let store = OpenStore {
            store,
            directory,
            before,
        };
        (&self.name, store)
    }

    /// Whether a store that was removed holds this session no more.
    fn is_gone(&self, store: &dyn Store, session: &SessionDigest) -> bool {
        match store.read(session, SystemTime::now()) {
            Ok(found) => found.is_none(),
            Err(error) => self.needs_install && error.one_line().contains("cgi-session init"),
        }
    }

    fn open_in(&self, directory: &Path, settings: &[(&str, &str)]) -> Box<dyn Store> {
        let sessions = directory.join("sessions");
        let config = Config::new().set("storageFileDir", sessions);
        let config = config.and_then(|it| it.set("database", directory.join("sessions.db")));
        let mut settings = settings.iter();
        let config = settings.try_fold(config.expect("a path"), |it, (key, value)| {
            it.set(key, value)
        });
        let opened = config.and_then(|config| (self.open)(config, directory));
        opened.unwrap_or_else(|error| panic!("{}: {}", self.name, error.one_line()))
    }
}

/// A store that a case opened, and its directory.
struct OpenStore {
    store: Box<dyn Store>,
    directory: TempDir,
    /// What was in the directory before the store was used.
    before: Vec<String>,
}

impl Deref for OpenStore {
    type Target = dyn Store;

    fn deref(&self) -> &Self::Target {
        &*self.store
    }
}

impl OpenStore {
    /// What the store has left in its directory.
    fn left(&self) -> Vec<String> {
        let mut left = names(self.directory.path());
        left.retain(|name| !self.before.contains(name));
        left
    }
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("a directory");
    let names = entries.map(|entry| entry.expect("an entry").file_name());
    names.filter_map(|name| name.into_string().ok()).collect()
}

/// A record that counts to this number.
#[must_use]
pub fn record(count: u64, now: SystemTime) -> Record {
    Record::new(now).with_values(format!(r#"{{"":{{"count":{count}}}}}"#).into_bytes())
}

/// A record with these members.
fn record_of(members: &str, now: SystemTime) -> Record {
    let created = crate::store::unix_seconds(now);
    let text = format!(r#"{{"v":1,"created":{created},{members},"values":{{}}}}"#);
    Record::from_json(text.into_bytes()).unwrap()
}

/// The number in a [`record`].
///
/// # Panics
///
/// When there is none.
#[must_use]
pub fn count(record: &Record) -> u64 {
    let values: serde_json::Value = serde_json::from_slice(record.values()).unwrap();
    values[""]["count"].as_u64().unwrap()
}

/// Creates a session with a [`record`] of this number.
///
/// # Panics
///
/// When it cannot be created.
pub fn create(store: &dyn Store, number: u64, now: SystemTime) -> (SessionId, Box<dyn Lease>) {
    let id = SessionId::generate().unwrap();
    let lease = store.create(&id.digest(), &record(number, now), now);
    (id, lease.unwrap().expect("a new id"))
}

/// The number in a session now, read without its lock.
///
/// # Panics
///
/// When the store fails.
pub fn counted(store: &dyn Store, session: &SessionDigest) -> Option<u64> {
    let stored = store.read(session, SystemTime::now()).unwrap();
    stored.map(|stored| count(&stored.record))
}

/// So many minutes later.
#[must_use]
pub fn later(now: SystemTime, minutes: u64) -> SystemTime {
    now + Duration::from_secs(60 * minutes)
}
