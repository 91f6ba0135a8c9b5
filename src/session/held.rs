//! Which sessions a manager holds.
//!
//! Threads of one process wait for each other here, before the store's lock: that wakes them without a
//! helper thread, and a thread that asks for a session that it holds itself gets an error.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Weak;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::id::{SessionDigest, SessionId};
use crate::mutex::lock;

/// A thread that opened a session and asks for it again may have handed it to another thread, which is
/// seen when that thread uses the session or closes it. After this time it counts as its own.
const HANDOVER: Duration = Duration::from_millis(500);
/// A running thread may take a session that is free before the first in the queue wakes up, which spares
/// switches between threads, unless the first has waited for this time.
const FAIRNESS: Duration = Duration::from_millis(1);
/// How often a thread that waits looks whether its client has left.
const CLIENT_LOOK: Duration = Duration::from_secs(1);

/// How many workers of a responder wait for one session.
const MAX_WAITING: usize = 16;

/// The sessions that are held by the threads of one manager.
#[derive(Default)]
pub(crate) struct HeldSessions(Mutex<Queues>);

/// Mostly as many as there are threads at work, which are searched faster than a table.
#[derive(Default)]
struct Queues(Vec<(Key, Queue)>);

/// The beginning of a digest, which is all that some stores know of it.
type Key = [u8; SessionId::LENGTH];

#[derive(Default)]
struct Queue {
    holder: Option<ThreadNumber>,
    /// The holder waits in the store, for another process.
    is_held_elsewhere: bool,
    waiting: VecDeque<Waiter>,
}

struct Waiter {
    number: ThreadNumber,
    thread: Thread,
    since: Instant,
}

/// As a `ThreadId`, but found out within a nanosecond.
type ThreadNumber = u64;

/// Limits how many threads wait for sessions: the workers of a responder.
pub(crate) trait WaitingPlaces: Send + Sync {
    /// Takes a place, if one is free.
    fn take(&self) -> bool;
    /// Lets another thread do this one's work until the place is given back, if there is one.
    fn replace(&self) -> bool;
    fn give_back(&self, was_replaced: bool);
}

/// The client of the request that a worker handles.
pub(crate) trait Client {
    /// Whether no answer can reach it.
    fn is_left(&self) -> bool;
}

thread_local! {
    static PLACES: RefCell<Option<Arc<dyn WaitingPlaces>>> = const { RefCell::new(None) };
    static CLIENT: RefCell<Option<Weak<dyn Client>>> = const { RefCell::new(None) };
    static GIVES_UP: Cell<bool> = const { Cell::new(false) };
}

/// From now on this thread waits only where there is a place.
#[cfg(all(target_os = "linux", feature = "fastcgi"))]
pub(crate) fn wait_in(places: Arc<dyn WaitingPlaces>) {
    PLACES.set(Some(places));
}

/// From now on this thread opens sessions for this client, if it is one that may be given up.
#[cfg(all(target_os = "linux", feature = "fastcgi"))]
pub(crate) fn wait_for(client: Option<Weak<dyn Client>>) {
    CLIENT.set(client);
    GIVES_UP.set(false);
}

/// Opens a session, and waits for it only as long as the thread's client does. A logout waits in any case.
pub(crate) fn for_client<T>(open: impl FnOnce() -> T) -> T {
    GIVES_UP.set(true);
    let opened = open();
    GIVES_UP.set(false);
    opened
}

fn check_client() -> Result<()> {
    if !GIVES_UP.get() {
        return Ok(());
    }
    let client = CLIENT.with_borrow(|client| client.as_ref().and_then(Weak::upgrade));
    if client.is_some_and(|client| client.is_left()) {
        let action = "the session is waited for no longer";
        return Err(Error::unavailable(action, "the client has left"));
    }
    Ok(())
}

/// A place that was taken, for as long as this value lives.
struct WaitingPlace {
    places: Arc<dyn WaitingPlaces>,
    is_replaced: bool,
}

impl WaitingPlace {
    /// A place for this thread if it is a worker; `others` is how many wait for the same session.
    fn take(others: usize) -> Result<Option<Self>> {
        let Some(places) = PLACES.with_borrow(Option::clone) else {
            return Ok(None);
        };
        if others >= MAX_WAITING || !places.take() {
            return Err(Error::TooManyWaiting);
        }
        Ok(Some(WaitingPlace {
            places,
            is_replaced: false,
        }))
    }

    /// Lets another thread do this one's work, before it waits for long.
    fn replace(&mut self) -> Result<()> {
        if !self.is_replaced {
            self.is_replaced = self.places.replace();
        }
        self.is_replaced.then_some(()).ok_or(Error::TooManyWaiting)
    }
}

impl Drop for WaitingPlace {
    fn drop(&mut self) {
        self.places.give_back(self.is_replaced);
    }
}

