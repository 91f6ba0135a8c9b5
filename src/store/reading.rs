//! From what a database holds under a session's name to the record that it is.

use std::fmt::Display;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::Stored;
use crate::error::{Error, Result};
use crate::id::SessionDigest;
use crate::record::{Record, RecordError, unix_seconds};

/// When that was used which a change of id left: no session is counted or evicted that has this time.
pub(in crate::store) const NEVER: u64 = 0;

/// When a record is used that is written now.
pub(in crate::store) fn used(record: &Record, now: SystemTime) -> u64 {
    if record.is_replaced() {
        return NEVER;
    }
    unix_seconds(now).max(NEVER + 1)
}

/// How long ago something was used that is deleted now, and why it goes.
pub(in crate::store) fn farewell(used: u64, end: u64, now: SystemTime) -> (Duration, &'static str) {
    let (used, reason) = if used == NEVER {
        (end, "left by a change of id")
    } else {
        (used, "expired")
    };
    (now.duration_since(time(used)).unwrap_or_default(), reason)
}

/// The record of a session last used at this second since 1970; what is no record at all is `None`, and
/// left alone.
pub(in crate::store) fn stored(
    session: &SessionDigest,
    place: &dyn Display,
    data: Vec<u8>,
    used: u64,
) -> Result<Option<Stored>> {
    match Record::from_json(data) {
        Ok(record) => {
            let changed = record.changed().filter(|_| used == NEVER);
            Ok(Some(Stored {
                last_access: changed.unwrap_or_else(|| time(used)),
                record,
            }))
        }
        Err(RecordError::Malformed(reason)) => {
            log::warn!(
                "the session {session} in {place} holds no record and was left alone: {reason}"
            );
            Ok(None)
        }
        Err(RecordError::LaterVersion(version)) => Err(unreadable(
            session,
            place,
            format!("a later release of cgi-session wrote it (version {version} of the format)"),
        )),
    }
}

/// As [`stored`], for a listing, which shows also what is no record, and no marker of a change of id.
pub(in crate::store) fn listed(
    session: &SessionDigest,
    place: &dyn Display,
    data: Vec<u8>,
    used: u64,
) -> Option<Result<Stored>> {
    match stored(session, place, data, used) {
        Ok(Some(stored)) if stored.record.is_marker() => None,
        Ok(None) => Some(Err(unreadable(
            session,
            place,
            "it is no record".to_owned(),
        ))),
        found => found.transpose(),
    }
}

/// A moment in seconds since 1970; one that no clock can show is 1970.
pub(in crate::store) fn time(seconds: u64) -> SystemTime {
    UNIX_EPOCH
        .checked_add(Duration::from_secs(seconds))
        .unwrap_or(UNIX_EPOCH)
}

fn unreadable(session: &SessionDigest, place: &dyn Display, reason: String) -> Error {
    let action = format!("cannot read the session {session} in {place}");
    Error::store(action, reason).with_hint("it was left as it is")
}
