//! [`Content`]: what a session of the storm holds. Every part says the same, so that two records mixed
//! into one are told from a whole one.

use std::ops::Range;

use cgi_session::{Record, Result, Session, Values};
use serde_json::Value;

const COUNTER: &str = "counter";
const NUMBER: &str = "n";
const SIZE: &str = "size";
const PADDING: &str = "padding";

/// The sizes that records grow and shrink between.
pub(super) const SIZES: Range<usize> = 100..20_000;

/// The values of a session that ended before it was stored, for the clean-up.
pub(super) const EXPIRED: &str = r#"{"":{"expired":true}}"#;

/// The state of one counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) counter: u64,
    pub(super) number: u64,
    size: usize,
}

impl Content {
    pub(super) fn new(counter: u64, size: usize) -> Self {
        Content {
            counter,
            number: 0,
            size,
        }
    }

    /// One more, in a record of this size.
    pub(super) fn next(self, size: usize) -> Self {
        Content {
            number: self.number + 1,
            size,
            ..self
        }
    }

    /// One more, in a record as large as before.
    pub(super) fn next_alike(self) -> Self {
        self.next(self.size)
    }

    pub(super) fn put(self, session: &mut Session) -> Result<()> {
        session.insert(COUNTER, self.counter)?;
        session.insert(NUMBER, self.number)?;
        session.insert(SIZE, self.size)?;
        session.insert(PADDING, self.letter().repeat(self.size))
    }

    /// What a session holds; `None` when it is not what one process wrote.
    pub(super) fn of(values: &Values) -> Option<Self> {
        let padding: String = values.get(PADDING).ok()??;
        Content {
            counter: values.get(COUNTER).ok()??,
            number: values.get(NUMBER).ok()??,
            size: values.get(SIZE).ok()??,
        }
        .with(&padding)
    }

    /// The same of a record as it is stored.
    pub(super) fn of_record(record: &Record) -> Option<Self> {
        let values: Value = serde_json::from_slice(record.values()).ok()?;
        let values = values.get("")?;
        let content = Content {
            counter: values.get(COUNTER)?.as_u64()?,
            number: values.get(NUMBER)?.as_u64()?,
            size: usize::try_from(values.get(SIZE)?.as_u64()?).ok()?,
        };
        content.with(values.get(PADDING)?.as_str()?)
    }

    /// This content, if it has this padding.
    fn with(self, padding: &str) -> Option<Self> {
        let letters = self.letter().as_bytes();
        let is_whole =
            padding.len() == self.size && padding.bytes().all(|byte| letters.contains(&byte));
        is_whole.then_some(self)
    }

    fn letter(self) -> &'static str {
        const LETTERS: [&str; 7] = ["a", "b", "c", "d", "e", "f", "g"];
        let turn = self.counter.wrapping_add(self.number) % 7;
        LETTERS[usize::try_from(turn).unwrap_or_default()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::UNIX_EPOCH;

    fn read(values: &str) -> Option<Content> {
        let record = Record::new(UNIX_EPOCH).with_values(values.as_bytes().to_vec());
        Content::of_record(&record)
    }

    #[test]
    fn only_what_one_process_wrote_is_whole() {
        let whole = read(r#"{"":{"counter":7,"n":1,"size":3,"padding":"bbb"}}"#);
        let expected = Content::new(7, 3).next_alike();
        assert_eq!(whole, Some(expected));
        for mixed in [
            r#"{"":{"counter":7,"n":2,"size":3,"padding":"bbb"}}"#,
            r#"{"":{"counter":7,"n":1,"size":4,"padding":"bbb"}}"#,
            r#"{"":{"counter":7,"n":1,"size":3,"padding":"bbc"}}"#,
            r#"{"":{"counter":7,"size":3,"padding":"bbb"}}"#,
        ] {
            assert_eq!(read(mixed), None, "{mixed}");
        }
    }
}
