//! [`SessionManager`]: from a Cookie header to a session, in one function.

use std::env;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crate::config::{Config, StorageType};
use crate::cookies::{self, SetCookie};
use crate::error::{Error, Result};
use crate::held::{Held, Waiting};
use crate::id::SessionId;
use crate::record::Record;
use crate::session::{ClientCookie, Session, Snapshot};
use crate::store::{FileStore, MemoryStore, Store, Sweep, SweepReport};
use crate::values::Applications;

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
    shared: Arc<Shared>,
}

/// What all sessions of a manager have in common.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) store: Box<dyn Store>,
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
                let store = MemoryStore::new(&config);
                SessionManager::with_store(config, store)
            }
            StorageType::Custom => Err(Error::Config(
                "storageType = custom: the program brings its own store, with SessionManager::with_store".to_owned(),
            )),
            StorageType::Sqlite => SessionManager::with_sqlite(config),
            _ => {
                let name = config.get("storageType").unwrap_or_default();
                Err(Error::Config(format!("storageType = {name} is not part of this build; use storageType = file")))
            }
        }
    }

    #[cfg(feature = "sqlite")]
    fn with_sqlite(config: Config) -> Result<Self> {
        let store = crate::store::SqliteStore::new(&config)?;
        SessionManager::with_store(config, store)
    }

    #[cfg(not(feature = "sqlite"))]
    fn with_sqlite(_: Config) -> Result<Self> {
        Err(Error::Config(
            "storageType = sqlite: this program was built without the feature sqlite; \
             build it with that feature of cgi-session, or use storageType = file"
                .to_owned(),
        ))
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
        let id = self.session_id(cookie_header);
        self.start_id(id.as_ref())
    }

    /// Opens the session that the Cookie header names; makes nothing when there is none.
    ///
    /// # Errors
    ///
    /// As [`SessionManager::start`].
    pub fn existing(&self, cookie_header: impl AsRef<[u8]>) -> Result<Option<Session>> {
        let id = self.session_id(cookie_header);
        id.map_or(Ok(None), |id| self.open(&id))
    }

    /// Reads the session that the Cookie header names as it is at this moment. Waits for nobody.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub fn read(&self, cookie_header: impl AsRef<[u8]>) -> Result<Option<Snapshot>> {
        let id = self.session_id(cookie_header);
        id.map_or(Ok(None), |id| self.read_id(&id))
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
        cookies::session_id(cookie_header.as_ref(), &self.shared.config.cookie_name)
    }

    /// Deletes expired sessions.
    ///
    /// # Errors
    ///
    /// When the store as a whole cannot be cleaned; single failures are in the report.
    pub fn delete_expired(&self, sweep: &Sweep<'_>) -> Result<SweepReport> {
        self.shared.store.delete_expired(sweep, SystemTime::now())
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

    /// A new session for a client that sent an id of no session.
    pub(crate) fn start_in_place_of_unknown(&self) -> Session {
        Session::new(
            Arc::clone(&self.shared),
            ClientCookie::Other,
            SystemTime::now(),
        )
    }

    pub(crate) fn start_id(&self, id: Option<&SessionId>) -> Result<Session> {
        let existing = id.map_or(Ok(None), |id| self.open(id))?;
        let client_cookie = if id.is_some() {
            ClientCookie::Other
        } else {
            ClientCookie::Absent
        };
        let new = || Session::new(Arc::clone(&self.shared), client_cookie, SystemTime::now());
        Ok(existing.unwrap_or_else(new))
    }

    pub(crate) fn open(&self, id: &SessionId) -> Result<Option<Session>> {
        let shared = &self.shared;
        let now = SystemTime::now();
        let deadline = Instant::now() + shared.config.lock_timeout;
        let held = Held::claim(id, shared.config.lock_timeout)?;
        let left = deadline.saturating_duration_since(Instant::now());
        let session = id.digest();
        let found = match shared.store.lock(&session, Duration::ZERO, now) {
            Err(Error::Busy { .. }) => {
                let _note = Waiting::new(id);
                shared.store.lock(&session, left, now)
            }
            found => found,
        };
        let Some((stored, lease)) = found? else {
            return Ok(None);
        };
        if shared.is_too_old(&stored.record, now) {
            lease.destroy()?;
            return Ok(None);
        }
        Session::open(Arc::clone(shared), id.clone(), stored, lease, held).map(Some)
    }

    pub(crate) fn read_id(&self, id: &SessionId) -> Result<Option<Snapshot>> {
        let now = SystemTime::now();
        let stored = self.shared.store.read(&id.digest(), now)?;
        let Some(stored) = stored.filter(|stored| !self.shared.is_too_old(&stored.record, now))
        else {
            return Ok(None);
        };
        let values = parse(id, &stored.record)?.take(&self.shared.config.app);
        Ok(Some(Snapshot::new(values, stored)))
    }
}

impl Shared {
    /// Whether a record has reached the absolute limit, however much it was used.
    fn is_too_old(&self, record: &Record, now: SystemTime) -> bool {
        let Some(lifetime) = self.config.lifetime else {
            return false;
        };
        now.duration_since(record.created())
            .is_ok_and(|age| age > lifetime)
    }
}

/// The values in a record, which are parsed when a session is opened and not before.
pub(crate) fn parse(id: &SessionId, record: &Record) -> Result<Applications> {
    Applications::from_json(record.values()).map_err(|error| Error::Format {
        path: PathBuf::from(id.digest().as_str()),
        reason: error.to_string(),
    })
}
