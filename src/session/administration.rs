//! What an administrator may do with sessions, which are named by their digest.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use crate::error::{Error, Result};
use crate::id::{SessionDigest, SessionId};
use crate::mutex::lock;
use crate::record::Record;
use crate::session::inner::{Locked, ManagerInner};
use crate::session::{Session, SessionManager};
use crate::store::expiry::pause;
use crate::store::{Lease, Store, Stored, Sweep, SweepClock, SweepEvent, SweepReport, Uninstalled};

/// How many calls of [`Sweep::each`] for one session may fail where nothing else is said.
const EACH_TRIES: u64 = 3;

/// For administration. A session is named by its digest: ids are not known here.
///
/// ```
/// # use std::ops::ControlFlow;
/// # use cgi_session::{Config, SessionManager};
/// # let manager = SessionManager::new(Config::new().set("storageType", "ram")?)?;
/// # let mut session = manager.start(b"")?;
/// # session.insert("pageViews", 3)?;
/// # session.commit()?;
/// let mut sessions = Vec::new();
/// manager.for_each(|session, stored| {
///     if stored.is_ok() {
///         sessions.push(*session);
///     }
///     ControlFlow::Continue(())
/// })?;
/// for session in sessions {
///     assert!(manager.destroy_by_digest(&session)?);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
impl SessionManager {
    /// Shows every live session once, without locking it and without counting as use, until
    /// `visit` breaks. A session that cannot be read is shown with the reason; what a change of id has left
    /// under the id before is no session.
    ///
    /// # Errors
    ///
    /// When the store as a whole cannot be listed.
    pub fn for_each(
        &self,
        mut visit: impl FnMut(&SessionDigest, Result<Stored>) -> ControlFlow<()>,
    ) -> Result<()> {
        let now = SystemTime::now();
        let is_session = |stored: &Stored| self.shared.is_session(&stored.record, now);
        let mut visit_live = |session: &SessionDigest, stored: Result<Stored>| match stored {
            Ok(stored) if !is_session(&stored) => ControlFlow::Continue(()),
            stored => visit(session, stored),
        };
        self.shared.store.for_each(&mut visit_live, now)
    }

    /// The store itself, to move records as they are. Two things that the manager does are missing
    /// there: `lifetime`, and the error for a thread that waits for a session that it holds.
    #[must_use]
    pub fn store(&self) -> &dyn Store {
        &*self.shared.store
    }

    /// Reads one session as it is at this moment, without waiting and without counting as use.
    ///
    /// # Errors
    ///
    /// When the store fails, or what is stored cannot be understood.
    pub fn peek(&self, session: &SessionDigest) -> Result<Option<Stored>> {
        let now = SystemTime::now();
        let stored = self.shared.store.peek(session, now)?;
        Ok(stored.filter(|stored| {
            let record = &stored.record;
            !record.is_marker_at(now) && !self.shared.is_too_old(record, now)
        }))
    }

    /// When a session expires unless it is used again.
    #[must_use]
    pub fn end_of(&self, stored: &Stored) -> SystemTime {
        let config = &self.shared.config;
        let record = &stored.record;
        let idle = record.end(stored.last_access, config.timeout);
        let absolute = record
            .lifetime(config.lifetime)
            .and_then(|lifetime| record.created().checked_add(lifetime));
        let ends = idle.into_iter().chain(absolute).min();
        // Both lie beyond every clock only if the times that were stored do.
        ends.unwrap_or(stored.last_access)
    }

    /// Opens a session for change and holds its lock. It sends no cookie when it is committed,
    /// and under a new id no client would find it again.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] when the session was held for `lockTimeout`, or is by this thread, and when the
    /// store fails.
    pub fn open_by_digest(&self, session: &SessionDigest) -> Result<Option<Session>> {
        let found = self.shared.lock(session, self.deadline());
        match found.map_err(held_here)? {
            Some(locked) if !locked.stored.record.is_marker() => {
                Session::open(&self.shared, session, locked)
            }
            _ => Ok(None),
        }
    }

    /// Waits until no request holds a session, and deletes it for good. Tells whether there
    /// was one.
    ///
    /// # Errors
    ///
    /// As [`SessionManager::open_by_digest`]; the session is then still there, or what a change of its id has left to
    /// be read is.
    pub fn destroy_by_digest(&self, session: &SessionDigest) -> Result<bool> {
        let is_session = |record: &Record| !record.is_marker();
        let ended = self.shared.end_if(session, self.deadline(), is_session);
        ended.map_err(held_here)
    }

