//! The rows of the table: found, understood, inserted and deleted.

use std::fmt::Display;
use std::time::{Duration, SystemTime};

use cgi_session::{Config, Record, Result, SessionDigest};
use cgi_session_kit::reading;
use cgi_session_kit::rows::{Deleter, MAKE_ROOM, make_room};
use cgi_session_kit::table::{Row, Table};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Params, params};

use super::database::{self, Database};
use super::install;

/// The name of the lock under which sessions are counted and made room for.
const CAP_LOCK: &str = "cap";

/// What a question is answered.
pub(super) fn answer(connection: &Connection, question: &str) -> rusqlite::Result<Vec<Row>> {
    let mut statement = connection.prepare(question)?;
    let columns = statement.column_count();
    let understand = |row: &rusqlite::Row<'_>| {
        let column = |at| {
            Ok(match row.get_ref(at)? {
                ValueRef::Integer(number) => Some(number.to_string().into_bytes()),
                ValueRef::Real(number) => Some(number.trunc().to_string().into_bytes()),
                ValueRef::Text(text) => Some(text.to_vec()),
                // As a name it is no text, and comes behind all texts, whatever it holds.
                ValueRef::Blob(text) if row.as_ref().column_name(at)? == "record" => {
                    Some(text.to_vec())
                }
                ValueRef::Blob(_) | ValueRef::Null => None,
            })
        };
        let columns = (0..columns).map(column);
        columns.collect::<rusqlite::Result<_>>().map(Row)
    };
    statement.query_map([], understand)?.collect()
}

impl Table for Database {
    fn config(&self) -> &Config {
        &self.config
    }

    fn place(&self) -> impl Display {
        self.path.display()
    }

    fn around_digits(&self) -> [&'static str; 2] {
        ["CAST(X'", "' AS TEXT)"]
    }

    fn ask(&self, action: &str, question: &str, _patience: Duration) -> Result<Vec<Row>> {
        let found = self.with_table(action, |connection| answer(connection, question))?;
        Ok(found.unwrap_or_default())
    }

    fn try_change(&self, action: &str, statement: &str) -> Result<()> {
        let changed = self.with_table(action, |connection| {
            connection.busy_timeout(Duration::ZERO)?;
            let changed = connection.execute(statement, []);
            connection.busy_timeout(self.busy_timeout())?;
            changed
        });
        changed.map(drop)
    }
}

impl Database {
    /// Runs a query, if there is a database with our table; nothing is made.
    fn with_table<T>(
        &self,
        action: &str,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<Option<T>> {
        let Some(opened) = self.open_existing()? else {
            return Ok(None);
        };
        let found = query(&opened.connection);
        self.keep(opened);
        self.outcome(action, found)
    }

    /// What a statement has come to; `None` where no session was ever stored.
    fn outcome<T>(&self, action: &str, done: rusqlite::Result<T>) -> Result<Option<T>> {
        match done {
            Ok(done) => Ok(Some(done)),
            Err(error) if error.to_string().starts_with("no such table: ") => Ok(None),
            Err(error) => Err(self.explain(action, error)),
        }
    }

    /// Changes rows, and returns how many.
    pub(super) fn execute(&self, action: &str, sql: &str, values: impl Params) -> Result<usize> {
        let changed = self.with_table(action, |connection| connection.execute(sql, values))?;
        Ok(changed.unwrap_or_default())
    }

    pub(super) fn contains(&self, session: &SessionDigest) -> Result<bool> {
        let table = self.table();
        let question = format!("SELECT 1 FROM {table} WHERE session = '{session}'");
        Ok(!(self.ask("read a session in", &question, Duration::ZERO)?).is_empty())
    }

    /// Stores the first record of a session whose lock we have; `false` when there is one already.
    pub(super) fn insert(
        &self,
        session: &SessionDigest,
        record: &Record,
        end: u64,
        now: SystemTime,
    ) -> Result<bool> {
        let failed = |error| self.explain("store a session in", error);
        let text = reading::text(record, &self.place())?;
        let sql = format!(
            "INSERT INTO {} (session, record, expires, used, user) VALUES (?1, ?2, ?3, ?4, ?5) \
             ON CONFLICT DO NOTHING",
            self.table()
        );
        let opened = install::prepared(self)?;
        let connection = &opened.connection;
        let mut room = None;
        if self.needs_room(record)? {
            let lock = self.locks.take(CAP_LOCK, self.config.lock_timeout())?;
            let mut rows = Rows(self, connection);
            let known = rows.ask(MAKE_ROOM, &self.selection_of_count())?;
            room = Some((lock, make_room(&mut rows, &known, now)?));
        }
        let transaction = database::begin(connection).map_err(failed)?;
        let used = reading::used(record, now);
        let values = params![session.as_str(), text, end, used, record.user()];
        let inserted = transaction.execute(&sql, values).map_err(failed)?;
        if let Some((_, note)) = room.as_ref().filter(|_| inserted == 1) {
            transaction.execute(note, []).map_err(failed)?;
        }
        transaction.commit().map_err(failed)?;
        self.keep(opened);
        Ok(inserted == 1)
    }

    pub(super) fn delete(&self, session: &SessionDigest) -> Result<()> {
        self.free_place(session);
        self.execute("delete a session in", &self.deletion(session), [])
            .map(drop)
    }
}

/// The table, on one connection.
pub(super) struct Rows<'a>(pub(super) &'a Database, pub(super) &'a Connection);

impl Deleter for Rows<'_> {
    fn database(&self) -> &impl Table {
        self.0
    }

    fn ask(&mut self, action: &str, question: &str) -> Result<Vec<Row>> {
        let answered = self.0.outcome(action, answer(self.1, question));
        Ok(answered?.unwrap_or_default())
    }

    /// Meanwhile no other connection can write.
    fn delete_free(
        &mut self,
        action: &str,
        sessions: &[SessionDigest],
        condition: Option<&str>,
    ) -> Result<Vec<SessionDigest>> {
        let Rows(database, connection) = *self;
        let failed = |error| database.explain(action, error);
        let (mut deleted, mut locks) = (Vec::new(), Vec::new());
        let Some(condition) = condition else {
            for session in sessions {
                if !database.locks.is_taken(session.as_str())? {
                    deleted.push(*session);
                }
            }
            return Ok(deleted);
        };
        let transaction = database::begin(connection).map_err(failed)?;
        for session in sessions {
            let Some(lock) = database.locks.try_take(session.as_str())? else {
                continue;
            };
            // Kept until the deletion is committed.
            locks.push(lock);
            // It may have been used since it was found.
            let deletion = format!("{} AND {condition}", database.deletion(session));
            if transaction.execute(&deletion, []).map_err(failed)? == 1 {
                deleted.push(*session);
            }
        }
        transaction.commit().map_err(failed)?;
        Ok(deleted)
    }
}
