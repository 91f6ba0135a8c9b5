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
        let held = Held {
            thread: thread::current().id(),
            id: id.clone(),
        };
        let mut all = HELD.lock().unwrap_or_else(PoisonError::into_inner);
        if all
            .iter()
            .any(|(thread, id)| *thread == held.thread && *id == held.id)
        {
            return None;
        }
        all.push((held.thread, held.id.clone()));
        Some(held)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut all = HELD.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|(thread, id)| *thread != self.thread || *id != self.id);
    }
}
