//! [`Record`]: what a store keeps for one session.

use std::ops::Range;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Deserialize;
use serde_json::value::RawValue;

/// The version of the format that this library writes.
const VERSION: u64 = 1;
/// The longest idle time, as for the configuration's `timeout`: 100 years, in seconds. Times far
/// beyond it are no times for clocks and file systems.
const LONGEST_TIMEOUT: u64 = 100 * 366 * 24 * 3600;

/// What is stored for one session: when it was made, when it ends, and its values by application.
///
/// As text it is one JSON object,
/// `{"v":1,"created":1767225600,"values":{"":{"pageViews":3}}}`, with the optional members
/// `expires` (the session ends then, in seconds since 1970), `timeout` (an idle time of its
/// own, in seconds) and `user` (whose session it is) between `created` and `values`. The values of
/// the application whose `app` is empty stand under `""`.
///
/// A store moves records; it never needs to look into the values, and they are not parsed
/// until a program asks for one.
#[derive(Clone, Debug)]
pub struct Record {
    created: u64,
    expires: Option<u64>,
    timeout: Option<u64>,
    user: Option<String>,
    /// A JSON text of which `values` is the part that holds the values.
    text: Vec<u8>,
    values: Range<usize>,
}

/// Why a text is not a record.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecordError {
    /// A later release of this library wrote it, in this version of the format.
    LaterVersion(u64),
    /// It is not a record at all.
    Malformed(String),
}

impl Record {
    /// A record without values, made at `created`.
    #[must_use]
    pub fn new(created: SystemTime) -> Self {
        Record {
            created: unix_seconds(created),
            expires: None,
            timeout: None,
            user: None,
            text: b"{}".to_vec(),
            values: 0..2,
        }
    }

    /// Reads the text that [`Record::to_json`] writes, or any JSON text of the same meaning.
    ///
    /// # Errors
    ///
    /// [`RecordError::LaterVersion`] for a format of the future, which must be left alone, and
    /// [`RecordError::Malformed`] for anything else that is not a record.
    pub fn from_json(text: Vec<u8>) -> Result<Self, RecordError> {
        let (head, values) = match canonical_head(&text) {
            Some(parts) => parts,
            None => general_head(&text)?,
        };
        Ok(Record {
            created: head.created,
            expires: head.expires,
            timeout: head.timeout,
            user: head.user,
            text,
            values,
        })
    }

    /// The record as one JSON object on one line.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        let mut text = Vec::with_capacity(self.values.len() + 100);
        self.write_json(&mut text);
        text
    }

    pub(crate) fn write_json(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(HEAD.as_bytes());
        push_number(out, self.created);
        for (name, value) in [(EXPIRES, self.expires), (TIMEOUT, self.timeout)] {
            if let Some(value) = value {
                out.extend_from_slice(name.as_bytes());
                push_number(out, value);
            }
        }
        if let Some(user) = &self.user {
            out.extend_from_slice(USER.as_bytes());
            out.extend_from_slice(quoted(user).as_bytes());
        }
        out.extend_from_slice(VALUES.as_bytes());
        out.extend_from_slice(self.values());
        out.push(b'}');
    }

    /// The length of [`Record::to_json`], without writing it.
    pub(crate) fn json_len(&self) -> usize {
        let optional = [(EXPIRES, self.expires), (TIMEOUT, self.timeout)].into_iter();
        let optional = optional.filter_map(|(name, value)| Some(name.len() + digits(value?)));
        let user = self.user.as_deref();
        HEAD.len()
            + digits(self.created)
            + optional.sum::<usize>()
            + user.map_or(0, |user| USER.len() + quoted(user).len())
            + VALUES.len()
            + self.values.len()
            + 1
    }

    /// When the session was made, to the second.
    #[must_use]
    pub fn created(&self) -> SystemTime {
        // A moment that the clock cannot name is no moment at which this session was made.
        UNIX_EPOCH
            .checked_add(Duration::from_secs(self.created))
            .unwrap_or(UNIX_EPOCH)
    }

    /// Whether it was made longer ago than sessions live, or, by a clock that was wrong, so far ahead.
    pub(crate) fn is_too_old(&self, lifetime: Duration, now: SystemTime) -> bool {
        let age = now.duration_since(self.created());
        age.unwrap_or_else(|ahead| ahead.duration()) > lifetime
    }

    /// When the session ends, if it has an end of its own; otherwise it ends `timeout` after its last use.
    #[must_use]
    pub fn expires(&self) -> Option<SystemTime> {
        self.expires
            .and_then(|seconds| UNIX_EPOCH.checked_add(Duration::from_secs(seconds)))
    }

    /// The idle time of this session, if it has one of its own.
    #[must_use]
    pub fn timeout(&self) -> Option<Duration> {
        self.timeout.map(Duration::from_secs)
    }

    /// Gives the session an idle time of its own, counted from `now`, or takes it away.
    pub(crate) fn set_timeout(&mut self, timeout: Option<Duration>, now: SystemTime) {
        self.timeout = timeout.map(|timeout| timeout.as_secs().clamp(1, LONGEST_TIMEOUT));
        // Rounded up: a session lives at least as long as it was promised.
        self.expires = self
            .timeout
            .map(|seconds| unix_seconds(now).saturating_add(seconds).saturating_add(1));
    }

    /// Whose session it is, if a program has said so.
    #[must_use]
    pub fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// The same record as the session of this user.
    #[must_use]
    pub fn with_user(mut self, user: Option<&str>) -> Self {
        self.user = user.map(str::to_owned);
        self
    }

    /// The same record, which ends after `rest` and whose end no use moves.
    pub(crate) fn ending(mut self, now: SystemTime, rest: Duration) -> Self {
        let end = unix_seconds(now).saturating_add(rest.as_secs());
        self.expires = Some(self.expires.map_or(end, |expires| expires.min(end)));
        self.timeout = None;
        self
    }

    /// The values as JSON text: an object of applications, each an object of values.
    #[must_use]
    pub fn values(&self) -> &[u8] {
        self.text.get(self.values.clone()).unwrap_or_default()
    }

    /// The same record with other values, given as [`Record::values`] returns them.
    #[must_use]
    pub fn with_values(&self, values: Vec<u8>) -> Self {
        Record {
            created: self.created,
            expires: self.expires,
            timeout: self.timeout,
            user: self.user.clone(),
            values: 0..values.len(),
            text: values,
        }
    }
}

