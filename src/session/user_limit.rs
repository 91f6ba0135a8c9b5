//! `maxSessionsPerUser`: room for one more session of a user, or its refusal.
//!
//! Sessions become a user's one after the other, under a lock of the store, and only when there are fewer than
//! the limit: there are never more. What has to go is ended without that lock, since it is waited for; then
//! they are counted again.

use std::time::{Duration, Instant, SystemTime};

use crate::config::WhenFull;
use crate::error::{Error, Result};
use crate::id::SessionDigest;
use crate::session::Session;
use crate::session::held::stand_aside;
use crate::store::Stored;

impl Session {
    /// Makes room for this session among those of the user that it is to name. What is returned is dropped once it
    /// is stored.
    pub(super) fn admit_to_user(&self) -> Result<Option<Box<dyn Send>>> {
        let (manager, record) = (&self.manager, &self.contents.record);
        let limit = manager.config.max_sessions_per_user;
        let is_open = self.is_new() || self.lease.is_some();
        let Some(user) = record.user().filter(|_| limit > 0 && is_open) else {
            return Ok(None);
        };
        if record.is_private() || record.is_replaced() {
            return Ok(None);
        }
        let own = self.lineage();
        let deadline = Instant::now() + manager.config.lock_timeout;
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
                return Ok(Some(lock));
            }
            if manager.config.when_user_full == WhenFull::Refuse {
                return Err(Error::UserFull { limit });
            }
            drop(lock);
            for session in others.iter().take(excess) {
                manager.end_if_of(user, session, deadline)?;
            }
        }
    }
}
