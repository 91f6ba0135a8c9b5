//! [`Violation`]: a promise that was broken, in one line.

use std::fmt;

use cgi_session::printable;

/// Which promise a store has broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// What was acknowledged is not there any more.
    Lost,
    /// An increment took effect that nobody made, or two made the same one.
    Doubled,
    /// A record is not what one process wrote.
    Torn,
    /// Somebody read what had been replaced before.
    Stale,
    /// A session that was destroyed, or given another id, is there again.
    Resurrected,
    /// A session in use was deleted.
    Deleted,
    /// There are more sessions than the cap allows.
    Crowded,
    /// A file is left that nobody will need.
    Left,
    /// The store reported an error, or a process did not end as it should.
    Failed,
}

/// A broken promise: which session, what was expected, and what was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which promise it is.
    pub kind: Kind,
    text: String,
}

impl Kind {
    const ALL: [Kind; 9] = [
        Kind::Lost,
        Kind::Doubled,
        Kind::Torn,
        Kind::Stale,
        Kind::Resurrected,
        Kind::Deleted,
        Kind::Crowded,
        Kind::Left,
        Kind::Failed,
    ];

    fn word(self) -> &'static str {
        match self {
            Kind::Lost => "lost",
            Kind::Doubled => "doubled",
            Kind::Torn => "torn",
            Kind::Stale => "stale",
            Kind::Resurrected => "resurrected",
            Kind::Deleted => "deleted in use",
            Kind::Crowded => "crowded",
            Kind::Left => "left behind",
            Kind::Failed => "failed",
        }
    }
}

impl Violation {
    pub(super) fn new(
        kind: Kind,
        subject: impl fmt::Display,
        expected: impl fmt::Display,
        found: impl fmt::Display,
    ) -> Self {
        let text = printable(&format!("{subject}: expected {expected}, found {found}"));
        Violation { kind, text }
    }

    /// A line that a process wrote to stderr: one of ours, or whatever else had to be said there.
    pub(super) fn parse(line: &str) -> Self {
        let known = Kind::ALL.into_iter().find_map(|kind| {
            let text = line.strip_prefix(kind.word())?.strip_prefix(": ")?;
            Some(Violation {
                kind,
                text: text.to_owned(),
            })
        });
        known.unwrap_or_else(|| Violation {
            kind: Kind::Failed,
            text: line.to_owned(),
        })
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind.word(), self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_violation_reads_back_what_it_wrote() {
        for kind in Kind::ALL {
            let violation = Violation::new(kind, "session 1", "2\nor more", 3);
            assert_eq!(Violation::parse(&violation.to_string()), violation);
        }
        assert_eq!(Violation::parse("thread panicked").kind, Kind::Failed);
    }
}