    /// The live sessions that name this user as theirs, and those that are said to and cannot be read; not what
    /// a change of id has left under the id before.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    pub fn sessions_of(&self, user: &str) -> Result<Vec<SessionDigest>> {
        let now = SystemTime::now();
        let mut listed = self.shared.store.sessions_of(user, now)?;
        listed.retain(|session| match self.shared.store.peek(session, now) {
            Ok(Some(stored)) => self.shared.is_session(&stored.record, now),
            Ok(None) => false,
            Err(_) => true,
        });
        Ok(listed)
    }

    /// Deletes all sessions of a user but `except`, and returns how many. A login that comes later stays; a session
    /// whose id changes meanwhile is deleted.
    ///
    /// Those that requests hold are waited for when all others are deleted, for no longer than
    /// `lockTimeout` in all; so commit or release the session that this thread holds before.
    ///
    /// # Errors
    ///
    /// [`Error::AlreadyOpen`] when this thread holds one of them; [`Error::SessionsLeft`] when another
    /// request held one all the time, or one could not be deleted: it says how many are left, and why the first
    /// is. All others are deleted nevertheless; try again for the rest.
    pub fn destroy_sessions_of(&self, user: &str, except: Option<&SessionId>) -> Result<u64> {
        let except = except.map(SessionId::digest);
        self.end_sessions_of(user, except.as_ref(), true, self.deadline())
    }

    /// Deletes the sessions of a user. The one that the caller calls its own is kept, or goes last.
    pub(super) fn end_sessions_of(
        &self,
        user: &str,
        own: Option<&SessionDigest>,
        keeps_own: bool,
        deadline: Instant,
    ) -> Result<u64> {
        // Of a store with short keys, a listed digest is only the beginning of one.
        let is_own =
            |session: &SessionDigest| own.is_some_and(|own| own.short_key() == session.short_key());
        let mut ending = Ending {
            shared: &self.shared,
            user,
            kept: None,
            lineages: HashSet::new(),
            ended: 0,
            failed: Vec::new(),
        };
        if let Some(own) = own.filter(|_| keeps_own) {
            ending.kept = ending.lineage(own)?;
        }
        let store = &self.shared.store;
        let mut listed = store.sessions_of(user, SystemTime::now())?;
        let mut seen = HashSet::new();
        for round in 0.. {
            listed.retain(|session| seen.insert(*session) && !(keeps_own && is_own(session)));
            listed.sort_by_key(is_own);
            if round > 1 && Instant::now() >= deadline {
                // One that gets a new id again and again.
                ending.failed.extend(listed.iter().map(|_| Error::Replaced));
                break;
            }
            ending.end_all(&listed, deadline);
            listed = store.sessions_of(user, SystemTime::now())?;
            listed.retain(|session| !seen.contains(session) && ending.concerns(session));
            if listed.is_empty() {
                break;
            }
        }
        ending.result()
    }

    /// Deletes the sessions that were unused for `idle`, whatever their records say.
    pub(super) fn delete_idle(
        &self,
        idle: Duration,
        sweep: &Sweep<'_>,
        clock: SweepClock<'_>,
        report: &mut SweepReport,
    ) -> Result<()> {
        let now = SystemTime::now();
        let mut chosen = Vec::new();
        let is_chosen =
            |stored: Stored| stored.last_access >= now || self.unused(&stored, now) > Some(idle);
        let mut choose = |session: &SessionDigest, stored: Result<Stored>| {
            if stored.is_ok_and(is_chosen) {
                chosen.push(*session);
            }
            ControlFlow::Continue(())
        };
        self.shared.store.for_each(&mut choose, now)?;
        for session in chosen {
            if clock.is_over() || sweep.is_enough(report.deleted) {
                report.stopped_early = true;
                break;
            }
            match self.end_idle(&session, idle, sweep, report) {
                // In use, and counted as live or as busy already.
                Ok(()) | Err(Error::Busy { .. }) => {}
                Err(error) => report.failures.push(error.one_line()),
            }
        }
        Ok(())
    }

    /// How long a session was surely unused: the store notes a use at most once in `touchAfter`, or in
    /// a sixtieth of the session's own time. `None` for what a change of id leaves.
    fn unused(&self, stored: &Stored, now: SystemTime) -> Option<Duration> {
        let own = stored.record.idle_or(self.shared.config.timeout);
        let unused = now.duration_since(stored.last_access).ok()?;
        let is_session = !stored.record.is_replaced();
        is_session.then(|| unused.saturating_sub(pause(self.shared.config.touch_after, own)))
    }

    /// Deletes a session unless it was used meanwhile. A use that was noted by a clock ahead counts as one of now.
    fn end_idle(
        &self,
        session: &SessionDigest,
        idle: Duration,
        sweep: &Sweep<'_>,
        report: &mut SweepReport,
    ) -> Result<()> {
        let (store, now) = (&self.shared.store, SystemTime::now());
        let found = if sweep.dry_run {
            store.peek(session, now)?.map(|stored| (stored, None))
        } else {
            let locked = store.lock(session, Duration::ZERO, now)?;
            locked.map(|(stored, lease)| (stored, Some(lease)))
        };
        let Some((stored, lease)) = found else {
            return Ok(());
        };
        let Some(age) = self.unused(&stored, now).filter(|unused| *unused > idle) else {
            let lease = lease.filter(|_| stored.last_access >= now);
            return lease.map_or(Ok(()), |mut lease| lease.touch(now));
        };
        lease.map_or(Ok(()), Lease::destroy)?;
        let bytes = stored.record.json_len() as u64;
        report.live = report.live.saturating_sub(1);
        let reason = "unused for as long as was asked";
        sweep.note_deleted(report, session.as_str(), age, bytes, reason);
        Ok(())
    }

    /// Deletes what has expired, and calls [`Sweep::each`] for each session before.
    pub(super) fn delete_each(&self, sweep: &Sweep<'_>) -> Result<SweepReport> {
        let (store, now, clock) = (&self.shared.store, SystemTime::now(), sweep.clock());
        if sweep.idle.is_some() {
            let reason =
                "a clean-up that calls for each expired session cannot end unused ones, too";
            return Err(Error::Config(reason.to_owned()));
        }
        if !store.keeps_expired() {
            let kind = self.shared.config.get("storageType").unwrap_or_default();
            return Err(Error::Config(format!(
                "storageType = {kind} deletes expired sessions without a call; that needs file, sqlite, postgres or mysql"
            )));
        }
        let expired = Mutex::new(Vec::new());
        let observer = |event: SweepEvent<'_>| match event {
            SweepEvent::Kept { session, as_of } => {
                lock(&expired).push((*session, as_of));
            }
            event => sweep.notify(event),
        };
        let mut report = store.delete_expired(&sweep.observer(&observer), now)?;
        // Without the lock of the clean-up, which a new session may wait for.
        for (session, as_of) in expired.into_inner().unwrap_or_else(PoisonError::into_inner) {
            report.stopped_early |= clock.is_over() || sweep.is_enough(report.deleted);
            if report.stopped_early {
                break;
            }
            if let Err(error) = self.hand_over(&session, as_of, sweep, now, &mut report) {
                report.failures.push(error.one_line());
            }
        }
        Ok(report)
    }

    /// Calls for an expired session under its lock, and deletes it, or counts the failure.
    fn hand_over(
        &self,
        session: &SessionDigest,
        as_of: SystemTime,
        sweep: &Sweep<'_>,
        now: SystemTime,
        report: &mut SweepReport,
    ) -> Result<()> {
        let found = match self.shared.store.lock(session, Duration::ZERO, as_of) {
            Err(Error::Busy { .. }) => {
                report.kept = report.kept.saturating_sub(1);
                report.busy += 1;
                return Ok(());
            }
            found => found?,
        };
        let end = |stored: &Stored| {
            let end = self.end_of(stored);
            let is_over = end < now || self.shared.is_too_old(&stored.record, now);
            is_over.then(|| end.min(now))
        };
        let found = found.and_then(|(stored, lease)| Some((end(&stored)?, stored, lease)));
        let (Some((end, mut stored, mut lease)), Some(call)) = (found, sweep.each) else {
            // Deleted since, or used after all.
            report.kept = report.kept.saturating_sub(1);
            return Ok(());
        };
        if let Err(reason) = call(session, &stored) {
            let (tries, max) = (
                stored.record.tries() + 1,
                sweep.each_tries.unwrap_or(EACH_TRIES),
            );
            let short = session.short_key();
            let is_last = tries >= max && !sweep.is_stopped();
            let outcome = if is_last { "; it is deleted" } else { "" };
            let line = format!("session {short}: {reason} (try {tries} of {max}){outcome}");
            report.failures.push(line);
            if sweep.is_stopped() {
                // That ended the call, which has not failed by itself.
                return Ok(());
            }
            if tries < max {
                stored.record.set_tries(tries, end);
                return lease.commit(&stored.record, as_of);
            }
        }
        lease.destroy()?;
        let bytes = stored.record.json_len() as u64;
        report.kept = report.kept.saturating_sub(1);
        let age = now.duration_since(stored.last_access).unwrap_or_default();
        sweep.note_deleted(report, session.as_str(), age, bytes, "expired");
        Ok(())
    }

    /// How long ago the last clean-up ended; `None` when there was none, or the store needs none.
    #[must_use]
    pub fn last_clean_up(&self) -> Option<Duration> {
        self.shared.store.last_sweep(SystemTime::now())
    }

    /// Makes what the store needs before its first session, and tries it. It may run again without
    /// harm. Returns every problem, so an empty list means that it is done.
    #[must_use = "the list says what did not work"]
    pub fn install(&self) -> Vec<Error> {
        self.shared.store.install()
    }

    /// Removes all sessions and what [`SessionManager::install`] made, and nothing else. With `storageType = file` a
    /// session that a request holds is left, and is an error that names it.
    #[must_use = "it says what was left and what did not work"]
    pub fn uninstall(&self) -> Uninstalled {
        self.shared.store.uninstall()
    }
}

