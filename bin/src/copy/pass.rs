//! [`Pass`]: one pass over the live sessions of a store, which brings them into another.
//!
//! A session is locked in both stores while it is brought, first where it comes from. In the other store its
//! last use is set back by more than a store may leave unnoted, so that a session that was used there since
//! is told from one that was not. It is overwritten there only when it was used here later.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::time::{Duration, SystemTime};

use cgi_session::{Error, Result, SessionDigest, SessionManager, Stored};

use crate::signals::Signals;

/// How many times a session is looked for that another process creates and destroys meanwhile.
const TRIES: usize = 4;
/// After this many failures in a row a store is out of order.
const MAX_FAILURES: u64 = 20;
/// What a stored time may lose by rounding.
const ROUNDING: Duration = Duration::from_secs(2);

/// What a pass did or, in a dry run, would do.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) examined: u64,
    /// Not there before.
    pub(super) copied: u64,
    /// There before, in an older state.
    pub(super) updated: u64,
    /// The same there, but used here later.
    pub(super) renewed: u64,
    pub(super) unchanged: u64,
    /// Newer there, and left as it is.
    pub(super) newer: u64,
    /// Expired by the rules of the other store.
    pub(super) expired: u64,
    /// Destroyed here because it is there.
    pub(super) moved: u64,
    /// There alone, and not used there since the last use here.
    pub(super) gone: u64,
    pub(super) gone_deleted: u64,
    /// What was not brought.
    pub(super) problems: Vec<Problem>,
    /// What ended the pass early.
    pub(super) stopped: Option<Error>,
    /// The signal that interrupted it, or zero.
    pub(super) signal: usize,
}

/// A session that was not brought: why, for programs and in a line.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) session: SessionDigest,
    pub(super) reason: &'static str,
    pub(super) text: String,
}

impl Outcome {
    /// How many sessions were not brought for this reason.
    pub(super) fn problems_of(&self, reason: &str) -> u64 {
        let same = self.problems.iter().filter(|it| it.reason == reason);
        same.fold(0, |count, _| count + 1)
    }

    fn note(&mut self, session: &SessionDigest, reason: &'static str, error: &Error) {
        self.problems.push(Problem {
            session: *session,
            reason,
            text: error.one_line(),
        });
    }

    fn count(&mut self, decision: Decision) {
        *match decision {
            Decision::Create => &mut self.copied,
            Decision::Update => &mut self.updated,
            Decision::Renew => &mut self.renewed,
            Decision::Keep => &mut self.unchanged,
            Decision::KeepNewer => &mut self.newer,
        } += 1;
    }
}

/// What becomes of a session in the other store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Decision {
    Create,
    Update,
    Renew,
    Keep,
    KeepNewer,
}

/// What is to be brought, and how.
pub(super) struct Pass<'a> {
    pub(super) from: &'a SessionManager,
    pub(super) to: &'a SessionManager,
    pub(super) is_move: bool,
    pub(super) deletes_gone: bool,
    pub(super) is_dry: bool,
    pub(super) signals: &'a Signals,
    pub(super) outcome: Outcome,
}

