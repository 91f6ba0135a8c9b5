//! [`MemoryStore`]: sessions in the memory of one process, kept over its end by a snapshot file.

mod entry;
mod inner;
mod snapshot;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use super::{Lease, Store, Stored, Sweep, SweepReport, Uninstalled, Visitor, check_size};
use crate::config::Config;
use crate::error::Result;
use crate::id::SessionDigest;
use crate::mutex::lock;
use crate::record::Record;
use entry::{Entry, HeldEntry, MemoryLease, StoredRecord};
use inner::MemoryStoreInner;
use snapshot::SnapshotFile;

/// Sessions in the memory of this process, for any number of its threads (`storageType = ram`).
///
/// It is for FastCGI programs of one process, and for tests. Under plain CGI every request is a process of
/// its own and would find nothing: [`SessionManager::new`](crate::SessionManager::new) refuses there.
///
/// With `snapshotFile` set, [`Store::flush`] writes all live sessions into that file if anything has changed,
/// and a new store begins with what it finds there. A program that is killed loses what came after its last
/// snapshot. FastCGI programs write one every `snapshotDelay` and one at their end; under another
/// transport call [`SessionManager::flush`](crate::SessionManager::flush). The file names sessions by the digest of
/// their ids, belongs to one process at a time, and is 0600.
#[derive(Clone)]
pub struct MemoryStore {
    shared: Arc<MemoryStoreInner>,
}

impl MemoryStore {
    /// A store with the sessions of the last snapshot, or an empty one where there is none. It waits up to
    /// `lockTimeout` for a process that is about to end and has the snapshot.
    ///
    /// # Errors
    ///
    /// When `snapshotFile` cannot be used: it is damaged, not ours alone, written by a later release, or in
    /// use by another process. It stays as it is then.
    #[cold]
    pub fn new(config: impl Into<Arc<Config>>) -> Result<Self> {
        let config = config.into();
        let (mut saved, mut snapshot) = (Vec::new(), None);
        if let Some(path) = &config.snapshot_file {
            let opened = SnapshotFile::open(path, config.lock_timeout)?;
            saved = opened.load()?;
            snapshot = Some(Mutex::new(opened));
        }
        let shared = MemoryStoreInner {
            config,
            entries: Mutex::default(),
            users: Mutex::default(),
            counted: AtomicU64::default(),
            last_sweep: Mutex::default(),
            snapshot,
            is_changed: AtomicBool::new(false),
            user_lock: Arc::new(Entry::new(false)),
        };
        // Not what has expired since the snapshot was written. No request is here yet whose clock could
        // tell the time.
        let now = SystemTime::now();
        for (session, stored) in saved {
            if !shared.has_expired(&stored, now) {
                shared.insert(&mut lock(&shared.entries), session, stored, false);
            }
        }
        Ok(MemoryStore {
            shared: Arc::new(shared),
        })
    }

    /// What is made of a live session, as it is at this moment.
    fn live<T>(
        &self,
        session: &SessionDigest,
        now: SystemTime,
        then: impl FnOnce(&mut StoredRecord) -> T,
    ) -> Option<T> {
        let entry = self.shared.find(session)?;
        let mut state = lock(&entry.state);
        let stored = state.stored.as_mut();
        let live = stored.filter(|stored| !self.shared.has_expired(stored, now));
        live.map(then)
    }

    fn lease(&self, session: &SessionDigest, entry: Arc<Entry>) -> Box<dyn Lease> {
        Box::new(MemoryLease {
            shared: Arc::clone(&self.shared),
            session: *session,
            entry: HeldEntry(entry),
        })
    }
}

impl Store for MemoryStore {
    fn create(
        &self,
        session: &SessionDigest,
        record: &Record,
        now: SystemTime,
    ) -> Result<Option<Box<dyn Lease>>> {
        check_size(record, self.shared.config.max_record_bytes)?;
        let mut entries = lock(&self.shared.entries);
        if entries.contains_key(session) {
            return Ok(None);
        }
        let predecessor = record.predecessor();
        if predecessor.is_none_or(|before| !entries.contains_key(&before)) {
            self.shared.make_room(&mut entries, now)?;
        }
        let stored = StoredRecord::new(record, now);
        let entry = self.shared.insert(&mut entries, *session, stored, true);
        self.shared.change();
        Ok(Some(self.lease(session, entry)))
    }

