//! [`SqlLease`]: the lock of one session, and the changes of its row.

use std::sync::Arc;
use std::time::SystemTime;

use cgi_session::store::{check_size, unix_seconds};
use cgi_session::{Error, Lease, Record, Result, SessionDigest};
use cgi_session_kit::reading::{head, tell};
use cgi_session_kit::table::Table as _;

use super::dialect::Kind;
use super::link::{Database, ROW_WAIT};
use super::lock::Locked;

/// The version of a record: how often the session was written, and a random number, which tells the
/// write of one from that of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Version(pub(super) u64);

impl Version {
    pub(super) fn next(self) -> Self {
        // What the column holds is not negative.
        let count = (self.count() + 1) & 0x7fff_ffff;
        Version(count << 32 | u64::from(rand::random::<u32>()))
    }

    fn count(self) -> u64 {
        self.0 >> 32
    }
}

/// The lock of one session.
pub(super) struct SqlLease {
    pub(super) database: Arc<Database>,
    /// None when the lock was lost, or given up, or is to be had.
    pub(super) locked: Option<Locked>,
    pub(super) session: SessionDigest,
    /// The times of the record, without its values.
    pub(super) head: Record,
    pub(super) end: u64,
    /// That of the record which we loaded or wrote last.
    pub(super) version: Version,
}

impl SqlLease {
    /// Changes the row, as long as no other request has written it.
    fn update(&self, columns: &str) -> String {
        let (table, session, Version(version)) =
            (self.database.table(), self.session, self.version);
        format!("UPDATE {table} SET {columns} WHERE session = '{session}' AND version = {version}")
    }

    /// Writes a record; with the `last` one the lock is given up.
    fn save(&mut self, record: &Record, now: SystemTime, is_last: bool) -> Result<()> {
        let database = &self.database;
        check_size(record, database.config().max_record_bytes())?;
        let (version, end) = (self.version.next(), database.expiry().end(record, now));
        let [text, used, owner] = database.values(record, now)?;
        let update = self.update(&format!(
            "record = {text}, expires = {end}, used = {used}, \"user\" = {owner}, version = {}",
            version.0
        ));
        self.write("save a session in", update, Some(version), is_last)?;
        (self.version, self.end, self.head) = (version, end, head(record));
        Ok(())
    }

    /// Changes the row in a transaction of its own, and with `is_last` gives up the lock behind it. The lock is still
    /// ours only if that was carried out, or refused.
    fn write(
        &mut self,
        action: &str,
        statement: String,
        next: Option<Version>,
        is_last: bool,
    ) -> Result<()> {
        let database = &self.database;
        let mut locked = self.locked.take().ok_or(Error::LeaseLost)?;
        let mut script = vec![statement];
        if is_last {
            script = (database.server().dialect.finish)(&script[0], &locked.key);
        }
        let mut answers = locked.link.run(&script);
        if !answers.has(0) && answers.kind() == Some(Kind::ReadOnly) {
            // Nothing was done. On the server that has its place by now the version tells what was written.
            // The same server would still have this connection's lock.
            drop(locked);
            database.pool.close();
            locked = match database.lock(None, self.session, ROW_WAIT, action, "SELECT 1") {
                Err(Error::Busy { .. }) => return Err(Error::LeaseLost),
                locked => locked?.0,
            };
            answers = locked.link.run(&script);
        }
        if answers.changed(0) == 1 {
            if is_last {
                locked.unlocked(database, &answers, script.len() - 1);
            } else {
                self.locked = Some(locked);
            }
            return Ok(());
        }
        let Some(failure) = answers.failure.take() else {
            return Err(Error::LeaseLost);
        };
        match failure.kind {
            // What only notes a use is noted again without the lock.
            Kind::Ended | Kind::Broken if next == Some(self.version) => Err(Error::LeaseLost),
            Kind::Conflict => Err(Error::LeaseLost),
            Kind::Broken | Kind::Ended => match self.was_written(next) {
                Some(true) => Ok(()),
                Some(false) => Err(Error::LeaseLost),
                None => Err(database.unknown(action, failure)),
            },
            Kind::Late => Err(database.unknown(action, failure)),
            _ => {
                self.locked = Some(locked);
                Err(self.database.explain(action, failure))
            }
        }
    }

    /// Whether a write was carried out whose answer did not come: what is in the row says so, if no more
    /// than one other was written since. Under the lock, which the broken connection has until it can do nothing more.
    fn was_written(&self, next: Option<Version>) -> Option<bool> {
        let database = &self.database;
        let seen = database.lock_version(&self.session, "look at a session in");
        let (locked, found) = seen.ok()?;
        locked.release(database);
        match (found, next) {
            (None, None) => Some(true),
            (Some(found), None) => (found.count() >= self.version.count()).then_some(false),
            (Some(found), Some(next)) if found == next => Some(true),
            (Some(found), Some(next)) => (found.count() <= next.count()).then_some(false),
            (None, Some(_)) => None,
        }
    }
}

impl Database {
    /// Takes a session's lock and shows whose write is in its row.
    pub(super) fn lock_version(
        &self,
        session: &SessionDigest,
        action: &str,
    ) -> Result<(Locked, Option<Version>)> {
        let question = self.selection_of_version(session);
        let wait = self.config().lock_timeout().max(ROW_WAIT);
        let (locked, rows) = self.lock(None, session, wait, action, &question)?;
        Ok((locked, rows.first().map(|row| Version(row.number(0)))))
    }
}

impl Lease for SqlLease {
    fn commit(&mut self, record: &Record, now: SystemTime) -> Result<()> {
        self.save(record, now, false)
    }

    fn finish(&mut self, record: &Record, now: SystemTime) -> Result<()> {
        self.save(record, now, true)
    }

    fn touch(&mut self, now: SystemTime) -> Result<()> {
        let Some(end) = self.database.expiry().renewed(&self.head, self.end, now) else {
            return Ok(());
        };
        let update = self.update(&format!("expires = {end}, used = {}", unix_seconds(now)));
        // Without its lock nothing of it can be saved, and nothing was to be: it is noted as a reader's.
        let action = "renew the time of a session in";
        if (self.write(action, update, Some(self.version), false)).is_err() {
            tell(self.database.renew(&self.session, [self.end, end], now));
        }
        self.end = end;
        Ok(())
    }

    fn check(&mut self) -> Result<()> {
        let mut locked = self.locked.take().ok_or(Error::LeaseLost)?;
        let question = self.database.selection_of_version(&self.session);
        let answers = locked.link.run(&[question]);
        let found = answers.row(0).map(|row| Version(row.number(0)));
        if found != Some(self.version) {
            return Err(Error::LeaseLost);
        }
        self.locked = Some(locked);
        Ok(())
    }

    fn destroy(mut self: Box<Self>) -> Result<()> {
        let database = &self.database;
        database.free_place(&self.session);
        let (row, Version(version)) = (database.deletion(&self.session), self.version);
        let deletion = format!("{row} AND version = {version}");
        self.write("delete a session in", deletion, None, true)
    }
}

impl Drop for SqlLease {
    fn drop(&mut self) {
        if let Some(locked) = self.locked.take() {
            locked.release(&self.database);
        }
    }
}