impl Pass<'_> {
    /// Runs to the end, or as far as it comes. `progress` hears how many sessions of how many are done.
    pub(super) fn run(mut self, progress: &dyn Fn(u64, Option<u64>)) -> Outcome {
        self.outcome.stopped = self.all(progress).err();
        self.outcome.signal = self.signals.last();
        self.outcome
    }

    fn all(&mut self, progress: &dyn Fn(u64, Option<u64>)) -> Result<()> {
        let (mut listed, mut last_use) = (Vec::new(), None);
        let (signals, outcome) = (self.signals, &mut self.outcome);
        self.from.for_each(|session, stored| {
            match stored {
                Ok(stored) => {
                    listed.push(*session);
                    last_use = last_use.max(Some(stored.last_access));
                }
                Err(error) => outcome.note(session, "unreadable", &error),
            }
            progress(listed.len() as u64, None);
            end_if(signals.any())
        })?;
        let total = Some(listed.len() as u64);
        let (mut busy, mut failures) = (Vec::new(), 0);
        for session in &listed {
            if self.bring(session, Duration::ZERO, &mut failures)? {
                busy.push(*session);
            }
            self.outcome.examined += 1;
            progress(self.outcome.examined, total);
        }
        // By now most of them are free.
        let wait = self.from.config().lock_timeout();
        for session in busy {
            self.outcome.problems.retain(|it| it.session != session);
            self.bring(&session, wait, &mut failures)?;
        }
        match last_use {
            Some(last_use) => self.find_gone(&listed.into_iter().collect(), last_use),
            None => Ok(()),
        }
    }

    /// Brings a session and notes what has hindered it; `true` when it is in use. An error ends the pass.
    fn bring(
        &mut self,
        session: &SessionDigest,
        wait: Duration,
        failures: &mut u64,
    ) -> Result<bool> {
        if self.signals.any() {
            return Ok(false);
        }
        let error = match self.try_to_bring(session, wait) {
            Ok(()) => {
                *failures = 0;
                return Ok(false);
            }
            Err(error) => error,
        };
        match error {
            Error::Busy { .. } | Error::LeaseLost => {
                self.outcome.note(session, "busy", &error);
                return Ok(true);
            }
            Error::Unavailable { .. }
            | Error::Full { .. }
            | Error::LowSpace { .. }
            | Error::Config(_)
            | Error::Unsupported(_) => return Err(error),
            _ => {}
        }
        *failures += 1;
        if *failures == MAX_FAILURES {
            return Err(error);
        }
        self.outcome.note(session, "failed", &error);
        Ok(false)
    }

    fn try_to_bring(&mut self, session: &SessionDigest, wait: Duration) -> Result<()> {
        let now = SystemTime::now();
        let (from, to) = (self.from.store(), self.to.store());
        let is_live = |stored: &Stored| !stored.record.is_marker();
        // Most sessions are as they were at the last pass, and need no lock.
        let Some(here) = from.peek(session, now)?.filter(is_live) else {
            return Ok(());
        };
        if self.to.end_of(&here) < now {
            self.outcome.expired += 1;
            return Ok(());
        }
        let decision = self.decide(&here, to.peek(session, now)?.as_ref());
        let changes_nothing = matches!(decision, Decision::Keep | Decision::KeepNewer);
        if self.is_dry || changes_nothing && !self.is_move {
            self.outcome.count(decision);
            self.outcome.moved += u64::from(self.is_move);
            return Ok(());
        }
        let Some((here, lease)) = from.lock(session, wait, now)?.filter(|it| is_live(&it.0)) else {
            return Ok(());
        };
        for _ in 0..TRIES {
            let found = to.lock(session, wait, now)?;
            let decision = self.decide(&here, found.as_ref().map(|(there, _)| there));
            let time = if here.record.expires().is_some() {
                // It is stored in the record, and cannot be touched.
                here.last_access
            } else {
                now - ROUNDING
            };
            let mut there = match found {
                Some((_, lease)) => lease,
                None => match to.create(session, &here.record, time)? {
                    Some(lease) => lease,
                    None => continue,
                },
            };
            if decision == Decision::Update {
                there.commit(&here.record, time)?;
            }
            if !matches!(decision, Decision::Keep | Decision::KeepNewer) {
                there.touch(self.set_back(&here, now))?;
            }
            self.outcome.count(decision);
            if self.is_move {
                lease.destroy()?;
                self.outcome.moved += 1;
            }
            return Ok(());
        }
        Err(Error::Busy {
            waited: wait,
            holder: None,
        })
    }

    fn decide(&self, here: &Stored, there: Option<&Stored>) -> Decision {
        let Some(there) = there else {
            return Decision::Create;
        };
        let later = here.last_access.duration_since(there.last_access);
        let is_same = here.record.to_json() == there.record.to_json();
        let is_fixed = here.record.expires().is_some();
        match later {
            Ok(later) if is_same && !is_fixed && later > 2 * self.unnoted(here) + 2 * ROUNDING => {
                Decision::Renew
            }
            _ if is_same => Decision::Keep,
            // Within the same moment the store that sessions come from counts.
            Err(earlier) if earlier.duration() > ROUNDING => Decision::KeepNewer,
            _ => Decision::Update,
        }
    }

    /// A use that is later by less than this may not be noted by a store.
    fn unnoted(&self, stored: &Stored) -> Duration {
        self.idle(stored) / 60 + ROUNDING
    }

    fn idle(&self, stored: &Stored) -> Duration {
        let idle = stored.record.idle();
        idle.unwrap_or_else(|| self.to.config().timeout())
    }

    /// The last use of a session that is brought: earlier than it was, but not so early that it expires.
    fn set_back(&self, here: &Stored, now: SystemTime) -> SystemTime {
        let (idle, unnoted) = (self.idle(here), self.unnoted(here));
        let earliest = now - idle.saturating_sub(unnoted);
        (here.last_access - unnoted - ROUNDING).max(earliest)
    }

    /// Finds what is there alone. While programs use this store, it has ended here; a session that was used
    /// there after the last use here is of programs that use the other store.
    fn find_gone(&mut self, here: &HashSet<SessionDigest>, last_use: SystemTime) -> Result<()> {
        let (mut gone, signals) = (Vec::new(), self.signals);
        let is_unused = |stored: &Stored| stored.last_access + ROUNDING < last_use;
        self.to.for_each(|session, stored| {
            if !here.contains(session) && stored.as_ref().is_ok_and(is_unused) {
                gone.push(*session);
            }
            end_if(signals.any())
        })?;
        for session in gone {
            let now = SystemTime::now();
            if self.signals.any()
                || self
                    .from
                    .peek(&session)?
                    .is_some_and(|it| !it.record.is_marker())
            {
                continue;
            }
            self.outcome.gone += 1;
            if self.is_dry || !self.deletes_gone {
                continue;
            }
            let wait = self.to.config().lock_timeout();
            match self.to.store().lock(&session, wait, now) {
                Ok(Some((stored, lease))) if is_unused(&stored) => {
                    lease.destroy()?;
                    self.outcome.gone_deleted += 1;
                }
                Ok(_) => {}
                Err(error) => self.outcome.note(&session, "busy", &error),
            }
        }
        Ok(())
    }
}

fn end_if(is_over: bool) -> ControlFlow<()> {
    if is_over {
        ControlFlow::Break(())
    } else {
        ControlFlow::Continue(())
    }
}
