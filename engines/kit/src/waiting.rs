//! [`Backoff`]: waiting for what another process holds, with pauses that grow, until a deadline.

use std::thread;
use std::time::{Duration, Instant};

use cgi_session::Error;

const FIRST_PAUSE: Duration = Duration::from_millis(1);
const MAX_PAUSE: Duration = Duration::from_millis(25);

/// The pauses between tries for a lock.
#[derive(Debug)]
pub struct Backoff {
    started: Instant,
    timeout: Duration,
    pause: Duration,
}

impl Backoff {
    /// The timeout begins now.
    #[must_use]
    pub fn new(timeout: Duration) -> Self {
        Backoff {
            started: Instant::now(),
            timeout,
            pause: FIRST_PAUSE,
        }
    }

    /// How much of the timeout is left.
    #[must_use]
    pub fn left(&self) -> Duration {
        self.timeout.saturating_sub(self.started.elapsed())
    }

    /// Sleeps before the next try; `false` at once when the timeout is over.
    pub fn pause(&mut self) -> bool {
        let left = self.left();
        if left.is_zero() {
            return false;
        }
        // Jitter, so that those who wait for one lock do not all try at the same moment.
        let jitter = 0.5 + rand::random::<f64>() / 2.0;
        thread::sleep(self.pause.mul_f64(jitter).min(left));
        self.pause = (self.pause * 2).min(MAX_PAUSE);
        true
    }

    /// The error when the timeout is over, and who holds the lock if that is known.
    #[must_use]
    pub fn busy(&self, holder: Option<String>) -> Error {
        Error::Busy {
            waited: self.started.elapsed(),
            holder,
        }
    }
}
