//! [`Run`]: one pass over the sessions of a store.

use std::ops::ControlFlow;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use cgi_session::{Error, Lease, Result, SessionDigest, Stored};

use super::decision::Decision;
use super::journal::{Fingerprint, Journal};
use super::outcome::{Outcome, Reason};
use super::{Progress, Transfer};

/// So often a session is looked for that vanishes and appears while it is brought.
const TRIES: usize = 4;
/// After so many failures in a row, a store is taken to be out of order.
const MOST_FAILURES: u64 = 20;

/// Why a session was not brought now.
enum Hindrance {
    /// Somebody holds it: it may be tried again.
    Busy(Error),
    /// It and no other cannot be brought.
    Session(Error),
    /// Nothing can be brought any more.
    All(Error),
}

impl From<Error> for Hindrance {
    fn from(error: Error) -> Self {
        match error {
            Error::Busy { .. } | Error::LeaseLost => Hindrance::Busy(error),
            Error::Unavailable { .. }
            | Error::Full { .. }
            | Error::LowSpace { .. }
            | Error::Config(_)
            | Error::Unsupported(_) => Hindrance::All(error),
            _ => Hindrance::Session(error),
        }
    }
}

type Step<T = ()> = std::result::Result<T, Hindrance>;

pub(super) struct Run<'a, 'b> {
    transfer: &'a Transfer<'a>,
    journal: &'b mut Journal,
    outcome: Outcome,
    /// In a row.
    failures: u64,
}

/// A session and its lock where it comes from.
struct Held {
    session: SessionDigest,
    stored: Stored,
    lease: Box<dyn Lease>,
}

impl<'a, 'b> Run<'a, 'b> {
    pub(super) fn new(transfer: &'a Transfer<'a>, journal: &'b mut Journal) -> Self {
        Run {
            transfer,
            journal,
            outcome: Outcome::default(),
            failures: 0,
        }
    }

    pub(super) fn finish(mut self, progress: &Progress<'_>) -> Outcome {
        if let Err(error) = self.all(progress) {
            self.outcome.stopped = Some(error);
        }
        self.outcome
    }

    fn all(&mut self, progress: &Progress<'_>) -> Result<()> {
        let listed = self.list(progress)?;
        let total = u64::try_from(listed.len()).ok();
        let mut busy = Vec::new();
        for session in listed {
            if self.is_interrupted() {
                return Ok(());
            }
            match self.bring(&session, Duration::ZERO) {
                Err(Hindrance::Busy(_)) => busy.push(session),
                brought => self.settle(&session, brought)?,
            }
            self.outcome.examined += 1;
            progress(self.outcome.examined, total);
        }
        // By now most of them are free.
        let wait = self.transfer.from.config().lock_timeout();
        for session in busy {
            if self.is_interrupted() {
                return Ok(());
            }
            let brought = self.bring(&session, wait);
            self.settle(&session, brought)?;
        }
        self.look_for_gone(wait)
    }

