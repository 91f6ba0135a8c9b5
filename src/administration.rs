//! What an administrator may do with sessions, which are named by their digest.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::time::{Duration, Instant, SystemTime};

use crate::error::{Error, Result};
use crate::id::{SessionDigest, SessionId};
use crate::manager::{Locked, SessionManager};
use crate::session::Session;
use crate::store::{Lease, Store, Stored, Sweep, SweepEvent, SweepReport, Uninstalled};

/// For whoever looks after the store. Nobody here knows an id: a session is named by its digest.
///
/// ```
/// # use std::ops::ControlFlow;
/// # use cgi_session::{Config, SessionManager};
/// # let directory = tempfile::tempdir()?;
/// # let config = Config::new().set("storageFileDir", directory.path())?;
/// let manager = SessionManager::new(config)?;
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
    /// `visit` breaks. A session that cannot be read is shown with the reason.
    ///
    /// # Errors
    ///
    /// When the store as a whole cannot be listed.
    pub fn for_each(
        &self,
        mut visit: impl FnMut(&SessionDigest, Result<Stored>) -> ControlFlow<()>,
    ) -> Result<()> {
        let now = SystemTime::now();
        let mut visit_live = |session: &SessionDigest, stored: Result<Stored>| match stored {
            Ok(stored) if self.shared.is_too_old(&stored.record, now) => ControlFlow::Continue(()),
            stored => visit(session, stored),
        };
        self.shared.store.for_each(&mut visit_live, now)
    }

    /// The store itself, for whoever moves records as they are. What the manager sees to does not hold
    /// there: `lifetime`, and that a thread never waits for a session that it holds.
    #[must_use]
    pub fn store(&self) -> &dyn Store {
        &*self.shared.store
    }

    /// Reads one session as it is at this moment. Waits for nobody, and does not count as use.
    ///
    /// # Errors
    ///
    /// When the store fails, or what is stored cannot be understood.
    pub fn look(&self, session: &SessionDigest) -> Result<Option<Stored>> {
        let now = SystemTime::now();
        let stored = self.shared.store.look(session, now)?;
        let is_session = |stored: &Stored| {
            !stored.record.is_marker() && !self.shared.is_too_old(&stored.record, now)
        };
        Ok(stored.filter(is_session))
    }

    /// When a session ends if nobody uses it any more.
    #[must_use]
    pub fn end_of(&self, stored: &Stored) -> SystemTime {
        let config = &self.shared.config;
        let record = &stored.record;
        let idle = record.expires().or_else(|| {
            let timeout = record.idle().unwrap_or(config.timeout);
            stored.last_access.checked_add(timeout)
        });
        let absolute = record
            .lifetime(config.lifetime)
            .and_then(|lifetime| record.created().checked_add(lifetime));
        let ends = idle.into_iter().chain(absolute).min();
        // Both lie beyond every clock only if the times that were stored do.
        ends.unwrap_or(stored.last_access)
    }

    /// Opens a session for change and holds its lock. It sends no cookie when it is committed,
    /// and under a new id nobody would find it again.
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

    /// Deletes a session when nobody holds it any more; it never comes back. Tells whether there
    /// was one.
    ///
    /// # Errors
    ///
    /// As [`SessionManager::open_by_digest`]; the session is then still there.
    pub fn destroy_by_digest(&self, session: &SessionDigest) -> Result<bool> {
        let deadline = self.deadline();
        let found = self.shared.lock(session, deadline);
        match found.map_err(held_here)? {
            Some(Locked { stored, lease, .. }) if !stored.record.is_marker() => {
                let ended = self.shared.end(&stored.record, lease, deadline);
                ended.map(|()| true)
            }
            _ => Ok(false),
        }
    }

    /// The live sessions that name this user as theirs, and those that are said to and cannot be read.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    pub fn sessions_of(&self, user: &str) -> Result<Vec<SessionDigest>> {
        self.shared.store.sessions_of(user, SystemTime::now())
    }

    /// Deletes all sessions of a user but `except`, and tells how many there were: log out
    /// everywhere, or after a change of the password everywhere else. A session whose id changes
    /// meanwhile is among them.
    ///
    /// Each is waited for, so commit or release the session that this thread holds before.
    ///
    /// # Errors
    ///
    /// [`Error::AlreadyOpen`] when this thread holds one of them, [`Error::Busy`] when another
    /// request holds one for `lockTimeout`, and when the store fails: the first of the failures. All
    /// other sessions are deleted nevertheless; try again for the rest.
    pub fn destroy_sessions_of(&self, user: &str, except: Option<&SessionId>) -> Result<u64> {
        let except = except.map(SessionId::digest);
        // Of a store with short keys, a listed digest is only the beginning of one.
        let is_kept =
            |session: &SessionDigest| except.is_some_and(|except| except.stem() == session.stem());
        let (mut tried, mut destroyed) = (HashSet::new(), 0);
        let mut failed: Option<Error> = None;
        loop {
            // Again, until nothing new is there: while one was waited for, its id may have changed.
            let mut listed = self.sessions_of(user)?;
            listed.retain(|session| !is_kept(session) && tried.insert(*session));
            if listed.is_empty() {
                return failed.map_or(Ok(destroyed), Err);
            }
            for session in listed {
                match self.destroy_if_of(&session, user) {
                    Ok(was_there) => destroyed += u64::from(was_there),
                    Err(error) => failed = failed.or(Some(error)),
                }
            }
        }
    }

    fn destroy_if_of(&self, session: &SessionDigest, user: &str) -> Result<bool> {
        let deadline = self.deadline();
        match self.shared.lock(session, deadline)? {
            Some(Locked { stored, lease, .. }) if stored.record.user() == Some(user) => {
                let ended = self.shared.end(&stored.record, lease, deadline);
                ended.map(|()| true)
            }
            _ => Ok(false),
        }
    }

    /// Deletes the sessions that were unused for so long, whatever their records say.
    pub(crate) fn delete_idle(
        &self,
        idle: Duration,
        sweep: &Sweep<'_>,
        deadline: Option<Instant>,
        report: &mut SweepReport,
    ) -> Result<()> {
        let now = SystemTime::now();
        let mut chosen = Vec::new();
        let mut choose = |session: &SessionDigest, stored: Result<Stored>| {
            if stored.is_ok_and(|stored| self.unused(&stored, now) > Some(idle)) {
                chosen.push(*session);
            }
            ControlFlow::Continue(())
        };
        self.shared.store.for_each(&mut choose, now)?;
        for session in chosen {
            let is_late = deadline.is_some_and(|deadline| Instant::now() >= deadline);
            if is_late || sweep.max_files.is_some_and(|max| report.deleted >= max) {
                report.stopped_early = true;
                break;
            }
            match self.end_idle(&session, idle, sweep, now) {
                Ok(Some(bytes)) => {
                    report.live = report.live.saturating_sub(1);
                    report.deleted += 1;
                    report.deleted_bytes += bytes;
                }
                // In use, and counted as live or as busy already.
                Ok(None) | Err(Error::Busy { .. }) => {}
                Err(error) => report.failures.push(error.one_line()),
            }
        }
        Ok(())
    }

    /// How long a session was surely unused: the store notes a use at most once in a sixtieth of the
    /// session's own time. `None` for what a change of id leaves.
    fn unused(&self, stored: &Stored, now: SystemTime) -> Option<Duration> {
        let own = stored.record.idle().unwrap_or(self.shared.config.timeout);
        let unused = now.duration_since(stored.last_access).ok()?;
        let is_session = !stored.record.is_replaced();
        is_session.then(|| unused.saturating_sub(own / 60))
    }

    /// Deletes a session unless it was used meanwhile, and returns its size.
    fn end_idle(
        &self,
        session: &SessionDigest,
        idle: Duration,
        sweep: &Sweep<'_>,
        now: SystemTime,
    ) -> Result<Option<u64>> {
        let store = &self.shared.store;
        let found = if sweep.dry_run {
            store.look(session, now)?.map(|stored| (stored, None))
        } else {
            let locked = store.lock(session, Duration::ZERO, now)?;
            locked.map(|(stored, lease)| (stored, Some(lease)))
        };
        let Some((stored, lease)) = found else {
            return Ok(None);
        };
        let Some(age) = self.unused(&stored, now).filter(|unused| *unused > idle) else {
            return Ok(None);
        };
        lease.map_or(Ok(()), Lease::destroy)?;
        let bytes = stored.record.json_len() as u64;
        if let Some(observer) = sweep.observer {
            observer(SweepEvent::Deleted {
                name: session.as_str(),
                age,
                bytes,
                reason: "unused for as long as was asked",
            });
        }
        Ok(Some(bytes))
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

    /// Removes all sessions and what [`SessionManager::install`] made, whoever uses them, and
    /// nothing else.
    #[must_use = "it says what was left and what did not work"]
    pub fn uninstall(&self) -> Uninstalled {
        self.shared.store.uninstall()
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
