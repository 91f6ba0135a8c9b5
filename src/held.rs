//! Which sessions this process holds: who asks for one twice would wait for itself.

use std::sync::{Mutex, PoisonError};
use std::thread::{self, ThreadId};

use crate::id::SessionId;

static HELD: Mutex<Vec<(ThreadId, SessionId)>> = Mutex::new(Vec::new());

/// The note that a thread holds a session; dropping it takes the note away.
pub(crate) struct Held {
    thread: ThreadId,
    id: SessionId,
}

impl Held {
    /// Notes that this thread is about to hold the session; `None` when it does already.
    pub(crate) fn claim(id: &SessionId) -> Option<Self> {
        let thread = thread::current().id();
        let mut all = HELD.lock().unwrap_or_else(PoisonError::into_inner);
        if all
            .iter()
            .any(|(holder, held)| *holder == thread && held == id)
        {
            // No Held is made here: dropping it would take away the note of the one that holds.
            return None;
        }
        all.push((thread, id.clone()));
        Some(Held {
            thread,
            id: id.clone(),
        })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut all = HELD.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|(thread, id)| *thread != self.thread || *id != self.id);
    }
}
