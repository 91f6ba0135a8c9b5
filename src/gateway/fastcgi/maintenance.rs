//! What a responder does whatever its requests are: snapshots, clean-ups, and looking again for a store
//! that was away at the start.

use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, Scope};
use std::time::{Duration, Instant};

use crate::error::Result;
use crate::gateway::error_log::{catch, report};
use crate::session::lazy_manager::{LazyManager, RETRY};
use crate::store::Sweep;

/// The longest pause between two looks at whether a clean-up is due.
const CLEAN_UP_CHECK: Duration = Duration::from_secs(60);

/// The thread that does it.
pub(super) struct Maintenance {
    /// Dropped, it ends the thread.
    stop: Sender<()>,
    /// Its other end is dropped by the thread.
    ended: Receiver<()>,
}

impl Maintenance {
    /// Starts the thread. `is_over` ends a clean-up that it is doing.
    pub(super) fn start<'scope>(
        scope: &'scope Scope<'scope, '_>,
        manager: &'scope LazyManager,
        is_over: &'scope AtomicBool,
    ) -> Self {
        let (stop, stopped) = channel();
        let (ending, ended) = channel();
        let thread = thread::Builder::new().name("maintenance".to_owned());
        let started = thread.spawn_scoped(scope, move || {
            run(manager, is_over, &stopped);
            drop(ending);
        });
        if let Err(error) = started {
            report(&format!(
                "cannot start the clean-up and the snapshots: {error}"
            ));
        }
        Maintenance { stop, ended }
    }

    /// Ends the thread, and keeps what the last requests have left in memory. Tells whether the thread has
    /// ended before `deadline`.
    pub(super) fn end(self, manager: &LazyManager, deadline: Instant) -> bool {
        drop(self.stop);
        let left = deadline.saturating_duration_since(Instant::now());
        let has_ended = self.ended.recv_timeout(left) != Err(RecvTimeoutError::Timeout);
        // A manager that could not be created has been reported, and has nothing to keep.
        if let Some(manager) = manager.created()
            && let Ok(Err(error)) = catch("the store", || manager.flush())
        {
            report(&error.one_line());
        }
        has_ended
    }
}

type Work<'a> = dyn Fn() -> Result<()> + 'a;

/// Keeps what lives in memory alone every `snapshotDelay`, and cleans up whenever no process has
/// for `cleanUpDelay`, until the program is to end.
fn run(manager: &LazyManager, is_over: &AtomicBool, stopped: &Receiver<()>) {
    let is_stopped = |pause| stopped.recv_timeout(pause) != Err(RecvTimeoutError::Timeout);
    let manager = loop {
        match manager.get(RETRY) {
            Ok(manager) => break manager,
            Err(_) if is_stopped(RETRY) => return,
            // It was reported at the start, and is by every request that asks for a session.
            Err(_) => {}
        }
    };
    let flush = || manager.flush();
    let clean_up = || manager.clean_up_if_due(&Sweep::new().stop_when(is_over));
    let config = manager.config();
    let mut tasks: Vec<(Instant, Duration, &Work<'_>)> = Vec::new();
    let pause = config.snapshot_delay();
    tasks.push((Instant::now() + pause, pause, &flush));
    if let Some(delay) = config.clean_up_delay() {
        let pause = delay.clamp(Duration::from_secs(1), CLEAN_UP_CHECK);
        tasks.push((Instant::now() + pause, pause, &clean_up));
    }
    while let Some(next) = tasks.iter().map(|(due, ..)| *due).min() {
        if is_stopped(next.saturating_duration_since(Instant::now())) {
            return;
        }
        for (due, pause, run) in &mut tasks {
            if *due <= Instant::now() {
                if let Ok(Err(error)) = catch("the store", run) {
                    report(&error.one_line());
                }
                *due = Instant::now() + *pause;
            }
        }
    }
}
