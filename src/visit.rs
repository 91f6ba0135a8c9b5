//! [`Visit`]: the one session of one request, and the one cookie that comes of it.

use std::time::{Duration, Instant};

use crate::config::{CacheLimiter, IdFrom};
use crate::cookies::SetCookie;
use crate::error::{Error, Result};
use crate::id::SessionId;
use crate::manager::{SessionManager, Ticket};
use crate::session::{Client, Flashed, Session, Snapshot};

/// A request's dealings with sessions, whichever way the handler opens and ends them.
pub(crate) struct Visit {
    find_manager: Box<dyn FnMut() -> Result<SessionManager>>,
    manager: Option<SessionManager>,
    cookie_header: Vec<u8>,
    /// How long the request has waited so far, for a worker and for sessions.
    waited: Duration,
    /// What to look for: the id that the client showed, then that of the session this request made.
    ticket: Option<Ticket>,
    session: Option<Session>,
    /// What earlier requests left for a page, once this one has committed.
    flashes: Option<Flashed>,
    /// A browser shows the response.
    is_page: bool,
    set_cookie: Option<SetCookie>,
    was_used: bool,
    /// A session was stored or found, so that there is a store to clean up.
    may_clean_up: bool,
    links: Links,
}

/// What links and forms have to do with the id.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Links {
    /// The client's have not been looked at.
    Unseen,
    Seen,
    /// One carries the id, from the client or to it.
    CarryId,
}

/// What a visit leaves to be sent.
#[derive(Default)]
pub(crate) struct Farewell {
    pub(crate) set_cookie: Option<SetCookie>,
    /// How the response may be cached, if a session was used.
    pub(crate) cache_limiter: Option<CacheLimiter>,
    /// The page must not lead other sites or caches to the id.
    pub(crate) has_links: bool,
    /// Who may clean up afterwards.
    pub(crate) manager: Option<SessionManager>,
}

impl Visit {
    pub(crate) fn new(
        find_manager: Box<dyn FnMut() -> Result<SessionManager>>,
        cookie_header: Vec<u8>,
        is_page: bool,
        arrived: Instant,
    ) -> Self {
        Visit {
            waited: arrived.elapsed(),
            find_manager,
            manager: None,
            cookie_header,
            ticket: None,
            session: None,
            flashes: None,
            is_page,
            set_cookie: None,
            was_used: false,
            may_clean_up: false,
            links: Links::Unseen,
        }
    }

    /// The program gives the id; what the client shows does not matter.
    pub(crate) fn give(&mut self, id: SessionId) -> Result<()> {
        if self.session.is_some() {
            return Err(Error::AlreadyOpen);
        }
        self.ticket = Some(Ticket::given(id));
        Ok(())
    }

    /// The name that an id has in cookies, links and forms, and where one may come from.
    pub(crate) fn settings(&mut self) -> Result<(String, IdFrom)> {
        let manager = self.manager()?;
        let config = manager.config();
        Ok((config.cookie_name.clone(), config.id_from))
    }

    /// Whether an id may come from a link or a form: `idFrom` allows one, and none is known yet. One
    /// that disagrees with the cookie never counts.
    pub(crate) fn looks_for_id(&mut self) -> Result<bool> {
        let id_from = self.manager()?.config().id_from;
        if self.links != Links::Unseen {
            // What was destroyed in this request must not be found again.
            return Ok(false);
        }
        self.links = Links::Seen;
        Ok(self.ticket.is_none() && id_from != IdFrom::default())
    }

    /// An id that a link or a form carried.
    pub(crate) fn show(&mut self, id: SessionId) {
        self.ticket = Some(Ticket::from_link(id));
        self.links = Links::CarryId;
    }

    /// The id that links and forms must carry, since the client's cookie does not hold it.
    pub(crate) fn id_for_links(&mut self) -> Result<Option<SessionId>> {
        let manager = self.manager()?;
        let coming = match &mut self.session {
            Some(session) => session.coming_id()?,
            None => self.ticket.as_ref().map(|ticket| ticket.id.clone()),
        };
        let carried = coming.filter(|id| !self.is_in_cookie(&manager, id));
        if carried.is_some() {
            self.links = Links::CarryId;
            self.was_used = true;
        }
        Ok(carried)
    }

    fn is_in_cookie(&self, manager: &SessionManager, id: &SessionId) -> bool {
        let is_given = self
            .ticket
            .as_ref()
            .is_some_and(|ticket| ticket.client == Client::Given);
        is_given || manager.session_id(&self.cookie_header).as_ref() == Some(id)
    }

    pub(crate) fn session(&mut self) -> Result<&mut Session> {
        self.was_used = true;
        if self.session.is_none() {
            let manager = self.manager()?;
            let ticket = self.ticket.clone();
            let opened = self.waiting(|deadline| manager.start_by(ticket.as_ref(), deadline));
            self.session = Some(opened?);
            self.go_on();
        }
        self.session.as_mut().ok_or(Error::Ended)
    }

