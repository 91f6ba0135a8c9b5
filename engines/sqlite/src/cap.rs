//! `maxSessions`: making room for a new session.

use std::time::SystemTime;

use cgi_session::store::SessionLock;
use cgi_session::{Record, Result};
use cgi_session_kit::rows::{IS_SESSION, MAX_SPARE, length, make_room};
use rusqlite::{Transaction, params};

use super::Shared;

/// Makes room for a record that is about to be stored, or refuses it; one that takes the place of another under
/// a new id needs none. What is deleted stays locked until the caller has committed.
pub(super) fn admit(
    shared: &Shared,
    transaction: &Transaction<'_>,
    record: &Record,
    now: SystemTime,
) -> Result<Vec<SessionLock>> {
    let mut locks = Vec::new();
    if shared.config.max_sessions() == 0 || record.predecessor().is_some() {
        return Ok(locks);
    }
    let table = &shared.table;
    let sql = format!("SELECT count(*) FROM \"{table}\" WHERE {IS_SESSION}");
    let count = transaction.query_row(&sql, [], |row| row.get(0));
    let count = count.map_err(|error| shared.database.explain("count the sessions in", error))?;
    make_room(&shared.config, count, now, |which, column, wanted| {
        let which = format!("{which} ORDER BY {column}");
        delete(shared, transaction, &which, wanted, &mut locks)
    })?;
    Ok(locks)
}

/// Deletes up to `wanted` sessions of those that are not in use, each of which costs an open file.
fn delete(
    shared: &Shared,
    transaction: &Transaction<'_>,
    which: &str,
    wanted: u64,
    locks: &mut Vec<SessionLock>,
) -> Result<u64> {
    let failed = |error| shared.database.explain("make room in", error);
    let table = &shared.table;
    // Some may be in use; the ones after them go instead.
    let limit = wanted + MAX_SPARE;
    let candidates = || {
        let sql = format!("SELECT session FROM \"{table}\" WHERE {which} LIMIT ?1");
        let mut statement = transaction.prepare(&sql)?;
        let names = statement.query_map([limit], |row| row.get(0))?;
        names.collect::<rusqlite::Result<Vec<String>>>()
    };
    let sql = format!("DELETE FROM \"{table}\" WHERE session = ?1");
    let before = length(locks);
    for name in candidates().map_err(failed)? {
        if length(locks) - before >= wanted {
            break;
        }
        if let Some(lock) = shared.locks.try_take(&name)? {
            transaction.execute(&sql, params![name]).map_err(failed)?;
            locks.push(lock);
        }
    }
    Ok(length(locks) - before)
}
