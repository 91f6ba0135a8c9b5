//! How fast a peer has to be.

use std::time::Duration;

use crate::gateway::limits::Limits;

/// The time that a peer has left. Waiting takes from it, and every byte that moves adds to it, so that
/// a peer keeps to a least rate and makes no long pause.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    left: Duration,
    longest_pause: Duration,
    /// In bytes per second; 0 is any.
    least_rate: u64,
}

impl Pace {
    /// The first byte may take as long as `first`, and what moves earns no longer pause than `longest_pause`.
    pub(crate) fn new(first: Duration, longest_pause: Duration, least_rate: u64) -> Self {
        Pace {
            left: first,
            longest_pause,
            least_rate,
        }
    }

    /// What a request's body has to keep to.
    pub(crate) fn of_body(limits: &Limits) -> Self {
        Pace::new(
            limits.body_timeout,
            limits.read_timeout,
            limits.body_min_rate,
        )
    }

    pub(crate) fn left(&self) -> Duration {
        self.left
    }

    /// Counts bytes that were transferred after a wait.
    pub(crate) fn moved(&mut self, waited: Duration, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let earned = match (bytes, self.least_rate) {
            (0, _) => Duration::ZERO,
            (_, 0) => self.longest_pause,
            (_, rate) => Duration::from_micros(bytes.saturating_mul(1_000_000) / rate),
        };
        let left = self.left.saturating_sub(waited);
        // The first byte may be waited for longer than any after it.
        self.left = if bytes == 0 {
            left
        } else {
            left.saturating_add(earned).min(self.longest_pause)
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// How many seconds a peer lasts that moves this many bytes in each, up to 1000.
    fn lasts(mut pace: Pace, bytes: usize) -> u32 {
        let mut seconds = 0;
        while pace.left() >= SECOND && seconds < 1000 {
            pace.moved(SECOND, bytes);
            seconds += 1;
        }
        seconds
    }

    #[test]
    fn a_peer_below_the_least_rate_is_given_up_and_one_above_it_never() {
        let pace = Pace::new(20 * SECOND, 60 * SECOND, 500);
        assert_eq!(lasts(pace, 0), 20);
        assert_eq!(lasts(pace, 250), 39);
        assert_eq!(lasts(pace, 500), 1000);
        let patient = Pace::new(80 * SECOND, 60 * SECOND, 500);
        assert_eq!(lasts(patient, 0), 80);
    }

    #[test]
    fn what_came_fast_pays_for_no_pause_longer_than_the_longest() {
        let mut pace = Pace::new(20 * SECOND, 60 * SECOND, 500);
        pace.moved(SECOND, 100 << 20);
        assert_eq!(lasts(pace, 0), 60);
        let any_rate = Pace::new(20 * SECOND, 60 * SECOND, 0);
        assert_eq!(lasts(any_rate, 1), 1000);
    }
}
