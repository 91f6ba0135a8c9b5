//! Clean-up: deletes what has expired and is in nobody's use, some at a time.

use std::time::{Duration, Instant, SystemTime};

use rusqlite::{OptionalExtension as _, params};

use super::{Shared, database};
use crate::error::Result;
use crate::id::SessionDigest;
use crate::record::unix_seconds;
use crate::store::reading::time;
use crate::store::{Sweep, SweepEvent, SweepReport, age_of_sweep};

/// So many sessions go in one transaction, and as long nobody else can write.
const BATCH: u64 = 100;
/// The row of the table of states that holds the time of the last clean-up.
const LAST_SWEEP: &str = "lastSweep";

/// Runs a clean-up unless one is running.
pub(super) fn run(shared: &Shared, sweep: &Sweep<'_>, now: SystemTime) -> Result<SweepReport> {
    let mut report = SweepReport::default();
    let Some(opened) = shared.database.open_existing()? else {
        // Nothing was ever stored.
        return Ok(report);
    };
    shared.database.keep(opened);
    if sweep.dry_run {
        // It changes nothing, so that it needs no lock.
        delete_batches(shared, sweep, now, &mut report)?;
        return Ok(report);
    }
    let Some(_lock) = shared.locks.sweep()? else {
        report.already_running = true;
        return Ok(report);
    };
    delete_batches(shared, sweep, now, &mut report)?;
    report.temporary = shared.locks.remove_abandoned()?;
    note(shared, now)?;
    Ok(report)
}

/// How long ago the last clean-up ended.
pub(super) fn last(shared: &Shared, now: SystemTime) -> Option<Duration> {
    let sql = format!(
        "SELECT value FROM \"{}_state\" WHERE name = ?1",
        shared.table
    );
    let ended = shared.with_table("read", |connection| {
        let ended = connection.query_row(&sql, [LAST_SWEEP], |row| row.get::<_, u64>(0));
        ended.optional()
    });
    age_of_sweep(time(ended.ok()???), now)
}

fn note(shared: &Shared, now: SystemTime) -> Result<()> {
    let sql = format!(
        "INSERT INTO \"{}_state\" (name, value) VALUES (?1, ?2) \
         ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        shared.table
    );
    let noted = shared.with_table("note the clean-up in", |connection| {
        connection.execute(&sql, params![LAST_SWEEP, unix_seconds(now)])
    });
    noted.map(|_| ())
}

/// An expired row: no more of it is read than a report needs.
struct Candidate {
    name: String,
    end: u64,
    used: u64,
    bytes: u64,
}

fn delete_batches(
    shared: &Shared,
    sweep: &Sweep<'_>,
    now: SystemTime,
    report: &mut SweepReport,
) -> Result<()> {
    let deadline = sweep
        .max_time
        .and_then(|time| Instant::now().checked_add(time));
    let mut last = (0, String::new());
    loop {
        let batch = candidates(shared, &last, now)?;
        let Some(candidate) = batch.last() else {
            report.live = count_live(shared, now)?;
            report.examined += report.live;
            return Ok(());
        };
        last = (candidate.end, candidate.name.clone());
        let left = sweep
            .max_files
            .map(|max| max.saturating_sub(report.deleted));
        let is_late = deadline.is_some_and(|deadline| Instant::now() >= deadline);
        if left == Some(0) || is_late {
            report.stopped_early = true;
            return Ok(());
        }
        let examined = report.examined;
        delete_batch(shared, sweep, now, &batch, report)?;
        if let Some(observer) = sweep.observer {
            observer(SweepEvent::Examined(report.examined - examined));
        }
        if report.stopped_early {
            return Ok(());
        }
    }
}

