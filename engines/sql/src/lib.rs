//! Sessions in a table of a database server: what `PostgreSQL` and `MySQL` have in common.
//!
//! # The lock
//!
//! A request holds its session by a lock of the server's own, on a connection that is the request's alone:
//! `pg_advisory_lock`, `GET_LOCK`. It belongs to the connection, so that it survives every commit and no transaction is
//! open while a page is made. The server gives it up when the connection ends, however the program ends, and ends a
//! connection that is silent for longer than `lockLease`. Readers see what was committed last, and wait for nothing.
//!
//! The last write and the end of the lock are one message: `UPDATE …; DO RELEASE_LOCK(…)`. The lock ends behind the
//! commit, or the next holder would not see the change. Where a message is one transaction, as in `PostgreSQL`, that takes
//! the lock over from the connection. The record is read behind the lock by a statement of its own, READ COMMITTED
//! whatever the server's default is: under a stricter one it would be what it was before the lock was had.
//!
//! # Why no update is lost
//!
//! `version` counts the records of a session, with a random number behind the count. Every write of a lease has the
//! condition that it is still the one that the lease loaded or wrote. So
//!
//! * with the lock held from loading to the last write, no other request wrote in between;
//! * when the lock was lost, because the server ended the connection or was changed for another, a write changes
//!   nothing unless the record is the one the lease knows, and is [`Error::LeaseLost`] otherwise;
//! * between the servers of a Galera cluster locks do not exclude; the second of two commits fails there
//!   with a deadlock, which is [`Error::LeaseLost`] too. To such a server every statement is a message of its
//!   own: it may acknowledge a commit that was overruled when that came together with its `UPDATE`;
//! * only `INSERT` makes a row, so that no write brings back a session that is gone; one that was deleted and
//!   made again has another version.
//!
//! When a connection breaks in the middle of a write, the row is looked at again on another one and under the lock,
//! which the broken one has until it can do nothing more: the version tells whether the write was carried out.

#![cfg_attr(docsrs, feature(doc_cfg))]
#![cfg(any(feature = "mysql", feature = "postgres"))]

mod address;
mod creation;
mod dialect;
mod driver;
mod install;
mod lease;
mod link;
mod lock;
#[cfg(feature = "mysql")]
mod mysql;
#[cfg(feature = "postgres")]
mod postgres;
mod rows;
mod sweep;

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use cgi_session::store::{check_size, has_passed};
use cgi_session::{
    Error, Examination, Lease, Record, Result, SessionDigest, Store, Stored, Sweep, SweepReport,
    Uninstalled, Visitor,
};
use cgi_session_kit::reading::head;
use cgi_session_kit::table::Table as _;
use cgi_session_kit::{Pool, push_hex};
use scopeguard::guard;

use address::Address;
use dialect::{Connect, Dialect};
use lease::{SqlLease, Version};
use link::{Connector, Database};

#[cfg(feature = "mysql")]
pub use mysql::MYSQL;
#[cfg(feature = "postgres")]
pub use postgres::POSTGRES;

/// The names of indexes and of the second table end with more letters, and may have 63.
const MAX_TABLE: usize = 55;

/// Sessions in a table of a database server (`storageType = postgres` or `mysql`), which `database` names by its URL
/// and `table` by its name. [`Store::install`] makes the table.
///
/// | column | holds |
/// |---|---|
/// | session | the digest of the id, primary key |
/// | record | the record as JSON text |
/// | expires | when it ends if it is not used again, in seconds since 1970, rounded up |
/// | used | when it was last used, in seconds since 1970; 0 for what a change of id left |
/// | user | whose session it is, or NULL |
/// | version | a number that every save changes |
///
/// The lock of a session belongs to a connection. So each open session needs one of its own, and a proxy in between
/// must keep a connection for each client (`PgBouncer`: `pool_mode = session`).
#[derive(Clone)]
pub struct SqlStore {
    database: Arc<Database>,
}

