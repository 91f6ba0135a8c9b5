//! `maxSessions`: making room for a new session. Creations run one after the other then, each under the lock
//! of a row of the table of states, so that none of them counts too few.

use std::time::SystemTime;

use cgi_session::store::unix_seconds;
use cgi_session::{Error, Record, Result};
use cgi_session_kit::rows::IS_SESSION;

use super::engine::Script;
use super::link::{Database, Link};
use super::state::COUNTING;

/// So many sessions more than must go at most.
const MAX_SPARE: u64 = 64;
const ACTION: &str = "make room in";

/// A connection, and the beginning of a script that stores this record: a transaction in which there is
/// room for it. One that takes the place of another under a new id needs none: that one is a marker soon.
pub(super) fn admit(
    database: &Database,
    record: &Record,
    now: SystemTime,
) -> Result<(Link, Script)> {
    let wait = database.lock_timeout;
    if database.max_sessions == 0 || record.predecessor().is_some() {
        return Ok((database.take_alive()?, database.transaction(wait)));
    }
    let mut script = database.transaction(wait);
    script.push(&format!(
        "SELECT value FROM {} WHERE name = '{COUNTING}' {}",
        database.state(),
        database.engine().for_update(wait)
    ));
    let count = script.push(&format!(
        "SELECT count(*) FROM {} WHERE {IS_SESSION}",
        database.table()
    ));
    let (link, answers) = database.run(&script, wait)?;
    let (link, answers) = database.checked(ACTION, link, answers)?;
    let count = answers.row(count).map_or(0, |row| row.number(0));
    let excess = count
        .saturating_add(1)
        .saturating_sub(database.max_sessions);
    let link = make_room(database, link, excess, now)?;
    Ok((link, Script::new()))
}

fn make_room(database: &Database, link: Link, excess: u64, now: SystemTime) -> Result<Link> {
    if excess == 0 {
        return Ok(link);
    }
    let expired = format!("expires < {} AND {IS_SESSION}", unix_seconds(now));
    let (link, deleted) = delete(database, link, &expired, "expires", excess)?;
    let left = excess.saturating_sub(deleted);
    if left == 0 {
        return Ok(link);
    }
    let max = database.max_sessions;
    if database.refuses_when_full {
        database.roll_back(link);
        return Err(Error::Full { limit: max });
    }
    // Some more, so that not every creation has to look for one. With every session in use, one
    // more than the cap is the lesser evil.
    let wanted = left.saturating_add((max / 16).min(MAX_SPARE));
    let (link, _) = delete(database, link, IS_SESSION, "used", wanted)?;
    Ok(link)
}

/// Deletes up to `wanted` sessions of those that are not in use, the least of this column first.
fn delete(
    database: &Database,
    mut link: Link,
    which: &str,
    column: &str,
    wanted: u64,
) -> Result<(Link, u64)> {
    let wanted = wanted.min(2 * MAX_SPARE);
    let index = format!("{}_{column}", database.table);
    let script = Script::of(&format!(
        "SELECT session FROM {} WHERE {which} AND {} ORDER BY {column} LIMIT {wanted} \
         FOR UPDATE SKIP LOCKED",
        database.engine().by_index(&database.table, Some(&index)),
        database.unmarked()
    ));
    let answers = link.run(&script);
    let (mut link, answers) = database.checked(ACTION, link, answers)?;
    let mut script = Script::new();
    let deleted = database.delete_found(&mut script, &answers, 0);
    if deleted == 0 {
        return Ok((link, 0));
    }
    let answers = link.run(&script);
    let (link, _) = database.checked(ACTION, link, answers)?;
    Ok((link, deleted))
}
