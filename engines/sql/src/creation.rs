//! Making a session: its row and its lock in one transaction, and room for it.

use std::sync::Arc;
use std::time::SystemTime;

use cgi_session::{Error, Record, Result};
use cgi_session_kit::rows::{MAKE_ROOM, make_room};
use cgi_session_kit::table::Table as _;
use cgi_session_kit::waiting::Backoff;

use super::dialect::{Failure, Kind, transaction};
use super::lease::{SqlLease, Version};
use super::link::{Database, ROW_WAIT};
use super::lock::Locked;
use super::rows::Rows;

const ACTION: &str = "store a session in";

/// What became of a row that was to be stored.
enum Insertion {
    Done,
    Taken,
    /// Another change was in the way, for longer than the server waits.
    Locked,
    /// The connection broke, the server had ended it, says nothing, or may only read by now.
    Unknown(Failure),
}

impl SqlLease {
    /// Stores a first record; `false` when the id is taken.
    pub(super) fn create(&mut self, record: &Record, now: SystemTime) -> Result<bool> {
        let database = Arc::clone(&self.database);
        let mut backoff = Backoff::new(database.config().lock_timeout());
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
        if failure.kind == Kind::Late {
            return Err(database.unknown(ACTION, failure));
        }
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
        if failure.kind == Kind::Broken {
            // It may have been stored, and another request that knows the id may have destroyed it.
            return Err(database.unknown(ACTION, failure));
        }
        // What the server has ended or refused it has not carried out.
        match self.insert(record, now)? {
            Insertion::Unknown(failure) => Err(database.unknown(ACTION, failure)),
            inserted => Ok(matches!(inserted, Insertion::Done)),
        }
    }

    fn insert(&mut self, record: &Record, now: SystemTime) -> Result<Insertion> {
        let (database, dialect) = (&self.database, self.database.server().dialect);
        let [text, used, owner] = database.values(record, now)?;
        let (session, end, Version(version)) = (self.session, self.end, self.version);
        let insertion = format!(
            "INSERT INTO {} (session, record, expires, used, \"user\", version) \
             VALUES ('{session}', {text}, {end}, {used}, {owner}, {version})",
            database.table()
        );
        let key = database.key(session)?;
        // No other request sees the row before the commit, so that none can have its lock.
        let mut statements = vec![insertion, (dialect.lock)(&key, ROW_WAIT)];
        let room = database.admit(record, now)?;
        statements.extend(room.as_ref().map(|(_, note)| note.clone()));
        let mut script = transaction(statements);
        let commit = script.len() - 1;
        let mut link = match room {
            Some((locked, _)) => {
                script.push(locked.unlock(database));
                locked.link
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
                Kind::Ended | Kind::Broken | Kind::Late | Kind::ReadOnly => {
                    Ok(Insertion::Unknown(failure))
                }
                _ => Err(database.explain(ACTION, failure)),
            };
        }
        // Without its lock it is stored, and cannot be changed by this request.
        if answers.number(2) == 1 && answers.failure.is_none() {
            self.locked = Some(Locked { link, key });
        }
        Ok(Insertion::Done)
    }
}

impl Database {
    /// Makes room for this record, if it needs any (`maxSessions`). With the connection to store it on and the statement
    /// that counts it. Such creations run one after the other: the connection has the lock of those that count.
    fn admit(&self, record: &Record, now: SystemTime) -> Result<Option<(Locked, String)>> {
        if !self.needs_room(record)? {
            return Ok(None);
        }
        let (wait, known) = (self.config().lock_timeout(), self.selection_of_count());
        let (mut locked, known) = self.lock(None, "maxSessions", wait, MAKE_ROOM, &known)?;
        match make_room(&mut Rows(self, &mut locked.link), &known, now) {
            Err(full @ Error::Full { .. }) => {
                locked.release(self);
                Err(full)
            }
            note => Ok(Some((locked, note?))),
        }
    }
}