impl SqlStore {
    fn new(address: Address, dialect: &'static Dialect, connect: Box<Connect>) -> Result<Self> {
        let config = &address.config;
        let table = config.table();
        if table.len() > MAX_TABLE {
            return Err(Error::Config(format!(
                "table = {table} ({}): must be at most {MAX_TABLE} letters here",
                config.origin("table")
            )));
        }
        let pool = Pool::new(Connector {
            address,
            dialect,
            connect,
            schema: OnceLock::new(),
        });
        let database = Arc::new(Database { pool });
        Ok(SqlStore { database })
    }
}

impl fmt::Debug for SqlStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqlStore")
            .field("database", &self.database.place().to_string())
            .field("table", &self.database.name())
            .finish_non_exhaustive()
    }
}

impl Store for SqlStore {
    fn create(
        &self,
        session: &SessionDigest,
        record: &Record,
        now: SystemTime,
    ) -> Result<Option<Box<dyn Lease>>> {
        let database = &self.database;
        check_size(record, database.config().max_record_bytes())?;
        let mut lease = Box::new(SqlLease {
            database: Arc::clone(database),
            locked: None,
            session: *session,
            head: head(record),
            end: database.expiry().end(record, now),
            version: Version(0).next(),
        });
        Ok(lease.create(record, now)?.then_some(lease as _))
    }

    fn lock(
        &self,
        session: &SessionDigest,
        wait: Duration,
        now: SystemTime,
    ) -> Result<Option<(Stored, Box<dyn Lease>)>> {
        let database = &self.database;
        let question = format!(
            "SELECT record, expires, used, version FROM {} WHERE session = '{session}'",
            database.table()
        );
        let (locked, rows) = database.lock(None, session, wait, "open a session in", &question)?;
        let Some(mut row) = rows.into_iter().next() else {
            locked.release(database);
            return Ok(None);
        };
        let loaded = row.take_loaded();
        // Dropped, it gives up the lock.
        let mut lease = Box::new(SqlLease {
            database: Arc::clone(database),
            locked: Some(locked),
            session: *session,
            head: Record::new(now),
            end: loaded.end,
            version: Version(row.number(3)),
        });
        if has_passed(loaded.end, now) {
            if database.config().keeps_expired() {
                return Ok(None);
            }
            return match lease.destroy() {
                // Through another node of a cluster it was renewed meanwhile.
                Err(Error::LeaseLost) if database.find(session, now)?.is_some() => {
                    self.lock(session, wait, now)
                }
                Ok(()) | Err(Error::LeaseLost) => Ok(None),
                Err(error) => Err(error),
            };
        }
        let stored = loaded.stored(session, &database.place())?;
        Ok(stored.map(|stored| {
            lease.head = head(&stored.record);
            (stored, lease as _)
        }))
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

    /// It has a connection of its own. What is taken while it is held is had without waiting, or is itself held for the
    /// time of a creation alone, so that two that wait never wait for each other.
    fn lock_user(&self, user: &str, wait: Duration) -> Result<Box<dyn Send>> {
        let mut name = "user:".to_owned();
        push_hex(&mut name, user.as_bytes());
        let (database, action) = (&self.database, "count the sessions of a user in");
        let (locked, _) = database.lock(None, name, wait, action, "SELECT 1")?;
        let database = Arc::clone(database);
        let lock = guard(locked, move |locked| locked.release(&database));
        Ok(Box::new(lock))
    }

    fn install(&self) -> Vec<Error> {
        install::install(&self.database).err().into_iter().collect()
    }

    fn examine(&self) -> Examination {
        let mut found = Examination::default();
        let failed = install::examine(&self.database, &mut found).err();
        found.problems.extend(failed);
        found
    }

    fn uninstall(&self) -> Uninstalled {
        let mut done = Uninstalled::default();
        let failed = install::uninstall(&self.database, &mut done).err();
        done.errors.extend(failed);
        done
    }
}
