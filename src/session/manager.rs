//! [`SessionManager`]: from a Cookie header to a session, in one function.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crate::config::Config;
use crate::cookies::{self, By, Presented, SetCookie, Standing};
use crate::error::{Error, Result};
use crate::id::SessionId;
use crate::session::contents::Contents;
use crate::session::inner::{Found, ManagerInner, is_hidden};
use crate::session::{Session, Snapshot};
use crate::store::{self, Store, StoreKind, Sweep, SweepReport};

/// Opens sessions. It needs no more of a request than its Cookie header, so it serves any
/// transport; under CGI and FastCGI [`run`](crate::run) does all of this by itself.
///
/// A manager is cheap to clone, and its clones share one store.
///
/// ```
/// use cgi_session::{Config, SessionManager};
///
/// # let directory = tempfile::tempdir()?;
/// let config = Config::new().set("storageFileDir", directory.path())?;
/// let manager = SessionManager::new(config)?;
///
/// let mut session = manager.start(b"a=1; b=2")?;
/// let views = session.get::<u64>("pageViews")?.unwrap_or(0) + 1;
/// session.insert("pageViews", views)?;
/// if let Some(set_cookie) = session.commit()? {
///     println!("Set-Cookie: {set_cookie}");
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct SessionManager {
    pub(super) shared: Arc<ManagerInner>,
}

impl SessionManager {
    /// A manager whose store is the one that the configuration names.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] when the settings do not fit together.
    pub fn new(config: Config) -> Result<Self> {
        SessionManager::with_kinds(config, &[])
    }

    /// A manager whose store is the one that the configuration names: one of these kinds, or the library's own.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] when the settings do not fit together.
    pub fn with_kinds(config: Config, kinds: &[StoreKind]) -> Result<Self> {
        let config = Arc::new(config);
        let store = store::open(&config, kinds)?;
        SessionManager::with_boxed(config, store)
    }

    /// A manager of sessions in a store of one's own.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] when the settings do not fit together.
    pub fn with_store(config: Config, store: impl Store + 'static) -> Result<Self> {
        SessionManager::with_boxed(Arc::new(config), Box::new(store))
    }

    fn with_boxed(config: Arc<Config>, store: Box<dyn Store>) -> Result<Self> {
        config.check()?;
        if config.max_sessions_per_user > 0 && !store.locks_users() {
            let key = "maxSessionsPerUser";
            let origin = config.origin(key);
            return Err(Error::Config(format!(
                "{key} ({origin}): this store cannot count the sessions of a user"
            )));
        }
        Ok(SessionManager {
            shared: Arc::new(ManagerInner {
                config,
                store,
                held: Arc::default(),
                is_of_client: false,
            }),
        })
    }

    /// The manager of the configuration that [`Config::find`] finds.
    ///
    /// # Errors
    ///
    /// As [`Config::find`] and [`SessionManager::new`].
    pub fn find() -> Result<Self> {
        SessionManager::new(Config::find()?)
    }

