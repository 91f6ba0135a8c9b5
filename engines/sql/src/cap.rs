//! `maxSessions`: making room for a new session. Creations run one after the other then, each under one lock, so that
//! none of them counts too few.

use std::time::SystemTime;

use cgi_session::store::unix_seconds;
use cgi_session::{Error, Record, Result};
use cgi_session_kit::rows::{IS_SESSION, length};

use super::engine::Script;
use super::link::{Database, Link};
use super::lock::Locked;

/// At most this many sessions more than must go.
const MAX_SPARE: u64 = 64;
const ACTION: &str = "make room in";

/// Makes room for this record: the connection to store it on has the lock of those that count. A record that takes
/// the place of another under a new id needs no room: the other one is a marker soon.
pub(super) fn admit(
    database: &Database,
    record: &Record,
    now: SystemTime,
) -> Result<Option<Locked>> {
    let max = database.max_sessions;
    if max == 0 || record.predecessor().is_some() {
        return Ok(None);
    }
    let count = format!(
        "SELECT count(*) FROM {} WHERE {IS_SESSION}",
        database.table()
    );
    let wait = database.lock_timeout;
    let (mut locked, rows) = database.lock(None, "maxSessions", wait, ACTION, &count)?;
    let count = rows.first().map_or(0, |row| row.number(0));
    let excess = count.saturating_add(1).saturating_sub(max);
    let expired = format!("expires < {} AND {IS_SESSION}", unix_seconds(now));
    let deleted = delete(database, &mut locked.link, &expired, "expires", excess)?;
    let left = excess.saturating_sub(deleted);
    if left == 0 {
        return Ok(Some(locked));
    }
    if database.refuses_when_full {
        locked.release(database);
        return Err(Error::Full { limit: max });
    }
    // Some more, so that not every creation has to look for one. With all sessions in use, exceed the cap by one.
    let wanted = left.saturating_add((max / 16).min(MAX_SPARE));
    delete(database, &mut locked.link, IS_SESSION, "used", wanted)?;
    Ok(Some(locked))
}

/// Deletes up to `wanted` sessions of those that are not in use, the least of this column first.
fn delete(
    database: &Database,
    link: &mut Link,
    which: &str,
    column: &str,
    wanted: u64,
) -> Result<u64> {
    let wanted = wanted.min(2 * MAX_SPARE);
    let mut deleted = 0;
    if wanted == 0 {
        return Ok(deleted);
    }
    // Some of them may be in use.
    let script = Script::of(&format!(
        "SELECT session FROM {} WHERE {which} ORDER BY {column} LIMIT {}",
        database.table(),
        wanted + 2 * MAX_SPARE
    ));
    let answers = database.ask_on(link, ACTION, &script)?;
    let mut sessions = answers.sessions();
    while deleted < wanted && !sessions.is_empty() {
        let missing = usize::try_from(wanted - deleted).unwrap_or(usize::MAX);
        let next = sessions.split_off(missing.min(sessions.len()));
        let free = database.delete_free(link, ACTION, &sessions, Some(which))?;
        deleted += length(&free);
        sessions = next;
    }
    Ok(deleted)
}
