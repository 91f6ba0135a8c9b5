//! Which sessions this process holds.
//!
//! A thread that asks for a session it holds would wait for itself, and is told so. Another thread
//! waits here, before the store's lock: that wakes it without a helper thread.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::id::{SessionDigest, SessionId};

static SESSIONS: Mutex<Sessions> = Mutex::new(Sessions {
    held: Vec::new(),
    awaited: Vec::new(),
});
static RELEASED: Condvar = Condvar::new();

struct Sessions {
    held: Vec<(ThreadId, SessionId)>,
    /// One entry for each thread that waits, here or in the store.
    awaited: Vec<SessionId>,
}

/// The note that a thread holds a session; dropping it takes the note away.
pub(crate) struct Held {
    id: SessionId,
}

impl Held {
    /// Notes that this thread is about to hold the session, when no other thread does any more.
    pub(crate) fn claim(id: &SessionId, wait: Duration) -> Result<Self> {
        let thread = thread::current().id();
        let deadline = Instant::now() + wait;
        // Dropped after the list is unlocked, which it locks to take itself away.
        let mut note = None;
        let mut all = sessions();
        loop {
            match all.held.iter().find(|(_, held)| held == id) {
                None => {
                    all.held.push((thread, id.clone()));
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
            if note.is_none() {
                all.awaited.push(id.clone());
                note = Some(Waiting { id: id.clone() });
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
        let mut all = sessions();
        all.held.retain(|(_, id)| *id != self.id);
        let is_awaited = all.awaited.contains(&self.id);
        drop(all);
        // To notify is a system call even when nobody waits.
        if is_awaited {
            RELEASED.notify_all();
        }
    }
}

/// The note that a thread waits for a session.
pub(crate) struct Waiting {
    id: SessionId,
}

impl Waiting {
    pub(crate) fn new(id: &SessionId) -> Self {
        sessions().awaited.push(id.clone());
        Waiting { id: id.clone() }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut all = sessions();
        if let Some(at) = all.awaited.iter().position(|id| *id == self.id) {
            all.awaited.swap_remove(at);
        }
    }
}

/// Whether this thread holds the session of this digest.
pub(crate) fn is_held_here(session: &SessionDigest) -> bool {
    let thread = thread::current().id();
    let all = sessions();
    let mut own = all.held.iter().filter(|(holder, _)| *holder == thread);
    own.any(|(_, id)| id.digest().stem() == session.stem())
}

/// How many threads of this process wait for a session.
#[cfg(target_os = "linux")]
pub(crate) fn waiting_for(id: &SessionId) -> usize {
    sessions()
        .awaited
        .iter()
        .filter(|awaited| *awaited == id)
        .count()
}

fn sessions() -> MutexGuard<'static, Sessions> {
    SESSIONS.lock().unwrap_or_else(PoisonError::into_inner)
}
