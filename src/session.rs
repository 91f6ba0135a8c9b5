//! [`Session`]: what an application holds during one request.

mod administration;
mod commit;
mod contents;
mod held;
mod inner;
pub(crate) mod lazy_manager;
mod manager;
mod names;
mod notes;
pub(crate) mod request_session;
mod snapshot;
mod user_limit;
mod user_sessions;

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crate::cookies::{self, By, Due, Presented, SetCookie, Standing};
use crate::error::{Error, Result};
use crate::id::{SessionDigest, SessionId};
use crate::record::{Device, Values};
use crate::session::contents::Contents;
use crate::session::held::SessionGuard;
use crate::session::inner::{Locked, ManagerInner};
use crate::store::Lease;

#[cfg(all(target_os = "linux", feature = "fastcgi"))]
pub(crate) use held::{Client, WaitingPlaces, stand_aside, wait_for, wait_in};
pub(crate) use manager::MAX_CANDIDATES;
pub use manager::SessionManager;
pub(crate) use notes::CSRF_FIELD;
use notes::Flashed;
pub use snapshot::Snapshot;
pub use user_sessions::UserSession;

/// How long an id that was changed by itself serves requests under way.
const ROTATION_GRACE: Duration = Duration::from_secs(60);
/// The longest time for which an old id may serve requests under way.
const MAX_GRACE: Duration = Duration::from_secs(300);

/// One visitor's session, locked: until it is committed, released or destroyed, every
/// other request of this session waits.
///
/// It reads and writes like a map ([`Values`]). Nothing is stored before [`Session::commit`] or
/// [`Session::save`]; a session that is dropped keeps what was stored before. A new session in
/// which nothing was put is never stored and gets no cookie. In a handler [`run`](crate::run) commits.
///
/// | to | call | the record | the lock |
/// |---|---|---|---|
/// | finish and keep the changes | [`commit`](Session::commit) | saved | released |
/// | keep the changes and continue | [`save`](Session::save) | saved | held |
/// | finish without the changes | [`release`](Session::release) | stays | released |
/// | end the session | [`destroy`](Session::destroy) | deleted | released |
///
/// Karrigell's `close()` is `destroy`.
pub struct Session {
    manager: Arc<ManagerInner>,
    contents: Box<Contents>,
    flashes: Box<Flashed>,
    /// None until the session is first stored.
    id: Option<SessionId>,
    lease: Option<Box<dyn Lease>>,
    guard: Option<SessionGuard>,
    presented: Presented,
    /// Its timeout or its user was changed.
    metadata_changed: bool,
    /// What can be read under the ids before is to end with the next commit.
    ends_copies: bool,
    new_id: Option<Box<NewId>>,
    /// The id that the next record will have, when a link carries it already.
    reserved_id: Option<Box<SessionId>>,
    is_kept_empty: bool,
    renewal: Renewal,
    ownership: Ownership,
    rights: Rights,
    /// How long its request has waited for sessions.
    waited: Duration,
    /// With `recordClient`, the browser that is to be noted.
    device: Option<Box<Device>>,
}

/// Whether the session is to become another user's, for whom there may be a limit.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ownership {
    Kept,
    Changed {
        /// It is stored as that of a user, whose next login may wait for it.
        had_user: bool,
    },
}

/// Whether this request has changed what the visitor may do: the session is another user's, or its user has
/// proved who it is. Nothing of that is to be read under an id that the visitor had before.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rights {
    Kept,
    Changed,
}

struct Closed {
    /// None when it was never stored.
    id: Option<SessionId>,
    /// The cookie that leads to it, if it is stored and has no other id by now.
    cookie: Option<ClosedCookie>,
    flashes: Flashed,
}

/// What decides about the cookie of a session that was closed, and what the request knows of the session when it
/// opens that again.
struct ClosedCookie {
    id: SessionId,
    value: String,
    max_age: Option<Duration>,
    is_old: bool,
    must_be_sent: bool,
    /// None of a session that this request has made.
    last_access: Option<SystemTime>,
    rights: Rights,
    /// The handler continued after it was closed: another request may have ended the session since.
    is_early: bool,
}

/// Whether the Max-Age of the session's cookie is renewed in this request.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Renewal {
    Allowed,
    Refused,
    /// The program has given it another.
    Asked,
    /// The record notes that the cookie is sent with this response.
    Done,
}

