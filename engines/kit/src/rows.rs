//! Rows of a table, in whatever database it is: clean-ups delete the expired, and new sessions need room.

use std::time::SystemTime;

use cgi_session::store::unix_seconds;
use cgi_session::{Error, Result, SessionDigest, Sweep, SweepEvent, SweepReport};

use crate::reading::{NEVER, time};
use crate::table::{COUNT, COUNTED, IS_SESSION, Row, Table, key_literal, sessions};

/// So many expired rows go in one transaction.
const BATCH: u64 = 100;
/// At most so many sessions more than must go make room for new ones.
const MAX_SPARE: u64 = 64;
/// So many seconds a count lasts: programs without `maxSessions` do not change it.
const LASTS: u64 = 60;
/// What is tried, as an error says it.
pub const DELETE_EXPIRED: &str = "delete expired sessions from";
/// The same.
pub const MAKE_ROOM: &str = "make room in";

/// A connection to a database, on which sessions are deleted.
///
/// # Errors
///
/// All functions fail when there is no answer.
#[expect(clippy::missing_errors_doc, reason = "it is said for all of them")]
pub trait Deleter {
    /// The database with their table.
    fn database(&self) -> &impl Table;

    /// Asks on this connection.
    fn ask(&mut self, action: &str, question: &str) -> Result<Vec<Row>>;

    /// Deletes those of these sessions that no request holds and for which a condition holds, in one transaction, and
    /// returns them. Without a condition nothing is deleted.
    fn delete_free(
        &mut self,
        action: &str,
        sessions: &[SessionDigest],
        condition: Option<&str>,
    ) -> Result<Vec<SessionDigest>>;

    /// How many rows fulfil a condition.
    fn count(&mut self, condition: &str) -> Result<u64> {
        let table = self.database().table();
        let question = format!("SELECT count(*) FROM {table} WHERE {condition}");
        let rows = self.ask("count the sessions in", &question)?;
        Ok(rows.first().map_or(0, |row| row.number(0)))
    }
}

/// Notes that an expired row was deleted, how long ago it was used, and why it went. Of the row: when it ended and when it
/// was last used, in seconds since 1970, and the size of its record.
pub fn note_deleted(
    session: &SessionDigest,
    [end, used, bytes]: [u64; 3],
    sweep: &Sweep<'_>,
    now: SystemTime,
    report: &mut SweepReport,
) {
    let (used, reason) = match used {
        NEVER => (end, "left by a change of id"),
        used => (used, "expired"),
    };
    let age = now.duration_since(time(used)).unwrap_or_default();
    sweep.note_deleted(report, session.as_str(), age, bytes, reason);
}

/// Deletes what has expired, within the limits of a clean-up.
///
/// # Errors
///
/// As the functions of the deleter.
pub fn delete_expired(
    rows: &mut impl Deleter,
    sweep: &Sweep<'_>,
    now: SystemTime,
) -> Result<SweepReport> {
    let (clock, mut report) = (sweep.clock(), SweepReport::default());
    while !sweep.is_dry_run() && !clock.is_over() && repair(rows, now)? {}
    let is_expired = format!("expires < {}", unix_seconds(now));
    let condition = (!sweep.is_dry_run()).then_some(&*is_expired);
    let mut after = (0, Vec::new());
    loop {
        let batch = expired_after(rows, &after, &is_expired)?;
        let Some(last) = batch.last() else {
            if sweep.counts_live() {
                let is_live = format!("expires >= {} AND {IS_SESSION}", unix_seconds(now));
                report.live = rows.count(&is_live)?;
                report.examined += report.live;
            }
            return Ok(report);
        };
        after = match (last.number(1), last.bytes(0)) {
            (end, Some(name)) => (end, name.to_vec()),
            // Names that are no text come behind all that are.
            (end, None) => (end + 1, Vec::new()),
        };
        let mut batch = batch.iter().peekable();
        while batch.peek().is_some() {
            report.stopped_early = clock.is_over() || sweep.is_enough(report.deleted);
            if report.stopped_early {
                return Ok(report);
            }
            let examined = report.examined;
            let mut chosen = Vec::new();
            let is_enough = |chosen: &[_], deleted| sweep.is_enough(deleted + length(chosen));
            while let Some(row) = batch.next_if(|_| !is_enough(&chosen, report.deleted)) {
                report.examined += 1;
                let candidate @ [end, used, _] = [1, 2, 3].map(|column| row.number(column));
                // A name that another program has made is none of ours.
                match row.bytes(0).and_then(SessionDigest::parse) {
                    // It is left to the caller of the clean-up, which has something to do with it.
                    Some(session) if sweep.keeps_sessions() && used != NEVER => {
                        report.kept += 1;
                        let (session, as_of) = (&session, time(used.min(end)));
                        sweep.notify(SweepEvent::Kept { session, as_of });
                    }
                    Some(session) => chosen.push((session, candidate)),
                    None => report.foreign += 1,
                }
            }
            let sessions: Vec<_> = chosen.iter().map(|(session, _)| *session).collect();
            let deleted = match &*sessions {
                [] => Vec::new(),
                sessions => rows.delete_free(DELETE_EXPIRED, sessions, condition)?,
            };
            report.busy += length(&sessions) - length(&deleted);
            for (session, candidate) in chosen {
                if deleted.contains(&session) {
                    note_deleted(&session, candidate, sweep, now, &mut report);
                }
            }
            sweep.notify(SweepEvent::Examined(report.examined - examined));
        }
    }
}

