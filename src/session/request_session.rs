//! [`RequestSession`]: the one session of one request, and the one cookie that comes of it.

use std::panic::{self, AssertUnwindSafe};
use std::time::{Duration, Instant, SystemTime};

use http::{HeaderName, StatusCode};

use crate::config::{CacheLimiter, Config, IdFrom, MAX_FORM_FIELDS};
use crate::cookies::{self, By, Due, Presented, SetCookie, Shown, Standing};
use crate::error::{Error, Result};
use crate::id::{SessionDigest, SessionId};
use crate::record::{Device, Record};
use crate::session::SessionManager;
use crate::session::held;
use crate::session::inner::Found;
use crate::session::lazy_manager::{LazyManager, RETRY};
use crate::session::{ClosedCookie, Flashed, MAX_CANDIDATES, Session, Snapshot, UserSession};

/// A request's dealings with sessions, whichever way the handler opens and ends them.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own about the request"
)]
pub(crate) struct RequestSession {
    lazy_manager: LazyManager,
    manager: Option<SessionManager>,
    cookie_header: Vec<u8>,
    /// How long the request has waited so far, for a worker and for sessions.
    waited: Duration,
    purpose: Purpose,
    presented: Presented,
    /// How many cookies lead nowhere, beside the ids of a link or form.
    dead_cookies: usize,
    /// What to look up: what was presented, then the session that this request stored.
    lookups: Presented,
    /// What the lookups lead to was seen by this request, and not destroyed by it.
    was_live: bool,
    /// What the client presented beside that, for when it logs out.
    others: Vec<SessionId>,
    session: Option<Session>,
    /// What earlier requests left for a page, once this one has opened a session, as of its last commit.
    flashes: Option<Flashed>,
    cookie: Cookie,
    /// What it is to a browser that the request has destroyed what that showed, whatever followed.
    logout: Due,
    was_used: bool,
    /// With `recordClient`, the browser that sends the request.
    device: Option<Box<Device>>,
    /// Its response is one with which an old id may be changed.
    may_rotate: bool,
    /// A session was stored or found, so that there is a store to clean up.
    may_clean_up: bool,
    links: Links,
}

/// What a browser sends the request for, as far as that tells.
#[derive(Clone, Copy)]
pub(crate) struct Purpose {
    /// To show the response: only that uses up flash values.
    pub(crate) page: bool,
    /// To show it as a page of its own: only that renews the cookie.
    pub(crate) document: bool,
    /// To change something for a page of another site: only with a cookie of ours.
    pub(crate) cross_site_write: bool,
}

/// What this request did so far that may concern the cookie.
enum Cookie {
    Untouched,
    /// It read a session whose cookie may have to be sent again.
    Read(SessionId),
    /// It closed a session.
    Closed(ClosedCookie),
    /// It destroyed what the client showed.
    Destroyed(Due),
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

/// What a request leaves to be sent.
#[derive(Default)]
pub(crate) struct Outcome {
    pub(crate) set_cookie: Option<SetCookie>,
    /// The name of the session's cookie, if a session was used that cookies lead to.
    pub(crate) cookie_name: Option<String>,
    /// The client has been logged out, and may have a new session.
    pub(crate) is_logout: bool,
    /// The header field that ids come and go in, in place of cookies.
    pub(crate) id_header: Option<HeaderName>,
    /// How the response may be cached, if a session was used.
    pub(crate) cache_limiter: Option<CacheLimiter>,
    /// The page must not lead other sites or caches to the id.
    pub(crate) has_links: bool,
    /// Who may clean up afterwards.
    pub(crate) manager: Option<SessionManager>,
}

impl RequestSession {
    pub(crate) fn new(
        lazy_manager: LazyManager,
        cookie_header: Vec<u8>,
        purpose: Purpose,
        arrived: Instant,
    ) -> Self {
        RequestSession {
            waited: arrived.elapsed(),
            lazy_manager,
            manager: None,
            cookie_header,
            purpose,
            presented: Presented::none(By::Cookie),
            dead_cookies: 0,
            lookups: Presented::none(By::Cookie),
            was_live: false,
            others: Vec::new(),
            session: None,
            flashes: None,
            cookie: Cookie::Untouched,
            logout: Due::Nothing,
            was_used: false,
            device: None,
            may_rotate: false,
            may_clean_up: false,
            links: Links::Unseen,
        }
    }

