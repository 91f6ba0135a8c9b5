//! [`ManagerInner`]: what a manager and its sessions have in common.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::held::{HeldSessions, SessionGuard};
use super::manager::log_passed_over;
use crate::config::Config;
use crate::cookies::By;
use crate::error::{Error, Result};
use crate::id::{SessionDigest, SessionId};
use crate::record::Record;
use crate::session::Session;
use crate::store::{Lease, Store, Stored};

/// How long all copies together are waited for that are to end with a change of id.
const COPIES: Duration = Duration::from_secs(1);

/// The configuration, the store, and the sessions that threads hold.
pub(super) struct ManagerInner {
    pub(super) config: Arc<Config>,
    pub(super) store: Box<dyn Store>,
    pub(super) held: Arc<HeldSessions>,
    /// The store is one client's, which keeps its session itself: that it was used goes into its cookie.
    pub(super) is_of_client: bool,
}

/// A session that was waited for.
pub(super) struct Locked {
    pub(super) stored: Stored,
    pub(super) lease: Box<dyn Lease>,
    pub(super) guard: SessionGuard,
    pub(super) now: SystemTime,
    pub(super) waited: Duration,
}

impl ManagerInner {
    /// Waits for a session until `deadline` and loads what is stored. What is too old and left to the clean-up is
    /// none.
    pub(super) fn lock(
        &self,
        session: &SessionDigest,
        deadline: Instant,
    ) -> Result<Option<Locked>> {
        let (guard, mut since) = SessionGuard::acquire(&self.held, session, deadline)?;
        let mut now = SystemTime::now();
        let mut found = self.store.lock(session, Duration::ZERO, now);
        if matches!(found, Err(Error::Busy { .. })) {
            let tried = Instant::now();
            let since = *since.get_or_insert(tried);
            let left = deadline.saturating_duration_since(tried);
            if !left.is_zero() {
                found = guard.wait_elsewhere(|| self.store.lock(session, left, now));
                // Its lifetime may be over by now, or what it holds for a time.
                now = SystemTime::now();
            }
            if let Err(Error::Busy { waited, .. }) = &mut found {
                *waited = since.elapsed();
            }
        }
        Ok(found?.and_then(|(mut stored, lease)| {
            stored.record = stored.record.settled(now);
            let is_left = self.config.keeps_expired() && self.is_too_old(&stored.record, now);
            (!is_left).then_some(Locked {
                stored,
                lease,
                guard,
                now,
                waited: since.map_or(Duration::ZERO, |since| since.elapsed()),
            })
        }))
    }

    /// Whether a record has reached the absolute limit, however much it was used.
    pub(super) fn is_too_old(&self, record: &Record, now: SystemTime) -> bool {
        record.is_too_old(self.config.lifetime, now)
    }

    /// Whether this is a session of its own and lives: not what a change of id has left.
    pub(super) fn is_session(&self, record: &Record, now: SystemTime) -> bool {
        !record.is_replaced() && !self.is_too_old(record, now)
    }

    /// Destroys a session and what changes of its id have left under the ids before. Returns the first failure.
    pub(super) fn end(
        &self,
        record: &Record,
        lease: Box<dyn Lease>,
        deadline: Instant,
    ) -> Result<()> {
        lease.destroy()?;
        self.destroy_copies(record, deadline)
    }

    /// Destroys what changes of the id of a session have left under the ids before. Returns the first failure.
    pub(super) fn destroy_copies(&self, record: &Record, deadline: Instant) -> Result<()> {
        let before = record.predecessors().collect();
        self.each_copy(before, deadline, |copy| copy.lease.destroy())
    }

    /// Changes all that changes of its id have left of a session under the ids before: one after the other, so
    /// that no two locks are held at once. Returns the first failure.
    #[cold]
    fn each_copy(
        &self,
        mut before: Vec<SessionDigest>,
        deadline: Instant,
        change: impl Fn(Locked) -> Result<()>,
    ) -> Result<()> {
        let (mut seen, mut ended) = (HashSet::new(), Ok(()));
        while let Some(session) = before.pop() {
            // What one id has left names those before it, too.
            if !seen.insert(session) {
                continue;
            }
            let found = self.lock(&session, deadline);
            ended = ended.and(found.and_then(|found| match found {
                Some(copy) if copy.stored.record.is_replaced() => {
                    before.extend(copy.stored.record.predecessors());
                    change(copy)
                }
                _ => Ok(()),
            }));
        }
        ended
    }