/// What [`Session::regenerate_id`] asked for.
#[derive(Clone)]
struct NewId {
    /// How long the old id still serves requests under way.
    grace: Option<Duration>,
    /// The token of forms that those may have, and never the new one.
    csrf_token: Option<String>,
}

impl Session {
    /// A session that is not stored yet, for a client that presented this.
    fn new(manager: Arc<ManagerInner>, presented: Presented, now: SystemTime) -> Self {
        let contents = Contents::new(&manager.config, now);
        Session {
            // A program's own id is the session's.
            id: match presented.by {
                By::Program => presented.ids.first().cloned(),
                _ => None,
            },
            presented,
            ..Session::of(manager, contents)
        }
    }

    /// A session with these contents that no client has presented.
    fn of(manager: Arc<ManagerInner>, contents: Box<Contents>) -> Self {
        Session {
            manager,
            contents,
            flashes: Box::default(),
            id: None,
            lease: None,
            guard: None,
            presented: Presented::none(By::Program),
            metadata_changed: false,
            ends_copies: false,
            new_id: None,
            reserved_id: None,
            is_kept_empty: false,
            renewal: Renewal::Allowed,
            ownership: Ownership::Kept,
            rights: Rights::Kept,
            waited: Duration::ZERO,
            device: None,
        }
    }

    /// A session that was found in the store, for a caller that does not know its id: it sends no cookie.
    fn open(
        manager: &Arc<ManagerInner>,
        session: &SessionDigest,
        locked: Locked,
    ) -> Result<Option<Self>> {
        // In this order: what is dropped first is the lease.
        let Locked {
            guard,
            stored,
            lease,
            now,
            waited,
        } = locked;
        if manager.is_too_old(&stored.record, now) {
            lease.destroy()?;
            return Ok(None);
        }
        let mut contents = Contents::parse(&manager.config, session, stored, now)?;
        if contents.record.is_replaced() {
            // A value whose end has come is no change, which would have to be refused.
            contents.record = contents.record.with_values(contents.to_json()?);
        }
        Ok(Some(Session {
            lease: Some(lease),
            guard: Some(guard),
            waited,
            ..Session::of(Arc::clone(manager), contents)
        }))
    }

    /// This session as opened by a client that presented `id`.
    fn of_client(mut self, id: &SessionId) -> Self {
        self.id = Some(id.clone());
        self.flashes.values = std::mem::take(&mut self.contents.namespaces.notes.flash);
        self
    }

    /// Closes the session as it is, saved or not, and tells what the response and the rest of the request
    /// need of it.
    fn close(mut self) -> Closed {
        let replaced = self.contents.namespaces.notes.flash.keys().cloned();
        self.flashes.used.get_mut().extend(replaced);
        let cookie = self.id.clone().zip(self.cookie_value());
        Closed {
            cookie: cookie.map(|(id, value)| ClosedCookie {
                id,
                value,
                max_age: self.max_age(),
                is_old: self.is_old(),
                must_be_sent: self.must_be_sent(),
                last_access: self.last_access(),
                rights: self.rights,
                is_early: true,
            }),
            flashes: *self.flashes,
            id: self.id,
        }
    }

    /// Continues with the flash values that this request had before; a request that is no page uses none up.
    fn continue_with(&mut self, before: Option<Flashed>, is_page: bool) {
        if let Some(before) = before {
            let stored = std::mem::replace(&mut *self.flashes, before).values;
            self.contents.namespaces.notes.flash = self.flashes.reopen(stored);
        }
        self.flashes.stay = !is_page;
    }

