//! [`Session`]: what an application holds during one request.

use std::mem;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::cookies::SetCookie;
use crate::error::{Error, Result};
use crate::held::Held;
use crate::id::{SessionDigest, SessionId};
use crate::manager::{Shared, parse};
use crate::record::Record;
use crate::store::{Lease, Stored};
use crate::values::{Applications, Values};

/// One visitor's session, held exclusively: until it is committed, released or destroyed, every
/// other request of this session waits.
///
/// It reads and writes like a map ([`Values`]). Nothing is stored before [`Session::commit`] or
/// [`Session::save`]; a session that is dropped keeps what was stored before. A new session in
/// which nothing was put is never stored and gets no cookie.
///
/// | to | call | the record | the lock |
/// |---|---|---|---|
/// | finish and keep the changes | [`commit`](Session::commit) | saved | given up |
/// | keep the changes and go on | [`save`](Session::save) | saved | held |
/// | finish without the changes | [`release`](Session::release) | stays | given up |
/// | end the session | [`destroy`](Session::destroy) | deleted | given up |
///
/// Karrigell's `close()` is `destroy`.
pub struct Session {
    manager: Arc<Shared>,
    /// As it is stored, or as it would be stored first.
    record: Record,
    /// Our application's values, taken out of `applications`.
    values: Values,
    applications: Applications,
    /// None until the session is first stored.
    id: Option<SessionId>,
    lease: Option<Box<dyn Lease>>,
    held: Option<Held>,
    last_access: Option<SystemTime>,
    client_cookie: ClientCookie,
    has_new_timeout: bool,
    wants_new_id: bool,
    is_kept_empty: bool,
}

/// What the client's cookie says, compared with the session's id.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClientCookie {
    Absent,
    /// A well-formed id, but not this session's.
    Other,
    Current,
}

impl Session {
    /// A session that is not stored yet.
    pub(crate) fn new(manager: Arc<Shared>, client_cookie: ClientCookie, now: SystemTime) -> Self {
        Session {
            manager,
            record: Record::new(now),
            values: Values::default(),
            applications: Applications::default(),
            id: None,
            lease: None,
            held: None,
            last_access: None,
            client_cookie,
            has_new_timeout: false,
            wants_new_id: false,
            is_kept_empty: false,
        }
    }

    /// A session that was found in the store and locked.
    pub(crate) fn open(
        manager: Arc<Shared>,
        id: SessionId,
        stored: Stored,
        lease: Box<dyn Lease>,
        held: Held,
    ) -> Result<Self> {
        let mut applications = parse(&id.digest(), &stored.record)?;
        Ok(Session {
            values: applications.take(&manager.config.app),
            applications,
            record: stored.record,
            id: Some(id),
            lease: Some(lease),
            held: Some(held),
            last_access: Some(stored.last_access),
            client_cookie: ClientCookie::Current,
            has_new_timeout: false,
            wants_new_id: false,
            is_kept_empty: false,
            manager,
        })
    }

    /// A session that was found by its digest. Its id is known to its visitor alone, so it sends no
    /// cookie.
    pub(crate) fn open_by_digest(
        manager: Arc<Shared>,
        session: &SessionDigest,
        stored: Stored,
        lease: Box<dyn Lease>,
        now: SystemTime,
    ) -> Result<Self> {
        let mut applications = parse(session, &stored.record)?;
        let mut session = Session::new(manager, ClientCookie::Absent, now);
        session.values = applications.take(&session.manager.config.app);
        session.applications = applications;
        session.record = stored.record;
        session.lease = Some(lease);
        session.last_access = Some(stored.last_access);
        Ok(session)
    }