const HEAD: &str = "{\"v\":1,\"created\":";
const EXPIRES: &str = ",\"expires\":";
const TIMEOUT: &str = ",\"timeout\":";
const USER: &str = ",\"user\":";
const VALUES: &str = ",\"values\":";

struct Head {
    created: u64,
    expires: Option<u64>,
    timeout: Option<u64>,
    user: Option<String>,
}

/// Reads the head as this library writes it, without looking at the values behind it: the store's
/// checksum has vouched for them, and they are parsed when somebody asks for one.
fn canonical_head(text: &[u8]) -> Option<(Head, Range<usize>)> {
    let (created, mut rest) = number(text.strip_prefix(HEAD.as_bytes())?)?;
    let mut optional = [None, None];
    for (name, slot) in [EXPIRES, TIMEOUT].into_iter().zip(&mut optional) {
        if let Some(after) = rest.strip_prefix(name.as_bytes()) {
            let (value, after) = number(after)?;
            (*slot, rest) = (Some(value), after);
        }
    }
    let mut user = None;
    if let Some(after) = rest.strip_prefix(USER.as_bytes()) {
        let (text, after) = plain_text(after)?;
        (user, rest) = (Some(text.to_owned()), after);
    }
    let values = rest.strip_prefix(VALUES.as_bytes())?;
    let end = text.len().checked_sub(1)?;
    let shaped = values.ends_with(b"}}") && is_one_object(values.get(..values.len() - 1)?);
    let [expires, timeout] = optional;
    shaped.then_some((
        Head {
            created,
            expires,
            timeout,
            user,
        },
        text.len() - values.len()..end,
    ))
}

/// Whether a text is one object to its end, and not one with further members of the record behind it.
fn is_one_object(text: &[u8]) -> bool {
    if !text.starts_with(b"{") {
        return false;
    }
    // Mostly nothing but brackets stands behind the first that closes.
    let closing = text.iter().rev().take_while(|byte| **byte == b'}').count();
    if !text[..text.len() - closing].contains(&b'}') {
        return true;
    }
    let (mut depth, mut bytes) = (0_usize, text.iter());
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => skip_text(&mut bytes),
            b'{' => depth += 1,
            b'}' if depth == 1 => return bytes.as_slice().is_empty(),
            b'}' => depth -= 1,
            _ => {}
        }
    }
    false
}

/// Goes behind the end of a JSON string that has begun.
fn skip_text(bytes: &mut std::slice::Iter<'_, u8>) {
    while let Some(byte) = bytes.find(|byte| matches!(byte, b'"' | b'\\')) {
        match byte {
            // Whatever is escaped ends nothing.
            b'\\' => drop(bytes.next()),
            _ => return,
        }
    }
}

fn number(text: &[u8]) -> Option<(u64, &[u8])> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, rest) = text.split_at(digits);
    let canonical = digits == b"0" || !digits.starts_with(b"0");
    let value = std::str::from_utf8(digits).ok()?.parse().ok()?;
    canonical.then_some((value, rest))
}

/// A JSON string in which nothing is escaped, and what follows it.
fn plain_text(text: &[u8]) -> Option<(&str, &[u8])> {
    let text = text.strip_prefix(b"\"")?;
    let end = text.iter().position(|byte| *byte == b'"')?;
    let (inside, rest) = text.split_at(end);
    let is_plain = inside.iter().all(|byte| *byte >= b' ' && *byte != b'\\');
    let inside = std::str::from_utf8(inside).ok().filter(|_| is_plain)?;
    Some((inside, rest.strip_prefix(b"\"")?))
}

