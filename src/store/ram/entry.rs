//! One session in memory: its record, its lock, and the requests that wait for it.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

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
    pub(super) fn new(stored: StoredRecord, is_locked: bool) -> Self {
        Entry {
            state: Mutex::new(State {
                stored: Some(stored),
                is_locked,
            }),
            released: Condvar::new(),
        }
    }
}

/// A panic elsewhere leaves no half-made change behind: every one is a single assignment.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