    /// Whether this request made the session: the visitor's first.
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.last_access.is_none()
    }

    /// The session's id, or `None` while nothing has been stored.
    #[must_use]
    pub fn id(&self) -> Option<&SessionId> {
        self.id.as_ref()
    }

    /// When the session was made, to the second.
    #[must_use]
    pub fn created(&self) -> SystemTime {
        self.record.created()
    }

    /// When the session was used before this request, to a sixtieth of `timeout`; `None` when it is new.
    #[must_use]
    pub fn last_access(&self) -> Option<SystemTime> {
        self.last_access
    }

    /// How long the session lives unused: its own time if it has one, else the configuration's.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.record.timeout().unwrap_or(self.manager.config.timeout)
    }

    /// Gives this session an idle time of its own, in whole seconds from one to a hundred years, or
    /// with `None` the configuration's again. Like every change it is stored by the next commit.
    pub fn set_timeout(&mut self, timeout: Option<Duration>) {
        self.record.set_timeout(timeout, SystemTime::now());
        self.has_new_timeout = true;
    }

    /// Gives the session a new id at the next commit, and deletes the old one with everything
    /// that was under it: do this whenever the visitor's rights change, above all at login.
    ///
    /// When the request fails instead, the old id stays valid.
    pub fn regenerate_id(&mut self) {
        self.wants_new_id = true;
    }

    /// Lets the next commit store the session although nothing was put in, for a client that must
    /// have its cookie before the first value. Without this an empty new session leaves no trace.
    pub fn keep_empty(&mut self) {
        self.is_kept_empty = true;
    }

    /// Stores the changes now and keeps the session open and locked.
    ///
    /// A session that did not change is not written; that it was used is noted, at most once in a
    /// sixtieth of its timeout.
    ///
    /// # Errors
    ///
    /// When the changes could not be stored. What was stored before is untouched, and the client
    /// must not be told otherwise.
    pub fn save(&mut self) -> Result<()> {
        let now = SystemTime::now();
        self.applications
            .put(&self.manager.config.app, mem::take(&mut self.values));
        let json = self.applications.to_json();
        let is_empty = self.applications.is_empty();
        self.values = self.applications.take(&self.manager.config.app);
        let json = json.map_err(|source| Error::Value {
            key: String::new(),
            source,
        })?;
        match self.lease.take() {
            Some(lease) => self.save_stored(lease, json, now),
            None if self.id.is_some() => Err(Error::Ended),
            None if is_empty && !self.is_kept_empty => Ok(()),
            None => self.store_first(self.record.with_values(json), now),
        }
    }

    /// Stores the changes, gives up the lock, and returns the cookie to send, if the client needs one.
    ///
    /// # Errors
    ///
    /// As [`Session::save`].
    pub fn commit(mut self) -> Result<Option<SetCookie>> {
        self.save()?;
        Ok(self.cookie())
        // The lease ends here: nobody may read before the new record is in place.
    }

    /// Gives up the lock without storing what changed since the last [`Session::save`].
    #[must_use = "a session that was saved before may need this cookie"]
    pub fn release(self) -> Option<SetCookie> {
        self.cookie()
    }

    /// Deletes the session and returns the cookie that removes the client's.
    ///
    /// # Errors
    ///
    /// When the record could not be deleted; it is then still there.
    pub fn destroy(self) -> Result<Option<SetCookie>> {
        if let Some(lease) = self.lease {
            lease.destroy()?;
        }
        let has_cookie = self.client_cookie != ClientCookie::Absent;
        Ok(has_cookie.then(|| SetCookie::removal(&self.manager.config)))
    }

    /// The cookie that the client needs, if any.
    fn cookie(&self) -> Option<SetCookie> {
        let is_sliding = self.manager.config.cookie_max_age.is_some();
        let id = self
            .id
            .as_ref()
            .filter(|_| is_sliding || self.client_cookie != ClientCookie::Current)?;
        Some(SetCookie::new(&self.manager.config, id))
    }

    fn save_stored(
        &mut self,
        mut lease: Box<dyn Lease>,
        json: Vec<u8>,
        now: SystemTime,
    ) -> Result<()> {
        let has_changed = json != self.record.values() || self.has_new_timeout;
        let must_slide = self.must_slide(now);
        if !has_changed && !must_slide && !self.wants_new_id {
            let touched = lease.touch(now);
            self.lease = Some(lease);
            return touched;
        }
        let mut record = self.record.with_values(json);
        if let Some(timeout) = record.timeout() {
            record.set_timeout(Some(timeout), now);
        }
        if self.wants_new_id {
            return self.move_to_new_id(lease, record, now);
        }
        let committed = lease.commit(&record, now);
        self.lease = Some(lease);
        committed?;
        self.record = record;
        self.has_new_timeout = false;
        Ok(())
    }

    /// Whether a session with a timeout of its own must have its end moved although nothing changed.
    fn must_slide(&self, now: SystemTime) -> bool {
        let (Some(timeout), Some(expires)) = (self.record.timeout(), self.record.expires()) else {
            return false;
        };
        let end = now.checked_add(timeout);
        let moved = end.and_then(|end| end.duration_since(expires).ok());
        moved.is_some_and(|moved| moved > (timeout / 60).max(Duration::from_secs(1)))
    }

    fn store_first(&mut self, record: Record, now: SystemTime) -> Result<()> {
        loop {
            let id = SessionId::generate()?;
            let Some(lease) = self.manager.store.create(&id.digest(), &record, now)? else {
                continue;
            };
            self.held = Some(Held::claim(&id, Duration::ZERO)?);
            self.lease = Some(lease);
            self.id = Some(id);
            self.record = record;
            if self.client_cookie == ClientCookie::Current {
                self.client_cookie = ClientCookie::Other;
            }
            self.has_new_timeout = false;
            self.wants_new_id = false;
            return Ok(());
        }
    }

    /// First the new record, then the old one's end: a death in between leaves the old id valid.
    fn move_to_new_id(
        &mut self,
        old: Box<dyn Lease>,
        record: Record,
        now: SystemTime,
    ) -> Result<()> {
        let (old_id, before) = (self.id.clone(), self.client_cookie);
        let stored = self.store_first(record, now);
        if stored.is_err() {
            self.lease = Some(old);
            return stored;
        }
        let destroyed = old.destroy();
        if destroyed.is_err() {
            // The old id stays the session's; the new one was never told to anybody.
            if let Some(Err(error)) = self.lease.take().map(Lease::destroy) {
                log::warn!("{}", error.one_line());
            }
            self.id = old_id;
            self.client_cookie = before;
        }
        destroyed
    }
}