    /// Destroys a session that is one of those wanted, once no request holds it. Tells whether it was.
    pub(super) fn end_if(
        &self,
        session: &SessionDigest,
        deadline: Instant,
        is_wanted: impl FnOnce(&Record) -> bool,
    ) -> Result<bool> {
        let found = self.lock(session, deadline)?;
        // In this order: what is dropped first is the lease.
        let Some(Locked {
            guard: _guard,
            lease,
            stored,
            ..
        }) = found
        else {
            return Ok(false);
        };
        let is_wanted = is_wanted(&stored.record);
        if is_wanted {
            self.end(&stored.record, lease, deadline)?;
        }
        Ok(is_wanted)
    }

    /// Leaves nothing to be read under the ids that a session had: what was left there for requests under way
    /// becomes a marker. Who holds one reads what it has loaded.
    pub(super) fn end_copies(&self, before: Vec<SessionDigest>) -> Result<()> {
        if before.is_empty() {
            return Ok(());
        }
        self.each_copy(before, Instant::now() + COPIES, |mut copy| {
            if copy.stored.record.is_marker() {
                return Ok(());
            }
            let marker = Session::marker_of(&copy.stored.record, copy.now)?;
            copy.lease.finish(&marker, copy.now)
        })
    }

    /// Destroys every session that these ids lead to, one after the other, and returns the first failure.
    /// What a change of id left readable goes with a live session, if there is or was one; beside one,
    /// what cannot be read is passed over.
    pub(super) fn end_shown(
        &self,
        ids: &[SessionId],
        by: By,
        mut is_live: bool,
        deadline: Instant,
    ) -> Result<()> {
        let (mut replaced, mut unreadable, mut ended) = (Vec::new(), Vec::new(), Ok(()));
        for id in ids {
            let found = match self.lock(&id.digest(), deadline) {
                Err(error) if error.may_concern_one_session() => {
                    unreadable.push(error);
                    continue;
                }
                found => found,
            };
            match found.and_then(|found| self.end_one(found, by, is_live, deadline)) {
                Ok(Found::Live(())) => is_live = true,
                Ok(Found::Marker(_)) => replaced.push(id),
                Ok(Found::Nothing) => {}
                Err(error) => ended = ended.and(Err(error)),
            }
        }
        for error in unreadable {
            if is_live {
                log_passed_over(&error);
            } else {
                ended = ended.and(Err(error));
            }
        }
        for id in replaced {
            ended = ended.and(if is_live {
                let found = self.lock(&id.digest(), deadline);
                found.and_then(|found| self.end_one(found, by, true, deadline).map(drop))
            } else {
                Err(Error::Replaced)
            });
        }
        ended
    }

    fn end_one(
        &self,
        found: Option<Locked>,
        by: By,
        ends_copies: bool,
        deadline: Instant,
    ) -> Result<Found<()>> {
        match found {
            Some(Locked { stored, now, .. }) if is_hidden(&stored.record, by, now) => {
                Ok(Found::Nothing)
            }
            Some(Locked { stored, lease, .. }) => {
                let record = stored.record;
                if record.is_marker() || (record.is_replaced() && !ends_copies) {
                    return Ok(Found::Marker(vec![record]));
                }
                self.end(&record, lease, deadline).map(Found::Live)
            }
            None => Ok(Found::Nothing),
        }
    }
}

/// What presented ids lead to.
pub(super) enum Found<T> {
    Live(T),
    /// Nothing but markers of a change of id, which these are, and dead ids.
    Marker(Vec<Record>),
    Nothing,
}

impl<T> Found<T> {
    pub(super) fn map<U>(self, change: impl FnOnce(T) -> U) -> Found<U> {
        match self {
            Found::Live(found) => Found::Live(change(found)),
            Found::Marker(records) => Found::Marker(records),
            Found::Nothing => Found::Nothing,
        }
    }

    pub(super) fn live(self) -> Option<T> {
        match self {
            Found::Live(found) => Some(found),
            Found::Marker(_) | Found::Nothing => None,
        }
    }
}

/// Whether what is stored is nothing to a client who shows its id.
pub(super) fn is_hidden(record: &Record, by: By, now: SystemTime) -> bool {
    (record.is_private() && by != By::Program) || record.is_left_by_a_wrong_clock(now)
}
