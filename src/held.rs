//! Which sessions a manager holds.
//!
//! Threads of one process wait for each other here, before the store's lock: that wakes them without a
//! helper thread, and a thread that asks for a session it holds itself is told so.

use std::cell::Cell;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::id::{SessionDigest, SessionId};

/// A thread that opened a session and asks for it again may have handed it to another thread, which is
/// seen when that thread uses the session or closes it. After this time it counts as its own.
const HANDOVER: Duration = Duration::from_millis(500);
/// A running thread may take a session that is free before the first in the queue wakes up, which spares
/// switches between threads, unless that one has waited for so long.
const FAIRNESS: Duration = Duration::from_millis(1);

/// The sessions that are held by the threads of one manager.
#[derive(Default)]
pub(crate) struct HeldSessions {
    queues: Mutex<HashMap<Key, Queue>>,
}

/// The beginning of a digest, which is all that some stores know of it.
type Key = [u8; SessionId::LENGTH];

#[derive(Default)]
struct Queue {
    holder: Option<ThreadNumber>,
    waiting: VecDeque<Waiter>,
}

struct Waiter {
    number: ThreadNumber,
    thread: Thread,
    since: Instant,
}

/// As a `ThreadId`, but found out within a nanosecond.
type ThreadNumber = u64;

/// The right to open one session. It moves with the session from thread to thread.
pub(crate) struct SessionGuard {
    held: Arc<HeldSessions>,
    key: Key,
    holder: Cell<ThreadNumber>,
}

impl SessionGuard {
    /// Waits until no other thread of this manager holds the session, but not after `deadline`.
    pub(crate) fn acquire(
        held: &Arc<HeldSessions>,
        session: &SessionDigest,
        deadline: Instant,
    ) -> Result<Self> {
        let (key, number) = (session.stem_bytes(), this_thread());
        let mut started = None;
        let mut queues = held.queues();
        loop {
            let queue = queues.entry(key).or_default();
            let place = queue.waiting.iter().position(|it| it.number == number);
            let is_own = queue.holder == Some(number);
            // A queue that was left for the holder's place: the session was handed over.
            let is_ours =
                queue.holder.is_none() || (is_own && started.is_some() && place.is_none());
            if is_ours {
                if let Some(place) = place {
                    queue.waiting.remove(place);
                }
                queue.holder = Some(number);
                return Ok(SessionGuard {
                    held: Arc::clone(held),
                    key,
                    holder: Cell::new(number),
                });
            }
            let now = Instant::now();
            let since = *started.get_or_insert(now);
            let until = if is_own {
                deadline.min(since + HANDOVER)
            } else {
                deadline
            };
            if now >= until {
                if let Some(place) = place {
                    queue.waiting.remove(place);
                }
                return Err(if is_own {
                    Error::AlreadyOpen
                } else {
                    Error::Busy {
                        waited: now - since,
                        holder: Some("another thread of this process".to_owned()),
                    }
                });
            }
            if place.is_none() {
                queue.waiting.push_back(Waiter {
                    number,
                    thread: thread::current(),
                    since,
                });
            }
            drop(queues);
            thread::park_timeout(until - now);
            queues = held.queues();
        }
    }

    /// Notes which thread uses the session.
    pub(crate) fn note_use(&self) {
        let here = this_thread();
        if self.holder.replace(here) == here {
            return;
        }
        if let Some(queue) = self.held.queues().get_mut(&self.key) {
            queue.holder = Some(here);
            // The one that handed it over now waits as long as any other.
            for waiter in &queue.waiting {
                waiter.thread.unpark();
            }
        }
    }
}

impl Drop for SessionGuard {
    fn drop(&mut self) {
        let mut queues = self.held.queues();
        let Some(queue) = queues.get_mut(&self.key) else {
            return;
        };
        queue.holder = None;
        let Some(first) = queue.waiting.front() else {
            queues.remove(&self.key);
            return;
        };
        let thread = first.thread.clone();
        if first.since.elapsed() >= FAIRNESS {
            queue.holder = Some(first.number);
            queue.waiting.pop_front();
        }
        drop(queues);
        thread.unpark();
    }
}

impl HeldSessions {
    fn queues(&self) -> MutexGuard<'_, HashMap<Key, Queue>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn this_thread() -> ThreadNumber {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    thread_local! {
        static NUMBER: ThreadNumber = NEXT.fetch_add(1, Ordering::Relaxed);
    }
    NUMBER.with(|number| *number)
}
