//! How many responses are streamed at once, each in its own thread.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

pub(super) struct StreamPermits {
    most: usize,
    taken: Mutex<usize>,
    /// One was given back.
    changed: Condvar,
    is_stopping: AtomicBool,
}

/// The right to stream one response; dropping it gives it back.
pub(super) struct StreamPermit(Arc<StreamPermits>);

impl StreamPermits {
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(StreamPermits {
            most,
            taken: Mutex::new(0),
            changed: Condvar::new(),
            is_stopping: AtomicBool::new(false),
        })
    }

    /// How many there are.
    pub(super) fn most(&self) -> usize {
        self.most
    }

    pub(super) fn take(self: &Arc<Self>) -> Option<StreamPermit> {
        let mut taken = self.taken();
        if *taken >= self.most {
            return None;
        }
        *taken += 1;
        Some(StreamPermit(Arc::clone(self)))
    }

    /// Tells the streams that the program is to end.
    pub(super) fn begin_stop(&self) {
        self.is_stopping.store(true, Ordering::Relaxed);
    }

    /// Waits until every stream has ended; `false` when that took too long.
    pub(super) fn wait_for_end(&self, deadline: Instant) -> bool {
        let mut taken = self.taken();
        while *taken > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let waited = self.changed.wait_timeout(taken, left);
            (taken, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
        true
    }

    fn taken(&self) -> MutexGuard<'_, usize> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StreamPermit {
    /// Whether the program is to end.
    pub(super) fn is_stopping(&self) -> bool {
        self.0.is_stopping.load(Ordering::Relaxed)
    }
}

impl Drop for StreamPermit {
    fn drop(&mut self) {
        *self.0.taken() -= 1;
        self.0.changed.notify_all();
    }
}
