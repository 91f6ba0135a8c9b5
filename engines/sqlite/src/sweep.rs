//! Clean-up: deletes what has expired and no request holds, some at a time.

use std::time::{Duration, SystemTime};

use cgi_session::store::{age_of_sweep, unix_seconds};
use cgi_session::{Result, SessionDigest, Sweep, SweepReport};
use cgi_session_kit::reading::time;
use cgi_session_kit::rows::{BATCH, Candidate, IS_SESSION, LAST_SWEEP, Table, delete_expired};
use rusqlite::params;

use super::{Shared, database};

/// Runs a clean-up unless one is running.
pub(super) fn run(shared: &Shared, sweep: &Sweep<'_>, now: SystemTime) -> Result<SweepReport> {
    let mut report = SweepReport::default();
    let Some(opened) = shared.database.open_existing()? else {
        // Nothing was ever stored.
        return Ok(report);
    };
    shared.database.keep(opened);
    let mut rows = Rows { shared, sweep, now };
    if sweep.is_dry_run() {
        // It changes nothing, so that it needs no lock.
        delete_expired(&mut rows, sweep, now, &mut report)?;
        return Ok(report);
    }
    let Some(_lock) = shared.locks.sweep()? else {
        report.already_running = true;
        return Ok(report);
    };
    delete_expired(&mut rows, sweep, now, &mut report)?;
    // What is deleted is deleted, whatever comes of the rest.
    match shared.locks.remove_abandoned() {
        Ok(removed) => report.temporary = removed,
        Err(error) => report.failures.push(error.one_line()),
    }
    if let Err(error) = note(shared, now) {
        report.failures.push(error.one_line());
    }
    Ok(report)
}

/// How long ago the last clean-up ended.
pub(super) fn last(shared: &Shared, now: SystemTime) -> Option<Duration> {
    let table = &shared.table;
    let sql = format!("SELECT value FROM \"{table}_state\" WHERE name = ?1");
    let ended = shared.query("read", &sql, [LAST_SWEEP], |row| row.get(0));
    age_of_sweep(time(ended.ok()?.pop()?), now)
}

fn note(shared: &Shared, now: SystemTime) -> Result<()> {
    let sql = format!(
        "INSERT INTO \"{}_state\" (name, value) VALUES (?1, ?2) \
         ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        shared.table
    );
    let values = params![LAST_SWEEP, unix_seconds(now)];
    let noted = shared.execute("note the clean-up in", &sql, values);
    noted.map(drop)
}

/// The table of a clean-up at this time. While a batch is deleted no other connection can write.
struct Rows<'a> {
    shared: &'a Shared,
    sweep: &'a Sweep<'a>,
    now: SystemTime,
}

impl Table for Rows<'_> {
    fn expired_after(&mut self, end: u64, name: &str) -> Result<Vec<Candidate>> {
        let sql = format!(
            "SELECT session, expires, used, length(CAST(record AS BLOB)) FROM \"{}\" \
             WHERE (expires, session) > (?1, ?2) AND expires < ?3 \
             ORDER BY expires, session LIMIT {BATCH}",
            self.shared.table
        );
        let (action, values) = (
            "look for expired sessions in",
            params![end, name, unix_seconds(self.now)],
        );
        self.shared.query(action, &sql, values, |row| {
            Ok(Candidate {
                name: row.get(0)?,
                end: row.get(1)?,
                used: row.get(2)?,
                bytes: row.get(3)?,
            })
        })
    }

    fn count_live(&mut self) -> Result<u64> {
        let sql = format!(
            "SELECT count(*) FROM \"{}\" WHERE expires >= ?1 AND {IS_SESSION}",
            self.shared.table
        );
        let (action, values) = ("count the sessions in", [unix_seconds(self.now)]);
        let count: Vec<u64> = (self.shared).query(action, &sql, values, |row| row.get(0))?;
        Ok(count.into_iter().sum())
    }

    fn delete(&mut self, sessions: &[SessionDigest]) -> Result<Vec<SessionDigest>> {
        let locks = &self.shared.locks;
        let mut free = Vec::new();
        // Kept until the deletions are committed.
        let mut taken = Vec::new();
        for session in sessions {
            if self.sweep.is_dry_run() {
                if !locks.is_taken(session.as_str())? {
                    free.push(*session);
                }
            } else if let Some(lock) = locks.try_take(session.as_str())? {
                taken.push(lock);
                free.push(*session);
            }
        }
        if self.sweep.is_dry_run() {
            return Ok(free);
        }
        let database = &self.shared.database;
        let failed = |error| database.explain("delete expired sessions from", error);
        let Some(mut opened) = database.open_existing()? else {
            return Ok(Vec::new());
        };
        let sql = format!(
            "DELETE FROM \"{}\" WHERE session = ?1 AND expires < ?2",
            self.shared.table
        );
        let transaction = database::begin(&mut opened).map_err(failed)?;
        let mut deleted = Vec::new();
        for session in free {
            // It may have been used since it was found.
            let values = params![session.as_str(), unix_seconds(self.now)];
            if transaction.execute(&sql, values).map_err(failed)? == 1 {
                deleted.push(session);
            }
        }
        transaction.commit().map_err(failed)?;
        database.keep(opened);
        Ok(deleted)
    }
}
