//! [`Visit`]: the one session of one request, and the one cookie that comes of it.

use crate::config::CacheLimiter;
use crate::cookies::SetCookie;
use crate::error::{Error, Result};
use crate::id::SessionId;
use crate::manager::SessionManager;
use crate::session::{Session, Snapshot};

/// A request's dealings with sessions, whichever way the handler opens and ends them.
pub(crate) struct Visit {
    find_manager: Box<dyn FnMut() -> Result<SessionManager>>,
    manager: Option<SessionManager>,
    cookie_header: Vec<u8>,
    /// The id to look for: the client's, then that of the session this request made.
    id: Option<SessionId>,
    session: Option<Session>,
    set_cookie: Option<SetCookie>,
    was_used: bool,
    /// A session was stored or found, so that there is a store to clean up.
    may_clean_up: bool,
}

/// What a visit leaves to be sent.
#[derive(Default)]
pub(crate) struct Farewell {
    pub(crate) set_cookie: Option<SetCookie>,
    /// How the response may be cached, if a session was used.
    pub(crate) cache_limiter: Option<CacheLimiter>,
    /// Who may clean up afterwards.
    pub(crate) manager: Option<SessionManager>,
}

impl Visit {
    pub(crate) fn new(
        find_manager: Box<dyn FnMut() -> Result<SessionManager>>,
        cookie_header: Vec<u8>,
    ) -> Self {
        Visit {
            find_manager,
            manager: None,
            cookie_header,
            id: None,
            session: None,
            set_cookie: None,
            was_used: false,
            may_clean_up: false,
        }
    }

    pub(crate) fn session(&mut self) -> Result<&mut Session> {
        if self.session.is_none() {
            let manager = self.manager()?;
            self.session = Some(manager.start_id(self.id.as_ref())?);
        }
        self.session.as_mut().ok_or(Error::Ended)
    }

    pub(crate) fn existing(&mut self) -> Result<Option<&mut Session>> {
        if self.session.is_none() {
            let manager = self.manager()?;
            if let Some(id) = &self.id {
                self.session = manager.open(id)?;
            }
        }
        Ok(self.session.as_mut())
    }

    pub(crate) fn read(&mut self) -> Result<Option<Snapshot>> {
        if self.session.is_some() {
            return Err(Error::AlreadyOpen);
        }
        let manager = self.manager()?;
        self.id.as_ref().map_or(Ok(None), |id| manager.read_id(id))
    }

    pub(crate) fn update<T>(
        &mut self,
        change: impl FnOnce(&mut Session) -> Result<T>,
    ) -> Result<T> {
        if self.session.is_some() {
            return Err(Error::AlreadyOpen);
        }
        match change(self.session()?) {
            Ok(result) => self.commit().map(|()| result),
            Err(error) => {
                self.session = None;
                Err(error)
            }
        }
    }

    pub(crate) fn commit(&mut self) -> Result<()> {
        let Some(mut session) = self.session.take() else {
            return Ok(());
        };
        session.save()?;
        if let Some(id) = session.id() {
            self.id = Some(id.clone());
            self.may_clean_up = true;
        }
        // An earlier cookie of this request stays due unless this session has one of its own.
        self.set_cookie = session.release().or(self.set_cookie.take());
        Ok(())
    }

    pub(crate) fn destroy(&mut self) -> Result<()> {
        if self.existing()?.is_none() && self.id.is_none() {
            return Ok(());
        }
        let session = match self.session.take() {
            Some(session) => session,
            // The client's id leads nowhere; its cookie goes all the same.
            None => self.manager()?.start_in_place_of_unknown(),
        };
        self.set_cookie = session.destroy()?;
        self.id = None;
        Ok(())
    }

    /// Commits what is open and tells what to send.
    pub(crate) fn finish(mut self) -> Result<Farewell> {
        self.commit()?;
        let cache_limiter = self.manager.as_ref().filter(|_| self.was_used);
        Ok(Farewell {
            set_cookie: self.set_cookie,
            cache_limiter: cache_limiter.map(|manager| manager.config().cache_limiter),
            manager: self.manager.filter(|_| self.may_clean_up),
        })
    }

    fn manager(&mut self) -> Result<SessionManager> {
        if self.manager.is_none() {
            let manager = (self.find_manager)()?;
            self.id = manager.session_id(&self.cookie_header);
            self.manager = Some(manager);
        }
        self.was_used = true;
        self.manager.clone().ok_or(Error::Ended)
    }
}
