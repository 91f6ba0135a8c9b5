//! [`FileStore`]: one session, one file, two slots, one `pwrite` per commit.
//!
//! # Assumptions
//!
//! * A local file system of Linux (the others where std has flock(2)), whose page cache is
//!   coherent and whose flock(2) works. Network file systems are not supported.
//! * The directory belongs to the user who runs the programs, and nobody else can write in it. The
//!   checksum finds torn writes; it is no protection against somebody who may write the file.
//! * Processes die at any instruction. Power fails only under `durability = data`.
//! * Whoever writes a session file keeps this protocol, the clean-up included.
//!
//! # The protocol
//!
//! A file holds two slots ([`slots`]). A commit is one `pwrite` into the slot that is not current,
//! under an exclusive flock(2) on the file itself. After every lock the link count is looked at:
//! zero means that the file was deleted or replaced meanwhile, and the name is looked up again. A
//! record that outgrows its file goes into a temporary file that is locked *before* it is renamed
//! over the old one, so that whoever waits for the old file wakes up, finds its link count zero,
//! and waits for the new one.
//!
//! Why not write and rename always: over an existing file ext4 makes that 19 to 100 times as
//! expensive, it needs free space for every save, and it takes the directory's lock. Why not
//! overwrite in place: a killed process or a full disk would leave half a session.
//!
//! # What the next request sees after a death
//!
//! | a process dies | the next request sees | left behind, removed by |
//! |---|---|---|
//! | in a commit, before or during the `pwrite` | the record before | a torn slot, the next commit |
//! | in a commit, after the `pwrite` | the new record | – |
//! | in a commit, before the time is set | the new record | a wrong time, the next lock |
//! | in a growth, before the rename | the record before | `.tmp-*`, clean-up after 60 s |
//! | in a growth, after the rename | the new record | – |
//! | in a creation, before the record is whole | nothing: nobody has the id | a damaged file, clean-up |
//! | in a creation, after that | nothing: nobody has the id | a session nobody knows, clean-up |
//! | in a deletion, before the unlink | the session | – |
//! | in a deletion, after the unlink | nothing | `.count` one too high, clean-up |
//! | in a change of id, after the creation | the old id with the old record | the new file, clean-up |
//! | in a change of id, after the marker is written | the marker under the old id, the session under the new one | the marker, clean-up after 60 s |
//! | in a change of id, before the marker's time is set | the same | a wrong time, the next lock; `.count` too high, clean-up |
//! | while an index gets a session | the record before, or nothing | a torn line, the next login |
//! | between the index and the record | the record before, or nothing | a line too many, clean-up |
//! | while an index loses a session | the session as it ended or changed | a line too many, clean-up |
//! | while an index is made smaller | all of the user's sessions | `.tmp-*`, clean-up after 60 s |
//! | in a clean-up or an eviction | what is not deleted yet | the next clean-up |
//! | anywhere, holding a lock | the lock is free at once | – |
//!
//! # Lock order
//!
//! A session's lock (one is waited for at most) → the lock of a new id, which nobody else knows →
//! `.gc` → `.count` or the index of one user ([`users`]), which is held for microseconds and under
//! which nobody waits for anything. Whoever holds `.gc` tries the locks of sessions and indexes and
//! never waits for one.

mod cap;
mod content;
mod install;
mod lease;
mod scan;
mod slots;
mod snapshot;
mod space;
mod sweep;
mod users;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::files::directory::Directory;
use super::{Lease, Store, Stored, Sweep, SweepReport, Uninstalled, Visitor};
use crate::config::{Config, Durability, FreeSpace, WhenFull};
use crate::error::{Error, Result};
use crate::id::{SessionDigest, SessionId};
use crate::record::{Record, unix_seconds};

/// Sessions in files of `storageFileDir`, one JSON file each, guarded by file locks.
///
/// A file is one JSON text at rest: an array of two envelopes, of which the one with the greater
/// `g` is current. This prints a session:
///
/// ```sh
/// jq 'max_by(.g // 0).d' FILE.json
/// ```
///
/// The exact format is described in `docs/format.md`.
///
/// With less free space than `minFreeSpace`, a new session is refused with
/// [`Error::LowSpace`](crate::Error::LowSpace) unless its record names a user. Existing sessions continue,
/// also under a new id.
#[derive(Clone, Debug)]
pub struct FileStore {
    shared: Arc<FileStoreInner>,
}

/// What the store, its leases and its clean-up have in common.
#[derive(Debug)]
struct FileStoreInner {
    directory: Directory,
    /// How long a session lives unused whose record does not say it.
    idle: Duration,
    /// How long any session lives, and how long a damaged one is kept.
    lifetime: Option<Duration>,
    durability: Durability,
    max_record_bytes: usize,
    max_sessions: u64,
    when_full: WhenFull,
    min_free_space: FreeSpace,
    lock_timeout: Duration,
}

impl FileStore {
    /// A store in the configuration's `storageFileDir`. Nothing is opened or made yet.
    ///
    /// # Errors
    ///
    /// [`Error::Config`](crate::Error::Config) when `storageFileDir` is not set.
    pub fn new(config: &Config) -> Result<Self> {
        let shared = FileStoreInner {
            directory: Directory::new(config.storage_file_dir()?, config.shards == 256),
            idle: config.timeout,
            lifetime: config.lifetime,
            durability: config.durability,
            max_record_bytes: config.max_record_bytes,
            max_sessions: config.max_sessions,
            when_full: config.when_full,
            min_free_space: config.min_free_space,
            lock_timeout: config.lock_timeout,
        };
        Ok(FileStore {
            shared: Arc::new(shared),
        })
    }