/// The sessions of a user while they are ended.
struct Ending<'a> {
    shared: &'a ManagerInner,
    user: &'a str,
    /// Whose lineage is the caller's.
    kept: Option<String>,
    /// Those that were to be ended, whichever id they have.
    lineages: HashSet<String>,
    ended: u64,
    failed: Vec<Error>,
}

impl Ending<'_> {
    /// Ends each of these: first those that no request holds, then the others as they are released.
    fn end_all(&mut self, sessions: &[SessionDigest], deadline: Instant) {
        let mut held = Vec::new();
        for session in sessions {
            match self.end(session, Instant::now()) {
                Err(Error::Busy { .. } | Error::AlreadyOpen) => held.push(session),
                ended => self.failed.extend(ended.err()),
            }
        }
        for session in held {
            let ended = self.end(session, deadline);
            self.failed.extend(ended.err());
        }
    }

    fn end(&mut self, session: &SessionDigest, deadline: Instant) -> Result<()> {
        // In this order: what is dropped first is the lease.
        let Some(Locked {
            guard: _guard,
            lease,
            stored,
            ..
        }) = self.shared.lock(session, deadline)?
        else {
            return Ok(());
        };
        let lineage = stored.record.lineage(session);
        if self.kept.as_ref() == Some(&lineage) {
            return Ok(());
        }
        self.lineages.insert(lineage);
        if stored.record.user() != Some(self.user) {
            return Ok(());
        }
        lease.destroy()?;
        // What can only be read is no session of its own.
        self.ended += u64::from(!stored.record.is_replaced());
        self.shared.destroy_copies(&stored.record, deadline)
    }

    /// Whether this was to be ended under an earlier id.
    fn concerns(&self, session: &SessionDigest) -> bool {
        let lineage = self.lineage(session).ok().flatten();
        lineage.is_some_and(|lineage| self.lineages.contains(&lineage))
    }

    fn lineage(&self, session: &SessionDigest) -> Result<Option<String>> {
        let stored = self.shared.store.peek(session, SystemTime::now())?;
        Ok(stored.map(|stored| stored.record.lineage(session)))
    }

    fn result(self) -> Result<u64> {
        let left = self.failed.len();
        match self.failed.into_iter().next() {
            None => Ok(self.ended),
            Some(Error::AlreadyOpen) => Err(Error::AlreadyOpen),
            Some(error) => Err(Error::SessionsLeft {
                left,
                source: Box::new(error),
            }),
        }
    }
}

/// An administrator is no request, whose session could be open already.
fn held_here(error: Error) -> Error {
    match error {
        Error::AlreadyOpen => Error::Busy {
            waited: Duration::ZERO,
            holder: Some("this thread".to_owned()),
        },
        error => error,
    }
}