    /// The settings.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.shared.config
    }

    /// Opens the session that the Cookie header names, or begins a new one. Of a new one nothing
    /// is stored before something is put in and committed.
    ///
    /// Of several cookies of the session's name (browsers send two after `cookiePath` has changed, say) the
    /// first of the first eight well-formed ids that leads to a live session counts. Where ids come in a header
    /// field (`idFrom = header:`) no cookie counts: such a client is known by [`Request`](crate::Request).
    ///
    /// # Errors
    ///
    /// [`Error::Replaced`] when all that the cookies lead to was given another id within the last minute:
    /// the client has that one by now, or is about to get it.
    /// [`Error::Busy`] when another request held the session for `lockTimeout`,
    /// [`Error::AlreadyOpen`] when this thread holds it, and when the store fails.
    pub fn start(&self, cookie_header: impl AsRef<[u8]>) -> Result<Session> {
        let (manager, presented) = self.client(cookie_header.as_ref());
        manager.start_by(presented)
    }

    /// Opens the session of this id, or begins one that will have it: the program vouches for the
    /// id, and cookies are neither read nor sent (lemon.session's `sessionID`).
    ///
    /// The id is a session id like any other: a client that sends it as the session's cookie has this
    /// session, and a login there moves it to another id. A record that no client is to open, such as a
    /// token that is the program's own, needs [`Session::set_private`]; and a program that finds one
    /// by an id from a client checks whose it is ([`Session::user`]).
    ///
    /// # Errors
    ///
    /// As [`SessionManager::start`]. The commit of a session that another process began meanwhile
    /// is [`Error::Busy`]: tried again, it is found. With `storageType = cookie` only a client has its session:
    /// [`Error::Unsupported`].
    pub fn start_with_id(&self, id: &SessionId) -> Result<Session> {
        self.check_takes_ids()?;
        self.start_by(Presented::one(id.clone(), By::Program))
    }

    /// Opens the session that the Cookie header names; makes nothing when there is none.
    ///
    /// # Errors
    ///
    /// As [`SessionManager::start`].
    pub fn existing(&self, cookie_header: impl AsRef<[u8]>) -> Result<Option<Session>> {
        let (manager, presented) = self.client(cookie_header.as_ref());
        let found = manager.open(&mut presented.clone(), manager.deadline())?;
        let session = found.live();
        Ok(session.map(|session| session.in_request(presented, true)))
    }

    /// Reads the session that the Cookie header names as it is at this moment, without waiting.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub fn read(&self, cookie_header: impl AsRef<[u8]>) -> Result<Option<Snapshot>> {
        let (manager, mut presented) = self.client(cookie_header.as_ref());
        let found = manager.read_by(&mut presented)?.live();
        Ok(found.map(|(_, snapshot)| snapshot))
    }

    /// Opens or begins a session, lets `change` change it, and commits: the session is locked only
    /// while `change` runs. An error of `change` saves nothing.
    ///
    /// ```
    /// # use cgi_session::{Config, SessionManager};
    /// # let manager = SessionManager::new(Config::new().set("storageType", "ram")?)?;
    /// let (views, set_cookie) = manager.update(b"", |session| {
    ///     let views = session.get::<u64>("pageViews")?.unwrap_or(0) + 1;
    ///     session.insert("pageViews", views)?;
    ///     Ok(views)
    /// })?;
    /// assert_eq!(views, 1);
    /// assert!(set_cookie.is_some());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`SessionManager::start`] and [`Session::commit`], and whatever `change` returns: an error of the program's
    /// own as [`Error::store`].
    pub fn update<T>(
        &self,
        cookie_header: impl AsRef<[u8]>,
        change: impl FnOnce(&mut Session) -> Result<T>,
    ) -> Result<(T, Option<SetCookie>)> {
        let mut session = self.start(cookie_header)?;
        let result = change(&mut session)?;
        Ok((result, session.commit()?))
    }

    /// The first well-formed id that the Cookie header holds, whether or not there is a session of that id.
    #[must_use]
    pub fn session_id(&self, cookie_header: impl AsRef<[u8]>) -> Option<SessionId> {
        let (_, presented) = self.client(cookie_header.as_ref());
        presented.ids.into_iter().next()
    }

    /// Deletes expired sessions.
    ///
    /// # Errors
    ///
    /// When the store as a whole cannot be cleaned; single failures are in the report.
    pub fn delete_expired(&self, sweep: &Sweep<'_>) -> Result<SweepReport> {
        if sweep.keeps_sessions() {
            return self.delete_each(sweep);
        }
        let (clock, now) = (sweep.clock(), SystemTime::now());
        let mut report = self.shared.store.delete_expired(sweep, now)?;
        if let Some(idle) = sweep.idle
            && !report.already_running
        {
            self.delete_idle(idle, sweep, clock, &mut report)?;
        }
        Ok(report)
    }

    /// Keeps what so far lives in memory alone: with `storageType = ram` in `snapshotFile`, if anything has
    /// changed since the last time. FastCGI programs do this by themselves, every `snapshotDelay` and
    /// at their end; under another transport the program does.
    ///
    /// # Errors
    ///
    /// When it could not be kept; what was kept before still is.
    pub fn flush(&self) -> Result<()> {
        self.shared.store.flush()
    }

    /// Cleans up within these limits if `cleanUpDelay` has passed since the last time any process
    /// did, or if `cleanUpProbability` says so. [`Program`](crate::Program) does this by itself; under another transport the
    /// program does, after a response.
    ///
    /// # Errors
    ///
    /// As [`SessionManager::delete_expired`]. What failed for single sessions is logged.
    pub fn clean_up_if_due(&self, sweep: &Sweep<'_>) -> Result<()> {
        let config = &self.shared.config;
        if config.keeps_expired() {
            return Ok(());
        }
        let last = || self.shared.store.last_sweep(SystemTime::now());
        let is_due = config
            .clean_up_delay
            .is_some_and(|delay| last().is_none_or(|age| age >= delay));
        let is_drawn = config.clean_up_probability > 0.0
            && rand::random::<f64>() < config.clean_up_probability;
        if is_due || is_drawn {
            for failure in &self.delete_expired(sweep)?.failures {
                log::warn!("{failure}");
            }
        }
        Ok(())
    }

    /// A manager for one client, and what its cookies present.
    pub(super) fn client(&self, cookie_header: &[u8]) -> (SessionManager, Presented) {
        let mut manager = self.clone();
        if let Some(store) = self.shared.store.for_client() {
            let config = self.shared.config.clone();
            let held = Arc::clone(&self.shared.held);
            manager.shared = Arc::new(ManagerInner {
                config,
                store,
                held,
                is_of_client: true,
            });
        }
        let (shared, now) = (&manager.shared, SystemTime::now());
        let mut ids = Vec::new();
        let is_cookie = shared.config.id_from.header.is_none();
        let header = if is_cookie { cookie_header } else { b"" };
        let values = cookies::values(header, &shared.config.cookie_name);
        for id in values.filter_map(|value| shared.store.recognize(value, now)) {
            if shared.is_of_client {
                // Such a store recognizes only what is live and was used later than the one before.
                ids.clear();
            }
            if !ids.contains(&id) {
                ids.push(id);
            }
            if ids.len() == MAX_CANDIDATES {
                break;
            }
        }
        let by = By::Cookie;
        (manager, Presented { ids, by })
    }

    pub(super) fn begin(&self, presented: Presented) -> Session {
        Session::new(Arc::clone(&self.shared), presented, SystemTime::now())
    }

    pub(super) fn start_by(&self, presented: Presented) -> Result<Session> {
        match self.open(&mut presented.clone(), self.deadline())? {
            Found::Live(session) => Ok(session.in_request(presented, true)),
            Found::Marker(_) => Err(Error::Replaced),
            Found::Nothing => Ok(self.begin(presented)),
        }
    }

    /// Whether a program may give an id.
    pub(super) fn check_takes_ids(&self) -> Result<()> {
        let only_clients = "with storageType = cookie only the clients have the sessions";
        let is_of_client = self.shared.store.for_client().is_some();
        (!is_of_client)
            .then_some(())
            .ok_or(Error::Unsupported(only_clients))
    }

    /// When a wait that begins now must be over.
    pub(super) fn deadline(&self) -> Instant {
        Instant::now() + self.shared.config.lock_timeout
    }

    /// Opens the first live session of those presented. What is left readable under a changed id is
    /// opened only when none of the others is live. Ids that lead nowhere are taken out.
    pub(super) fn open(
        &self,
        presented: &mut Presented,
        deadline: Instant,
    ) -> Result<Found<Session>> {
        let by = presented.by;
        let open = |id: &SessionId| self.open_one(id, by, deadline);
        first_live(presented, open, Session::is_replaced)
    }

    fn open_one(&self, id: &SessionId, by: By, deadline: Instant) -> Result<Found<Session>> {
        let digest = id.digest();
        let Some(locked) = self.shared.lock(&digest, deadline)? else {
            return Ok(Found::Nothing);
        };
        if is_hidden(&locked.stored.record, by, locked.now) {
            return Ok(Found::Nothing);
        }
        if locked.stored.record.is_marker() {
            return Ok(Found::Marker(vec![locked.stored.record]));
        }
        let session = Session::open(&self.shared, &digest, locked)?;
        Ok(session.map_or(Found::Nothing, |session| Found::Live(session.of_client(id))))
    }

    /// Reads the first live session of those presented, as [`SessionManager::open`].
    pub(super) fn read_by(
        &self,
        presented: &mut Presented,
    ) -> Result<Found<(SessionId, Snapshot)>> {
        let by = presented.by;
        let read = |id: &SessionId| self.read_one(id, by);
        first_live(presented, read, |(_, snapshot)| snapshot.is_replaced())
    }

    fn read_one(&self, id: &SessionId, by: By) -> Result<Found<(SessionId, Snapshot)>> {
        let (shared, digest, now) = (&self.shared, id.digest(), SystemTime::now());
        let Some(mut stored) = shared.store.read(&digest, now)? else {
            return Ok(Found::Nothing);
        };
        stored.record = stored.record.settled(now);
        if is_hidden(&stored.record, by, now) {
            return Ok(Found::Nothing);
        }
        if stored.record.is_marker() {
            return Ok(Found::Marker(vec![stored.record]));
        }
        if shared.is_too_old(&stored.record, now) {
            return Ok(Found::Nothing);
        }
        let contents = Contents::parse(&shared.config, &digest, stored, now)?;
        Ok(Found::Live((id.clone(), Snapshot { contents })))
    }

    /// What the store says of a session now, for a request that closed it a while ago.
    #[cold]
    pub(super) fn standing(&self, id: &SessionId) -> Standing {
        let now = SystemTime::now();
        match self.shared.store.peek(&id.digest(), now) {
            Ok(Some(stored)) if self.shared.is_session(&stored.record, now) => Standing::Live,
            Ok(_) => Standing::Ended,
            Err(error) => {
                // It was stored in this request: without its cookie it would be lost.
                log::warn!("{}", error.one_line());
                Standing::Live
            }
        }
    }

    /// Notes in a session that its cookie is sent again, unless another request holds it. Returns the
    /// cookie's value and Max-Age when it is to be sent: the session is live, and it still is due.
    #[cold]
    pub(super) fn renew(
        &self,
        id: &SessionId,
        may_renew: bool,
    ) -> Result<Option<(String, Option<Duration>)>> {
        let presented = Presented::one(id.clone(), By::Cookie);
        match self.open(&mut presented.clone(), Instant::now()) {
            Ok(Found::Live(session)) if !session.is_replaced() => {
                let mut session = session.in_request(presented, may_renew);
                session.finish()?;
                // Another request may have had it sent meanwhile.
                let value = session.cookie_value().filter(|_| session.must_be_sent());
                Ok(value.map(|value| (value, session.max_age())))
            }
            Ok(_) | Err(Error::Busy { .. } | Error::AlreadyOpen) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// The most ids of one request that are looked up.
pub(crate) const MAX_CANDIDATES: usize = 8;

/// The first of the ids that leads to something live, and what is only `second` after all others. Ids
/// that lead nowhere are taken out, and with something live those that cannot be read: none of them is
/// looked up twice.
fn first_live<T>(
    Presented { ids, by }: &mut Presented,
    mut find: impl FnMut(&SessionId) -> Result<Found<T>>,
    is_second: impl Fn(&T) -> bool,
) -> Result<Found<T>> {
    let (mut markers, mut second, mut position) = (Vec::new(), None, 0);
    let mut unreadable = Vec::new();
    let found = loop {
        let Some(id) = ids.get(position) else {
            break match second.and_then(|position| ids.get(position)) {
                Some(id) => find(id)?,
                None if markers.is_empty() => Found::Nothing,
                None => Found::Marker(markers),
            };
        };
        match find(id) {
            Ok(Found::Live(found)) if is_second(&found) => {
                position += 1;
                if position == ids.len() && second.is_none() {
                    break Found::Live(found);
                }
                // Given up: two locks are never held at once.
                second = second.or(Some(position - 1));
            }
            Ok(Found::Live(found)) => break Found::Live(found),
            Ok(Found::Marker(records)) => {
                markers.extend(records);
                position += 1;
            }
            // Another process may create a session of this id at any time.
            Ok(Found::Nothing) if *by == By::Program => position += 1,
            Ok(Found::Nothing) => {
                ids.remove(position);
            }
            Err(error) if error.may_concern_one_session() => {
                unreadable.push((id.clone(), error));
                position += 1;
            }
            Err(error) => return Err(error),
        }
    };
    match (found, unreadable) {
        (Found::Live(found), unreadable) => {
            for (id, error) in unreadable {
                ids.retain(|shown| *shown != id);
                log_passed_over(&error);
            }
            Ok(Found::Live(found))
        }
        (found, unreadable) => match unreadable.into_iter().next() {
            Some((_, error)) => Err(error),
            None => Ok(found),
        },
    }
}

/// Says that of several sessions that a client showed one cannot be read.
pub(super) fn log_passed_over(error: &Error) {
    log::warn!("an id is passed over: {}", error.one_line());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_readers_that_find_a_cookie_due_one_sends_it() {
        let directory = tempfile::tempdir().unwrap();
        let config = Config::new().set("storageFileDir", directory.path());
        let config = config.unwrap();
        let mut session = SessionManager::new(config.clone())
            .unwrap()
            .start("")
            .unwrap();
        session.insert("n", 1).unwrap();
        session.save().unwrap();
        let id = session.id().unwrap().clone();
        drop(session);
        let config = config.set("cookieMaxAge", "30d").unwrap();
        let manager = SessionManager::new(config).unwrap();
        let sent = || manager.renew(&id, true).unwrap();
        let (value, _) = sent().unwrap();
        assert_eq!(value, id.secret());
        assert_eq!(sent(), None);
    }
}
