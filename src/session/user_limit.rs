//! `maxSessionsPerUser`: room for one more session of a user, or its refusal.
//!
//! Sessions become a user's one after the other, under a lock of the store, and only when there are fewer than
//! the limit: there are never more. What has to go is ended without that lock, since it is waited for; then
//! they are counted again.
//!
//! The session that is to become the user's is held meanwhile. While it is stored as another user's, a login of that
//! user may wait for it, so that it waits long only for sessions whose digests are greater: of two that wait for each
//! other one gives up soon.

use std::time::{Duration, Instant, SystemTime};

use crate::config::WhenFull;
use crate::error::{Error, Result};
use crate::id::{SessionDigest, SessionId};
use crate::session::Session;
use crate::session::held::stand_aside;
use crate::store::Stored;

/// How long a session is waited for whose own request may wait for this one's. Most requests are over by then.
const SHORT_WAIT: Duration = Duration::from_millis(500);

impl Session {
    /// Makes room for this session, which `had_user`, among those of the user that it is to name. What is returned is
    /// dropped once it is stored.
    #[cold]
    pub(super) fn admit_to_user(&mut self, had_user: bool) -> Result<Option<Box<dyn Send>>> {
        let limit = self.manager.config.max_sessions_per_user;
        let record = &self.contents.record;
        let is_open = self.is_new() || self.lease.is_some();
        let Some(user) = record.user().filter(|_| limit > 0 && is_open) else {
            return Ok(None);
        };
        if record.is_private() || record.is_replaced() {
            return Ok(None);
        }
        let (user, started) = (user.to_owned(), Instant::now());
        let admitted = self.make_room(&user, limit, had_user, started);
        self.waited += started.elapsed();
        admitted.map(Some)
    }

    fn make_room(
        &self,
        user: &str,
        limit: u64,
        had_user: bool,
        started: Instant,
    ) -> Result<Box<dyn Send>> {
        let (manager, own) = (&self.manager, self.lineage());
        let deadline = started + manager.config.lock_timeout.saturating_sub(self.waited);
        let own_digest = self.id.as_ref().map(SessionId::digest);
        let own_key = own_digest.as_ref().map(SessionDigest::short_key);
        loop {
            let lock = match manager.store.lock_user(user, Duration::ZERO) {
                Err(Error::Busy { .. }) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    stand_aside(|| manager.store.lock_user(user, left))?
                }
                locked => locked?,
            };
            let other = |session: &SessionDigest, stored: &Stored| {
                let is_other = Some(stored.record.lineage(session)) != own;
                is_other.then_some(*session)
            };
            let others = manager.sessions_by_last_use(user, SystemTime::now(), other)?;
            let others: Vec<_> = others.into_iter().flatten().collect();
            let places = usize::try_from(limit - 1).unwrap_or(usize::MAX);
            let excess = others.len().saturating_sub(places);
            if excess == 0 {
                return Ok(lock);
            }
            if manager.config.when_user_full == WhenFull::Refuse {
                return Err(Error::UserFull { limit });
            }
            drop(lock);
            for session in others.iter().take(excess) {
                if had_user && own_key > Some(session.short_key()) {
                    let soon = deadline.min(Instant::now() + SHORT_WAIT);
                    let ended = manager.end_if_of(user, session, soon);
                    ended.map_err(not_waited_for)?;
                } else {
                    manager.end_if_of(user, session, deadline)?;
                }
            }
        }
    }
}

/// Says why a session was not waited for that had to go.
fn not_waited_for(error: Error) -> Error {
    match error {
        Error::Busy { waited, holder } => {
            let holder = holder.unwrap_or_else(|| "another request".to_owned());
            let holder = format!(
                "{holder}, for which this one waits no longer, since it may wait for this one's session (maxSessionsPerUser)"
            );
            let holder = Some(holder);
            Error::Busy { waited, holder }
        }
        error => error,
    }
}
