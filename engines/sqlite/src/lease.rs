//! [`SqliteLease`]: the lock of one session, and the changes of its row.

use std::sync::Arc;
use std::time::SystemTime;

use cgi_session::store::{SessionLock, check_size, unix_seconds};
use cgi_session::{Error, Lease, Record, Result, SessionDigest};
use cgi_session_kit::reading::{self, head, tell};
use cgi_session_kit::table::Table as _;
use rusqlite::params;

use super::database::Database;

/// The lock of one session.
pub(super) struct SqliteLease {
    database: Arc<Database>,
    session: SessionDigest,
    /// The times of the record, without its values.
    head: Record,
    end: u64,
    _lock: SessionLock,
}

impl SqliteLease {
    pub(super) fn new(
        database: &Arc<Database>,
        session: &SessionDigest,
        record: &Record,
        end: u64,
        lock: SessionLock,
    ) -> Self {
        SqliteLease {
            database: Arc::clone(database),
            session: *session,
            head: head(record),
            end,
            _lock: lock,
        }
    }

    /// No other request has its lock, so that it was no other session that took its place.
    fn lost(&self) -> Error {
        log::warn!(
            "the session {} was lost in {} while it was in use: somebody deleted it by hand",
            self.session,
            self.database.place()
        );
        Error::LeaseLost
    }
}

impl Lease for SqliteLease {
    fn commit(&mut self, record: &Record, now: SystemTime) -> Result<()> {
        check_size(record, self.database.config.max_record_bytes())?;
        let end = self.database.expiry().end(record, now);
        let used = reading::used(record, now);
        let text = reading::text(record, &self.database.place())?;
        let update = format!(
            "UPDATE {} SET record = ?2, expires = ?3, used = ?4, user = ?5 WHERE session = ?1",
            self.database.table()
        );
        let values = params![self.session.as_str(), text, end, used, record.user()];
        let action = "save a session in";
        if self.database.execute(action, &update, values)? == 0 {
            return Err(self.lost());
        }
        (self.end, self.head) = (end, head(record));
        Ok(())
    }

    fn touch(&mut self, now: SystemTime) -> Result<()> {
        let Some(end) = self.database.expiry().renewed(&self.head, self.end, now) else {
            return Ok(());
        };
        let (table, session, used) = (self.database.table(), self.session, unix_seconds(now));
        let update = format!(
            "UPDATE {table} SET expires = {end}, used = {used} WHERE session = '{session}'"
        );
        let action = "renew the time of a session in";
        // Nothing of it was to be saved, so that no other program's change is waited for.
        tell(self.database.try_change(action, &update));
        self.end = end;
        Ok(())
    }

    fn check(&mut self) -> Result<()> {
        let is_there = self.database.contains(&self.session)?;
        is_there.then_some(()).ok_or_else(|| self.lost())
    }

    fn destroy(self: Box<Self>) -> Result<()> {
        self.database.delete(&self.session)
    }
}
