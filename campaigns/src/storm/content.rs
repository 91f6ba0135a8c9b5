//! [`Content`]: what a session of the storm holds. Every part follows from the others, so that two records mixed
//! into one are told from a whole one.

use std::ops::Range;

use cgi_session::{Result, Values};
use serde::{Deserialize, Serialize};
use testkit::prelude::*;

const KEY: &str = "storm";

/// The sizes that records grow and shrink between.
pub(super) const SIZES: Range<usize> = 100..20_000;

/// The values of a session that expired before it was stored, for the clean-up.
pub(super) const EXPIRED: &str = r#"{"":{"expired":true}}"#;

/// The state of one counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Content {
    pub(super) counter: u64,
    pub(super) number: u64,
    size: usize,
}

/// The same as it is stored.
#[derive(Serialize, Deserialize)]
struct Padded {
    #[serde(flatten)]
    content: Content,
    padding: String,
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
        let padding = self.letter().repeat(self.size);
        let content = self;
        session.insert(KEY, Padded { content, padding })
    }

    /// What a session holds; `None` when it is not what one process wrote.
    pub(super) fn of(values: &Values) -> Option<Self> {
        values.get::<Padded>(KEY).ok()??.whole()
    }

    /// The same of a record as it is stored.
    pub(super) fn of_record(record: &Record) -> Option<Self> {
        let mut values: Value = serde_json::from_slice(record.values()).ok()?;
        let padded = values.get_mut("")?.get_mut(KEY)?.take();
        serde_json::from_value::<Padded>(padded).ok()?.whole()
    }

    fn letter(self) -> &'static str {
        const LETTERS: [&str; 7] = ["a", "b", "c", "d", "e", "f", "g"];
        let turn = self.counter.wrapping_add(self.number) % 7;
        LETTERS[usize::try_from(turn).unwrap_or_default()]
    }
}

impl Padded {
    fn whole(self) -> Option<Content> {
        let expected = self.content.letter().repeat(self.content.size);
        (self.padding == expected).then_some(self.content)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::UNIX_EPOCH;

    fn read(content: &str) -> Option<Content> {
        let values = format!(r#"{{"":{{"storm":{content}}}}}"#);
        Content::of_record(&Record::new(UNIX_EPOCH).with_values(values.into_bytes()))
    }

    #[test]
    fn only_what_one_process_wrote_is_whole() {
        let whole = read(r#"{"counter":7,"number":1,"size":3,"padding":"bbb"}"#);
        assert_eq!(whole, Some(Content::new(7, 3).next_alike()));
        for mixed in [
            r#"{"counter":7,"number":2,"size":3,"padding":"bbb"}"#,
            r#"{"counter":7,"number":1,"size":4,"padding":"bbb"}"#,
            r#"{"counter":7,"number":1,"size":3,"padding":"bbc"}"#,
            r#"{"counter":7,"size":3,"padding":"bbb"}"#,
        ] {
            assert_eq!(read(mixed), None, "{mixed}");
        }
    }
}
