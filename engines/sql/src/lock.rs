//! Taking the lock of a session.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use cgi_session::store::has_passed;
use cgi_session::{Error, Result, SessionDigest, Stored};

use super::engine::{Kind, Row, Script};
use super::lease::{SqlLease, Version};
use super::link::{Database, Link};
use super::rows::loaded;

const ACTION: &str = "open a session in";
/// Between two tries for a lock that the server did not wait for.
const PAUSES: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(20)];

/// What one try for a lock came to.
enum Attempt {
    Locked(Box<(Stored, SqlLease)>),
    Absent,
    /// Somebody else has it, who may be known.
    Busy(Option<String>),
}

/// Waits for a session's lock and loads what is stored.
pub(super) fn lock(
    database: &Arc<Database>,
    session: &SessionDigest,
    wait: Duration,
    now: SystemTime,
) -> Result<Option<(Stored, SqlLease)>> {
    let started = Instant::now();
    let left = || wait.saturating_sub(started.elapsed());
    let [mut pause, longest] = PAUSES;
    let mut is_first = true;
    loop {
        let holder = match attempt(database, session, left(), is_first, now)? {
            Attempt::Locked(found) => return Ok(Some(*found)),
            Attempt::Absent => return Ok(None),
            Attempt::Busy(holder) => holder,
        };
        let left = left();
        if left.is_zero() {
            // Who does not wait at all asks again soon, and has no use for a name.
            let is_known = holder.is_some() || wait.is_zero();
            let holder = if is_known {
                holder
            } else {
                database.holder(session)
            };
            return Err(Error::Busy {
                waited: wait,
                holder,
            });
        }
        thread::sleep(pause.min(left));
        pause = (pause * 2).min(longest);
        is_first = false;
    }
}

impl Database {
    fn holder(&self, session: &SessionDigest) -> Option<String> {
        let question = self.engine().holder(&self.table, session)?;
        let answers = self.ask("ask who has a session in", &Script::of(&question));
        Some(answers.ok()?.row(0)?.text(0)?.to_owned())
    }
}

fn attempt(
    database: &Arc<Database>,
    session: &SessionDigest,
    wait: Duration,
    is_first: bool,
    now: SystemTime,
) -> Result<Attempt> {
    let mut script = database.transaction(wait);
    let select = script.push(&format!(
        "SELECT record, expires, used, version, held_by FROM {} WHERE session = '{session}' {}",
        database.table(),
        database.engine().for_update(wait),
    ));
    let (link, mut answers) = database.run(&script, wait)?;
    if let Some(failure) = answers.failure.take() {
        database.recover(link, &failure);
        return match failure.kind {
            Kind::Locked | Kind::Conflict => Ok(Attempt::Busy(None)),
            _ => Err(database.explain(ACTION, failure)),
        };
    }
    let Some(row) = answers.take_rows(select).pop() else {
        database.roll_back(link);
        return Ok(Attempt::Absent);
    };
    let Some(holder) = row.text(4).map(str::to_owned) else {
        return open(database, session, link, row, now);
    };
    // Mostly whoever made it is about to lock the row again, and not worth a question.
    let (link, is_held) = if is_first && !wait.is_zero() {
        (link, true)
    } else {
        is_held(database, session, link)?
    };
    if is_held {
        database.roll_back(link);
        return Ok(Attempt::Busy(Some(holder)));
    }
    open(database, session, link, row, now)
}

/// Whether the mark in a row whose lock we have still means something. Few rows have one, so that this is
/// not asked together with the lock.
fn is_held(database: &Database, session: &SessionDigest, mut link: Link) -> Result<(Link, bool)> {
    let answers = link.run(&Script::of(&format!(
        "SELECT version FROM {} WHERE session = '{session}' AND {}",
        database.table(),
        database.unmarked()
    )));
    let (link, answers) = database.checked(ACTION, link, answers)?;
    Ok((link, answers.row(0).is_none()))
}

/// What is in a row whose lock we have.
fn open(
    database: &Arc<Database>,
    session: &SessionDigest,
    mut link: Link,
    row: Row,
    now: SystemTime,
) -> Result<Attempt> {
    let version = Version(row.number(3));
    let loaded = loaded(row, 0);
    let end = loaded.end;
    if has_passed(end, now) {
        let mut script = Script::of(&database.deletion(session));
        script.push("COMMIT");
        let answers = link.run(&script);
        let (link, _) = database.checked("delete a session in", link, answers)?;
        database.keep(link);
        return Ok(Attempt::Absent);
    }
    match loaded.stored(session, database.engine().address()) {
        Ok(Some(stored)) => {
            let lease = SqlLease::new(database, link, session, &stored.record, end, version);
            Ok(Attempt::Locked(Box::new((stored, lease))))
        }
        unusable => {
            database.roll_back(link);
            unusable.map(|_| Attempt::Absent)
        }
    }
}