    /// The program gives the id; what the client shows does not matter.
    pub(crate) fn give(&mut self, id: SessionId) -> Result<()> {
        let is_client = self.presented.by != By::Program;
        let has_cookie = matches!(self.cookie, Cookie::Closed(_) | Cookie::Destroyed(_));
        if self.session.is_some() || (is_client && has_cookie) {
            return Err(Error::AlreadyOpen);
        }
        self.manager()?.check_takes_ids()?;
        if is_client {
            // Nothing is sent any more for what was only read.
            self.cookie = Cookie::Untouched;
        }
        if !self.lookups.ids.contains(&id) {
            // What the session before left for a page is not of this one.
            self.flashes = None;
        }
        self.present(Presented::one(id, By::Program));
        Ok(())
    }

    /// The configuration, once it was needed.
    pub(crate) fn config(&self) -> Option<&Config> {
        self.manager.as_ref().map(SessionManager::config)
    }

    /// The manager, which is created if it was not needed yet.
    pub(crate) fn find_manager(&self) -> Result<SessionManager> {
        match &self.manager {
            Some(manager) => Ok(manager.clone()),
            // A responder tries again by itself, so that no request waits for that.
            None => self.lazy_manager.get(2 * RETRY),
        }
    }

    /// The name that an id has in cookies, links and forms, and where one may come from.
    pub(crate) fn settings(&mut self) -> Result<(String, IdFrom)> {
        let manager = self.manager()?;
        let config = manager.config();
        Ok((config.cookie_name.clone(), config.id_from.clone()))
    }

    /// How many fields a form may hold. Without a configuration that can be used, the default counts.
    pub(crate) fn max_form_fields(&mut self) -> usize {
        let manager = self.manager();
        manager.map_or(MAX_FORM_FIELDS, |manager| manager.config().max_form_fields)
    }

    /// Whether sessions are to remember the browser of this request, which is not known yet.
    pub(crate) fn asks_for_device(&self) -> bool {
        self.device.is_none() && self.config().is_some_and(|config| config.record_client)
    }

    pub(crate) fn set_device(&mut self, device: Device) {
        self.device = Some(Box::new(device));
    }

    /// Whether an id may come from a link, a form or a header field, which nothing has looked for yet: `idFrom` allows one.
    pub(crate) fn looks_for_id(&mut self) -> Result<bool> {
        let is_cookie_alone = self.manager()?.config().id_from == IdFrom::default();
        if self.links != Links::Unseen {
            // What was destroyed in this request must not be found again.
            return Ok(false);
        }
        self.links = Links::Seen;
        Ok(!is_cookie_alone && self.presented.by != By::Program)
    }

    /// Whether an id in a link or a form counts for nothing: a cookie leads to a session, or did until its id was
    /// changed, or there are as many cookies as any request may show ids.
    pub(crate) fn has_live_cookie(&mut self) -> Result<bool> {
        match self.presented.ids.len() {
            0 => Ok(false),
            MAX_CANDIDATES.. => Ok(true),
            _ => {
                let found = self.manager()?.read_by(&mut self.lookups)?;
                Ok(!matches!(found, Found::Nothing))
            }
        }
    }

    /// Ids that a link or a form carried, to be tried in turn: with the cookies no more than any request may
    /// show.
    pub(crate) fn show(&mut self, mut ids: Vec<SessionId>, is_same_origin: bool) {
        let cookies = self.presented.ids.len();
        ids.truncate(MAX_CANDIDATES.saturating_sub(cookies));
        if ids.is_empty() {
            return;
        }
        self.dead_cookies = cookies;
        let by = By::Link { is_same_origin };
        self.present(Presented { ids, by });
        self.links = Links::CarryId;
    }

    /// Whether the client has shown no cookie of ours. The id of a link or form can be another site's.
    fn shows_no_cookie(&self) -> bool {
        self.dead_cookies == 0 && (self.presented.ids.is_empty() || self.has_link())
    }

