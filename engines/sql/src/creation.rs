//! Making a session: its row and its lock in one transaction.

use std::sync::Arc;
use std::time::SystemTime;

use cgi_session::{Record, Result};
use cgi_session_kit::reading;
use cgi_session_kit::table::Table as _;
use cgi_session_kit::waiting::Backoff;

use super::cap;
use super::engine::{Failure, Kind};
use super::lease::SqlLease;
use super::link::ROW_WAIT;
use super::lock::Locked;

const ACTION: &str = "store a session in";

/// What became of a row that was to be stored.
enum Insertion {
    Done,
    Taken,
    /// Another change was in the way, for longer than the server waits.
    Locked,
    /// The connection broke, the server had ended it, or may only read by now.
    Unknown(Failure),
}

impl SqlLease {
    /// Stores a first record; `false` when the id is taken.
    pub(super) fn create(&mut self, record: &Record, now: SystemTime) -> Result<bool> {
        let database = Arc::clone(&self.database);
        let mut backoff = Backoff::new(database.config.lock_timeout());
        let failure = loop {
            match self.insert(record, now)? {
                Insertion::Done => return Ok(true),
                Insertion::Taken => return Ok(false),
                Insertion::Unknown(failure) => break failure,
                Insertion::Locked if database.find(&self.session, now)?.is_some() => {
                    return Ok(false);
                }
                // Another request is about to store it, or another program holds more of the table than a row.
                Insertion::Locked if backoff.pause() => {}
                Insertion::Locked => {
                    let table = database.name();
                    let holder = format!("another program that has locked the table {table}");
                    return Err(backoff.busy(Some(holder)));
                }
            }
        };
        database.pool.close();
        let (locked, found) = database.lock_version(&self.session, ACTION)?;
        // No other creation draws our version.
        if found == Some(self.version) {
            self.locked = Some(locked);
            return Ok(true);
        }
        locked.release(&database);
        if found.is_some() {
            return Ok(false);
        }
        let unknown = |failure: Failure| {
            let is_refused = failure.kind == Kind::ReadOnly;
            let error = database.explain(ACTION, failure);
            if is_refused {
                return error;
            }
            error.with_hint("whether it was stored is not known")
        };
        if failure.kind == Kind::Broken {
            // It may have been stored, and another request that knows the id may have destroyed it.
            return Err(unknown(failure));
        }
        // What the server has ended or refused it has not carried out.
        match self.insert(record, now)? {
            Insertion::Unknown(failure) => Err(unknown(failure)),
            inserted => Ok(matches!(inserted, Insertion::Done)),
        }
    }

    fn insert(&mut self, record: &Record, now: SystemTime) -> Result<Insertion> {
        let (database, dialect) = (&self.database, self.database.server().dialect);
        let insertion = format!(
            "INSERT INTO {} (session, record, expires, used, \"user\", version) \
             VALUES ('{}', {}, {}, {}, {}, {})",
            database.table(),
            self.session,
            database.text(record)?,
            self.end,
            reading::used(record, now),
            database.user(record.user()),
            self.version.0
        );
        let key = database.key(self.session);
        // No other request sees the row before the commit, so that none can have its lock.
        let mut statements = vec![insertion, (dialect.lock)(&key, ROW_WAIT)];
        let room = cap::admit(database, record, now)?;
        statements.extend(room.as_ref().map(|room| room.note.clone()));
        let (mut script, insert) = (dialect.transaction)(ROW_WAIT, statements);
        let commit = script.len() - 1;
        let mut link = match room {
            Some(room) => {
                script.push(room.locked.unlock(database));
                room.locked.link
            }
            None => database.take_alive()?,
        };
        let mut answers = link.run(&script);
        if !answers.has(commit)
            && let Some(failure) = answers.failure.take()
        {
            // The locks that it may have end with the connection.
            return match failure.kind {
                Kind::Duplicate => Ok(Insertion::Taken),
                Kind::Locked | Kind::Conflict => Ok(Insertion::Locked),
                Kind::Ended | Kind::Broken | Kind::ReadOnly => Ok(Insertion::Unknown(failure)),
                Kind::Late => {
                    let error = database.explain(ACTION, failure);
                    Err(error.with_hint("whether it was stored is not known"))
                }
                _ => Err(database.explain(ACTION, failure)),
            };
        }
        // Without its lock it is stored, and cannot be changed by this request.
        if answers.number(insert + 1) == 1 && answers.failure.is_none() {
            self.locked = Some(Locked { link, key });
        }
        Ok(Insertion::Done)
    }
}