/// Has some sessions live as long from now on as they would have lived, whose use was noted by a clock that was ahead;
/// `false` when there are none, or another program changes them.
fn repair(rows: &mut impl Deleter, now: SystemTime) -> Result<bool> {
    let (table, ahead) = (rows.database().table(), is_ahead(rows, now));
    let some = format!("SELECT session FROM {table} WHERE {ahead} LIMIT {BATCH}");
    if rows.ask(DELETE_EXPIRED, &some)?.is_empty() {
        return Ok(false);
    }
    // MySQL limits an inner question only where it stands for a table.
    let repair = format!(
        "UPDATE {table} SET expires = expires - used + {seconds}, used = {seconds} \
         WHERE session IN (SELECT session FROM ({some}) AS found) AND {ahead}",
        seconds = unix_seconds(now)
    );
    match rows.ask(DELETE_EXPIRED, &repair) {
        Err(Error::Busy { .. }) => Ok(false),
        repaired => repaired.map(|_| true),
    }
}

/// The condition that a clock has noted a use that was ahead by more than `lifetime` or a century. The own may be behind.
fn is_ahead(rows: &impl Deleter, now: SystemTime) -> String {
    let lifetime = rows.database().config().lifetime();
    let longest = lifetime.map_or(3_155_760_000, |it| it.as_secs());
    format!("used > {}", unix_seconds(now).saturating_add(longest))
}

/// The next expired rows behind this end, which may be the whole part of a time, and name; the longest expired first.
fn expired_after(
    rows: &mut impl Deleter,
    (end, name): &(u64, Vec<u8>),
    is_expired: &str,
) -> Result<Vec<Row>> {
    let database = rows.database();
    let question = format!(
        "SELECT session, expires, used, octet_length(record) FROM {} \
         WHERE expires >= {end} AND (expires >= {} OR session > {}) AND {is_expired} \
         ORDER BY expires, session LIMIT {BATCH}",
        database.table(),
        end + 1,
        key_literal(database, name)
    );
    rows.ask("look for expired sessions in", &question)
}

/// Makes room for one session beside those that there are: of those that are not in use some go. With all in use there
/// is one too many. Returns the statement that counts the new session, for the transaction that stores it.
///
/// Creations run one after the other, from the answer to [`Table::selection_of_count`], which is `known`, to the end of
/// that transaction. The table is counted once in a while.
///
/// # Errors
///
/// [`Error::Full`] when none may go for it, and as the functions of the deleter.
pub fn make_room(rows: &mut impl Deleter, known: &[Row], now: SystemTime) -> Result<String> {
    let (state, config) = (rows.database().state(), rows.database().config());
    let (limit, refuses) = (config.max_sessions(), config.refuses_when_full());
    let (keeps_expired, seconds) = (config.keeps_expired(), unix_seconds(now));
    let [mut count, counted] = [0, 1].map(|at| known.get(at).map_or(0, |row| row.number(0)));
    if counted.abs_diff(seconds) >= LASTS {
        count = rows.count(IS_SESSION)?;
        let note = format!(
            "UPDATE {state} SET value = CASE name WHEN '{COUNT}' THEN {count} ELSE {seconds} END \
             WHERE name IN ('{COUNT}', '{COUNTED}')"
        );
        rows.ask(MAKE_ROOM, &note)?;
    }
    let excess = count.saturating_add(1).saturating_sub(limit);
    let expired = format!("expires < {seconds} AND {IS_SESSION}");
    let of_expired = if keeps_expired { 0 } else { excess };
    let deleted = delete_least(rows, &expired, "expires", of_expired)?;
    let more = match excess.saturating_sub(deleted) {
        0 => 0,
        _ if refuses => return Err(Error::Full { limit }),
        // Some more, so that not every creation has to look for one.
        left => left + (limit / 16).min(MAX_SPARE),
    };
    delete_least(rows, IS_SESSION, "used", more)?;
    Ok(format!(
        "UPDATE {state} SET value = value + 1 WHERE name = '{COUNT}'"
    ))
}

/// Deletes up to `wanted` sessions that are not in use and for which a condition holds, the least of a column first, and
/// counts them no longer.
fn delete_least(
    rows: &mut impl Deleter,
    condition: &str,
    column: &str,
    wanted: u64,
) -> Result<u64> {
    if wanted == 0 {
        return Ok(0);
    }
    let wanted = wanted.min(2 * MAX_SPARE);
    // Some may be in use; the ones after them go instead.
    let question = format!(
        "SELECT session FROM {} WHERE {condition} ORDER BY {column} LIMIT {}",
        rows.database().table(),
        wanted + 2 * MAX_SPARE
    );
    let mut sessions = sessions(&rows.ask(MAKE_ROOM, &question)?);
    let mut deleted = 0;
    while deleted < wanted && !sessions.is_empty() {
        let missing = usize::try_from(wanted - deleted).unwrap_or(usize::MAX);
        let next = sessions.split_off(missing.min(sessions.len()));
        let gone = length(&rows.delete_free(MAKE_ROOM, &sessions, Some(condition))?);
        let state = rows.database().state();
        let note = format!("UPDATE {state} SET value = value - {gone} WHERE name = '{COUNT}'");
        rows.ask(MAKE_ROOM, &note)?;
        deleted += gone;
        sessions = next;
    }
    Ok(deleted)
}

/// Their number.
#[must_use]
pub fn length<T>(rows: &[T]) -> u64 {
    u64::try_from(rows.len()).unwrap_or(u64::MAX)
}
