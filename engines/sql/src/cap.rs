//! `maxSessions`: making room for a new session. Creations run one after the other then, each under one lock, so that
//! none of them counts too few. The table is counted once in a while: in between the table of states has a number that
//! creations raise and that nothing lowers.

use std::time::SystemTime;

use cgi_session::store::unix_seconds;
use cgi_session::{Error, Record, Result};
use cgi_session_kit::rows::make_room;
use cgi_session_kit::table::{Row, Table as _};

use super::link::Database;
use super::lock::Locked;
use super::rows::Rows;
use super::state::{COUNT, COUNTED};

/// So many seconds a count lasts: programs without `maxSessions` do not raise it.
const LASTS: u64 = 60;

/// Makes room for this record, if it needs any. With the connection to store it on, which has the lock of those that
/// count, and the statement that notes it.
pub(super) fn admit(
    database: &Database,
    record: &Record,
    now: SystemTime,
) -> Result<Option<(Locked, String)>> {
    let config = &database.config;
    if !database.needs_room(config, record)? {
        return Ok(None);
    }
    let state = database.state();
    let names = format!("name IN ('{COUNT}', '{COUNTED}')");
    let known = format!("SELECT name, value FROM {state} WHERE {names}");
    let (wait, action) = (config.lock_timeout(), "make room in");
    let (mut locked, known) = database.lock(None, "maxSessions", wait, action, &known)?;
    let value = |name: &str| {
        let is_it = |row: &&Row| row.text(0) == Some(name);
        known.iter().find(is_it).map_or(0, |row| row.number(1))
    };
    let (seconds, counted) = (unix_seconds(now), value(COUNTED));
    let is_recent = (counted..counted.saturating_add(LASTS)).contains(&seconds);
    if is_recent && value(COUNT) < config.max_sessions() {
        let note = format!("UPDATE {state} SET value = value + 1 WHERE name = '{COUNT}'");
        return Ok(Some((locked, note)));
    }
    let link = &mut locked.link;
    let count = match make_room(&mut Rows { database, link }, config, now) {
        Err(full @ Error::Full { .. }) => {
            locked.release(database);
            return Err(full);
        }
        count => count? + 1,
    };
    let note = format!(
        "UPDATE {state} SET value = CASE name WHEN '{COUNT}' THEN {count} ELSE {seconds} END WHERE {names}"
    );
    Ok(Some((locked, note)))
}
