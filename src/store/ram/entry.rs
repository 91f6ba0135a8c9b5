//! One session in memory: its record, its lock, the requests that wait for it, and the right to change it.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use super::inner::MemoryStoreInner;
use crate::error::{Error, Result};
use crate::id::SessionDigest;
use crate::mutex::lock;
use crate::record::Record;
use crate::store::{Lease, Stored, check_size};

/// One session. A request that has looked it up may still hold it when it is gone from the map.
pub(super) struct Entry {
    pub(super) state: Mutex<State>,
    pub(super) released: Condvar,
}

pub(super) struct State {
    /// None once the session is destroyed: it never comes back.
    pub(super) stored: Option<StoredRecord>,
    pub(super) is_locked: bool,
}

/// A record behind a pointer: a snapshot must copy all of them at one moment.
#[derive(Clone)]
pub(super) struct StoredRecord {
    pub(super) record: Arc<Record>,
    pub(super) last_access: SystemTime,
}

impl StoredRecord {
    pub(super) fn new(record: &Record, now: SystemTime) -> Self {
        StoredRecord {
            record: Arc::new(record.clone()),
            last_access: now,
        }
    }

    /// One, or nothing for what `maxSessions` does not count: what a change of id leaves.
    pub(super) fn counts(&self) -> u64 {
        u64::from(!self.record.is_replaced())
    }

    pub(super) fn to_stored(&self) -> Stored {
        Stored {
            record: Record::clone(&self.record),
            last_access: self.last_access,
        }
    }
}

impl Entry {
    pub(super) fn new(is_locked: bool) -> Self {
        let stored = None;
        Entry {
            state: Mutex::new(State { stored, is_locked }),
            released: Condvar::new(),
        }
    }

    /// Waits up to `wait` until no request has the lock.
    pub(super) fn free(&self, wait: Duration) -> Result<MutexGuard<'_, State>> {
        let state = lock(&self.state);
        let waited = self
            .released
            .wait_timeout_while(state, wait, |it| it.is_locked);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if state.is_locked {
            let holder = Some("this process".to_owned());
            return Err(Error::Busy {
                waited: wait,
                holder,
            });
        }
        Ok(state)
    }
}

/// The lock of an entry. Dropped, it is unlocked.
pub(super) struct HeldEntry(pub(super) Arc<Entry>);

impl Drop for HeldEntry {
    fn drop(&mut self) {
        lock(&self.0.state).is_locked = false;
        self.0.released.notify_one();
    }
}

pub(super) struct MemoryLease {
    pub(super) shared: Arc<MemoryStoreInner>,
    pub(super) session: SessionDigest,
    pub(super) entry: HeldEntry,
}

impl Lease for MemoryLease {
    fn commit(&mut self, record: &Record, now: SystemTime) -> Result<()> {
        check_size(record, self.shared.config.max_record_bytes)?;
        let stored = StoredRecord::new(record, now);
        self.shared
            .put(&self.session, &mut lock(&self.entry.0.state), Some(stored));
        self.shared.change();
        Ok(())
    }

    fn touch(&mut self, now: SystemTime) -> Result<()> {
        if let Some(stored) = &mut lock(&self.entry.0.state).stored {
            stored.last_access = now;
        }
        self.shared.change();
        Ok(())
    }

    fn check(&mut self) -> Result<()> {
        let stored = lock(&self.entry.0.state).stored.is_some();
        stored.then_some(()).ok_or(Error::LeaseLost)
    }

    fn destroy(self: Box<Self>) -> Result<()> {
        let mut entries = lock(&self.shared.entries);
        entries.remove(&self.session);
        // Before another session can have this id.
        self.shared
            .put(&self.session, &mut lock(&self.entry.0.state), None);
        drop(entries);
        self.shared.change();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;
    use std::time::Instant;

    use super::*;
    use crate::config::Config;
    use crate::id::SessionId;
    use crate::store::{MemoryStore, Store as _};

    #[test]
    fn the_sessions_of_a_user_are_found_without_a_look_at_others() {
        let store = MemoryStore::new(Config::new()).unwrap();
        let now = SystemTime::now();
        let [ada, bob] = ["ada", "bob"].map(|user| {
            let session = SessionId::generate().unwrap().digest();
            let record = Record::new(now).with_user(Some(user));
            assert!(store.create(&session, &record, now).unwrap().is_some());
            session
        });
        let other = store.shared.find(&bob).unwrap();
        let _held = lock(&other.state);
        let (found, finds) = mpsc::channel();
        thread::spawn(move || found.send(store.sessions_of("ada", now).unwrap()));
        let listed = finds.recv_timeout(Duration::from_secs(30));
        assert_eq!(listed, Ok(vec![ada]));
    }

    #[test]
    fn all_who_wait_for_a_session_hear_at_once_that_it_is_gone() {
        const WAIT: Duration = Duration::from_secs(20);
        let store = MemoryStore::new(Config::new()).unwrap();
        let now = SystemTime::now();
        let session = SessionId::generate().unwrap().digest();
        let lease = store.create(&session, &Record::new(now), now).unwrap();
        let entry = store.shared.find(&session).unwrap();
        let started = Instant::now();
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| assert!(store.lock(&session, WAIT, now).unwrap().is_none()));
            }
            // The map, the lease, this test and each of them.
            while Arc::strong_count(&entry) < 6 {
                thread::yield_now();
            }
            lease.unwrap().destroy().unwrap();
        });
        assert!(started.elapsed() < WAIT, "a waiting request was not woken");
    }
}