/// A text as JSON.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Reads any JSON text of the right meaning: another order, white space, members we do not know.
fn general_head(text: &[u8]) -> Result<(Head, Range<usize>), RecordError> {
    #[derive(Deserialize)]
    struct Version {
        v: u64,
    }
    #[derive(Deserialize)]
    struct Stored<'a> {
        created: u64,
        expires: Option<u64>,
        timeout: Option<u64>,
        user: Option<String>,
        #[serde(borrow)]
        values: &'a RawValue,
    }
    let malformed = |error: serde_json::Error| RecordError::Malformed(error.to_string());
    let Version { v } = serde_json::from_slice(text).map_err(malformed)?;
    if v != VERSION {
        return Err(RecordError::LaterVersion(v));
    }
    let stored: Stored<'_> = serde_json::from_slice(text).map_err(malformed)?;
    let values = stored.values.get();
    if !values.starts_with('{') {
        return Err(RecordError::Malformed("values is not an object".to_owned()));
    }
    let start = values.as_ptr().addr() - text.as_ptr().addr();
    let head = Head {
        created: stored.created,
        expires: stored.expires,
        timeout: stored.timeout,
        user: stored.user,
    };
    Ok((head, start..start + values.len()))
}

fn digits(value: u64) -> usize {
    value.checked_ilog10().map_or(1, |log| 1 + log as usize)
}

fn push_number(out: &mut Vec<u8>, value: u64) {
    use std::io::Write as _;
    // A Vec takes every write.
    let _ = write!(out, "{value}");
}

/// Seconds since 1970, rounded down; a clock before 1970 counts as 1970.
pub(crate) fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn a_record_reads_back_what_it_wrote() {
        let mut record =
            Record::new(at(1_767_225_600)).with_values(br#"{"":{"pageViews":3}}"#.to_vec());
        assert_eq!(
            record.to_json(),
            br#"{"v":1,"created":1767225600,"values":{"":{"pageViews":3}}}"#
        );
        record.set_timeout(Some(Duration::from_secs(30)), at(1_767_225_700));
        assert_eq!(record.json_len(), record.to_json().len());
        let again = Record::from_json(record.to_json()).unwrap();
        assert_eq!(again.values(), record.values());
        assert_eq!(again.timeout(), Some(Duration::from_secs(30)));
        assert_eq!(again.expires(), Some(at(1_767_225_731)));
        assert_eq!(again.created(), at(1_767_225_600));
    }

    #[test]
    fn a_record_keeps_the_name_of_its_user() {
        for user in ["ada", "b\u{fc}cher", "a\"b\\c", "\u{1}"] {
            let record = Record::new(at(5)).with_user(Some(user));
            let text = record.to_json();
            assert_eq!(record.json_len(), text.len());
            let again = Record::from_json(text).unwrap();
            assert_eq!((again.user(), again.values()), (Some(user), &b"{}"[..]));
        }
    }

    #[test]
    fn any_json_text_of_the_same_meaning_is_the_same_record() {
        let text = br#"{ "values": {"": {"a": 1}}, "created": 5, "v": 1, "later": [1] }"#;
        let record = Record::from_json(text.to_vec()).unwrap();
        assert_eq!(
            (record.created(), record.values()),
            (at(5), &br#"{"": {"a": 1}}"#[..])
        );
    }

    #[test]
    fn a_member_of_a_later_release_behind_the_values_is_none_of_them() {
        for values in ["{}", r#"{"":{"a":"}},{"}}"#, r#"{"":{"a":"\\\"}"},"b":{}}"#] {
            for later in [r#"{"x":{}}"#, "{}", "1"] {
                let text = format!(r#"{{"v":1,"created":5,"values":{values},"later":{later}}}"#);
                let record = Record::from_json(text.into_bytes()).unwrap();
                assert_eq!(std::str::from_utf8(record.values()), Ok(values));
            }
            let own = format!(r#"{{"v":1,"created":5,"values":{values}}}"#);
            let record = Record::from_json(own.clone().into_bytes()).unwrap();
            assert_eq!(record.values(), values.as_bytes());
            assert_eq!(record.to_json(), own.as_bytes());
        }
    }

    #[test]
    fn a_later_version_is_told_from_rubbish() {
        let later = Record::from_json(br#"{"v":2,"anything":true}"#.to_vec());
        assert_eq!(later.unwrap_err(), RecordError::LaterVersion(2));
        let rubbish: [&[u8]; 8] = [
            b"{\"v\":1,\"created\":5,\"values\":}x{}}",
            b"",
            b"[]",
            b"null",
            b"{\"v\":1}",
            br#"{"v":1,"created":-1,"values":{}}"#,
            br#"{"v":1,"created":1,"values":[]}"#,
            br#"{"v":1,"created":01,"values":{}}"#,
        ];
        for text in rubbish {
            assert!(
                matches!(
                    Record::from_json(text.to_vec()),
                    Err(RecordError::Malformed(_))
                ),
                "{text:?}"
            );
        }
    }
}