/// Waits for something that is no session while another thread does this one's work, if there is one.
pub(crate) fn stand_aside<T>(wait: impl FnOnce() -> T) -> T {
    let mut place = WaitingPlace::take(0).ok().flatten();
    // Without a replacement this thread waits anyway.
    let _ = place.as_mut().map(WaitingPlace::replace);
    wait()
}

/// The right to open one session. It moves with the session from thread to thread.
pub(crate) struct SessionGuard {
    held: Arc<HeldSessions>,
    key: Key,
    holder: Cell<ThreadNumber>,
}

impl SessionGuard {
    /// Waits until no other thread of this manager holds the session, but not after `deadline`. If it had to wait, it
    /// says since when.
    pub(crate) fn acquire(
        held: &Arc<HeldSessions>,
        session: &SessionDigest,
        deadline: Instant,
    ) -> Result<(Self, Option<Instant>)> {
        let (key, number) = (session.short_key_bytes(), this_thread());
        let (mut started, mut place, mut refused) = (None, None::<WaitingPlace>, None);
        loop {
            let mut queues = lock(&held.0);
            let queue = queues.get_or_insert(key);
            let position = queue.waiting.iter().position(|it| it.number == number);
            let is_own = queue.holder == Some(number);
            // Who waited and is in the queue no more was made the holder.
            let is_given = is_own && started.is_some() && position.is_none();
            if queue.holder.is_none() || is_given {
                queue.leave(position);
                queue.holder = Some(number);
                let guard = SessionGuard {
                    held: Arc::clone(held),
                    key,
                    holder: Cell::new(number),
                };
                return Ok((guard, started));
            }
            let now = Instant::now();
            let since = *started.get_or_insert(now);
            let last = if is_own { since + HANDOVER } else { deadline };
            let left = last.min(deadline).saturating_duration_since(now);
            if left.is_zero() {
                let holder = Some("another thread of this process".to_owned());
                let waited = now - since;
                refused = Some(if is_own {
                    Error::AlreadyOpen
                } else {
                    Error::Busy { waited, holder }
                });
            }
            if let Some(refused) = refused {
                queue.leave(position);
                return Err(refused);
            }
            if position.is_none() {
                place =
                    WaitingPlace::take(queue.waiting.len() + usize::from(queue.is_held_elsewhere))?;
                queue.waiting.push_back(Waiter {
                    number,
                    thread: thread::current(),
                    since,
                });
                drop(queues);
                // Mostly the wait is over before another thread could do anything.
                thread::park_timeout(left.min(FAIRNESS));
                continue;
            }
            drop(queues);
            let replaced = place.as_mut().map_or(Ok(()), WaitingPlace::replace);
            refused = replaced.and_then(|()| check_client()).err();
            if refused.is_none() {
                thread::park_timeout(left.min(CLIENT_LOOK));
            }
        }
    }

    /// Waits for the session in the store, where another process holds it.
    pub(crate) fn wait_elsewhere<T>(&self, wait: impl FnOnce() -> Result<T>) -> Result<T> {
        let note = |is_held_elsewhere| {
            if let Some(queue) = lock(&self.held.0).get_mut(self.key) {
                queue.is_held_elsewhere = is_held_elsewhere;
            }
        };
        // It came before those that wait for this thread.
        let mut place = WaitingPlace::take(0)?;
        place.as_mut().map_or(Ok(()), WaitingPlace::replace)?;
        note(true);
        let waited = wait();
        note(false);
        waited
    }

    pub(crate) fn note_use(&self) {
        let here = this_thread();
        if self.holder.replace(here) == here {
            return;
        }
        if let Some(queue) = lock(&self.held.0).get_mut(self.key) {
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
        let mut queues = lock(&self.held.0);
        let Some(queue) = queues.get_mut(self.key) else {
            return;
        };
        queue.holder = None;
        let Some(first) = queue.waiting.front() else {
            queues.remove(self.key);
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

impl Queue {
    fn leave(&mut self, position: Option<usize>) {
        if let Some(position) = position {
            self.waiting.remove(position);
        }
    }
}

impl Queues {
    fn get_mut(&mut self, key: Key) -> Option<&mut Queue> {
        let found = self.0.iter_mut().find(|(held, _)| *held == key);
        found.map(|(_, queue)| queue)
    }

    fn get_or_insert(&mut self, key: Key) -> &mut Queue {
        let found = self.0.iter().position(|(held, _)| *held == key);
        let at = found.unwrap_or_else(|| {
            self.0.push((key, Queue::default()));
            self.0.len() - 1
        });
        &mut self.0[at].1
    }

    fn remove(&mut self, key: Key) {
        self.0.retain(|(held, _)| *held != key);
    }
}

fn this_thread() -> ThreadNumber {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    thread_local! {
        static NUMBER: ThreadNumber = NEXT.fetch_add(1, Ordering::Relaxed);
    }
    NUMBER.with(|number| *number)
}