impl Deref for Session {
    type Target = Values;

    fn deref(&self) -> &Values {
        &self.values
    }
}

impl DerefMut for Session {
    fn deref_mut(&mut self) -> &mut Values {
        &mut self.values
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let stored = self.id.as_ref().map(SessionId::digest);
        f.debug_struct("Session")
            .field("digest", &stored)
            .field("keys", &self.len())
            .finish_non_exhaustive()
    }
}

/// A session as it was at one moment, read without its lock.
///
/// Reading one waits for nobody. It cannot be changed; [`Values`] has its values.
#[derive(Clone, Debug)]
pub struct Snapshot {
    values: Values,
    record: Record,
    last_access: SystemTime,
}

impl Snapshot {
    pub(crate) fn new(values: Values, stored: Stored) -> Self {
        Snapshot {
            values,
            record: stored.record,
            last_access: stored.last_access,
        }
    }

    /// When the session was made, to the second.
    #[must_use]
    pub fn created(&self) -> SystemTime {
        self.record.created()
    }

    /// When the session was used before this, to a sixtieth of `timeout`.
    #[must_use]
    pub fn last_access(&self) -> SystemTime {
        self.last_access
    }
}

impl Deref for Snapshot {
    type Target = Values;

    fn deref(&self) -> &Values {
        &self.values
    }
}