    fn lock(
        &self,
        session: &SessionDigest,
        wait: Duration,
        now: SystemTime,
    ) -> Result<Option<(Stored, Box<dyn Lease>)>> {
        let Some(entry) = self.shared.find(session) else {
            return Ok(None);
        };
        let mut state = entry.free(wait)?;
        let Some(stored) = state.stored.clone() else {
            // It was destroyed: so the next one that waits will not have it either.
            entry.released.notify_one();
            return Ok(None);
        };
        state.is_locked = true;
        drop(state);
        let lease = self.lease(session, entry);
        if self.shared.has_expired(&stored, now) {
            lease.destroy()?;
            return Ok(None);
        }
        Ok(Some((stored.to_stored(), lease)))
    }

    fn read(&self, session: &SessionDigest, now: SystemTime) -> Result<Option<Stored>> {
        Ok(self.live(session, now, |stored| {
            let found = stored.to_stored();
            // What is too old is left to the clean-up.
            if !found.record.is_too_old(self.shared.config.lifetime, now) {
                stored.last_access = now;
                self.shared.change();
            }
            found
        }))
    }

    fn peek(&self, session: &SessionDigest, now: SystemTime) -> Result<Option<Stored>> {
        Ok(self.live(session, now, |stored| stored.to_stored()))
    }

    fn delete_expired(&self, sweep: &Sweep<'_>, now: SystemTime) -> Result<SweepReport> {
        let swept = self
            .shared
            .sweep(&mut lock(&self.shared.entries), sweep, now);
        let (mut report, deleted) = swept;
        for (session, age, bytes) in deleted {
            sweep.note_deleted(&mut report, session.as_str(), age, bytes, "expired");
        }
        Ok(report)
    }

    fn last_sweep(&self, now: SystemTime) -> Option<Duration> {
        self.shared.age_of_sweep(now)
    }

    fn for_each(&self, visit: &mut Visitor<'_>, now: SystemTime) -> Result<()> {
        // A callback may take its time, or ask for a session itself.
        let sessions: Vec<_> = lock(&self.shared.entries).keys().copied().collect();
        for session in sessions {
            if let Some(stored) = self.peek(&session, now)?
                && !stored.record.is_marker()
                && visit(&session, Ok(stored)).is_break()
            {
                break;
            }
        }
        Ok(())
    }

    fn sessions_of(&self, user: &str, now: SystemTime) -> Result<Vec<SessionDigest>> {
        let listed = lock(&self.shared.users).get(user).cloned();
        let mut listed = Vec::from_iter(listed.unwrap_or_default());
        listed.retain(|session| self.live(session, now, |_| ()).is_some());
        Ok(listed)
    }

    fn locks_users(&self) -> bool {
        true
    }

    fn lock_user(&self, _user: &str, wait: Duration) -> Result<Box<dyn Send>> {
        let entry = &self.shared.user_lock;
        entry.free(wait)?.is_locked = true;
        Ok(Box::new(HeldEntry(Arc::clone(entry))))
    }

    fn uninstall(&self) -> Uninstalled {
        let mut entries = lock(&self.shared.entries);
        let sessions = entries.len() as u64;
        for (session, entry) in entries.drain() {
            self.shared.put(&session, &mut lock(&entry.state), None);
        }
        drop(entries);
        let mut errors = Vec::new();
        if let Some(snapshot) = &self.shared.snapshot {
            let snapshot = lock(snapshot);
            self.shared.is_changed.store(false, Ordering::Release);
            errors.extend(snapshot.remove().err());
        }
        Uninstalled {
            sessions,
            errors,
            ..Uninstalled::default()
        }
    }

    fn flush(&self) -> Result<()> {
        let Some(snapshot) = &self.shared.snapshot else {
            return Ok(());
        };
        let snapshot = lock(snapshot);
        // Before the copy: what changes meanwhile is for the next one.
        if !self.shared.is_changed.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        // No request is here either whose clock could tell the time.
        let written = snapshot.write(&self.shared.copy(SystemTime::now()));
        if written.is_err() {
            self.shared.change();
        }
        written
    }
}
