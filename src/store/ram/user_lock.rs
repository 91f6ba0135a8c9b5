//! [`UserLock`]: held by the thread whose session becomes a user's.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::entry::lock;
use crate::error::{Error, Result};

#[derive(Default)]
pub(super) struct UserLock {
    is_held: Mutex<bool>,
    released: Condvar,
}

/// Dropped, it is unlocked.
pub(super) struct HeldUserLock(Arc<UserLock>);

impl UserLock {
    pub(super) fn take(self: &Arc<Self>, wait: Duration) -> Result<HeldUserLock> {
        let waited = self
            .released
            .wait_timeout_while(lock(&self.is_held), wait, |is_held| *is_held);
        let (mut is_held, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if *is_held {
            return Err(Error::Busy {
                waited: wait,
                holder: Some("this process".to_owned()),
            });
        }
        *is_held = true;
        Ok(HeldUserLock(Arc::clone(self)))
    }
}

impl Drop for HeldUserLock {
    fn drop(&mut self) {
        *lock(&self.0.is_held) = false;
        self.0.released.notify_one();
    }
}