/// The next expired sessions, the longest expired first.
fn candidates(shared: &Shared, last: &(u64, String), now: SystemTime) -> Result<Vec<Candidate>> {
    let sql = format!(
        "SELECT session, expires, used, length(CAST(record AS BLOB)) FROM \"{}\" \
         WHERE (expires, session) > (?1, ?2) AND expires < ?3 ORDER BY expires, session LIMIT {BATCH}",
        shared.table
    );
    let found = shared.with_table("look for expired sessions in", |connection| {
        let mut statement = connection.prepare(&sql)?;
        let rows = statement.query_map(params![last.0, last.1, unix_seconds(now)], |row| {
            Ok(Candidate {
                name: row.get(0)?,
                end: row.get(1)?,
                used: row.get(2)?,
                bytes: row.get(3)?,
            })
        })?;
        rows.collect::<rusqlite::Result<Vec<_>>>()
    })?;
    Ok(found.unwrap_or_default())
}

fn count_live(shared: &Shared, now: SystemTime) -> Result<u64> {
    let sql = format!(
        "SELECT count(*) FROM \"{}\" WHERE expires >= ?1",
        shared.table
    );
    let count = shared.with_table("count the sessions in", |connection| {
        connection.query_row(&sql, [unix_seconds(now)], |row| row.get(0))
    })?;
    Ok(count.unwrap_or_default())
}

/// Deletes those of a batch that nobody uses, in one transaction.
fn delete_batch(
    shared: &Shared,
    sweep: &Sweep<'_>,
    now: SystemTime,
    batch: &[Candidate],
    report: &mut SweepReport,
) -> Result<()> {
    let mut chosen = Vec::new();
    // Kept until the deletions are committed.
    let mut locks = Vec::new();
    for candidate in batch {
        let is_full = |max: u64| report.deleted.saturating_add(length(&chosen)) >= max;
        if sweep.max_files.is_some_and(is_full) {
            report.stopped_early = true;
            break;
        }
        report.examined += 1;
        // A name of somebody else's making may be none of a lock.
        if SessionDigest::parse(candidate.name.as_bytes()).is_none() {
            report.foreign += 1;
        } else if sweep.dry_run {
            if shared.locks.is_taken(&candidate.name)? {
                report.busy += 1;
            } else {
                chosen.push(candidate);
            }
        } else if let Some(lock) = shared.locks.try_take(&candidate.name)? {
            locks.push(lock);
            chosen.push(candidate);
        } else {
            report.busy += 1;
        }
    }
    if !sweep.dry_run {
        chosen = delete(shared, chosen, now)?;
    }
    drop(locks);
    for candidate in chosen {
        report.deleted += 1;
        report.deleted_bytes += candidate.bytes;
        if let Some(observer) = sweep.observer {
            let used = time(candidate.used);
            observer(SweepEvent::Deleted {
                name: &candidate.name,
                age: now.duration_since(used).unwrap_or_default(),
                bytes: candidate.bytes,
                reason: "expired",
            });
        }
    }
    Ok(())
}

/// Deletes those that are still expired now that they are locked, and returns them.
fn delete<'a>(
    shared: &Shared,
    mut chosen: Vec<&'a Candidate>,
    now: SystemTime,
) -> Result<Vec<&'a Candidate>> {
    let failed = |error| {
        shared
            .database
            .explain("delete expired sessions from", error)
    };
    let Some(mut opened) = shared.database.open_existing()? else {
        return Ok(Vec::new());
    };
    let sql = format!(
        "DELETE FROM \"{}\" WHERE session = ?1 AND expires < ?2",
        shared.table
    );
    let transaction = database::begin(&mut opened).map_err(failed)?;
    let mut outcome = Ok(());
    chosen.retain(|candidate| {
        if outcome.is_err() {
            return false;
        }
        match transaction.execute(&sql, params![candidate.name, unix_seconds(now)]) {
            Ok(rows) => rows == 1,
            Err(error) => {
                outcome = Err(error);
                false
            }
        }
    });
    outcome
        .and_then(|()| transaction.commit())
        .map_err(failed)?;
    shared.database.keep(opened);
    Ok(chosen)
}

fn length(chosen: &[&Candidate]) -> u64 {
    u64::try_from(chosen.len()).unwrap_or(u64::MAX)
}
