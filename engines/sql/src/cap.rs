//! `maxSessions`: making room for a new session. Creations run one after the other then, each under the lock
//! of a row of the table of states, so that none of them counts too few.

use std::time::SystemTime;

use cgi_session::store::unix_seconds;
use cgi_session::{Error, Record, Result, SessionDigest};
use cgi_session_kit::rows::IS_SESSION;

use super::Shared;
use super::connector::Link;
use super::engine::{Answers, Script};

/// The row of the table of states that whoever counts sessions locks.
pub(super) const COUNTING: &str = "counting";
/// So many sessions more than must go at most.
const MAX_SPARE: u64 = 64;
const ACTION: &str = "make room in";

/// A connection, and the beginning of a script that stores this record: a transaction in which there is
/// room for it. One that takes the place of another under a new id needs none: that one is a marker soon.
pub(super) fn admit(shared: &Shared, record: &Record, now: SystemTime) -> Result<(Link, Script)> {
    let wait = shared.lock_timeout;
    if shared.max_sessions == 0 || record.predecessor().is_some() {
        return Ok((shared.take_alive()?, shared.transaction(wait)));
    }
    let mut script = shared.transaction(wait);
    script.push(&format!(
        "SELECT value FROM {} WHERE name = '{COUNTING}' {}",
        shared.state(),
        shared.engine().for_update(wait)
    ));
    let count = script.push(&format!(
        "SELECT count(*) FROM {} WHERE {IS_SESSION}",
        shared.table()
    ));
    let (link, answers) = shared.run(&script, wait)?;
    let (link, answers) = shared.checked(ACTION, link, answers)?;
    let count = answers.row(count).map_or(0, |row| row.number(0));
    let excess = count.saturating_add(1).saturating_sub(shared.max_sessions);
    let link = make_room(shared, link, excess, now)?;
    Ok((link, Script::new()))
}

fn make_room(shared: &Shared, link: Link, excess: u64, now: SystemTime) -> Result<Link> {
    if excess == 0 {
        return Ok(link);
    }
    let expired = format!("expires < {} AND {IS_SESSION}", unix_seconds(now));
    let (link, deleted) = delete(shared, link, &expired, "expires", excess)?;
    let left = excess.saturating_sub(deleted);
    if left == 0 {
        return Ok(link);
    }
    let max = shared.max_sessions;
    if shared.refuses_when_full {
        shared.roll_back(link);
        return Err(Error::Full { limit: max });
    }
    // Some more, so that not every creation has to look for one. With every session in use, one
    // more than the cap is the lesser evil.
    let wanted = left.saturating_add((max / 16).min(MAX_SPARE));
    let (link, _) = delete(shared, link, IS_SESSION, "used", wanted)?;
    Ok(link)
}

/// Deletes up to `wanted` sessions of those that are not in use, the least of this column first.
fn delete(
    shared: &Shared,
    mut link: Link,
    which: &str,
    column: &str,
    wanted: u64,
) -> Result<(Link, u64)> {
    let wanted = wanted.min(2 * MAX_SPARE);
    let index = format!("{}_{column}", shared.table);
    let script = Script::of(&format!(
        "SELECT session FROM {} WHERE {which} AND {} ORDER BY {column} LIMIT {wanted} \
         FOR UPDATE SKIP LOCKED",
        shared.engine().by_index(&shared.table, Some(&index)),
        shared.unmarked()
    ));
    let answers = link.run(&script);
    let (mut link, answers) = shared.checked(ACTION, link, answers)?;
    let mut script = Script::new();
    let deleted = shared.delete_found(&mut script, &answers, 0);
    if deleted == 0 {
        return Ok((link, 0));
    }
    let answers = link.run(&script);
    let (link, _) = shared.checked(ACTION, link, answers)?;
    Ok((link, deleted))
}

impl Shared {
    /// The condition that no mark holds a row.
    pub(super) fn unmarked(&self) -> String {
        let is_marked = self.engine().is_marked();
        format!("CASE WHEN {is_marked} THEN 1 ELSE 0 END = 0")
    }

    /// Deletes the sessions that a statement has found and locked, one by one: what deletes many may look
    /// at the whole table, and wait for locks. Returns their number.
    pub(super) fn delete_found(
        &self,
        script: &mut Script,
        answers: &Answers,
        statement: usize,
    ) -> u64 {
        let names = answers.rows(statement).iter().filter_map(|row| row.text(0));
        // What somebody else has put there is left alone.
        let sessions = names.filter_map(|name| SessionDigest::parse(name.as_bytes()));
        let mut number = 0;
        for session in sessions {
            script.push(&self.deletion(&session));
            number += 1;
        }
        number
    }
}
