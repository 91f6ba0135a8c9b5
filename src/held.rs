//! Which sessions this process holds.
//!
//! A thread that asks for a session it holds would wait for itself, and is told so. Another thread
//! waits here, before the store's lock: that wakes it without a helper thread.

use std::sync::{Condvar, Mutex, PoisonError};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::id::SessionId;

static HELD: Mutex<Vec<(ThreadId, SessionId)>> = Mutex::new(Vec::new());
static RELEASED: Condvar = Condvar::new();

/// The note that a thread holds a session; dropping it takes the note away.
pub(crate) struct Held {
    id: SessionId,
}

impl Held {
    /// Notes that this thread is about to hold the session, when no other thread does any more.
    pub(crate) fn claim(id: &SessionId, wait: Duration) -> Result<Self> {
        let thread = thread::current().id();
        let deadline = Instant::now() + wait;
        let mut all = HELD.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match all.iter().find(|(_, held)| held == id) {
                None => {
                    all.push((thread, id.clone()));
                    return Ok(Held { id: id.clone() });
                }
                Some((holder, _)) if *holder == thread => return Err(Error::AlreadyOpen),
                Some(_) => {}
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let holder = Some("another thread of this process".to_owned());
                return Err(Error::Busy {
                    waited: wait,
                    holder,
                });
            }
            all = RELEASED
                .wait_timeout(all, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut all = HELD.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|(_, id)| *id != self.id);
        drop(all);
        RELEASED.notify_all();
    }
}