    /// The id that a header field carried, which counts as one in a cookie does.
    pub(crate) fn show_header(&mut self, id: SessionId) {
        self.present(Presented::one(id, By::Cookie));
    }

    pub(crate) fn has_link(&self) -> bool {
        matches!(self.presented.by, By::Link { .. })
    }

    fn present(&mut self, presented: Presented) {
        self.was_live = false;
        self.lookups = presented.clone();
        self.presented = presented;
    }

    /// From now on a session of this request counts.
    fn look_up(&mut self, own: Vec<SessionId>) {
        self.was_live = !own.is_empty();
        let mut before = std::mem::replace(&mut self.lookups.ids, own);
        before.retain(|id| !self.lookups.ids.contains(id));
        self.others.append(&mut before);
    }

    /// The id that links and forms must carry, since the client's cookie does not hold it.
    pub(crate) fn id_for_links(&mut self) -> Result<Option<SessionId>> {
        self.manager()?;
        let coming = match &mut self.session {
            Some(session) => session.next_id()?,
            None => self.lookups.ids.first().cloned(),
        };
        let is_known = |id: &SessionId| match self.presented.by {
            By::Program => true,
            By::Cookie => self.presented.ids.contains(id),
            By::Link { .. } => false,
        };
        let carried = coming.filter(|id| !is_known(id));
        if carried.is_some() {
            self.links = Links::CarryId;
            self.was_used = true;
        }
        Ok(carried)
    }

    /// Which session the request used, for the log.
    pub(crate) fn digest(&self) -> Option<SessionDigest> {
        let looked_up = || self.lookups.ids.first();
        let id = self.session.as_ref().map_or_else(looked_up, Session::id);
        id.filter(|_| self.was_used).map(SessionId::digest)
    }

    pub(crate) fn session(&mut self) -> Result<&mut Session> {
        match held::for_client(|| self.open())? {
            Found::Live(()) => {}
            Found::Marker(_) => return Err(Error::Replaced),
            // Another request has ended it: what this one would begin logs out who has logged in again since.
            Found::Nothing if self.was_live && self.presented.by != By::Program => {
                return Err(Error::Replaced);
            }
            Found::Nothing => self.begin()?,
        }
        self.session.as_mut().ok_or(Error::Ended)
    }

    pub(crate) fn existing(&mut self) -> Result<Option<&mut Session>> {
        held::for_client(|| self.open())?;
        Ok(self.session.as_mut())
    }

    /// Does something that waits for sessions before the request has waited for `lockTimeout` in all,
    /// beside its own work.
    fn waiting<T>(
        &mut self,
        work: impl FnOnce(&SessionManager, Instant) -> Result<T>,
    ) -> Result<T> {
        let (manager, started) = (self.manager()?, Instant::now());
        let left = manager.config().lock_timeout.saturating_sub(self.waited);
        let done = work(&manager, started + left);
        self.waited += started.elapsed();
        done
    }

    /// A new session with a new id, whatever the client showed.
    pub(crate) fn fresh(&mut self) -> Result<&mut Session> {
        self.was_used = true;
        if self.session.as_ref().is_some_and(Session::is_replaced) {
            self.close();
        }
        self.commit()?;
        self.manager()?;
        self.look_up(Vec::new());
        if self.presented.by == By::Program {
            self.presented.ids.clear();
        }
        self.flashes = None;
        self.begin()?;
        let session = self.session.as_mut().ok_or(Error::Ended)?;
        session.keep_empty();
        Ok(session)
    }

    /// Whether a marker of a change of id knows this token as the one of the forms before; `None` when
    /// the client shows no marker alone.
    pub(crate) fn knows_former_token(&mut self, token: Option<&str>) -> Result<Option<bool>> {
        let Found::Marker(markers) = self.open()? else {
            return Ok(None);
        };
        let is_of = |token: &str| {
            let mut markers = markers.iter();
            markers.any(|marker: &Record| Session::was_csrf_token(marker, token))
        };
        Ok(Some(token.is_some_and(is_of)))
    }

    #[cold]
    fn begin(&mut self) -> Result<()> {
        let manager = self.manager()?;
        let config = manager.config();
        if self.purpose.cross_site_write
            && self.shows_no_cookie()
            && self.presented.by != By::Program
            && !config.allow_cross_site_start
            && config.id_from.header.is_none()
        {
            return Err(Error::CrossSiteStart);
        }
        self.hold(manager.begin(self.presented.clone()));
        Ok(())
    }

