//! [`Expiry`]: when a session ends, for stores that keep this moment beside the record.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::config::Config;
use crate::record::{Record, end_of, unix_seconds, whole_seconds};

/// The rules of `timeout`, where a record says none, and of `lifetime`, for stores that keep beside the record when
/// the session ends: a whole second since 1970, rounded up.
#[derive(Clone, Copy, Debug)]
pub struct Expiry {
    idle: Duration,
    lifetime: Option<Duration>,
    touch_after: Option<Duration>,
}

impl Expiry {
    /// The rules of this configuration.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        Expiry {
            idle: config.timeout,
            lifetime: config.lifetime,
            touch_after: config.touch_after,
        }
    }

    /// When a session ends that is used now.
    #[must_use]
    pub fn end(self, record: &Record, now: SystemTime) -> u64 {
        let unused = || end_of(now, record.idle_or(self.idle));
        let end = record.expires().map_or_else(unused, unix_seconds);
        let longest = record
            .lifetime(self.lifetime)
            .map(|lifetime| unix_seconds(record.created()).saturating_add(whole_seconds(lifetime)));
        end.min(longest.unwrap_or(u64::MAX))
    }

    /// The new end of a session that was used now and not written, if it differs enough: by more
    /// than `touchAfter`. An end too far ahead, from a clock that was wrong, is put right.
    #[must_use]
    pub fn renewed(self, record: &Record, end: u64, now: SystemTime) -> Option<u64> {
        let new = self.end(record, now);
        let pause = whole_seconds(pause(self.touch_after, record.idle_or(self.idle)));
        (new.abs_diff(end) > pause).then_some(new)
    }

    /// When a session with this end was last used, as far as that tells.
    #[must_use]
    pub fn last_access(self, record: &Record, end: u64, now: SystemTime) -> SystemTime {
        let used = Duration::from_secs(end).checked_sub(record.idle_or(self.idle));
        let used = used.and_then(|used| UNIX_EPOCH.checked_add(used));
        // The end was rounded up, and that of the lifetime may have come first.
        used.unwrap_or(UNIX_EPOCH).max(record.created()).min(now)
    }
}

/// Whether an end, in seconds since 1970, is over.
#[must_use]
pub fn has_passed(end: u64, now: SystemTime) -> bool {
    end < unix_seconds(now)
}

/// How often the time of an unchanged session is renewed at most: once in `touchAfter` or, if that is not set, in a
/// sixtieth of its idle time, and once a second; but at least twice in its idle time.
pub(crate) fn pause(touch_after: Option<Duration>, idle: Duration) -> Duration {
    let pause = touch_after.unwrap_or(idle / 60);
    pause.max(Duration::from_secs(1)).min(idle / 2)
}

/// Whether an unchanged session's time should be renewed: at most once in `touchAfter`. A time in the future, from a clock that was wrong, is corrected.
pub(in crate::store) fn should_touch(
    config: &Config,
    idle: Duration,
    modified: SystemTime,
    now: SystemTime,
) -> bool {
    let pause = pause(config.touch_after, idle);
    match now.duration_since(modified) {
        Ok(age) => age > pause,
        Err(ahead) => ahead.duration() > pause,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn expiry(lifetime: &str) -> Expiry {
        let config = Config::new().set("timeout", "600s").unwrap();
        Expiry::new(&config.set("lifetime", lifetime).unwrap())
    }

    #[test]
    fn a_session_ends_when_unused_or_too_old_and_never_a_moment_before() {
        let record = Record::new(at(1000));
        let half = at(1000) + Duration::from_millis(500);
        assert_eq!(expiry("0").end(&record, half), 1601);
        assert_eq!(expiry("1000s").end(&record, at(1000)), 1600);
        assert_eq!(expiry("1000s").end(&record, at(1500)), 2000);
        assert!(!has_passed(1600, at(1600)) && has_passed(1600, at(1601)));
    }

    #[test]
    fn an_idle_time_of_its_own_counts_unless_the_lifetime_comes_first() {
        let mut record = Record::new(at(1000));
        record.set_timeout(Some(Duration::from_secs(5000)), Duration::ZERO);
        assert_eq!(expiry("0").end(&record, at(2000)), 7000);
        assert_eq!(expiry("1000s").end(&record, at(2000)), 2000);
    }

    #[test]
    fn an_end_is_moved_when_a_sixtieth_of_the_timeout_has_passed_and_not_past_the_lifetime() {
        let record = Record::new(at(1000));
        let renewed = |end, now| expiry("1000s").renewed(&record, end, at(now));
        assert_eq!(renewed(1600, 1010), None);
        assert_eq!(renewed(1600, 1011), Some(1611));
        assert_eq!(renewed(2000, 1900), None);
        assert_eq!(renewed(99_999, 1011), Some(1611));
    }

    #[test]
    fn the_last_use_is_told_by_the_end() {
        let record = Record::new(at(1000));
        let used = |end, now| expiry("0").last_access(&record, end, at(now));
        assert_eq!(used(1700, 1200), at(1100));
        assert_eq!(used(1700, 1050), at(1050));
        assert_eq!(used(1500, 1200), at(1000));
    }
}
