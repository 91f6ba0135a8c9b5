//! [`Transfer`]: brings the live sessions of one store into another while programs use both, as often as
//! one likes.
//!
//! A session is locked in both stores while it is brought, first where it comes from. A [`Journal`] says
//! in which state it was brought before: what was written there since is never overwritten, and what
//! has ended there since does not come back. The journal is told before a store is changed and after,
//! so that a run that was killed is taken up by the next.

mod decision;
mod journal;
mod outcome;
mod run;

use std::sync::atomic::AtomicUsize;
use std::time::{Duration, SystemTime};

use cgi_session::{SessionManager, Stored};

use decision::{Decision, decide};
use journal::{Entry, Fingerprint};
use run::Run;

pub use journal::Journal;
pub use outcome::{Outcome, Problem, Reason};

/// What a time that is stored may lose by rounding.
const ROUNDING: Duration = Duration::from_secs(2);

/// What is to be brought, and how.
pub struct Transfer<'a> {
    /// Where the sessions are.
    pub from: &'a SessionManager,
    /// Where they go.
    pub to: &'a SessionManager,
    /// A session ends where it was as soon as it is there.
    pub is_move: bool,
    /// What has ended where it was since it was brought, and was not used there, is deleted there.
    pub deletes_gone: bool,
    /// Nothing is changed and nothing is locked.
    pub is_dry: bool,
    /// Ends the run after the session in hand when it is no longer zero.
    pub signal: &'a AtomicUsize,
}

/// Who hears how far a run has come: so many sessions of so many.
pub type Progress<'a> = dyn Fn(u64, Option<u64>) + 'a;

impl Transfer<'_> {
    /// Brings everything. What went wrong is in the outcome, as far as the run has come.
    pub fn run(&self, journal: &mut Journal, progress: &Progress<'_>) -> Outcome {
        Run::new(self, journal).finish(progress)
    }

    fn decide(&self, entry: &Entry, here: &Stored, there: Option<&Stored>) -> Decision {
        let end = entry.used().checked_add(self.idle(here));
        let may_have_expired = end.is_some_and(|end| end < SystemTime::now());
        let state = |stored: &Stored| Fingerprint::of(&stored.record);
        decide(state(here), there.map(state), entry, may_have_expired)
    }

    /// Whether a session was used here after it was there, as exactly as stores note it.
    fn is_used_later(&self, here: &Stored, there: &Stored) -> bool {
        let later = here.last_access.duration_since(there.last_access);
        here.record.expires().is_none() && later.is_ok_and(|later| later > self.noticed(here))
    }

    /// Whether nobody has used the session there since it was brought.
    fn is_unused(&self, there: &Stored, entry: &Entry) -> bool {
        let latest = entry.used().checked_add(self.noticed(there));
        entry.is_as_brought(Fingerprint::of(&there.record))
            && latest.is_none_or(|latest| there.last_access <= latest)
    }

    /// A use that is later by less than this may not be noted.
    fn noticed(&self, stored: &Stored) -> Duration {
        self.idle(stored) / 60 + ROUNDING
    }

    /// How long a session lives unused in the store that it goes to.
    fn idle(&self, stored: &Stored) -> Duration {
        let idle = stored.record.idle();
        idle.unwrap_or_else(|| self.to.config().timeout())
    }
}
