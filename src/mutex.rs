//! Locking a mutex whatever has become of the threads that had it.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// A panic elsewhere leaves nothing half-changed behind: no call between two changes under a lock of ours panics.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
