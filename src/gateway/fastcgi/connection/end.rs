//! The last moments of connections when the program ends.

use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::retry_on_intr;

use super::super::LAST_REQUESTS;
use super::{Connection, Progress, Stage};

/// How long the rest of answered requests is read away, and the longest pause in it.
const DRAIN: Duration = Duration::from_secs(2);
const DRAIN_PAUSE: Duration = Duration::from_millis(500);

/// Closes connections of which no request runs. What was answered is not lost: its peer may take it,
/// and is listened to for a while.
pub(in crate::gateway::fastcgi) fn finish(mut open: Vec<Connection>) {
    let started = Instant::now();
    open.retain_mut(Connection::begin_end);
    while !open.is_empty() {
        let is_owed = open.iter().any(Connection::is_owed);
        let longest = if is_owed { LAST_REQUESTS } else { DRAIN };
        let left = longest.saturating_sub(started.elapsed());
        let ready = events(&open, left.min(DRAIN_PAUSE));
        if left.is_zero() || !is_owed && !ready.contains(&true) {
            return;
        }
        let mut ready = ready.into_iter();
        open.retain_mut(|connection| !ready.next().unwrap_or(false) || connection.goes_on());
    }
}

/// Which of the connections are ready within this time.
fn events(open: &[Connection], pause: Duration) -> Vec<bool> {
    let polled = open.iter().map(|connection| {
        let (reads, writes) = connection.events();
        let mut events = PollFlags::empty();
        events.set(PollFlags::IN, reads);
        events.set(PollFlags::OUT, writes);
        PollFd::new(connection, events)
    });
    let mut polled: Vec<_> = polled.collect();
    // A time that is none, or a failure, is the end of the wait.
    let pause = Timespec::try_from(pause).unwrap_or_default();
    let _ = retry_on_intr(|| poll(&mut polled, Some(&pause)));
    let has_event = |polled: &PollFd<'_>| !polled.revents().is_empty();
    polled.iter().map(has_event).collect()
}

impl Connection {
    fn begin_end(&mut self) -> bool {
        if let Stage::Answered(stdin, _) = &mut self.stage {
            stdin.request.keeps_connection = false;
        }
        self.goes_on()
    }

    fn goes_on(&mut self) -> bool {
        matches!(self.stage, Stage::Answered(..) | Stage::Closing(_))
            && matches!(self.advance(), Progress::Waiting)
    }
}
