//! [`SqliteStore`]: sessions in a table of an SQLite database.
//!
//! SQLite locks a whole database, and only while it writes. That a request holds its session from
//! loading to committing, and disturbs no other session by it, is the work of lock files in
//! `<database>.locks`; a transaction lasts for one statement, for one batch of a clean-up, or for a
//! creation. The database is in WAL mode, in which readers never wait.
//!
//! # Lock order
//!
//! A session's lock → that of the creations under `maxSessions` → the database's. The holders of these two try session
//! locks and never wait for one. A row goes only under its session's lock, which is kept until the deletion is committed.

mod database;
mod install;
mod lease;
mod rows;
mod sweep;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use cgi_session::store::{check_size, has_passed};
use cgi_session::{
    Config, Error, Lease, Record, Result, SessionDigest, Store, StoreKind, Stored, Sweep,
    SweepReport, Uninstalled, Visitor,
};
use cgi_session_kit::table::Table as _;

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
    database: Arc<Database>,
}

impl SqliteStore {
    /// A store in the configuration's `database`. Nothing is opened or made yet.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] when `database` is not an absolute path, with or without `sqlite:` before it.
    pub fn new(config: &Config) -> Result<Self> {
        Ok(SqliteStore {
            database: Arc::new(Database::new(config)?),
        })
    }

    /// The database's file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.database.path
    }
}

impl Store for SqliteStore {
    fn create(
        &self,
        session: &SessionDigest,
        record: &Record,
        now: SystemTime,
    ) -> Result<Option<Box<dyn Lease>>> {
        let database = &self.database;
        check_size(record, database.config.max_record_bytes())?;
        let Some(lock) = database.locks.try_take(session.as_str())? else {
            // The holder of its lock has the session.
            return Ok(None);
        };
        let end = database.expiry().end(record, now);
        if !database.insert(session, record, end, now)? {
            return Ok(None);
        }
        let lease = SqliteLease::new(database, session, record, end, lock);
        Ok(Some(Box::new(lease)))
    }

    fn lock(
        &self,
        session: &SessionDigest,
        wait: Duration,
        now: SystemTime,
    ) -> Result<Option<(Stored, Box<dyn Lease>)>> {
        let database = &self.database;
        // No lock file is created for an id that leads to no session.
        if !database.contains(session)? {
            return Ok(None);
        }
        let lock = database.locks.take(session.as_str(), wait)?;
        let Some(loaded) = database.load(session)? else {
            return Ok(None);
        };
        if has_passed(loaded.end, now) && !database.config.keeps_expired() {
            database.delete(session)?;
            return Ok(None);
        }
        let Some((stored, end)) = loaded.live(session, &database.place(), now)? else {
            return Ok(None);
        };
        let lease = SqliteLease::new(database, session, &stored.record, end, lock);
        Ok(Some((stored, Box::new(lease))))
    }

    fn read(&self, session: &SessionDigest, now: SystemTime) -> Result<Option<Stored>> {
        self.database.read(session, now)
    }

    fn peek(&self, session: &SessionDigest, now: SystemTime) -> Result<Option<Stored>> {
        Ok(self.database.find(session, now)?.map(|(stored, _)| stored))
    }

    fn delete_expired(&self, sweep: &Sweep<'_>, now: SystemTime) -> Result<SweepReport> {
        sweep::run(&self.database, sweep, now)
    }

    fn keeps_expired(&self) -> bool {
        true
    }

    fn last_sweep(&self, now: SystemTime) -> Option<Duration> {
        self.database.last_sweep(now)
    }

    fn for_each(&self, visit: &mut Visitor<'_>, now: SystemTime) -> Result<()> {
        self.database.for_each(visit, now)
    }

    fn sessions_of(&self, user: &str, now: SystemTime) -> Result<Vec<SessionDigest>> {
        self.database.sessions_of(user, now)
    }

    fn locks_users(&self) -> bool {
        true
    }

    fn lock_user(&self, _user: &str, wait: Duration) -> Result<Box<dyn Send>> {
        Ok(Box::new(self.database.locks.take(USERS_LOCK, wait)?))
    }

    fn install(&self) -> Vec<Error> {
        let made = install::make(&self.database).map(|opened| self.database.keep(opened));
        made.err().into_iter().collect()
    }

    fn uninstall(&self) -> Uninstalled {
        let mut done = Uninstalled::default();
        let removed = install::remove_table(&self.database, &mut done);
        let locks = self.database.locks.uninstall(&mut done);
        done.errors.extend(removed.err());
        done.errors.extend(locks.err());
        done
    }
}