    /// The file of a session, whether or not it exists.
    #[must_use]
    pub fn path(&self, id: &SessionId) -> PathBuf {
        self.directory()
            .join(self.shared.directory.file_name(&id.digest()))
    }

    /// The directory of the files.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.shared.directory.path()
    }
}

impl Store for FileStore {
    fn create(
        &self,
        session: &SessionDigest,
        record: &Record,
        now: SystemTime,
    ) -> Result<Option<Box<dyn Lease>>> {
        let lease = lease::FileLease::create(&self.shared, session, record, now)?;
        Ok(lease.map(|lease| Box::new(lease) as Box<dyn Lease>))
    }

    fn lock(
        &self,
        session: &SessionDigest,
        wait: Duration,
        now: SystemTime,
    ) -> Result<Option<(Stored, Box<dyn Lease>)>> {
        let found = lease::FileLease::lock(&self.shared, session, wait, now)?;
        Ok(found.map(|(stored, lease)| (stored, Box::new(lease) as Box<dyn Lease>)))
    }

    fn read(&self, session: &SessionDigest, now: SystemTime) -> Result<Option<Stored>> {
        snapshot::read(&self.shared, session, now)
    }

    fn peek(&self, session: &SessionDigest, now: SystemTime) -> Result<Option<Stored>> {
        snapshot::peek(&self.shared, session, now)
    }

    fn delete_expired(&self, sweep: &Sweep<'_>, now: SystemTime) -> Result<SweepReport> {
        sweep::run(&self.shared, sweep, now)
    }

    fn last_sweep(&self, now: SystemTime) -> Option<Duration> {
        sweep::last(&self.shared, now)
    }

    fn for_each(&self, visit: &mut Visitor<'_>, now: SystemTime) -> Result<()> {
        scan::each_session(&self.shared, |_, session| {
            match snapshot::list(&self.shared, session, now) {
                Ok(Some(stored)) if !stored.record.is_marker() => visit(session, Ok(stored)),
                Ok(_) => ControlFlow::Continue(()),
                Err(error) => visit(session, Err(error)),
            }
        })
    }

    fn sessions_of(&self, user: &str, now: SystemTime) -> Result<Vec<SessionDigest>> {
        users::sessions_of(&self.shared, user, now)
    }

    fn install(&self) -> Vec<Error> {
        install::install(&self.shared)
    }

    fn uninstall(&self) -> Uninstalled {
        install::uninstall(&self.shared)
    }
}

impl FileStoreInner {
    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn is_durable(&self) -> bool {
        self.durability == Durability::Data
    }

    /// The unit of a slot's capacity. Under `durability = data` no disk sector holds parts of both.
    fn unit(&self) -> usize {
        if self.is_durable() { 4096 } else { 512 }
    }

    /// Whether a record whose file was modified at `modified` has expired.
    fn has_expired(&self, record: &Record, modified: SystemTime, now: SystemTime) -> bool {
        match self.end(record, modified) {
            Some(end) if record.expires().is_some() => unix_seconds(end) < unix_seconds(now),
            end => end.is_some_and(|end| end < now),
        }
    }

    /// When a record ends whose file was modified at `modified`; `None` for a moment that no clock will show.
    fn end(&self, record: &Record, modified: SystemTime) -> Option<SystemTime> {
        let idle_end = || modified.checked_add(self.idle(record));
        record.expires().or_else(idle_end)
    }

    /// How long a session lives unused: what its record says, else `timeout`.
    fn idle(&self, record: &Record) -> Duration {
        record.idle().unwrap_or(self.idle)
    }

    /// The time of the file of a record with an end of its own, so that a clean-up looks into it at that
    /// end. What a change of id leaves, every clean-up looks into, whatever its `timeout`.
    fn mtime_for(&self, record: &Record) -> Option<SystemTime> {
        let expires = record.expires()?;
        if record.is_replaced() {
            return Some(UNCOUNTED);
        }
        let hint = expires.checked_sub(self.idle(record))?;
        Some(hint.max(UNCOUNTED + Duration::from_secs(1)))
    }

    /// The idle time of a record whose end each use moves; `None` for an end of its own.
    fn sliding(&self, record: &Record) -> Option<Duration> {
        record.expires().is_none().then(|| self.idle(record))
    }
}

/// Whether an unchanged session's time should be renewed: at most once in a sixtieth of its
/// idle time. A time in the future, from a clock that was wrong, is put right.
fn should_touch(idle: Duration, modified: SystemTime, now: SystemTime) -> bool {
    let pause = (idle / 60).max(Duration::from_secs(1));
    match now.duration_since(modified) {
        Ok(age) => age > pause,
        Err(ahead) => ahead.duration() > pause,
    }
}

/// The time of a file that is none of the sessions that `maxSessions` counts: what a change of id leaves.
const UNCOUNTED: SystemTime = SystemTime::UNIX_EPOCH;

fn is_counted(modified: SystemTime) -> bool {
    modified != UNCOUNTED
}

/// When a session was last used, as far as its file tells.
fn last_access(record: &Record, modified: SystemTime) -> SystemTime {
    // The file of what a change of id leaves tells nothing else.
    record
        .changed()
        .filter(|_| !is_counted(modified))
        .unwrap_or(modified)
}
