//! [`SqliteStore`]: sessions in a table of an SQLite database.
//!
//! SQLite locks a whole database, and only while it writes. That a request holds its session from
//! loading to committing, and disturbs no other session by it, is the work of lock files in
//! `<database>.locks`; a transaction never lasts longer than one statement or one batch of a
//! clean-up. The database is in WAL mode, in which readers never wait.
//!
//! # Lock order
//!
//! A session's lock → the database's. The holder of the database's tries session locks and never
//! waits for one. A row goes only under its session's lock, which is kept until the deletion is committed.

mod cap;
mod database;
mod install;
mod lease;
mod rows;
mod sweep;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use cgi_session::store::{Expiry, SessionLocks, check_size, has_passed, unix_seconds};
use cgi_session::{
    Config, Error, Lease, Record, Result, SessionDigest, Store, StoreKind, Stored, Sweep,
    SweepReport, Uninstalled, Visitor,
};
use rusqlite::params;

use cgi_session_kit::reading::renewing;
use cgi_session_kit::rows::{digests, for_each};

use database::Database;
use lease::SqliteLease;

/// The name of the lock under which sessions become a user's while there is a limit to them.
const USERS_LOCK: &str = "users";

/// The store that `storageType = sqlite` chooses: `Program::new().store(cgi_session_sqlite::SQLITE)`.
pub const SQLITE: StoreKind =
    StoreKind::new("sqlite", |config| Ok(Box::new(SqliteStore::new(config)?)));

/// Sessions in a table of an SQLite database (`storageType = sqlite`), which `database` names by its
/// path and `table` by its name.
///
/// | column | holds |
/// |---|---|
/// | session | the digest of the id, primary key |
/// | record | the record as JSON text |
/// | expires | when it ends if it is not used again, in seconds since 1970, rounded up |
/// | used | when it was last used, in seconds since 1970; 0 for what a change of id left |
/// | user | whose session it is, or NULL |
///
/// The database is made with mode 0600 when the first session is stored; beside it are SQLite's own
/// `-wal` and `-shm` and the directory `<database>.locks`.
#[derive(Clone, Debug)]
pub struct SqliteStore {
    shared: Arc<Shared>,
}

/// What the store, its leases and its clean-up have in common.
#[derive(Debug)]
struct Shared {
    database: Database,
    table: String,
    locks: SessionLocks,
    expiry: Expiry,
    config: Config,
}

impl SqliteStore {
    /// A store in the configuration's `database`. Nothing is opened or made yet.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] when `database` is not an absolute path, with or without `sqlite:` before it.
    pub fn new(config: &Config) -> Result<Self> {
        let path = database::path(config)?;
        let mut locks = path.clone().into_os_string();
        locks.push(".locks");
        let shared = Shared {
            database: Database::new(path, config),
            table: config.table().to_owned(),
            locks: SessionLocks::new(Path::new(&locks)),
            expiry: Expiry::new(config),
            config: config.clone(),
        };
        Ok(SqliteStore {
            shared: Arc::new(shared),
        })
    }

    /// The database's file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.shared.database.path
    }
}

impl Store for SqliteStore {
    fn create(
        &self,
        session: &SessionDigest,
        record: &Record,
        now: SystemTime,
    ) -> Result<Option<Box<dyn Lease>>> {
        let shared = &self.shared;
        check_size(record, shared.config.max_record_bytes())?;
        let Some(lock) = shared.locks.try_take(session.as_str())? else {
            // The holder of its lock has the session.
            return Ok(None);
        };
        let end = shared.expiry.end(record, now);
        if !shared.insert(session, record, end, now)? {
            return Ok(None);
        }
        let lease = SqliteLease::new(shared, session, record, end, lock);
        Ok(Some(Box::new(lease)))
    }

    fn lock(
        &self,
        session: &SessionDigest,
        wait: Duration,
        now: SystemTime,
    ) -> Result<Option<(Stored, Box<dyn Lease>)>> {
        let shared = &self.shared;
        // No lock file is created for an id that leads to no session.
        if !shared.contains(session)? {
            return Ok(None);
        }
        let lock = shared.locks.take(session.as_str(), wait)?;
        let Some(loaded) = shared.load(session)? else {
            return Ok(None);
        };
        if has_passed(loaded.end, now) {
            if !shared.config.keeps_expired() {
                shared.delete(session)?;
            }
            return Ok(None);
        }
        let place = shared.database.shown();
        let Some((stored, end)) = loaded.live(session, &place, now)? else {
            return Ok(None);
        };
        let lease = SqliteLease::new(shared, session, &stored.record, end, lock);
        Ok(Some((stored, Box::new(lease))))
    }

    fn read(&self, session: &SessionDigest, now: SystemTime) -> Result<Option<Stored>> {
        let shared = &self.shared;
        let (found, expiry) = (shared.find(session, now)?, &shared.expiry);
        Ok(renewing(found, expiry, now, |end, new_end| {
            shared.renew(session, end, new_end, now)
        }))
    }

    fn peek(&self, session: &SessionDigest, now: SystemTime) -> Result<Option<Stored>> {
        let found = self.shared.find(session, now)?;
        Ok(found.map(|(stored, _)| stored))
    }

    fn delete_expired(&self, sweep: &Sweep<'_>, now: SystemTime) -> Result<SweepReport> {
        sweep::run(&self.shared, sweep, now)
    }

    fn keeps_expired(&self) -> bool {
        true
    }

    fn last_sweep(&self, now: SystemTime) -> Option<Duration> {
        sweep::last(&self.shared, now)
    }

    fn for_each(&self, visit: &mut Visitor<'_>, now: SystemTime) -> Result<()> {
        let shared = &self.shared;
        let place = shared.database.shown();
        for_each(visit, &place, |last| shared.page(last, now))
    }

    fn sessions_of(&self, user: &str, now: SystemTime) -> Result<Vec<SessionDigest>> {
        let shared = &self.shared;
        let sql = format!(
            "SELECT session FROM \"{}\" WHERE user = ?1 AND expires >= ?2",
            shared.table
        );
        let (action, values) = ("list the sessions in", params![user, unix_seconds(now)]);
        let names: Vec<String> = shared.query(action, &sql, values, |row| row.get(0))?;
        Ok(digests(names).collect())
    }

    fn locks_users(&self) -> bool {
        true
    }

    fn lock_user(&self, _user: &str, wait: Duration) -> Result<Box<dyn Send>> {
        Ok(Box::new(self.shared.locks.take(USERS_LOCK, wait)?))
    }

    fn install(&self) -> Vec<Error> {
        install::install(&self.shared)
    }

    fn uninstall(&self) -> Uninstalled {
        install::uninstall(&self.shared)
    }
}
