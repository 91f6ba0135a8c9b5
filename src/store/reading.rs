//! From what a database holds under a session's name to the record that it is.

use std::fmt::Display;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::Stored;
use crate::error::{Error, Result};
use crate::id::SessionDigest;
use crate::record::{Record, RecordError};

/// The record of a session last used at this second since 1970; what is no record at all is `None`, and
/// left alone.
pub(in crate::store) fn stored(
    session: &SessionDigest,
    place: &dyn Display,
    data: Vec<u8>,
    used: u64,
) -> Result<Option<Stored>> {
    let last_access = time(used);
    match Record::from_json(data) {
        Ok(record) => Ok(Some(Stored {
            record,
            last_access,
        })),
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

/// As [`stored`], for a listing, which shows also what is no record.
pub(in crate::store) fn listed(
    session: &SessionDigest,
    place: &dyn Display,
    data: Vec<u8>,
    used: u64,
) -> Result<Stored> {
    let stored = stored(session, place, data, used)?;
    stored.ok_or_else(|| unreadable(session, place, "it is no record".to_owned()))
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
