//! The text of a record: what a store hands to the library and gets from it.
//!
//! Tries to find a text that is read as another record than it is. Whatever is read must be written and
//! read again as the same; a text that is JSON must be read if, and only if, it means a record, whatever
//! order, white space and later members it has. Texts that are no JSON only must not break anything: a
//! store vouches for what it hands over.

use std::time::{Duration, UNIX_EPOCH};

use cgi_session::{Record, RecordError};
use serde_json::json;

use super::json::Pairs;

/// Reads the text, and compares with a second reading.
///
/// # Panics
///
/// When the record is not what the text says.
pub fn check(text: &[u8]) {
    let read = Record::from_json(text.to_vec());
    if let Ok(record) = &read {
        let written = record.to_json();
        let again = Record::from_json(written.clone()).expect("what was written is read");
        same(&again, record);
        assert_eq!(again.to_json(), written);
    }
    if let Some(pairs) = Pairs::unique(text) {
        match (meaning(&pairs), read) {
            (Meaning::Record(expected), Ok(record)) => same(&record, &expected),
            (Meaning::Later(version), Err(error)) => {
                assert_eq!(error, RecordError::LaterVersion(version));
            }
            (Meaning::Nothing, Err(error)) => {
                assert!(matches!(error, RecordError::Malformed(_)), "{error:?}");
            }
            (_, other) => panic!("read as {other:?}"),
        }
    }
}

/// Compares all that a record holds.
#[track_caller]
pub fn same(one: &Record, other: &Record) {
    assert_eq!(one.created(), other.created());
    assert_eq!(one.expires(), other.expires());
    assert_eq!(one.timeout(), other.timeout());
    assert_eq!(one.user(), other.user());
    let text = |record: &Record| String::from_utf8_lossy(record.values()).into_owned();
    assert_eq!(text(one), text(other));
}

enum Meaning {
    Record(Record),
    Later(u64),
    Nothing,
}

fn meaning(pairs: &Pairs) -> Meaning {
    match number(pairs, "v") {
        Some(Some(1)) => of_version_1(pairs).map_or(Meaning::Nothing, Meaning::Record),
        Some(Some(version)) => Meaning::Later(version),
        _ => Meaning::Nothing,
    }
}

fn of_version_1(pairs: &Pairs) -> Option<Record> {
    let created = number(pairs, "created")??;
    let (expires, timeout) = (number(pairs, "expires")?, number(pairs, "timeout")?);
    let user: Option<String> = match pairs.text("user") {
        Some(text) => serde_json::from_str(text).ok()?,
        None => None,
    };
    let values = pairs.text("values").filter(|text| text.starts_with('{'))?;
    // Written in another way than the library does: another order, blanks, and null for what is absent.
    let text = format!(
        "{{\"user\":{},\n\"timeout\" : {}, \"expires\" : {}, \"created\": {created}, \"v\": 1, \"values\": {values} }}",
        json!(user),
        json!(timeout),
        json!(expires)
    );
    let record = Record::from_json(text.into_bytes()).expect("a record");
    let moment = UNIX_EPOCH.checked_add(Duration::from_secs(created));
    assert_eq!(record.created(), moment.unwrap_or(UNIX_EPOCH));
    assert_eq!(record.user(), user.as_deref());
    Some(record)
}

/// A member that may be absent or null; `None` when it is something else than a number of 64 bits.
#[expect(clippy::option_option, reason = "an absent number is no mistake")]
fn number(pairs: &Pairs, name: &str) -> Option<Option<u64>> {
    match pairs.text(name) {
        Some(text) => serde_json::from_str(text).ok(),
        None => Some(None),
    }
}
