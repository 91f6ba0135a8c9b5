//! [`FileStore`]: one session, one file, two slots, one `pwrite` per commit.
//!
//! # Assumptions
//!
//! * A local file system of Linux (the others where std has flock(2)), whose page cache is
//!   coherent and whose flock(2) works. Network file systems are not supported.
//! * The directory belongs to the user who runs the programs, and no other user can write in it. The
//!   checksum finds torn writes; it is no protection from a user who may write the file.
//! * Processes die at any instruction. Power fails only under `durability = data`.
//! * Every program that writes a session file keeps this protocol, the clean-up included.
//!
//! # The protocol
//!
//! A file holds two slots ([`slots`]). A commit is one `pwrite` into the slot that is not current,
//! under an exclusive flock(2) on the file itself. After every lock the link count is looked at:
//! zero means that the file was deleted or replaced meanwhile, and the name is looked up again. A
//! record that outgrows its file goes into a temporary file that is locked *before* it is renamed
//! over the old one, so that a process that waits for the old file wakes up, finds its link count zero,
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
//! | in a creation, before the record is whole | nothing: no client has the id | a damaged file, clean-up |
//! | in a creation, after that | nothing: no client has the id | a session that no client knows, clean-up |
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
//! A session's lock (one is waited for at most) → `.users` → the lock of a new id, which no other process knows →
//! `.gc` → `.count` or the index of one user ([`users`]), which is held for microseconds and under
//! which no process waits for anything. The holder of `.gc` tries the locks of sessions and indexes and
//! never waits for one.

mod cap;
mod content;
mod count;
mod inner;
mod install;
mod lease;
mod read;
pub(in crate::store) mod scan;
mod slots;
mod space;
mod sweep;
mod users;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::files::directory::Directory;
use super::{Lease, Store, Stored, Sweep, SweepReport, Uninstalled, Visitor};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::id::{SessionDigest, SessionId};
use crate::record::Record;
use inner::FileStoreInner;
use lease::FileLease;

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

impl FileStore {
    /// A store in the configuration's `storageFileDir`. Nothing is opened or created yet.
    ///
    /// # Errors
    ///
    /// [`Error::Config`](crate::Error::Config) when `storageFileDir` is not set.
    pub fn new(config: impl Into<Arc<Config>>) -> Result<Self> {
        let config = config.into();
        let directory = Directory::new(config.storage_file_dir()?, config.shards == 256);
        Ok(FileStore {
            shared: Arc::new(FileStoreInner { directory, config }),
        })
    }

    /// The file of a session, whether or not it exists.
    #[must_use]
    pub fn path(&self, id: &SessionId) -> PathBuf {
        self.shared
            .path(&self.shared.directory.file_name(&id.digest()))
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
        FileLease::create(&self.shared, session, record, now)
    }

    fn lock(
        &self,
        session: &SessionDigest,
        wait: Duration,
        now: SystemTime,
    ) -> Result<Option<(Stored, Box<dyn Lease>)>> {
        FileLease::lock(&self.shared, session, wait, now)
    }

    fn read(&self, session: &SessionDigest, now: SystemTime) -> Result<Option<Stored>> {
        self.shared.read(session, now)
    }

    fn peek(&self, session: &SessionDigest, now: SystemTime) -> Result<Option<Stored>> {
        self.shared.peek(session, now)
    }

    fn delete_expired(&self, sweep: &Sweep<'_>, now: SystemTime) -> Result<SweepReport> {
        self.shared.sweep(sweep, now)
    }

    fn keeps_expired(&self) -> bool {
        true
    }

    fn last_sweep(&self, now: SystemTime) -> Option<Duration> {
        self.shared.last_sweep(now)
    }

    fn for_each(&self, visit: &mut Visitor<'_>, now: SystemTime) -> Result<()> {
        let mut show = |session: &SessionDigest| match self.shared.list(session, now) {
            Ok(Some(stored)) if !stored.record.is_marker() => visit(session, Ok(stored)),
            Ok(_) => ControlFlow::Continue(()),
            Err(error) => visit(session, Err(error)),
        };
        self.shared.each_session(|_, session| show(session))
    }

    fn sessions_of(&self, user: &str, now: SystemTime) -> Result<Vec<SessionDigest>> {
        users::sessions_of(&self.shared, user, now)
    }

    fn locks_users(&self) -> bool {
        true
    }

    fn lock_user(&self, _user: &str, wait: Duration) -> Result<Box<dyn Send>> {
        let locked = self.shared.directory.lock_or_create(scan::USERS_LOCK, wait);
        locked.map(|(file, _)| Box::new(file) as Box<dyn Send>)
    }

    fn install(&self) -> Vec<Error> {
        install::install(&self.shared)
    }

    fn uninstall(&self) -> Uninstalled {
        install::uninstall(&self.shared)
    }
}