    pub(crate) fn existing(&mut self) -> Result<Option<&mut Session>> {
        self.was_used = true;
        if self.session.is_none() {
            let manager = self.manager()?;
            if let Some(ticket) = self.ticket.clone() {
                self.session = self.waiting(|deadline| manager.open(&ticket, deadline))?;
                self.go_on();
            }
        }
        Ok(self.session.as_mut())
    }

    /// Opens a session before the request has waited for `lockTimeout` in all, beside its own work.
    fn waiting<T>(&mut self, open: impl FnOnce(Instant) -> Result<T>) -> Result<T> {
        let (started, lock_timeout) = (Instant::now(), self.manager()?.config().lock_timeout);
        let opened = open(started + lock_timeout.saturating_sub(self.waited));
        self.waited += started.elapsed();
        opened
    }

    pub(crate) fn read(&mut self) -> Result<Option<Snapshot>> {
        self.was_used = true;
        if self.session.is_some() {
            return Err(Error::AlreadyOpen);
        }
        let manager = self.manager()?;
        let ticket = self.ticket.as_ref();
        ticket.map_or(Ok(None), |ticket| manager.read_id(&ticket.id))
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
                self.give_up();
                Err(error)
            }
        }
    }

    /// What this request leaves for the next is not used up when it opens its session again.
    fn go_on(&mut self) {
        if let Some(session) = &mut self.session {
            session.go_on(self.flashes.take(), self.is_page);
        }
    }

    pub(crate) fn commit(&mut self) -> Result<()> {
        let Some(session) = &mut self.session else {
            return Ok(());
        };
        let saved = session.finish();
        if saved.is_ok() {
            self.flashes = Some(session.take_flashes());
        }
        self.give_up();
        saved
    }

    /// Closes the session without saving it. What was saved before may have an id that the client
    /// does not know.
    fn give_up(&mut self) {
        let Some(session) = self.session.take() else {
            return;
        };
        if let Some(id) = session.id() {
            let is_given = |ticket: &Ticket| ticket.client == Client::Given;
            self.ticket = Some(match &self.ticket {
                Some(ticket) if ticket.id == *id || is_given(ticket) => Ticket {
                    id: id.clone(),
                    client: ticket.client,
                },
                _ => Ticket::from_cookie(id.clone()),
            });
            self.may_clean_up = true;
        }
        // An earlier cookie of this request stays due unless this session has one of its own.
        self.set_cookie = session.release().or(self.set_cookie.take());
    }

    pub(crate) fn destroy(&mut self) -> Result<()> {
        if self.existing()?.is_none() && self.ticket.is_none() {
            return Ok(());
        }
        let session = match self.session.take() {
            Some(session) => session,
            // The client's id leads nowhere; its cookie goes all the same.
            None => self.manager()?.begin(self.ticket.as_ref()),
        };
        self.set_cookie = session.destroy()?;
        (self.ticket, self.flashes) = (None, None);
        Ok(())
    }

    /// Commits the session, so that nobody waits for it, and deletes its user's others.
    pub(crate) fn destroy_others(&mut self) -> Result<u64> {
        let Some(session) = self.existing()? else {
            return Ok(0);
        };
        if session.is_replaced() {
            // The visitor's own is another one, whose id is not known here.
            return Err(Error::Replaced);
        }
        let user = session.user().map(str::to_owned);
        self.commit()?;
        let Some(user) = user else { return Ok(0) };
        let own = self.ticket.as_ref().map(|ticket| &ticket.id);
        self.manager
            .as_ref()
            .map_or(Ok(0), |manager| manager.destroy_sessions_of(&user, own))
    }

    /// Commits what is open and tells what to send.
    pub(crate) fn finish(&mut self) -> Result<Farewell> {
        self.commit()?;
        Ok(self.farewell())
    }

    /// Gives up what is open, of a request that failed. What it committed before stays, and the client
    /// must know its id.
    pub(crate) fn abandon(&mut self) -> Option<Farewell> {
        self.give_up();
        let farewell = self.farewell();
        farewell.set_cookie.is_some().then_some(farewell)
    }

    fn farewell(&mut self) -> Farewell {
        let config = self.manager.as_ref().filter(|_| self.was_used);
        let cache_limiter = config.map(|manager| manager.config().cache_limiter);
        let has_links = self.links == Links::CarryId;
        Farewell {
            set_cookie: self.set_cookie.take(),
            has_links,
            cache_limiter: cache_limiter.map(|limiter| {
                if has_links {
                    CacheLimiter::Nocache
                } else {
                    limiter
                }
            }),
            manager: self.manager.clone().filter(|_| self.may_clean_up),
        }
    }

    fn manager(&mut self) -> Result<SessionManager> {
        if self.manager.is_none() {
            let (manager, ticket) = (self.find_manager)()?.client(&self.cookie_header);
            // An id that the program gave stands.
            self.ticket = self.ticket.take().or(ticket);
            self.manager = Some(manager);
        }
        self.manager.clone().ok_or(Error::Ended)
    }
}
