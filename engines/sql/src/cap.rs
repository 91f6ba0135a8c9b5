//! `maxSessions`: making room for a new session. Creations run one after the other then, each under one lock, so that
//! none of them counts too few. The table is counted once in a while: in between the table of states has a number that
//! creations raise and that nothing lowers.

use std::time::SystemTime;

use cgi_session::store::unix_seconds;
use cgi_session::{Error, Record, Result};
use cgi_session_kit::rows::{IS_SESSION, MAX_SPARE, length, make_room};

use super::engine::{Row, Script};
use super::link::{Database, Link};
use super::lock::Locked;
use super::state::{COUNT, COUNTED};

/// So many seconds a count lasts: programs without `maxSessions` do not raise it.
const LASTS: u64 = 60;
const ACTION: &str = "make room in";

/// Room for one session.
pub(super) struct Room {
    /// The connection to store it on, with the lock of those that count.
    pub(super) locked: Locked,
    /// The statement that notes it.
    pub(super) note: String,
}

/// Makes room for this record. One that takes the place of another under a new id needs none: the other one is a
/// marker soon.
pub(super) fn admit(database: &Database, record: &Record, now: SystemTime) -> Result<Option<Room>> {
    let max = database.config.max_sessions();
    if max == 0 || record.predecessor().is_some() {
        return Ok(None);
    }
    let (table, state) = (database.table(), database.state());
    let names = format!("name IN ('{COUNT}', '{COUNTED}')");
    let known = format!("SELECT name, value FROM {state} WHERE {names}");
    let wait = database.config.lock_timeout();
    let (mut locked, known) = database.lock(None, "maxSessions", wait, ACTION, &known)?;
    let value = |name: &str| {
        let is_it = |row: &&Row| row.text(0) == Some(name);
        known.iter().find(is_it).map_or(0, |row| row.number(1))
    };
    let (seconds, counted) = (unix_seconds(now), value(COUNTED));
    if value(COUNT) < max && (counted..counted.saturating_add(LASTS)).contains(&seconds) {
        let note = format!("UPDATE {state} SET value = value + 1 WHERE name = '{COUNT}'");
        return Ok(Some(Room { locked, note }));
    }
    let count = Script::of(&format!("SELECT count(*) FROM {table} WHERE {IS_SESSION}"));
    let answers = database.ask_on(&mut locked.link, ACTION, &count)?;
    let count = answers.row(0).map_or(0, |row| row.number(0));
    let link = &mut locked.link;
    let room = make_room(&database.config, count, now, |which, column, wanted| {
        delete(database, link, which, column, wanted)
    });
    let deleted = match room {
        Err(full @ Error::Full { .. }) => {
            locked.release(database);
            return Err(full);
        }
        room => room?,
    };
    let note = format!(
        "UPDATE {state} SET value = CASE name WHEN '{COUNT}' THEN {} ELSE {seconds} END WHERE {names}",
        (count + 1).saturating_sub(deleted)
    );
    Ok(Some(Room { locked, note }))
}

/// Deletes up to `wanted` sessions of those that are not in use, the least of this column first.
fn delete(
    database: &Database,
    link: &mut Link,
    which: &str,
    column: &str,
    wanted: u64,
) -> Result<u64> {
    // Some of them may be in use.
    let script = Script::of(&format!(
        "SELECT session FROM {} WHERE {which} ORDER BY {column} LIMIT {}",
        database.table(),
        wanted + 2 * MAX_SPARE
    ));
    let answers = database.ask_on(link, ACTION, &script)?;
    let (mut deleted, mut sessions) = (0, answers.sessions());
    while deleted < wanted && !sessions.is_empty() {
        let missing = usize::try_from(wanted - deleted).unwrap_or(usize::MAX);
        let next = sessions.split_off(missing.min(sessions.len()));
        let free = database.delete_free(link, ACTION, &sessions, Some(which))?;
        deleted += length(&free);
        sessions = next;
    }
    Ok(deleted)
}
