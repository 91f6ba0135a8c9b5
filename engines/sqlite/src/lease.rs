//! [`SqliteLease`]: the lock of one session, and the changes of its row.

use std::sync::Arc;
use std::time::SystemTime;

use cgi_session::store::{SessionLock, check_size, unix_seconds};
use cgi_session::{Error, Lease, Record, Result, SessionDigest};
use cgi_session_kit::reading::{self, head};
use rusqlite::params;

use super::Shared;

/// The lock of one session.
pub(super) struct SqliteLease {
    shared: Arc<Shared>,
    session: SessionDigest,
    /// The times of the record, without its values.
    head: Record,
    end: u64,
    _lock: SessionLock,
}

impl SqliteLease {
    pub(super) fn new(
        shared: &Arc<Shared>,
        session: &SessionDigest,
        record: &Record,
        end: u64,
        lock: SessionLock,
    ) -> Self {
        SqliteLease {
            shared: Arc::clone(shared),
            session: *session,
            head: head(record),
            end,
            _lock: lock,
        }
    }

    /// Changes the row, if it is still there.
    fn update(&self, action: &str, columns: &str, values: &[&dyn rusqlite::ToSql]) -> Result<bool> {
        let sql = format!(
            "UPDATE \"{}\" SET {columns} WHERE session = ?1",
            self.shared.table
        );
        Ok(self.shared.execute(action, &sql, values)? == 1)
    }

    /// No other request has its lock, so that it was no other session that took its place.
    fn lost(&self) -> Error {
        log::warn!(
            "the session {} was lost in {} while it was in use: somebody deleted it by hand",
            self.session,
            self.shared.database.shown()
        );
        Error::LeaseLost
    }
}

impl Lease for SqliteLease {
    fn commit(&mut self, record: &Record, now: SystemTime) -> Result<()> {
        check_size(record, self.shared.config.max_record_bytes())?;
        let end = self.shared.expiry.end(record, now);
        let used = reading::used(record, now);
        let text = reading::text(record, &self.shared.database.shown())?;
        let is_saved = self.update(
            "save a session in",
            "record = ?2, expires = ?3, used = ?4, user = ?5",
            params![self.session.as_str(), text, end, used, record.user()],
        )?;
        if !is_saved {
            return Err(self.lost());
        }
        (self.end, self.head) = (end, head(record));
        Ok(())
    }

    fn touch(&mut self, now: SystemTime) -> Result<()> {
        let Some(end) = self.shared.expiry.renewed(&self.head, self.end, now) else {
            return Ok(());
        };
        // One that was deleted by hand has ended, and nothing of it was to be saved.
        self.update(
            "renew the time of a session in",
            "expires = ?2, used = ?3",
            params![self.session.as_str(), end, unix_seconds(now)],
        )?;
        self.end = end;
        Ok(())
    }

    fn check(&mut self) -> Result<()> {
        let is_there = self.shared.contains(&self.session)?;
        is_there.then_some(()).ok_or_else(|| self.lost())
    }

    fn destroy(self: Box<Self>) -> Result<()> {
        self.shared.delete(&self.session)
    }
}
