//! [`Kind`]: which promise a store has broken, and the line that says so.

use std::fmt;

use cgi_session::printable;
use testkit::prelude::*;

use super::worker::Stop;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// What was acknowledged is not there any more.
    Lost,
    /// An increment took effect that no process made, or two made the same one.
    Doubled,
    /// A record is not what one process wrote.
    Torn,
    /// A reader found what had been replaced before.
    Stale,
    /// A session that was destroyed, or given another id, is there again.
    Resurrected,
    /// A session in use was deleted.
    Deleted,
    /// There are more sessions than the cap allows.
    Crowded,
    /// A file is left that no process will need.
    Left,
    /// The store reported an error, or a process did not end as it should.
    Failed,
}

impl Kind {
    /// The line about a broken promise: of which session, what was expected, and what was found.
    pub(crate) fn violation(
        self,
        subject: impl fmt::Display,
        expected: impl fmt::Display,
        found: impl fmt::Display,
    ) -> String {
        let text = printable(&format!("{subject}: expected {expected}, found {found}"));
        format!("{self}: {text}")
    }
}

impl Kind {
    pub(super) fn torn(subject: impl fmt::Display) -> String {
        let found = "parts of two, or of one";
        Kind::Torn.violation(subject, "a record of one process", found)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Lost => "lost",
            Kind::Doubled => "doubled",
            Kind::Torn => "torn",
            Kind::Stale => "stale",
            Kind::Resurrected => "resurrected",
            Kind::Deleted => "deleted in use",
            Kind::Crowded => "crowded",
            Kind::Left => "left behind",
            Kind::Failed => "failed",
        })
    }
}

/// The line about an error of the store.
pub(super) fn failure(subject: impl fmt::Display, expected: &str, error: &Error) -> String {
    Kind::Failed.violation(subject, expected, error.one_line())
}

/// The same where an engine in trouble may be the reason.
pub(super) fn failed(subject: impl fmt::Display, expected: &str, error: &Error) -> Stop {
    let line = failure(subject, expected, error);
    if error.status() == 503 && !matches!(error, Error::Replaced) {
        Stop::Unavailable(line)
    } else {
        Stop::Found(line)
    }
}

/// How a violation names a session: as the tools do, and short.
pub(super) fn shown(id: &SessionId) -> String {
    let digest = id.digest();
    let short = digest.as_str().get(..12).unwrap_or_default();
    format!("session {short}")
}
