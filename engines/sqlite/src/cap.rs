//! `maxSessions`: making room for a new session.

use std::time::SystemTime;

use cgi_session::store::{SessionLock, unix_seconds};
use cgi_session::{Error, Record, Result};
use cgi_session_kit::rows::{IS_SESSION, length};
use rusqlite::{Transaction, params};

use super::Shared;

/// So many sessions more than must go at most, each of which costs an open file.
const MAX_SPARE: u64 = 64;

/// Makes room for a record that is about to be stored, or refuses it; one that takes the place of another under
/// a new id needs none. What is deleted stays locked until the caller has committed.
pub(super) fn admit(
    shared: &Shared,
    transaction: &Transaction<'_>,
    record: &Record,
    now: SystemTime,
) -> Result<Vec<SessionLock>> {
    let max = shared.max_sessions;
    let mut locks = Vec::new();
    if max == 0 || record.predecessor().is_some() {
        return Ok(locks);
    }
    let sql = format!(
        "SELECT count(*) FROM \"{}\" WHERE {IS_SESSION}",
        shared.table
    );
    let count: u64 = transaction
        .query_row(&sql, [], |row| row.get(0))
        .map_err(|error| shared.database.explain("count the sessions in", error))?;
    let excess = count.saturating_add(1).saturating_sub(max);
    if excess == 0 {
        return Ok(locks);
    }
    let expired = format!(
        "expires < {} AND {IS_SESSION} ORDER BY expires",
        unix_seconds(now)
    );
    if !shared.keeps_expired {
        delete(shared, transaction, &expired, excess, &mut locks)?;
    }
    let left = excess.saturating_sub(length(&locks));
    if left == 0 {
        return Ok(locks);
    }
    if shared.refuses_when_full {
        return Err(Error::Full { limit: max });
    }
    // Some more, so that not every creation has to look for one. With every session in use, one
    // more than the cap is the lesser evil.
    let wanted = left.saturating_add((max / 16).min(MAX_SPARE));
    let all = format!("{IS_SESSION} ORDER BY used");
    delete(shared, transaction, &all, wanted, &mut locks)?;
    Ok(locks)
}

/// Deletes up to `wanted` sessions of those that are not in use.
fn delete(
    shared: &Shared,
    transaction: &Transaction<'_>,
    which: &str,
    wanted: u64,
    locks: &mut Vec<SessionLock>,
) -> Result<()> {
    let failed = |error| shared.database.explain("make room in", error);
    let table = &shared.table;
    let wanted = wanted.min(2 * MAX_SPARE);
    // Some may be in use; the ones after them go instead.
    let limit = wanted.saturating_add(MAX_SPARE);
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
    Ok(())
}
