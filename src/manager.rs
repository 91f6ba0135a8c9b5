//! [`SessionManager`]: from a Cookie header to a session, in one function.

use std::env;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crate::applications::Applications;
use crate::config::{Config, StorageType};
use crate::cookies::{self, SetCookie};
use crate::error::{Error, Result};
use crate::held::{HeldSessions, SessionGuard};
use crate::id::{SessionDigest, SessionId};
use crate::record::Record;
use crate::session::{Client, Session, Snapshot};
use crate::store::{FileStore, Lease, MemoryStore, Store, Stored, Sweep, SweepReport};

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
    pub(crate) shared: Arc<Shared>,
}

/// What all sessions of a manager have in common.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) store: Box<dyn Store>,
    pub(crate) held: Arc<HeldSessions>,
}

/// A session that was waited for.
pub(crate) struct Locked {
    pub(crate) stored: Stored,
    pub(crate) lease: Box<dyn Lease>,
    pub(crate) guard: SessionGuard,
    pub(crate) now: SystemTime,
}

impl SessionManager {
    /// A manager whose store is the one that the configuration names.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] when the settings do not fit together.
    pub fn new(config: Config) -> Result<Self> {
        match config.storage_type {
            StorageType::File => {
                let store = FileStore::new(&config)?;
                SessionManager::with_store(config, store)
            }
            StorageType::Ram if env::var_os("REQUEST_METHOD").is_some() => Err(Error::Config(
                "storageType = ram cannot work under CGI: every request is a new process and would find nothing; \
                 use storageType = file, or run the program as FastCGI"
                    .to_owned(),
            )),
            StorageType::Ram => {
                let store = MemoryStore::new(&config)?;
                SessionManager::with_store(config, store)
            }
            StorageType::Cookie => SessionManager::with_cookies(config),
            StorageType::Custom => Err(Error::Config(
                "storageType = custom: the program brings its own store, with SessionManager::with_store".to_owned(),
            )),
            StorageType::Sqlite => SessionManager::with_sqlite(config),
            StorageType::Redis => SessionManager::with_redis(config),
            StorageType::Postgres => SessionManager::with_postgres(config),
            StorageType::Mysql => SessionManager::with_mysql(config),
        }
    }

    #[cfg(feature = "cookie-store")]
    fn with_cookies(config: Config) -> Result<Self> {
        let store = crate::store::CookieStore::new(&config)?;
        SessionManager::with_store(config, store)
    }

    #[cfg(not(feature = "cookie-store"))]
    fn with_cookies(_: Config) -> Result<Self> {
        Err(built_without("cookie", "cookie-store"))
    }

    #[cfg(feature = "sqlite")]
    fn with_sqlite(config: Config) -> Result<Self> {
        let store = crate::store::SqliteStore::new(&config)?;
        SessionManager::with_store(config, store)
    }

    #[cfg(not(feature = "sqlite"))]
    fn with_sqlite(_: Config) -> Result<Self> {
        Err(built_without("sqlite", "sqlite"))
    }

    #[cfg(feature = "redis")]
    fn with_redis(config: Config) -> Result<Self> {
        let store = crate::store::RedisStore::new(&config)?;
        SessionManager::with_store(config, store)
    }

    #[cfg(not(feature = "redis"))]
    fn with_redis(_: Config) -> Result<Self> {
        Err(built_without("redis", "redis"))
    }

    #[cfg(feature = "postgres")]
    fn with_postgres(config: Config) -> Result<Self> {
        let store = crate::store::PostgresStore::new(&config)?;
        SessionManager::with_store(config, store)
    }

    #[cfg(not(feature = "postgres"))]
    fn with_postgres(_: Config) -> Result<Self> {
        Err(built_without("postgres", "postgres"))
    }

    #[cfg(feature = "mysql")]
    fn with_mysql(config: Config) -> Result<Self> {
        let store = crate::store::MysqlStore::new(&config)?;
        SessionManager::with_store(config, store)
    }

    #[cfg(not(feature = "mysql"))]
    fn with_mysql(_: Config) -> Result<Self> {
        Err(built_without("mysql", "mysql"))
    }

