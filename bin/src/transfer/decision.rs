//! [`Decision`]: what becomes of one session, from its two states and from what was brought before.

use super::journal::{Entry, Fingerprint};

/// What becomes of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// It is the same there.
    Same,
    /// It is brought there: for the first time, or anew.
    Bring,
    /// It was written there since, and here it was not.
    Newer,
    /// It has ended there since, and here nobody wrote it.
    Ended,
    /// Nobody can tell which of the two is to be kept.
    Conflict(&'static str),
}

const BOTH: &str = "it was written in both stores since it was copied";
const UNKNOWN: &str = "there is another session of this digest, which no copy has brought";
const AFTER_ITS_END: &str = "it has ended there since it was copied, and was written here";

/// `there` is `None` when there is no such session; `may_have_expired` tells whether one that was
/// brought before and never used there is not expected to be there any more.
pub(super) fn decide(
    here: Fingerprint,
    there: Option<Fingerprint>,
    entry: &Entry,
    may_have_expired: bool,
) -> Decision {
    let Some(there) = there else {
        return match entry.brought {
            None => Decision::Bring,
            Some(_) if may_have_expired => Decision::Bring,
            Some(brought) if brought == here => Decision::Ended,
            Some(_) => Decision::Conflict(AFTER_ITS_END),
        };
    };
    if here == there {
        return Decision::Same;
    }
    if entry.is_as_brought(there) {
        return Decision::Bring;
    }
    let under_way = entry.under_way.map(|(state, _)| state);
    match (entry.brought, under_way) {
        (Some(brought), _) if brought == here => Decision::Newer,
        // Nobody else could make a session of this digest there: what was under way was done.
        (None, Some(state)) if state == here => Decision::Newer,
        (None, None) => Decision::Conflict(UNKNOWN),
        _ => Decision::Conflict(BOTH),
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use cgi_session::Record;

    use super::*;

    fn state(number: u64) -> Fingerprint {
        let created = SystemTime::UNIX_EPOCH + Duration::from_secs(number);
        Fingerprint::of(&Record::new(created))
    }

    /// An entry of a session that was brought in one state, and was about to be in another.
    fn entry(brought: Option<u64>, under_way: Option<u64>) -> Entry {
        let mut entry = Entry::default();
        entry.brought = brought.map(state);
        entry.under_way = under_way.map(|number| (state(number), 0));
        entry
    }

    fn decided(here: u64, there: Option<u64>, entry: &Entry) -> Decision {
        decide(state(here), there.map(state), entry, false)
    }

    #[test]
    fn what_is_missing_is_brought_unless_it_has_ended_there() {
        assert_eq!(decided(1, None, &entry(None, None)), Decision::Bring);
        assert_eq!(decided(1, None, &entry(None, Some(1))), Decision::Bring);
        assert_eq!(decided(1, None, &entry(Some(1), None)), Decision::Ended);
        let after = decided(2, None, &entry(Some(1), None));
        assert_eq!(after, Decision::Conflict(AFTER_ITS_END));
        for here in [1, 2] {
            let expired = decide(state(here), None, &entry(Some(1), None), true);
            assert_eq!(expired, Decision::Bring, "used here, and expired there");
        }
    }

    #[test]
    fn what_was_written_here_alone_is_brought_anew() {
        assert_eq!(decided(2, Some(1), &entry(Some(1), None)), Decision::Bring);
        assert_eq!(decided(2, Some(2), &entry(Some(1), None)), Decision::Same);
        // A run died with one foot there.
        let died = entry(Some(1), Some(2));
        for there in [1, 2] {
            assert_eq!(decided(3, Some(there), &died), Decision::Bring);
        }
        assert_eq!(decided(1, Some(2), &died), Decision::Bring);
        assert_eq!(decided(2, Some(1), &died), Decision::Bring);
    }

    #[test]
    fn what_was_written_there_is_never_overwritten() {
        assert_eq!(decided(1, Some(9), &entry(Some(1), None)), Decision::Newer);
        assert_eq!(decided(1, Some(9), &entry(None, Some(1))), Decision::Newer);
        for (entry, reason) in [
            (entry(None, None), UNKNOWN),
            (entry(Some(1), None), BOTH),
            (entry(None, Some(1)), BOTH),
            (entry(Some(1), Some(2)), BOTH),
        ] {
            assert_eq!(decided(2, Some(9), &entry), Decision::Conflict(reason));
        }
    }
}
