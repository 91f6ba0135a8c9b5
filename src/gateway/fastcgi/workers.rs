//! The worker threads, and the spare ones that stand in for those that wait for a session.
//!
//! Requests that write one session wait for each other, each in its thread. Were these to be missing,
//! one busy session would stop the responder for everybody. So a worker that has to wait is replaced:
//! as many threads as there are workers always serve. How many may wait at once is limited, and with it
//! the number of threads; a request beyond is refused. A spare thread is kept ready. A response that is streamed has
//! a thread of its own, of which there is a limit, too.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::gateway::limits::Limits;
use crate::mutex::lock;
use crate::session::WaitingPlaces;

/// A spare thread that was not needed for this time ends, unless it is the last.
const SPARE_TIMEOUT: Duration = Duration::from_secs(10);
/// How soon another thread is tried to be started when one could not be.
const RETRY: Duration = Duration::from_secs(1);

pub(super) struct Workers {
    /// How many threads serve.
    pub(super) size: usize,
    /// How many may wait besides.
    places: usize,
    /// How many responses are streamed at once.
    streams: usize,
    state: Mutex<State>,
    /// A spare thread is called, or all are to end.
    called: Condvar,
    /// A thread is spare, could not be started, or has ended.
    changed: Condvar,
    /// More threads serve than should, or none is spare.
    is_uneven: AtomicBool,
    /// The program is to end, and with it streams and a clean-up.
    pub(super) is_stopping: AtomicBool,
}

/// The right to stream one response in a thread of its own; dropping it gives it back.
pub(super) struct StreamPermit(Arc<Workers>);

impl StreamPermit {
    pub(super) fn is_stopping(&self) -> bool {
        self.0.is_stopping.load(Ordering::Relaxed)
    }
}

impl Drop for StreamPermit {
    fn drop(&mut self) {
        let mut state = lock(&self.0.state);
        state.streams -= 1;
        self.0.note(&state);
    }
}

#[derive(Default)]
struct State {
    threads: usize,
    streams: usize,
    serving: usize,
    spare: usize,
    /// Spare threads that were called to serve and have not woken up yet.
    calls: usize,
    waiting: usize,
    /// Threads that wait on `changed`.
    watching: usize,
    is_starting: bool,
    /// When a thread could not be started last.
    failed: Option<Instant>,
    is_over: bool,
}

/// What a worker has to do before its next event.
pub(super) enum Turn {
    Serve,
    /// A spare thread must be started first, then [`Workers::started`] called.
    StartSpare,
    End,
}

impl Workers {
    /// The threads that serve, which the caller starts with one spare thread, and those that may wait or stream.
    pub(super) fn new(limits: &Limits) -> Self {
        // Each serves one connection at a time; while all are busy, one more closes those beyond.
        let size = limits.workers().min(limits.connections.saturating_add(1));
        let state = State {
            threads: size,
            serving: size,
            is_starting: true,
            ..State::default()
        };
        Workers {
            size,
            places: limits.places(),
            streams: limits.streams,
            state: Mutex::new(state),
            called: Condvar::new(),
            changed: Condvar::new(),
            is_uneven: AtomicBool::new(true),
            is_stopping: AtomicBool::new(false),
        }
    }

    /// So many workers could not be started; tells how many are left.
    pub(super) fn lose(&self, number: usize) -> usize {
        let mut state = lock(&self.state);
        state.threads -= number;
        state.serving -= number;
        state.threads
    }

    /// Called before each event: whether this thread continues. A surplus thread becomes spare and waits here.
    pub(super) fn next_turn(&self) -> Turn {
        if !self.is_uneven.load(Ordering::Relaxed) {
            return Turn::Serve;
        }
        let mut state = lock(&self.state);
        if state.is_over {
            return Turn::Serve;
        }
        if state.serving > self.size {
            state.serving -= 1;
            state.spare += 1;
            self.note(&state);
            return self.wait_for_call(state);
        }
        let may_start = state.failed.is_none_or(|failed| failed.elapsed() > RETRY);
        if state.spare == 0 && state.waiting < self.places && may_start && !state.is_starting {
            state.is_starting = true;
            return Turn::StartSpare;
        }
        Turn::Serve
    }