    /// Whether this request began the session.
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.contents.last_access.is_none()
    }

    /// What tells the session from all others, whichever id it has; `None` while nothing has been stored.
    fn lineage(&self) -> Option<String> {
        let id = self.id.as_ref()?;
        Some(self.contents.record.lineage(&id.digest()))
    }

    /// Whether this is the session that is, or was before a change of id, stored under this digest.
    fn is_or_was(&self, session: &SessionDigest) -> bool {
        self.id.as_ref().map(SessionId::digest).is_some_and(|own| {
            own.short_key() == session.short_key() || self.contents.record.was_under(session, &own)
        })
    }

    /// The session's id, or `None` while nothing has been stored, unless the program gave it
    /// ([`SessionManager::start_with_id`]).
    #[must_use]
    pub fn id(&self) -> Option<&SessionId> {
        self.id.as_ref()
    }

    /// The id that the session will have when it is committed as it is now; `None` when it is
    /// still empty, and would not be stored.
    fn next_id(&mut self) -> Result<Option<SessionId>> {
        let is_first = self.id.is_none() && !(self.contents.namespaces.is_empty());
        if self.reserved_id.is_none() && (is_first || self.new_id.is_some()) {
            self.reserved_id = Some(Box::new(SessionId::generate()?));
        }
        Ok(self.reserved_id.as_deref().or(self.id.as_ref()).cloned())
    }

    /// When the session was made, to the second.
    #[must_use]
    pub fn created(&self) -> SystemTime {
        self.contents.record.created()
    }

    /// When the session was used before this request, to a sixtieth of `timeout` or, if that is set, to
    /// `touchAfter`; `None` when it is new.
    #[must_use]
    pub fn last_access(&self) -> Option<SystemTime> {
        self.contents.last_access
    }

    /// The idle timeout: the session's own if it has one, else the longest `timeout` of the programs that saved it.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.contents.record.idle_or(self.manager.config.timeout)
    }

    /// Gives this session an idle timeout of its own, in whole seconds from one to a hundred years, or
    /// with `None` the configuration's again. The next commit stores it.
    pub fn set_timeout(&mut self, timeout: Option<Duration>) {
        let configured = self.manager.config.timeout;
        self.metadata_changed |= self.contents.record.set_timeout(timeout, configured);
    }

    /// The life (`Max-Age`) of this session's cookie, if it has one of its own.
    #[must_use]
    pub fn cookie_life(&self) -> Option<Duration> {
        self.contents.record.cookie_life()
    }

    /// "Keep me signed in": gives this session's cookie a Max-Age of its own, in whole seconds, and the session an idle
    /// timeout of at least that; `None` is the configuration's again, for both, but an idle timeout of another length
    /// stays. [`Session::set_timeout`] after this sets another idle timeout.
    ///
    /// If this changes the life, the response after the commit sends the cookie; later ones renew it as they would
    /// `cookieMaxAge`.
    /// `lifetime` ends the session in any case, and browsers keep no cookie for more than 400 days.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use cgi_session::{Config, SessionManager};
    /// # let manager = SessionManager::new(Config::new().set("storageType", "ram")?)?;
    /// let mut session = manager.start(b"")?;
    /// session.set_user(Some("ada"))?;
    /// session.set_cookie_life(Some(Duration::from_secs(30 * 24 * 3600)));
    /// let set_cookie = session.commit()?.unwrap();
    /// assert!(set_cookie.to_string().contains("Max-Age=2592000"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn set_cookie_life(&mut self, life: Option<Duration>) {
        let configured = self.manager.config.timeout;
        if self.contents.record.set_cookie_life(life, configured) {
            (self.metadata_changed, self.renewal) = (true, Renewal::Asked);
        }
    }

    /// Notes that the user has just proved who it is: by the password at login, or again before an important change.
    /// Call it after [`Session::set_user`], which removes the note of another user. The next commit stores it.
    pub fn confirm_identity(&mut self) {
        self.contents.record.set_confirmed(SystemTime::now());
        (self.metadata_changed, self.rights) = (true, Rights::Changed);
    }

    /// Whether [`Session::confirm_identity`] was called within this time, to the second:
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use cgi_session::{Config, SessionManager};
    /// # let manager = SessionManager::new(Config::new().set("storageType", "ram")?)?;
    /// let recently = Duration::from_secs(10 * 60);
    /// let mut session = manager.start(b"")?;
    /// session.set_user(Some("ada"))?;
    /// assert!(!session.is_confirmed_within(recently)); // ask for the password
    /// session.confirm_identity();
    /// assert!(session.is_confirmed_within(recently));
    /// session.set_user(None)?;
    /// assert!(!session.is_confirmed_within(recently));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn is_confirmed_within(&self, time: Duration) -> bool {
        self.contents.is_confirmed_within(time)
    }

    /// Whose session it is ([`Session::set_user`]).
    #[must_use]
    pub fn user(&self) -> Option<&str> {
        self.contents.record.user()
    }

    /// Says whose session it is (`None`: no user's), so that all sessions of a user can be found and ended:
    /// [`Request::destroy_other_sessions`](crate::Request::destroy_other_sessions).
    ///
    /// Another user has not proved who it is ([`Session::confirm_identity`]). The next commit stores it, and ends what
    /// [`Session::regenerate_id_with_grace`] has left to be read. With `maxSessionsPerUser` it also ends the user's
    /// least recently used session, or is [`Error::UserFull`].
    ///
    /// # Errors
    ///
    /// [`Error::Key`] for a user that is empty, longer than 255 bytes, or holds control characters.
    pub fn set_user(&mut self, user: Option<&str>) -> Result<()> {
        let is_bad =
            |user: &str| user.is_empty() || user.len() > 255 || user.chars().any(char::is_control);
        if let Some(key) = user.filter(|user| is_bad(user)) {
            return Err(Error::Key {
                key: key.to_owned(),
                reason: "a user is 1 to 255 bytes without control characters".to_owned(),
            });
        }
        let before = self.contents.record.user();
        if before != user {
            if self.ownership == Ownership::Kept {
                let had_user = before.is_some();
                self.ownership = Ownership::Changed { had_user };
            }
            self.contents.record = self.contents.record.clone().with_user(user);
            (self.metadata_changed, self.ends_copies) = (true, true);
            self.rights = Rights::Changed;
        }
        Ok(())
    }

    /// Gives the session a new id at the next commit: do this whenever the visitor's rights change, above all at login.
    /// [`Session::csrf_token`] is a new one then, too.
    ///
    /// Under the old id a marker without data stays for 60 s. Requests with it read nothing, get no new cookie, and where
    /// they ask for a session to change it is [`Error::Replaced`] (503): the client has the new id when it tries again.
    /// When the request fails instead, the old id stays valid.
    pub fn regenerate_id(&mut self) {
        self.ends_copies = true;
        self.ask_for_new_id(None);
    }

    /// Gives the session a new id, while requests under way can still read it under the old one, for at most
    /// five minutes.
    ///
    /// They read the session as it is at the next commit, and never learn the new id. A request that wants to change or
    /// destroy it gets [`Error::Replaced`] (503). After the grace they are answered as after
    /// [`Session::regenerate_id`]. This is for a new id now and then in a page that sends several
    /// requests at once, and not for a login: in a request that has called [`Session::regenerate_id`],
    /// [`Session::set_user`] for another user or [`Session::confirm_identity`], the old id ends at once. With
    /// `storageType = cookie` the old cookie stays readable in any case.
    pub fn regenerate_id_with_grace(&mut self, grace: Duration) {
        self.ask_for_new_id(Some(grace.min(MAX_GRACE)));
    }

    /// Whether the client's cookie has held this id for `rotateAfter`.
    fn is_old(&self) -> bool {
        let Some(age) = self.manager.config.rotate_after else {
            return false;
        };
        let record = &self.contents.record;
        let since = record.changed().unwrap_or(record.created());
        let has_cookie = self.presented.by == By::Cookie && self.id.is_some();
        has_cookie
            && self.new_id.is_none()
            && !self.is_replaced()
            // One ahead of now was noted by a clock that was wrong.
            && since.elapsed().unwrap_or_else(|ahead| ahead.duration()) > age
    }

    /// Gives the session a new id, whose forms keep their token: the page that is about to be sent has one. A failure
    /// is not the request's, whose changes are stored.
    fn rotate(&mut self) {
        let token = self.contents.namespaces.notes.csrf_token.clone();
        self.ask_for_new_id(Some(ROTATION_GRACE));
        self.contents.namespaces.notes.csrf_token = token;
        if let Err(error) = self.finish() {
            self.new_id = None;
            log::warn!("the session keeps its id: {}", error.one_line());
        }
    }

    fn ask_for_new_id(&mut self, grace: Option<Duration>) {
        if self.lease.is_none() {
            // It gets its first id with the commit.
            return;
        }
        let namespaces = &mut self.contents.namespaces;
        // The record under the new id is written without it.
        namespaces.changed = true;
        let token = namespaces.notes.csrf_token.take();
        let (grace, csrf_token) = match self.new_id.take() {
            // The stricter counts, and this request may have created a token since.
            Some(before) => (before.grace.min(grace), before.csrf_token),
            None => (grace, token),
        };
        self.new_id = Some(Box::new(NewId { grace, csrf_token }));
    }

    /// Lets the next commit store the session although nothing was put in, for a client that must
    /// have its cookie before the first value.
    pub fn keep_empty(&mut self) {
        self.is_kept_empty = true;
    }

    /// Whether the session continues under another id, so that this request can only read it.
    #[must_use]
    pub fn is_replaced(&self) -> bool {
        self.contents.record.is_replaced()
    }

    /// From the next commit on only a program that has the id opens the session
    /// ([`SessionManager::start_with_id`](crate::SessionManager::start_with_id)), and no cookie, link or form does: for
    /// records whose ids travel elsewhere, such as the tokens of remembered logins.
    pub fn set_private(&mut self) {
        self.metadata_changed |= self.contents.record.set_private();
    }

    /// Deletes the session and returns the cookie that removes the client's. All sessions that the
    /// client's cookies lead to are deleted, and with each what can still be read under its earlier ids.
    ///
    /// # Errors
    ///
    /// When a record could not be deleted, and when one was held for `lockTimeout`; the others are deleted.
    pub fn destroy(self) -> Result<Option<SetCookie>> {
        let config = Arc::clone(&self.manager.config);
        let deadline = Instant::now() + config.lock_timeout;
        let presented = self.presented.clone();
        self.end(&presented.ids, deadline)?;
        let due = cookies::due(presented.shown(None, false), Standing::Destroyed, false);
        Ok((due == Due::Remove).then(|| SetCookie::removal(&config)))
    }

    /// As [`Session::destroy`], with one deadline for all, and with others that the client's cookies may
    /// lead to.
    fn end(mut self, others: &[SessionId], deadline: Instant) -> Result<()> {
        if self.is_replaced() {
            return Err(Error::Replaced);
        }
        let lease = self.lease.take();
        let ended = lease.map_or(Ok(()), |lease| {
            self.manager.end(&self.contents.record, lease, deadline)
        });
        self.guard = None;
        let mut others = others.to_vec();
        others.retain(|id| self.id.as_ref() != Some(id));
        let by = self.presented.by;
        ended.and(self.manager.end_shown(&others, by, true, deadline))
    }

    /// The thread that uses the session holds it, whichever has opened it.
    fn note_use(&self) {
        if let Some(guard) = &self.guard {
            guard.note_use();
        }
    }

    fn cookie(&self) -> Option<SetCookie> {
        let shown = self.presented.shown(self.id.as_ref(), self.is_new());
        let value = self.cookie_value()?;
        let due = cookies::due(shown, Standing::Live, self.must_be_sent());
        (due == Due::Set).then(|| SetCookie::new(&self.manager.config, value, self.max_age()))
    }

    fn max_age(&self) -> Option<Duration> {
        self.contents.record.max_age(&self.manager.config)
    }

    /// What a cookie must hold that leads to this session; `None` when it was never stored or was replaced, or when no
    /// cookie leads to it. A change of its id that failed may have ended the lease alone.
    fn cookie_value(&self) -> Option<String> {
        let id = self.id.as_ref().filter(|_| self.guard.is_some())?;
        let is_hidden = self.contents.record.is_private() && self.presented.by != By::Program;
        if self.is_replaced() || is_hidden {
            return None;
        }
        let lease = self.lease.as_ref();
        let value = lease.and_then(|lease| lease.cookie_value(id));
        Some(value.unwrap_or_else(|| id.secret().to_owned()))
    }

    /// Whether the client must have the cookie although it shows the session's id: its Max-Age is
    /// renewed, or it holds the session itself, which has changed.
    fn must_be_sent(&self) -> bool {
        let changed = || self.lease.as_ref()?.cookie_value(self.id.as_ref()?);
        self.renewal == Renewal::Done || changed().is_some()
    }

    /// Of a request that knows more of its client: what that presented, and whether the cookie's Max-Age
    /// may be renewed.
    fn in_request(mut self, presented: Presented, may_renew: bool) -> Self {
        self.presented = presented;
        if !may_renew && self.renewal == Renewal::Allowed {
            self.renewal = Renewal::Refused;
        }
        self
    }
}

impl Deref for Session {
    type Target = Values;

    fn deref(&self) -> &Values {
        self.note_use();
        self.contents.namespaces.own()
    }
}

impl DerefMut for Session {
    fn deref_mut(&mut self) -> &mut Values {
        self.note_use();
        self.contents.namespaces.own_mut()
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
