//! Making a session: its row, and then the lock of it.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use cgi_session::{Error, Record, Result, SessionDigest};
use cgi_session_kit::reading;

use super::cap;
use super::engine::{Failure, Kind};
use super::lease::{SqlLease, Version};
use super::link::{Database, Link};

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
    /// It could not be stored in the time that the server waits for locks.
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
    let started = Instant::now();
    let failure = loop {
        match new.insert()? {
            Insertion::Done(lease) => return Ok(Some(lease)),
            Insertion::Taken => return Ok(None),
            Insertion::Unknown(failure) => break failure,
            Insertion::Locked => {
                if new.is_taken(started)? {
                    return Ok(None);
                }
            }
        }
    };
    database.pool.close();
    let (link, found) = new.look()?;
    // Nobody else draws our version.
    if found == Some(new.version) {
        return Ok(Some(new.lease(link)));
    }
    database.roll_back(link);
    if found.is_some() {
        return Ok(None);
    }
    if failure.kind == Kind::Broken {
        // It may have been stored, and somebody who knows the id may have destroyed it.
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
    /// Whether somebody has stored the same id. Else somebody is about to, or holds more of the table than
    /// a row, and is waited for in the time that there is.
    fn is_taken(&self, started: Instant) -> Result<bool> {
        let is_taken = self.database.find(self.session, self.now)?.is_some();
        let waited = started.elapsed();
        if is_taken || waited < self.database.lock_timeout {
            return Ok(is_taken);
        }
        let table = &self.database.table;
        let holder = Some(format!("somebody who has the table {table} locked"));
        Err(Error::Busy { waited, holder })
    }

    fn insert(&self) -> Result<Insertion> {
        let (database, session) = (self.database, self.session);
        let text = database.text(self.record)?;
        let (mut link, mut script) = cap::admit(database, self.record, self.now)?;
        let insert = script.push(&format!(
            "INSERT INTO {} (session, record, expires, used, \"user\", version) \
             VALUES ('{session}', {text}, {}, {}, {}, {})",
            database.table(),
            self.end,
            reading::used(self.record, self.now),
            database.user(self.record.user()),
            self.version
        ));
        let commit = script.push("COMMIT");
        database.engine().begin(&mut script, Duration::ZERO);
        let select = script.push(&database.selection_of_version(session, Duration::ZERO));
        let mut answers =
            link.run_within(&script, link.patience.saturating_add(database.lock_timeout));
        if !answers.has(commit)
            && let Some(failure) = answers.failure.take()
        {
            database.recover(link, &failure);
            return match failure.kind {
                Kind::Duplicate if !answers.has(insert) => Ok(Insertion::Taken),
                Kind::Locked if !answers.has(insert) => Ok(Insertion::Locked),
                Kind::Ended | Kind::Broken | Kind::ReadOnly => Ok(Insertion::Unknown(failure)),
                _ => Err(database.explain(ACTION, failure)),
            };
        }
        // Somebody who knows the id may have come in between: his is the session then. If he has
        // destroyed it, it is not stored again.
        let mut lease = self.lease(link);
        lease.check_lock(answers, select);
        Ok(Insertion::Done(lease))
    }

    /// Locks the row under the id and shows whose write is in it, when it is not known what became of ours.
    fn look(&self) -> Result<(Link, Option<Version>)> {
        let database = self.database;
        let mut script = database.transaction(Duration::ZERO);
        let select = script.push(&database.selection_of_version(self.session, Duration::ZERO));
        let (link, answers) = database.run(&script, Duration::ZERO)?;
        let (link, answers) = database.checked(ACTION, link, answers)?;
        let found = answers.row(select).map(|row| Version(row.number(0)));
        Ok((link, found))
    }

    fn unknown(&self, failure: Failure) -> Error {
        let is_refused = failure.kind == Kind::ReadOnly;
        let error = self.database.explain(ACTION, failure);
        if is_refused {
            return error;
        }
        error.with_hint("whether it was stored is not known")
    }

    fn lease(&self, link: Link) -> Box<SqlLease> {
        Box::new(SqlLease::new(
            self.database,
            link,
            self.session,
            self.record,
            self.end,
            self.version,
        ))
    }
}