    /// A manager of sessions in a store of one's own.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] when the settings do not fit together.
    pub fn with_store(config: Config, store: impl Store + 'static) -> Result<Self> {
        config.check()?;
        Ok(SessionManager {
            shared: Arc::new(Shared {
                config,
                store: Box::new(store),
                held: Arc::default(),
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
    /// # Errors
    ///
    /// [`Error::Busy`] when another request held the session for `lockTimeout`,
    /// [`Error::AlreadyOpen`] when this thread holds it, and when the store fails.
    pub fn start(&self, cookie_header: impl AsRef<[u8]>) -> Result<Session> {
        let (manager, ticket) = self.client(cookie_header.as_ref());
        manager.start_by(ticket.as_ref(), self.deadline())
    }

    /// Opens the session of this id, or begins one that will have it: the program vouches for the
    /// id, and cookies are neither read nor sent (lemon.session's `sessionID`).
    ///
    /// # Errors
    ///
    /// As [`SessionManager::start`]. The commit of a session that another process began meanwhile
    /// is [`Error::Busy`]: tried again, it is found.
    pub fn start_with_id(&self, id: &SessionId) -> Result<Session> {
        self.start_by(Some(&Ticket::given(id.clone())), self.deadline())
    }

    /// Opens the session that the Cookie header names; makes nothing when there is none.
    ///
    /// # Errors
    ///
    /// As [`SessionManager::start`].
    pub fn existing(&self, cookie_header: impl AsRef<[u8]>) -> Result<Option<Session>> {
        let (manager, ticket) = self.client(cookie_header.as_ref());
        ticket.map_or(Ok(None), |ticket| manager.open(&ticket, self.deadline()))
    }

    /// Reads the session that the Cookie header names as it is at this moment. Waits for nobody.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub fn read(&self, cookie_header: impl AsRef<[u8]>) -> Result<Option<Snapshot>> {
        let (manager, ticket) = self.client(cookie_header.as_ref());
        ticket.map_or(Ok(None), |ticket| manager.read_id(&ticket.id))
    }

    /// Opens or begins a session, lets `change` change it, and commits: the session is locked only
    /// while `change` runs. An error of `change` saves nothing.
    ///
    /// ```
    /// # use cgi_session::{Config, SessionManager};
    /// # let directory = tempfile::tempdir()?;
    /// # let manager = SessionManager::new(Config::new().set("storageFileDir", directory.path())?)?;
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
    /// As [`SessionManager::start`] and [`Session::commit`], and whatever `change` returns.
    pub fn update<T>(
        &self,
        cookie_header: impl AsRef<[u8]>,
        change: impl FnOnce(&mut Session) -> Result<T>,
    ) -> Result<(T, Option<SetCookie>)> {
        let mut session = self.start(cookie_header)?;
        let result = change(&mut session)?;
        Ok((result, session.commit()?))
    }

    /// The id that the Cookie header holds, whether or not there is a session of that id.
    #[must_use]
    pub fn session_id(&self, cookie_header: impl AsRef<[u8]>) -> Option<SessionId> {
        let (_, ticket) = self.client(cookie_header.as_ref());
        ticket.map(|ticket| ticket.id)
    }

    /// Deletes expired sessions.
    ///
    /// # Errors
    ///
    /// When the store as a whole cannot be cleaned; single failures are in the report.
    pub fn delete_expired(&self, sweep: &Sweep<'_>) -> Result<SweepReport> {
        self.shared.store.delete_expired(sweep, SystemTime::now())
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

    /// Cleans up for at most `limit` if `cleanUpDelay` has passed since the last time any process
    /// did, or if `cleanUpProbability` says so.
    pub(crate) fn clean_up_if_due(&self, limit: Duration) -> Result<()> {
        let config = &self.shared.config;
        let last = || self.shared.store.last_sweep(SystemTime::now());
        let is_due = config
            .clean_up_delay
            .is_some_and(|delay| last().is_none_or(|age| age >= delay));
        let is_drawn = config.clean_up_probability > 0.0
            && rand::random::<f64>() < config.clean_up_probability;
        if is_due || is_drawn {
            let report = self.delete_expired(&Sweep::new().max_time(limit))?;
            for failure in &report.failures {
                log::warn!("{failure}");
            }
        }
        Ok(())
    }

    /// A manager for one client, and what its cookies show.
    pub(crate) fn client(&self, cookie_header: &[u8]) -> (SessionManager, Option<Ticket>) {
        let mut manager = self.clone();
        if let Some(store) = self.shared.store.for_client() {
            let config = self.shared.config.clone();
            let held = Arc::clone(&self.shared.held);
            manager.shared = Arc::new(Shared {
                config,
                store,
                held,
            });
        }
        let shared = &manager.shared;
        let now = SystemTime::now();
        let id = cookies::values(cookie_header, &shared.config.cookie_name)
            .find_map(|value| shared.store.recognize(value, now));
        (manager, id.map(Ticket::from_cookie))
    }

    /// A new session, for a client that showed this or nothing.
    pub(crate) fn begin(&self, ticket: Option<&Ticket>) -> Session {
        let (shared, now) = (Arc::clone(&self.shared), SystemTime::now());
        match ticket {
            None => Session::new(shared, Client::Unknown, now),
            Some(Ticket { id, client }) => match client {
                Client::Given => Session::new_with_id(shared, id.clone(), now),
                Client::Cookie => Session::new(shared, Client::OtherCookie, now),
                _ => Session::new(shared, Client::Unknown, now),
            },
        }
    }

    /// Until when a session may be waited for that is asked for now.
    pub(crate) fn deadline(&self) -> Instant {
        Instant::now() + self.shared.config.lock_timeout
    }

    pub(crate) fn start_by(&self, ticket: Option<&Ticket>, deadline: Instant) -> Result<Session> {
        let existing = ticket.map_or(Ok(None), |ticket| self.open(ticket, deadline))?;
        Ok(existing.unwrap_or_else(|| self.begin(ticket)))
    }

    pub(crate) fn open(&self, ticket: &Ticket, deadline: Instant) -> Result<Option<Session>> {
        let session = Session::open(&self.shared, &ticket.id.digest(), deadline)?;
        Ok(session.map(|session| session.of_client(ticket)))
    }

    pub(crate) fn read_id(&self, id: &SessionId) -> Result<Option<Snapshot>> {
        let now = SystemTime::now();
        let stored = self.shared.store.read(&id.digest(), now)?;
        let Some(stored) = stored.filter(|stored| !self.shared.is_too_old(&stored.record, now))
        else {
            return Ok(None);
        };
        let applications = parse(&self.shared, &id.digest(), &stored.record, now)?;
        Ok(Some(Snapshot::new(
            applications,
            &self.shared.config.app,
            stored,
        )))
    }
}

impl Shared {
    /// Waits for a session until `deadline` and loads what is stored.
    pub(crate) fn lock(
        &self,
        session: &SessionDigest,
        deadline: Instant,
    ) -> Result<Option<Locked>> {
        let started = Instant::now();
        let guard = SessionGuard::acquire(&self.held, session, deadline)?;
        let now = SystemTime::now();
        let left = deadline.saturating_duration_since(Instant::now());
        let found = match self.store.lock(session, left, now) {
            Err(Error::Busy { holder, .. }) => Err(Error::Busy {
                waited: started.elapsed(),
                holder,
            }),
            found => found,
        };
        Ok(found?.map(|(stored, lease)| Locked {
            stored,
            lease,
            guard,
            now,
        }))
    }

    /// Whether a record has reached the absolute limit, however much it was used.
    pub(crate) fn is_too_old(&self, record: &Record, now: SystemTime) -> bool {
        let lifetime = self.config.lifetime;
        lifetime.is_some_and(|lifetime| record.is_too_old(lifetime, now))
    }
}

#[cfg(not(all(
    feature = "cookie-store",
    feature = "mysql",
    feature = "postgres",
    feature = "redis",
    feature = "sqlite"
)))]
fn built_without(storage_type: &str, feature: &str) -> Error {
    Error::Config(format!(
        "storageType = {storage_type}: this program was built without the feature {feature}; \
         build it with that feature of cgi-session, or use storageType = file"
    ))
}

/// What a client showed: an id, and how it came.
#[derive(Clone)]
pub(crate) struct Ticket {
    pub(crate) id: SessionId,
    pub(crate) client: Client,
}

impl Ticket {
    pub(crate) fn from_cookie(id: SessionId) -> Self {
        let client = Client::Cookie;
        Ticket { id, client }
    }

    pub(crate) fn from_link(id: SessionId) -> Self {
        let client = Client::Link;
        Ticket { id, client }
    }

    pub(crate) fn given(id: SessionId) -> Self {
        let client = Client::Given;
        Ticket { id, client }
    }
}

/// The values in a record, which are parsed when a session is opened and not before.
pub(crate) fn parse(
    shared: &Shared,
    session: &SessionDigest,
    record: &Record,
    now: SystemTime,
) -> Result<Applications> {
    let applications =
        Applications::from_json(record.values(), now).map_err(|error| Error::Format {
            path: PathBuf::from(session.as_str()),
            reason: error.to_string(),
        })?;
    Ok(applications.with_longest_key(shared.config.max_key_length))
}
