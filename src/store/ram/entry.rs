//! One session in memory: its record, its lock, and the requests that wait for it.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use crate::error::{Error, Result};
use crate::record::Record;
use crate::store::Stored;

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
    pub(super) fn new(stored: Option<StoredRecord>, is_locked: bool) -> Self {
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

/// A panic elsewhere leaves no half-made change behind: every one is a single assignment.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
