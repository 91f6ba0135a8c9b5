//! Making a session: its row and its lock in one transaction.

use std::sync::Arc;
use std::time::SystemTime;

use cgi_session::{Error, Record, Result, SessionDigest};
use cgi_session_kit::reading;
use cgi_session_kit::waiting::Backoff;

use super::cap;
use super::engine::{Failure, Kind, Script};
use super::lease::{SqlLease, Version};
use super::link::{Database, ROW_WAIT};
use super::lock::Locked;

const ACTION: &str = "store a session in";

/// A session that is about to be stored.
struct New<'a> {
    database: &'a Arc<Database>,
    session: &'a SessionDigest,
    record: &'a Record,
    end: u64,
    version: Version,
    now: SystemTime,
}

/// What became of a row that was to be stored.
enum Insertion {
    Done(Box<SqlLease>),
    Taken,
    /// Another change was in the way, for longer than the server waits.
    Locked,
    /// The connection broke, the server had ended it, or may only read by now.
    Unknown(Failure),
}

/// Stores a first record; `None` when the id is taken.
pub(super) fn create(
    database: &Arc<Database>,
    session: &SessionDigest,
    record: &Record,
    now: SystemTime,
) -> Result<Option<Box<SqlLease>>> {
    let new = New {
        database,
        session,
        record,
        end: database.expiry.end(record, now),
        version: Version::first(),
        now,
    };
    let mut backoff = Backoff::new(database.config.lock_timeout());
    let failure = loop {
        match new.insert()? {
            Insertion::Done(lease) => return Ok(Some(lease)),
            Insertion::Taken => return Ok(None),
            Insertion::Unknown(failure) => break failure,
            Insertion::Locked => {
                if new.is_taken(&mut backoff)? {
                    return Ok(None);
                }
            }
        }
    };
    database.pool.close();
    let (locked, found) = database.lock_version(session, ACTION)?;
    // No other creation draws our version.
    if found == Some(new.version) {
        return Ok(Some(new.lease(Some(locked))));
    }
    locked.release(database);
    if found.is_some() {
        return Ok(None);
    }
    if failure.kind == Kind::Broken {
        // It may have been stored, and another request that knows the id may have destroyed it.
        return Err(new.unknown(failure));
    }
    // What the server has ended or refused it has not carried out.
    match new.insert()? {
        Insertion::Done(lease) => Ok(Some(lease)),
        Insertion::Taken | Insertion::Locked => Ok(None),
        Insertion::Unknown(failure) => Err(new.unknown(failure)),
    }
}

impl New<'_> {
    /// Whether the same id is stored. Else another request is about to store it, or another program holds more of the
    /// table than a row, and is waited for in the time that there is.
    fn is_taken(&self, backoff: &mut Backoff) -> Result<bool> {
        let is_taken = self.database.find(self.session, self.now)?.is_some();
        if is_taken || backoff.pause() {
            return Ok(is_taken);
        }
        let table = &self.database.table;
        let holder = format!("another program that has locked the table {table}");
        Err(backoff.busy(Some(holder)))
    }

    fn insert(&self) -> Result<Insertion> {
        let (database, session) = (self.database, self.session);
        let text = database.text(self.record)?;
        let engine = database.engine();
        let insertion = format!(
            "INSERT INTO {} (session, record, expires, used, \"user\", version) \
             VALUES ('{session}', {text}, {}, {}, {}, {})",
            database.table(),
            self.end,
            reading::used(self.record, self.now),
            database.user(self.record.user()),
            self.version.0
        );
        let mut script = Script::default();
        let key = database.key(session);
        // No other request sees the row before the commit, so that none can have its lock.
        let mut statements = vec![insertion, engine.lock(&key, ROW_WAIT)];
        let room = cap::admit(database, self.record, self.now)?;
        statements.extend(room.as_ref().map(|room| room.note.clone()));
        let insert = engine.transaction(&mut script, ROW_WAIT, &statements);
        let commit = script.last();
        let mut link = match room {
            Some(room) => {
                script.push(&room.locked.unlock(database));
                room.locked.link
            }
            None => database.take_alive()?,
        };
        let mut answers = link.run(&script);
        if !answers.has(commit)
            && let Some(failure) = answers.failure.take()
        {
            // The locks that it may have end with the connection.
            database.give_up(&failure);
            return match failure.kind {
                Kind::Duplicate => Ok(Insertion::Taken),
                Kind::Locked | Kind::Conflict => Ok(Insertion::Locked),
                Kind::Ended | Kind::Broken | Kind::ReadOnly => Ok(Insertion::Unknown(failure)),
                Kind::Late => Err(self.unknown(failure)),
                _ => Err(database.explain(ACTION, failure)),
            };
        }
        let is_had = answers
            .row(insert + 1)
            .is_some_and(|row| row.number(0) == 1);
        let is_whole = answers.failure.is_none();
        // Without its lock it is stored, and cannot be changed by this request.
        let locked = (is_had && is_whole).then(|| Locked { link, key });
        Ok(Insertion::Done(self.lease(locked)))
    }

    fn unknown(&self, failure: Failure) -> Error {
        let is_refused = failure.kind == Kind::ReadOnly;
        let error = self.database.explain(ACTION, failure);
        if is_refused {
            return error;
        }
        error.with_hint("whether it was stored is not known")
    }

    fn lease(&self, locked: Option<Locked>) -> Box<SqlLease> {
        let (database, session) = (self.database, self.session);
        let lease = SqlLease::new(
            database,
            locked,
            session,
            self.record,
            self.end,
            self.version,
        );
        Box::new(lease)
    }
}
