//! The rows of the table: found, understood, inserted and deleted.

use std::time::{Duration, SystemTime};

use cgi_session::store::unix_seconds;
use cgi_session::{Record, Result, SessionDigest, Stored};
use cgi_session_kit::reading;
use cgi_session_kit::reading::Loaded;
use cgi_session_kit::rows::PAGE;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Params, Row, params};

use super::{Shared, cap, database, install};

/// What was loaded from the columns record, expires and used, the first of which is number `first`.
fn loaded(row: &Row<'_>, first: usize) -> rusqlite::Result<Loaded> {
    let columns = (
        row.get_ref(first)?,
        row.get_ref(first + 1)?,
        row.get_ref(first + 2)?,
    );
    let (
        ValueRef::Text(data) | ValueRef::Blob(data),
        ValueRef::Integer(end),
        ValueRef::Integer(used),
    ) = columns
    else {
        // No record, as its reader will say. It is left alone.
        return Ok(Loaded {
            data: Vec::new(),
            end: u64::MAX,
            used: 0,
        });
    };
    // A negative time is one of long ago.
    let seconds = |seconds| u64::try_from(seconds).unwrap_or_default();
    Ok(Loaded {
        data: data.to_vec(),
        end: seconds(end),
        used: seconds(used),
    })
}

impl Shared {
    /// Runs a query, if there is a database with our table; nothing is made.
    pub(super) fn with_table<T>(
        &self,
        action: &str,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<Option<T>> {
        let Some(opened) = self.database.open_existing()? else {
            return Ok(None);
        };
        let found = query(&opened.connection);
        self.database.keep(opened);
        match found {
            Ok(found) => Ok(Some(found)),
            Err(error) if database::is_missing_table(&error) => Ok(None),
            Err(error) => Err(self.database.explain(action, error)),
        }
    }

    /// What a query finds.
    pub(super) fn query<T>(
        &self,
        action: &str,
        sql: &str,
        values: impl Params,
        understand: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>> {
        let found = self.with_table(action, |connection| {
            let mut statement = connection.prepare(sql)?;
            statement.query_map(values, understand)?.collect()
        })?;
        Ok(found.unwrap_or_default())
    }

    /// Changes rows, and returns how many.
    pub(super) fn execute(&self, action: &str, sql: &str, values: impl Params) -> Result<usize> {
        let changed = self.with_table(action, |connection| connection.execute(sql, values))?;
        Ok(changed.unwrap_or_default())
    }

    pub(super) fn contains(&self, session: &SessionDigest) -> Result<bool> {
        let sql = format!("SELECT 1 FROM \"{}\" WHERE session = ?1", self.table);
        let (action, values) = ("read a session in", [session.as_str()]);
        Ok(!self.query(action, &sql, values, |_| Ok(()))?.is_empty())
    }

    pub(super) fn load(&self, session: &SessionDigest) -> Result<Option<Loaded>> {
        let table = &self.table;
        let sql = format!("SELECT record, expires, used FROM \"{table}\" WHERE session = ?1");
        let (action, values) = ("read a session in", [session.as_str()]);
        Ok(self
            .query(action, &sql, values, |row| loaded(row, 0))?
            .pop())
    }

    /// A live session and its end.
    pub(super) fn find(
        &self,
        session: &SessionDigest,
        now: SystemTime,
    ) -> Result<Option<(Stored, u64)>> {
        let place = self.database.shown();
        let loaded = self.load(session)?;
        loaded.map_or(Ok(None), |loaded| loaded.live(session, &place, now))
    }

    /// The next live rows in the order of their names.
    pub(super) fn page(&self, after: &str, now: SystemTime) -> Result<Vec<(String, Loaded)>> {
        let sql = format!(
            "SELECT session, record, expires, used FROM \"{}\" \
             WHERE session > ?1 AND expires >= ?2 ORDER BY session LIMIT {PAGE}",
            self.table
        );
        let values = params![after, unix_seconds(now)];
        self.query("list the sessions in", &sql, values, |row| {
            Ok((row.get(0)?, loaded(row, 1)?))
        })
    }

    /// Stores the first record of a session whose lock we have; `false` when there is one already.
    pub(super) fn insert(
        &self,
        session: &SessionDigest,
        record: &Record,
        end: u64,
        now: SystemTime,
    ) -> Result<bool> {
        let failed = |error| self.database.explain("store a session in", error);
        let text = reading::text(record, &self.database.shown())?;
        let sql = format!(
            "INSERT INTO \"{}\" (session, record, expires, used, user) VALUES (?1, ?2, ?3, ?4, ?5) \
             ON CONFLICT DO NOTHING",
            self.table
        );
        let mut opened = install::prepared(self)?;
        let transaction = database::begin(&mut opened).map_err(failed)?;
        // Kept until the deletions are committed.
        let locks = cap::admit(self, &transaction, record, now)?;
        let values = params![
            session.as_str(),
            text,
            end,
            reading::used(record, now),
            record.user()
        ];
        let rows = transaction.execute(&sql, values).map_err(failed)?;
        transaction.commit().map_err(failed)?;
        drop(locks);
        self.database.keep(opened);
        Ok(rows == 1)
    }

    pub(super) fn delete(&self, session: &SessionDigest) -> Result<()> {
        let sql = format!("DELETE FROM \"{}\" WHERE session = ?1", self.table);
        let deleted = self.execute("delete a session in", &sql, [session.as_str()]);
        deleted.map(drop)
    }

    /// Notes that a session was read, unless another request has noted or written something meanwhile, or
    /// is about to: a reader never waits.
    pub(super) fn renew(
        &self,
        session: &SessionDigest,
        end: u64,
        new_end: u64,
        now: SystemTime,
    ) -> Result<()> {
        let sql = format!(
            "UPDATE \"{}\" SET expires = ?3, used = ?4 WHERE session = ?1 AND expires = ?2",
            self.table
        );
        let values = params![session.as_str(), end, new_end, unix_seconds(now)];
        let renewed = self.with_table("renew the time of a session in", |connection| {
            connection.busy_timeout(Duration::ZERO)?;
            let renewed = connection.execute(&sql, values);
            connection.busy_timeout(self.database.busy_timeout)?;
            renewed
        });
        renewed.map(drop)
    }
}