    /// A spare thread was started, or could not be. Tells whether that is news.
    pub(super) fn started(&self, is_started: bool) -> bool {
        let mut state = lock(&self.state);
        let is_news = !is_started && state.failed.is_none();
        state.is_starting = false;
        if is_started {
            state.threads += 1;
            state.spare += 1;
            state.failed = None;
        } else {
            state.failed = Some(Instant::now());
        }
        self.note(&state);
        is_news
    }

    pub(super) fn first_turn(&self) -> Turn {
        self.wait_for_call(lock(&self.state))
    }

    fn wait_for_call(&self, mut state: MutexGuard<'_, State>) -> Turn {
        loop {
            if state.is_over {
                return Turn::End;
            }
            if state.calls > 0 {
                state.calls -= 1;
                drop(state);
                return self.next_turn();
            }
            let waited = self.called.wait_timeout(state, SPARE_TIMEOUT);
            let (again, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            state = again;
            if timeout.timed_out() && state.calls == 0 && state.spare > 1 {
                state.spare -= 1;
                return Turn::End;
            }
        }
    }

    pub(super) fn end_one(&self) {
        let mut state = lock(&self.state);
        state.threads -= 1;
        self.note(&state);
    }

    /// The right to one more stream, unless there are as many as may be.
    pub(super) fn take_stream(self: &Arc<Self>) -> Option<StreamPermit> {
        let mut state = lock(&self.state);
        let is_free = state.streams < self.streams;
        state.streams += usize::from(is_free);
        is_free.then(|| StreamPermit(Arc::clone(self)))
    }

    /// Ends the spare threads; the others end by themselves.
    pub(super) fn begin_stop(&self) {
        let mut state = lock(&self.state);
        state.is_over = true;
        self.called.notify_all();
        self.note(&state);
    }

    /// Waits until every thread has ended; `false` when that took too long.
    pub(super) fn wait_for_end(&self, deadline: Instant) -> bool {
        let mut state = lock(&self.state);
        while state.threads > 0 || state.streams > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            state = self.watch(state, left);
        }
        true
    }

    fn watch<'a>(&self, mut state: MutexGuard<'a, State>, most: Duration) -> MutexGuard<'a, State> {
        state.watching += 1;
        let waited = self.changed.wait_timeout(state, most);
        (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.watching -= 1;
        state
    }

    /// Wakes the threads that wait for a change; the next serving thread does the rest.
    fn note(&self, state: &State) {
        let is_uneven = state.serving > self.size || state.spare == 0;
        self.is_uneven.store(is_uneven, Ordering::Relaxed);
        // To notify is a system call even when no thread waits.
        if state.watching > 0 {
            self.changed.notify_all();
        }
    }
}

impl WaitingPlaces for Workers {
    fn take(&self) -> bool {
        let mut state = lock(&self.state);
        let is_free = state.waiting < self.places;
        state.waiting += usize::from(is_free);
        is_free
    }

    fn replace(&self) -> bool {
        let mut state = lock(&self.state);
        // The thread that was called last starts the next spare one before it serves.
        while state.spare == 0 && state.serving <= self.size && !state.is_over {
            if state.failed.is_some() {
                return false;
            }
            state = self.watch(state, RETRY);
        }
        if state.serving > self.size || state.is_over {
            state.serving -= 1;
        } else {
            state.spare -= 1;
            state.calls += 1;
            self.called.notify_one();
        }
        self.note(&state);
        true
    }

    fn give_back(&self, was_replaced: bool) {
        let mut state = lock(&self.state);
        state.waiting -= 1;
        state.serving += usize::from(was_replaced);
        self.note(&state);
    }
}