    /// Opens what the lookups lead to, unless a session is open.
    fn open(&mut self) -> Result<Found<()>> {
        self.was_used = true;
        if self.session.is_some() {
            return Ok(Found::Live(()));
        }
        self.manager()?;
        let mut lookups = self.lookups.clone();
        let found = self.waiting(|manager, deadline| manager.open(&mut lookups, deadline));
        self.lookups = lookups;
        Ok(found?.map(|session| self.hold(session)))
    }

    /// What this request leaves for the next is not used up when it opens its session again, which is as new and
    /// as old as it was to it before.
    fn hold(&mut self, mut session: Session) {
        session.continue_with(self.flashes.take(), self.purpose.page);
        // For when nothing is saved.
        self.flashes = Some((*session.flashes).clone());
        if let Cookie::Closed(cookie) = &self.cookie
            && session.id.as_ref() == Some(&cookie.id)
            && session.lease.is_some()
        {
            (session.contents.last_access, session.rights) = (cookie.last_access, cookie.rights);
        }
        session.waited = self.waited;
        session.device.clone_from(&self.device);
        self.session = Some(session.in_request(self.presented.clone(), self.purpose.document));
    }

    pub(crate) fn read(&mut self) -> Result<Option<Snapshot>> {
        self.was_used = true;
        if self.session.is_some() {
            return Err(Error::AlreadyOpen);
        }
        let manager = self.manager()?;
        let Some((id, snapshot)) = manager.read_by(&mut self.lookups)?.live() else {
            return Ok(None);
        };
        // Markers and copies may stand before it.
        self.lookups.ids.sort_by_key(|shown| *shown != id);
        self.was_live = true;
        let is_due = || snapshot.is_cookie_due(manager.config(), SystemTime::now());
        if matches!(self.cookie, Cookie::Untouched)
            && self.presented.by == By::Cookie
            && !snapshot.is_replaced()
            && (manager.shared.is_of_client || (self.purpose.document && is_due()))
        {
            self.cookie = Cookie::Read(id);
        }
        Ok(Some(snapshot))
    }

    pub(crate) fn update<T>(
        &mut self,
        change: impl FnOnce(&mut Session) -> Result<T>,
    ) -> Result<T> {
        if self.session.is_some() {
            return Err(Error::AlreadyOpen);
        }
        let session = self.session()?;
        match panic::catch_unwind(AssertUnwindSafe(|| change(session))) {
            Ok(Ok(result)) => self.commit().map(|()| result),
            // A handler may catch the panic and go on.
            failed => {
                self.close();
                failed.unwrap_or_else(|panic| panic::resume_unwind(panic))
            }
        }
    }

    pub(crate) fn commit(&mut self) -> Result<()> {
        let saved = self.session.as_mut().map_or(Ok(()), |session| {
            let saved = session.finish();
            self.waited = session.waited;
            saved
        });
        if let Some(flashes) = self.close()
            && saved.is_ok()
        {
            self.flashes = Some(flashes);
        }
        saved
    }

    /// Closes the session as it is and returns its flash values. What was saved before may have an id
    /// that the client does not know.
    fn close(&mut self) -> Option<Flashed> {
        let closed = self.session.take()?.close();
        if let Some(id) = closed.id {
            self.may_clean_up = true;
            self.look_up(vec![id.clone()]);
            if let Some(mut cookie) = closed.cookie {
                if let Cookie::Closed(earlier) = &self.cookie
                    && earlier.id == id
                {
                    if !cookie.must_be_sent {
                        // What the last save made of it: since then it was only read.
                        cookie.value.clone_from(&earlier.value);
                    }
                    cookie.must_be_sent |= earlier.must_be_sent;
                }
                self.cookie = Cookie::Closed(cookie);
            }
        }
        Some(closed.flashes)
    }

    /// Closes the session without what was not saved.
    pub(crate) fn release(&mut self) {
        self.close();
    }

    pub(crate) fn destroy(&mut self) -> Result<()> {
        self.destroy_shown(false)
    }