    fn list(&mut self, progress: &Progress<'_>) -> Result<Vec<SessionDigest>> {
        let mut listed = Vec::new();
        let from = self.transfer.from;
        from.for_each(|session, stored| {
            self.journal.see(session);
            match stored {
                Ok(_) => listed.push(*session),
                Err(error) => self.outcome.note(session, Reason::Unreadable, &error),
            }
            progress(listed.len() as u64, None);
            if self.transfer.signal.load(Ordering::Relaxed) == 0 {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        })?;
        Ok(listed)
    }

    fn is_interrupted(&mut self) -> bool {
        let signal = self.transfer.signal.load(Ordering::Relaxed);
        self.outcome.interrupted = (signal != 0).then_some(signal);
        signal != 0
    }

    /// Notes what has hindered a session; an error ends the run.
    fn settle(&mut self, session: &SessionDigest, brought: Step) -> Result<()> {
        match brought {
            Ok(()) => self.failures = 0,
            Err(Hindrance::Busy(error)) => self.outcome.note(session, Reason::Busy, &error),
            Err(Hindrance::All(error)) => return Err(error),
            Err(Hindrance::Session(error)) => {
                self.failures += 1;
                if self.failures == MOST_FAILURES {
                    return Err(error);
                }
                self.outcome.note(session, Reason::Failed, &error);
            }
        }
        Ok(())
    }

    fn bring(&mut self, session: &SessionDigest, wait: Duration) -> Step {
        let now = SystemTime::now();
        if self.needs_no_lock(session, now)? {
            return Ok(());
        }
        let found = self.transfer.from.store().lock(session, wait, now)?;
        let Some((stored, lease)) = found.filter(|(stored, _)| !stored.record.is_marker()) else {
            // It has ended or was given another id since it was listed.
            return Ok(());
        };
        let held = Held {
            session: *session,
            stored,
            lease,
        };
        // As it was before this run.
        let entry = self.journal.entry(session);
        for _ in 0..TRIES {
            let found = self.transfer.to.store().lock(session, wait, now)?;
            let there = found.as_ref().map(|(there, _)| there);
            let decision = self.transfer.decide(&entry, &held.stored, there);
            match (decision, found) {
                (Decision::Bring, None) if !self.create(&held, now)? => {}
                (Decision::Bring, None) => return self.end(held),
                (Decision::Bring, Some((there, lease))) => {
                    if entry.brought != Some(Fingerprint::of(&there.record)) {
                        // A run that died has brought it: from now on that is known.
                        self.has_done(session)?;
                    }
                    self.replace(&held, lease, now)?;
                    return self.end(held);
                }
                (Decision::Same, Some((there, lease))) => {
                    self.renew(&held, &there, lease)?;
                    return self.end(held);
                }
                (decision, _) => {
                    let is_settled = self.count(&held.session, decision);
                    return if is_settled { self.end(held) } else { Ok(()) };
                }
            }
        }
        Err(Hindrance::Busy(Error::Busy {
            waited: wait,
            holder: None,
        }))
    }

    /// Looks at a session without its locks: most of those that were brought before are as they
    /// were, and a dry run goes no further.
    fn needs_no_lock(&mut self, session: &SessionDigest, now: SystemTime) -> Step<bool> {
        let Transfer {
            from, to, is_dry, ..
        } = self.transfer;
        let here = from.store().peek(session, now)?;
        let Some(here) = here.filter(|here| !here.record.is_marker()) else {
            return Ok(true);
        };
        if to.end_of(&here) < now {
            self.outcome.expired += 1;
            return Ok(true);
        }
        let there = to.store().peek(session, now)?;
        let entry = self.journal.entry(session);
        let decision = self.transfer.decide(&entry, &here, there.as_ref());
        let is_later = there
            .as_ref()
            .is_some_and(|there| self.transfer.is_used_later(&here, there));
        if *is_dry {
            let is_settled = match decision {
                Decision::Bring if there.is_none() => increment(&mut self.outcome.created),
                Decision::Bring => increment(&mut self.outcome.updated),
                Decision::Same if is_later => increment(&mut self.outcome.renewed),
                decision => self.count(session, decision),
            };
            self.outcome.moved += u64::from(is_settled && self.transfer.is_move);
            return Ok(true);
        }
        let is_known = entry.brought == Some(Fingerprint::of(&here.record));
        let needs_no_change = match decision {
            Decision::Same => is_known && !is_later,
            Decision::Newer | Decision::Ended => is_known,
            Decision::Bring | Decision::Conflict(_) => false,
        };
        if self.transfer.is_move || !needs_no_change {
            return Ok(false);
        }
        self.count(session, decision);
        Ok(true)
    }

    /// Counts what is left as it is there; tells whether everything of it is there.
    fn count(&mut self, session: &SessionDigest, decision: Decision) -> bool {
        match decision {
            Decision::Same | Decision::Bring => self.outcome.unchanged += 1,
            Decision::Newer => self.outcome.newer += 1,
            Decision::Ended => self.outcome.ended += 1,
            Decision::Conflict(reason) => {
                self.outcome.conflict(session, reason);
                return false;
            }
        }
        true
    }

    /// Makes the session there; `false` when somebody has made it meanwhile.
    fn create(&mut self, held: &Held, now: SystemTime) -> Step<bool> {
        let (session, here) = (&held.session, &held.stored);
        self.begins(held)?;
        let (to, now) = (self.transfer.to.store(), time_of(here, now));
        let Some(mut lease) = to.create(session, &here.record, now)? else {
            let noted = self.journal.has_not_done(session);
            return noted
                .map_err(|error| self.unwritable(error))
                .map(|()| false);
        };
        lease.touch(here.last_access)?;
        self.has_done(session)?;
        self.outcome.created += 1;
        Ok(true)
    }

    fn replace(&mut self, held: &Held, mut lease: Box<dyn Lease>, now: SystemTime) -> Step {
        let here = &held.stored;
        self.begins(held)?;
        lease.commit(&here.record, time_of(here, now))?;
        lease.touch(here.last_access)?;
        self.has_done(&held.session)?;
        self.outcome.updated += 1;
        Ok(())
    }

    /// The same session is there; if it was used here later, it lives on as long there.
    fn renew(&mut self, held: &Held, there: &Stored, mut lease: Box<dyn Lease>) -> Step {
        let here = &held.stored;
        if self.transfer.is_used_later(here, there) {
            lease.touch(here.last_access)?;
            self.outcome.renewed += 1;
        } else {
            self.outcome.unchanged += 1;
        }
        self.begins(held)?;
        self.has_done(&held.session)
    }

    /// Ends the session here, if it is to be moved.
    fn end(&mut self, held: Held) -> Step {
        if self.transfer.is_move {
            // Before it is gone: the next run must not take it for one that somebody has ended.
            let noted = self.journal.moves(&held.session);
            noted.map_err(|error| self.unwritable(error))?;
            held.lease.destroy()?;
            self.outcome.moved += 1;
        }
        Ok(())
    }

    fn begins(&mut self, held: &Held) -> Step {
        let (state, used) = (
            Fingerprint::of(&held.stored.record),
            held.stored.last_access,
        );
        let noted = self.journal.begins(&held.session, state, used);
        noted.map_err(|error| self.unwritable(error))
    }

    fn has_done(&mut self, session: &SessionDigest) -> Step {
        let noted = self.journal.has_done(session);
        noted.map_err(|error| self.unwritable(error))
    }

    fn unwritable(&self, error: std::io::Error) -> Hindrance {
        let action = format!("cannot write the journal {}", self.journal.path().display());
        Hindrance::All(Error::store(action, error))
    }

    /// Looks for what has ended here since it was brought, and was not used there.
    fn look_for_gone(&mut self, wait: Duration) -> Result<()> {
        for session in self.journal.unseen() {
            if self.is_interrupted() {
                return Ok(());
            }
            let looked = self.end_gone(&session, wait);
            self.settle(&session, looked)?;
        }
        Ok(())
    }

    fn end_gone(&mut self, session: &SessionDigest, wait: Duration) -> Step {
        let (transfer, now) = (self.transfer, SystemTime::now());
        let entry = self.journal.entry(session);
        let is_left_over =
            |stored: &Option<Stored>| matches!(stored, Some(it) if transfer.is_unused(it, &entry));
        let here = transfer.from.store().peek(session, now)?;
        if here.is_some_and(|here| !here.record.is_marker())
            || !is_left_over(&transfer.to.store().peek(session, now)?)
        {
            return Ok(());
        }
        self.outcome.gone += 1;
        if transfer.is_dry || !transfer.deletes_gone {
            return Ok(());
        }
        if let Some((stored, lease)) = transfer.to.store().lock(session, wait, now)?
            && is_left_over(&Some(stored))
        {
            lease.destroy()?;
            self.outcome.gone_deleted += 1;
        }
        Ok(())
    }
}

/// When a session is said to be used that is brought now. One with an end of its own is not touched
/// afterwards.
fn time_of(here: &Stored, now: SystemTime) -> SystemTime {
    match here.record.expires() {
        Some(_) => here.last_access,
        None => now,
    }
}

fn increment(count: &mut u64) -> bool {
    *count += 1;
    true
}
