//! Locking a mutex whatever has become of the threads that had it.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// A panic elsewhere leaves no half-made change behind: each that is made under a lock of ours is whole at once.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
