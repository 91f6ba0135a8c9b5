//! `maxSessionsPerUser`: room for one more session of a user, or its refusal.
//!
//! Sessions become a user's one after the other, under a lock of the store, and only when there are fewer than
//! the limit: there are never more. What has to go is ended without that lock, since it is waited for; then
//! they are counted again.

use std::collections::HashMap;
use std::time::{Instant, SystemTime};

use crate::config::WhenFull;
use crate::error::{Error, Result};
use crate::id::SessionDigest;
use crate::session::Session;
use crate::session::inner::{Locked, ManagerInner};
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
        let own = self.id.as_ref().map(|id| record.lineage(&id.digest()));
        let deadline = Instant::now() + manager.config.lock_timeout;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let lock = manager.store.lock_user(user, left)?;
            let others = manager.by_last_use(user, own.as_deref())?;
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

impl ManagerInner {
    /// The sessions of a user but the one of this lineage, the least recently used first. One whose id changes at
    /// this moment is there once, and what cannot be read is none.
    fn by_last_use(&self, user: &str, own: Option<&str>) -> Result<Vec<SessionDigest>> {
        let now = SystemTime::now();
        let mut found = HashMap::new();
        for session in self.store.sessions_of(user, now)? {
            if let Ok(Some(Stored {
                record,
                last_access,
            })) = self.store.peek(&session, now)
                && self.is_session(&record, now)
                && !record.is_private()
            {
                let lineage = record.lineage(&session);
                if own != Some(&*lineage) {
                    let age = (last_access, record.created());
                    found.insert(lineage, (age, session));
                }
            }
        }
        let mut found: Vec<_> = found.into_values().collect();
        found.sort_by_key(|(age, _)| *age);
        Ok(found.into_iter().map(|(_, session)| session).collect())
    }

    /// Ends a session that is still this user's, once no request holds it.
    fn end_if_of(&self, user: &str, session: &SessionDigest, deadline: Instant) -> Result<()> {
        match self.lock(session, deadline)? {
            Some(Locked {
                stored,
                lease,
                guard: _guard,
                ..
            }) if stored.record.user() == Some(user) => self.end(&stored.record, lease, deadline),
            _ => Ok(()),
        }
    }
}