    /// Logs out everywhere. What the client shows beside its own session, which is ended by then, is ended as beside a
    /// live one.
    pub(crate) fn destroy_all(&mut self) -> Result<()> {
        let ended = self.destroy_user(false);
        let is_own_ended = ended.as_ref().is_ok_and(|sessions| *sessions > 0);
        let shown = self.destroy_shown(is_own_ended);
        ended.and(shown)
    }

    fn destroy_shown(&mut self, is_own_ended: bool) -> Result<()> {
        self.was_used = true;
        self.manager()?;
        self.was_live = false;
        let mut ids = self.lookups.ids.clone();
        ids.extend_from_slice(&self.others);
        let (open, by) = (self.session.take(), self.presented.by);
        self.waiting(|manager, deadline| match open {
            Some(session) => session.end(&ids, deadline),
            None => manager.shared.end_shown(&ids, by, is_own_ended, deadline),
        })?;
        // Cookies of ids that lead nowhere are removed, too.
        let shown = if self.dead_cookies > 0 {
            Shown::Others
        } else {
            self.presented.shown(None, false)
        };
        let due = cookies::due(shown, Standing::Destroyed, false);
        self.cookie = Cookie::Destroyed(due);
        if due == Due::Remove {
            self.logout = due;
        }
        self.lookups.ids.clear();
        self.was_live = false;
        self.others.clear();
        self.flashes = None;
        Ok(())
    }

    /// Opens the visitor's own session, if it has one, which a replaced id does not lead to.
    fn open_own(&mut self) -> Result<()> {
        let is_marker = matches!(self.open()?, Found::Marker(_));
        if is_marker || self.session.as_ref().is_some_and(Session::is_replaced) {
            return Err(Error::Replaced);
        }
        Ok(())
    }

    /// Deletes the sessions of the visitor's user. The visitor's own is saved and stays, or goes at last.
    pub(crate) fn destroy_user(&mut self, keeps_own: bool) -> Result<u64> {
        self.open_own()?;
        let user = self.session.as_ref().and_then(Session::user);
        let user = user.map(str::to_owned);
        // No request may wait for it, this one included.
        if keeps_own {
            if let Some(session) = &mut self.session {
                session.ends_copies = true;
            }
            self.commit()?;
        } else {
            self.close();
        }
        let Some(user) = user else { return Ok(0) };
        let own = self.lookups.ids.first().map(SessionId::digest);
        self.waiting(|manager, deadline| {
            manager.end_sessions_of(&user, own.as_ref(), keeps_own, deadline)
        })
    }

    /// The sessions of the visitor's user, as they are stored.
    pub(crate) fn own_sessions(&mut self) -> Result<Vec<UserSession>> {
        let (user, own) = match &self.session {
            Some(session) => (session.user().map(str::to_owned), session.lineage()),
            None => match self.read()? {
                Some(snapshot) => {
                    let shown = self.lookups.ids.first().map(SessionId::digest);
                    let own = shown.map(|shown| snapshot.contents.record.lineage(&shown));
                    (snapshot.user().map(str::to_owned), own)
                }
                None => (None, None),
            },
        };
        match user {
            Some(user) => self.manager()?.sessions_as_seen_from(&user, own.as_deref()),
            None => Ok(Vec::new()),
        }
    }

    /// Ends one of the sessions of the visitor's user; the visitor's own as a logout does.
    pub(crate) fn end_own(&mut self, session: &SessionDigest) -> Result<bool> {
        self.open_own()?;
        let named = |open: &Session| Some((open.user()?.to_owned(), open.is_or_was(session)));
        let Some((user, is_own)) = self.session.as_ref().and_then(named) else {
            return Ok(false);
        };
        if is_own {
            self.destroy()?;
            return Ok(true);
        }
        // No two requests may wait for each other.
        self.commit()?;
        self.waiting(|manager, deadline| manager.shared.end_listed(&user, session, deadline))
    }

    /// Lets an old id be changed, where ids are changed by themselves, by a visitor who opens a page.
    pub(crate) fn allow_rotation(&mut self, is_navigation: impl FnOnce() -> bool) {
        let rotates = self
            .config()
            .is_some_and(|config| config.rotate_after.is_some());
        self.may_rotate = rotates && is_navigation();
    }

