//! What a peer has not taken yet, kept until its socket has room again.

use std::io;
use std::mem;
use std::time::{Duration, Instant};

use super::super::stream::Stream;
use crate::gateway::limits::Limits;
use crate::gateway::pace::Pace;

/// What a peer has to keep to while the responses of all take too much memory: so long a pause, and so many bytes in a
/// second. A Unix socket tells of room when most of its 200 KiB are taken.
const HURRY_PAUSE: Duration = Duration::from_secs(5);
const HURRY_RATE: u64 = 16 << 10;

pub(super) struct Output {
    bytes: Vec<u8>,
    written: usize,
    /// How many of these bytes are management answers, which a peer may request without end.
    pub(super) answers: usize,
    pace: Pace,
    hurry: Pace,
    /// Each time that the peer is waited for, its time begins anew.
    forgets_pace: bool,
    /// Since when the peer has taken nothing.
    since: Instant,
    limits: Limits,
}

impl Output {
    pub(super) fn new(limits: Limits) -> Self {
        Output {
            bytes: Vec::new(),
            written: 0,
            answers: 0,
            pace: pace(limits),
            hurry: hurry(),
            forgets_pace: true,
            since: Instant::now(),
            limits,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// How much memory the peer costs.
    pub(super) fn size(&self) -> usize {
        self.bytes.capacity()
    }

    /// Writes these bytes after those that are kept; what the peer does not take is kept, too. An
    /// own buffer is taken over then.
    pub(super) fn send(&mut self, stream: &mut Stream, bytes: &mut Vec<u8>) -> io::Result<()> {
        if !self.is_empty() {
            self.bytes.append(bytes);
            return Ok(());
        }
        let written = stream.write_some(bytes)?;
        if !self.forgets_pace {
            self.pace.moved(Duration::ZERO, written);
        }
        if written < bytes.len() {
            (self.bytes, self.written) = (mem::take(bytes), written);
            (self.since, self.hurry) = (Instant::now(), hurry());
            if self.forgets_pace {
                self.pace = pace(self.limits);
            }
        }
        Ok(())
    }

    /// Writes what the peer takes now.
    pub(super) fn flush(&mut self, stream: &mut Stream) -> io::Result<()> {
        let rest = self.bytes.get(self.written..).unwrap_or_default();
        let written = stream.write_some(rest)?;
        if written > 0 {
            let waited = self.since.elapsed();
            self.pace.moved(waited, written);
            self.hurry.moved(waited, written);
            self.since = Instant::now();
            self.written += written;
        }
        if self.written == self.bytes.len() {
            (self.bytes, self.written, self.answers) = (Vec::new(), 0, 0);
        }
        Ok(())
    }

    /// From now on all waits for the peer count together, and what is between them does not.
    pub(super) fn keep_pace(&mut self) {
        (self.pace, self.forgets_pace) = (pace(self.limits), false);
    }

    /// Each time that the peer is waited for, its time begins anew.
    pub(super) fn forget_pace(&mut self) {
        self.forgets_pace = true;
    }

    /// Whether the peer takes what is kept for it too slowly to be waited for while memory is short.
    pub(super) fn is_slow(&self) -> bool {
        !self.is_empty() && self.since.elapsed() >= self.hurry.left()
    }

    /// When the peer is given up if it takes nothing more.
    pub(super) fn deadline(&self) -> Instant {
        self.since + self.pace.left()
    }
}

fn hurry() -> Pace {
    Pace::new(HURRY_PAUSE, HURRY_PAUSE, HURRY_RATE)
}

fn pace(limits: Limits) -> Pace {
    let pause = limits.write_timeout;
    Pace::new(pause, pause, limits.response_min_rate)
}
