//! [`UserSession`]: one of the sessions of a user, as a page shows it to that user.

use std::collections::{HashMap, HashSet};
use std::time::{Instant, SystemTime};

use crate::error::Result;
use crate::id::SessionDigest;
use crate::record::{Device, Devices, Namespaces};
use crate::session::SessionManager;
use crate::session::inner::ManagerInner;
use crate::store::{MAX_LISTINGS, Stored};

/// One of the sessions of a user: what [`Request::own_sessions`](crate::Request::own_sessions) lists.
#[derive(Clone, Debug)]
pub struct UserSession {
    digest: SessionDigest,
    created: SystemTime,
    last_access: SystemTime,
    devices: Option<Box<Devices>>,
    is_current: bool,
}

impl UserSession {
    /// Identifies the session, for [`Request::end_own_session`](crate::Request::end_own_session); it opens none.
    #[must_use]
    pub fn digest(&self) -> &SessionDigest {
        &self.digest
    }

    /// Whether it is the one of this request.
    #[must_use]
    pub fn is_current(&self) -> bool {
        self.is_current
    }

    /// When the session began, to the second.
    #[must_use]
    pub fn created(&self) -> SystemTime {
        self.created
    }

    /// When it was last used, to a sixtieth of `timeout` or, if that is set, to `touchAfter`.
    #[must_use]
    pub fn last_access(&self) -> SystemTime {
        self.last_access
    }

    /// The browser that began it, if that was recorded (`recordClient`).
    #[must_use]
    pub fn first_device(&self) -> Option<&Device> {
        self.devices.as_ref().map(|devices| &devices.first)
    }

    /// The browser that last opened it, if that was recorded.
    #[must_use]
    pub fn last_device(&self) -> Option<&Device> {
        self.devices.as_ref().map(|devices| &devices.last)
    }
}

impl SessionManager {
    /// The live sessions of a user, the most recently used first. Private records and what cannot be read are
    /// none.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    pub fn user_sessions(&self, user: &str) -> Result<Vec<UserSession>> {
        self.sessions_as_seen_from(user, None)
    }

    /// As [`SessionManager::user_sessions`], of a client whose session is of this lineage.
    pub(super) fn sessions_as_seen_from(
        &self,
        user: &str,
        own: Option<&str>,
    ) -> Result<Vec<UserSession>> {
        let now = SystemTime::now();
        let show = |digest: &SessionDigest, stored: &Stored| {
            let record = &stored.record;
            let values = Namespaces::from_json(record.values(), "", 0, now);
            UserSession {
                digest: *digest,
                created: record.created(),
                last_access: stored.last_access,
                devices: values.ok().and_then(|values| values.notes.devices),
                is_current: own == Some(&*record.lineage(digest)),
            }
        };
        let mut found = self.shared.sessions_by_last_use(user, now, show)?;
        found.reverse();
        Ok(found)
    }
}

impl ManagerInner {
    /// What `take` makes of each session of a user, the least recently used first: one record after the other is in
    /// memory. One whose id changes at this moment is there once; private records and what cannot be read are none.
    pub(super) fn sessions_by_last_use<T>(
        &self,
        user: &str,
        now: SystemTime,
        take: impl Fn(&SessionDigest, &Stored) -> T,
    ) -> Result<Vec<T>> {
        let (mut seen, mut found) = (HashSet::new(), HashMap::new());
        for _ in 0..MAX_LISTINGS {
            let mut has_moved = false;
            for session in self.store.sessions_of(user, now)? {
                if !seen.insert(session) {
                    continue;
                }
                let Ok(stored) = self.store.peek(&session, now) else {
                    continue;
                };
                let is_session = |stored: &Stored| self.is_session(&stored.record, now);
                match stored.filter(is_session) {
                    Some(stored) if !stored.record.is_private() => {
                        let order = (stored.last_access, stored.record.created());
                        let lineage = stored.record.lineage(&session);
                        found.insert(lineage, (order, take(&session, &stored)));
                    }
                    Some(_) => {}
                    None => has_moved = true,
                }
            }
            // Under its new id a session is listed before the old one goes.
            if !has_moved {
                break;
            }
        }
        let mut found: Vec<_> = found.into_values().collect();
        found.sort_by_key(|(order, _)| *order);
        Ok(found.into_iter().map(|(_, taken)| taken).collect())
    }

    /// Ends a session of this user that was listed under this id, whichever it has now.
    pub(super) fn end_listed(
        &self,
        user: &str,
        listed: &SessionDigest,
        deadline: Instant,
    ) -> Result<bool> {
        let mut session = *listed;
        for _ in 0..MAX_LISTINGS {
            if self.end_if_of(user, &session, deadline)? {
                return Ok(true);
            }
            let current = |session: &SessionDigest, stored: &Stored| {
                let is_listed = stored.record.was_under(listed, session);
                is_listed.then_some(*session)
            };
            let known = self.sessions_by_last_use(user, SystemTime::now(), current)?;
            match known.into_iter().flatten().next() {
                Some(now) if now != session => session = now,
                _ => break,
            }
        }
        Ok(false)
    }

    /// Ends a session that is still this user's, once no request holds it. Tells whether there was one.
    pub(super) fn end_if_of(
        &self,
        user: &str,
        session: &SessionDigest,
        deadline: Instant,
    ) -> Result<bool> {
        self.end_if(session, deadline, |record| {
            record.user() == Some(user) && !record.is_replaced() && !record.is_private()
        })
    }
}