    /// Changes an id that is old, once everything else is stored. Where that cannot be done now, the next page does
    /// it.
    #[cold]
    fn rotate(&mut self) -> Result<()> {
        if let (None, Cookie::Closed(cookie)) = (&self.session, &self.cookie)
            && cookie.is_old
        {
            let (id, manager) = (cookie.id.clone(), self.manager()?);
            let mut again = Presented::one(id, By::Cookie);
            let found = manager.open(&mut again, Instant::now());
            if let Ok(Found::Live(session)) = found {
                self.hold(session);
            }
        }
        if let Some(session) = self.session.as_mut().filter(|session| session.is_old()) {
            session.save()?;
            session.rotate();
            if session.lease.is_none() {
                // It could not be given back its old id: what was saved before stands.
                self.close();
            }
        }
        Ok(())
    }

    /// Commits what is open and tells what to send with a response of this status.
    pub(crate) fn finish(&mut self, status: StatusCode) -> Result<Outcome> {
        if self.may_rotate && status != StatusCode::NOT_MODIFIED {
            self.rotate()?;
        }
        let is_open = self.session.is_some();
        self.commit()?;
        if let (true, Cookie::Closed(cookie)) = (is_open, &mut self.cookie) {
            cookie.is_early = false;
        }
        Ok(self.outcome())
    }

    /// Gives up what is open, of a request that failed. What it committed before stays, and the client
    /// must know its id.
    pub(crate) fn abandon(&mut self) -> Outcome {
        self.close();
        self.outcome()
    }

    fn outcome(&mut self) -> Outcome {
        let config = self.config().filter(|_| self.was_used);
        let has_links = self.links == Links::CarryId;
        Outcome {
            id_header: config.and_then(|config| config.id_from.header.clone()),
            cache_limiter: config.map(|config| match self.links {
                Links::CarryId => CacheLimiter::Nocache,
                _ => config.cache_limiter,
            }),
            cookie_name: config
                .filter(|it| it.id_from.header.is_none() && self.presented.by != By::Program)
                .map(|config| config.cookie_name.clone()),
            set_cookie: self.set_cookie(),
            is_logout: self.logout == Due::Remove,
            has_links,
            manager: self.manager.clone().filter(|_| self.may_clean_up),
        }
    }

    /// The cookie of the response, as [`cookies::due`] decides.
    fn set_cookie(&mut self) -> Option<SetCookie> {
        let manager = self.manager.as_ref()?;
        let config = manager.config();
        let (due, value, max_age) = match std::mem::replace(&mut self.cookie, Cookie::Untouched) {
            Cookie::Untouched => return None,
            Cookie::Destroyed(due) => (due, String::new(), None),
            Cookie::Read(id) => match manager.renew(&id, self.purpose.document) {
                Ok(Some((value, max_age))) => {
                    let shown = self.presented.shown(Some(&id), false);
                    (cookies::due(shown, Standing::Live, true), value, max_age)
                }
                Ok(None) => return None,
                Err(error) => {
                    log::warn!("the session's cookie is not renewed: {}", error.one_line());
                    return None;
                }
            },
            Cookie::Closed(cookie) => {
                let (id, is_new) = (&cookie.id, cookie.last_access.is_none());
                let shown = self.presented.shown(Some(id), is_new);
                let mut due = cookies::due(shown, Standing::Live, cookie.must_be_sent);
                if due == Due::Set && cookie.is_early {
                    due = cookies::due(shown, manager.standing(id), cookie.must_be_sent);
                }
                (due, cookie.value, cookie.max_age)
            }
        };
        match due {
            Due::Nothing => None,
            Due::Set => Some(SetCookie::new(config, value, max_age)),
            Due::Remove => Some(SetCookie::removal(config)),
        }
    }

    fn manager(&mut self) -> Result<SessionManager> {
        if self.manager.is_none() {
            let found = self.find_manager()?;
            let (manager, presented) = found.client(&self.cookie_header);
            // An id that the program gave stands.
            if self.presented.by != By::Program {
                self.present(presented);
            }
            self.manager = Some(manager);
        }
        self.manager.clone().ok_or(Error::Ended)
    }
}
