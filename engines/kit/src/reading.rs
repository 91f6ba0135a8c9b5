//! From what is stored under a session's name to the record that it is, and back.

use std::fmt::Display;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cgi_session::store::{Expiry, has_passed, unix_seconds};
use cgi_session::{Error, Record, RecordError, Result, SessionDigest, Stored};

/// When that was used which a change of id left: no session is counted or evicted that has this time.
pub const NEVER: u64 = 0;

/// What is stored for a session, as it was found.
#[derive(Debug)]
pub struct Loaded {
    /// The record as JSON text.
    pub data: Vec<u8>,
    /// When the session ends, in seconds since 1970.
    pub end: u64,
    /// When it was last used, in seconds since 1970.
    pub used: u64,
}

impl Loaded {
    /// The record; what is no record at all is `None`, and left alone. `place` is where it is stored.
    ///
    /// # Errors
    ///
    /// When a later release wrote it.
    pub fn stored(self, session: &SessionDigest, place: &dyn Display) -> Result<Option<Stored>> {
        match Record::from_json(self.data) {
            Ok(record) => {
                let changed = record.changed().filter(|_| self.used == NEVER);
                let last_access = changed.unwrap_or_else(|| time(self.used));
                Ok(Some(Stored::new(record, last_access)))
            }
            Err(RecordError::Malformed(reason)) => {
                log::warn!(
                    "the session {session} in {place} holds no record and was left alone: {reason}"
                );
                Ok(None)
            }
            Err(later) => {
                let reason = format!("a later release of cgi-session wrote it: {later}");
                Err(unreadable(session, place, reason))
            }
        }
    }

    /// As [`Loaded::stored`], with the end, unless that has passed.
    ///
    /// # Errors
    ///
    /// As of [`Loaded::stored`].
    pub fn live(
        self,
        session: &SessionDigest,
        place: &dyn Display,
        now: SystemTime,
    ) -> Result<Option<(Stored, u64)>> {
        let end = self.end;
        if has_passed(end, now) {
            return Ok(None);
        }
        let stored = self.stored(session, place)?;
        Ok(stored.map(|stored| (stored, end)))
    }

    /// As [`Loaded::stored`], for a listing, which shows also what is no record, and no marker of a change of id.
    pub fn listed(self, session: &SessionDigest, place: &dyn Display) -> Option<Result<Stored>> {
        match self.stored(session, place) {
            Ok(Some(stored)) if stored.record.is_marker() => None,
            Ok(None) => {
                let reason = "it is no record".to_owned();
                Some(Err(unreadable(session, place, reason)))
            }
            found => found.transpose(),
        }
    }
}

/// A session that a reader has found, of which is noted that it was read (`renew`, from one end to a new one).
/// What was read is right also where that fails.
pub fn renewing(
    found: Option<(Stored, u64)>,
    expiry: &Expiry,
    now: SystemTime,
    renew: impl FnOnce(u64, u64) -> Result<()>,
) -> Option<Stored> {
    let (stored, end) = found?;
    if let Some(new_end) = expiry.renewed(&stored.record, end, now) {
        tell(renew(end, new_end));
    }
    Some(stored)
}

/// Tells the log why a use was not noted, unless another request was about to note one.
pub fn tell(noted: Result<()>) {
    if let Err(error) = noted
        && !matches!(error, Error::Busy { .. })
    {
        log::warn!("{}", error.one_line());
    }
}

fn unreadable(session: &SessionDigest, place: &dyn Display, reason: String) -> Error {
    let action = format!("cannot read the session {session} in {place}");
    Error::store(action, reason).with_hint("it was left as it is")
}

/// When a record is used that is written now.
#[must_use]
pub fn used(record: &Record, now: SystemTime) -> u64 {
    if record.is_replaced() {
        return NEVER;
    }
    unix_seconds(now).max(NEVER + 1)
}

/// A moment in seconds since 1970; one that no clock can show is 1970.
#[must_use]
pub fn time(seconds: u64) -> SystemTime {
    UNIX_EPOCH
        .checked_add(Duration::from_secs(seconds))
        .unwrap_or(UNIX_EPOCH)
}

/// The times of a record, without its values: what a lease keeps of it.
#[must_use]
pub fn head(record: &Record) -> Record {
    record.with_values(b"{}".to_vec())
}

/// A record as the text that is stored.
///
/// # Errors
///
/// When its values are no UTF-8.
pub fn text(record: &Record, place: &dyn Display) -> Result<String> {
    let text = String::from_utf8(record.to_json());
    text.map_err(|error| Error::store(format!("cannot save a session in {place}"), error))
}
