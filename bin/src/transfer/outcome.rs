//! [`Outcome`]: what a transfer has done, and what it could not do.

use std::fmt;

use cgi_session::{Error, SessionDigest};

/// What a run did, or in a dry run: would do.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Outcome {
    /// Sessions looked at.
    pub examined: u64,
    /// Sessions that were not there, and are now.
    pub created: u64,
    /// Sessions that were there in an older state.
    pub updated: u64,
    /// Sessions that were the same there, but used here later.
    pub renewed: u64,
    /// Sessions that were the same there.
    pub unchanged: u64,
    /// Sessions that were written there since, and left as they are.
    pub newer: u64,
    /// Sessions that have ended there since, and were not brought again.
    pub ended: u64,
    /// Sessions that would have expired there already.
    pub expired: u64,
    /// Sessions that were ended where they came from.
    pub moved: u64,
    /// Sessions that were brought before, have ended here since, and were not used there.
    pub gone: u64,
    /// Those of them that were deleted there.
    pub gone_deleted: u64,
    /// What was not brought.
    pub problems: Vec<Problem>,
    /// What has ended the run before everything was looked at.
    pub stopped: Option<Error>,
    /// The signal that has ended it.
    pub interrupted: Option<usize>,
}

/// A session that was not brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Which one.
    pub session: SessionDigest,
    /// Why, for programs.
    pub reason: Reason,
    /// Why, in a line.
    pub text: String,
}

/// Why a session was not brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// Somebody held it, in either store.
    Busy,
    /// It was changed in both stores.
    Conflict,
    /// It is damaged, or of a later release.
    Unreadable,
    /// A store has refused it.
    Failed,
}

impl Outcome {
    /// How many sessions were not brought for this reason.
    #[must_use]
    pub fn count(&self, reason: Reason) -> u64 {
        let same = self.problems.iter().filter(|it| it.reason == reason);
        same.fold(0, |count, _| count + 1)
    }

    pub(super) fn note(&mut self, session: &SessionDigest, reason: Reason, error: &Error) {
        self.add(session, reason, error.one_line());
    }

    pub(super) fn conflict(&mut self, session: &SessionDigest, text: &str) {
        self.add(session, Reason::Conflict, text.to_owned());
    }

    fn add(&mut self, session: &SessionDigest, reason: Reason, text: String) {
        self.problems.push(Problem {
            session: *session,
            reason,
            text,
        });
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.session, self.text)
    }
}
