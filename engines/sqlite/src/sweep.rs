//! Clean-up: deletes what has expired and no request holds, some at a time.

use std::time::SystemTime;

use cgi_session::store::unix_seconds;
use cgi_session::{Result, Sweep, SweepReport};
use cgi_session_kit::rows::delete_expired;
use cgi_session_kit::table::{COUNT, COUNTED, LAST_SWEEP, Table as _};

use super::database::Database;
use super::rows::Rows;

/// Runs a clean-up unless one is running.
pub(super) fn run(database: &Database, sweep: &Sweep<'_>, now: SystemTime) -> Result<SweepReport> {
    let (clock, mut report) = (sweep.clock(), SweepReport::default());
    let Some(opened) = database.open_existing()? else {
        // Nothing was ever stored.
        return Ok(report);
    };
    // A dry run changes nothing, so that it needs no lock.
    let mut lock = None;
    if !sweep.is_dry_run() {
        lock = database.locks.sweep()?;
        report.already_running = lock.is_none();
    }
    if !report.already_running {
        report = delete_expired(&mut Rows(database, &opened.connection), sweep, now)?;
    }
    database.keep(opened);
    if lock.is_none() {
        return Ok(report);
    }
    // What is deleted is deleted, whatever comes of the rest.
    match database.locks.remove_abandoned(clock) {
        Ok(removed) => report.temporary = removed,
        Err(error) => report.failures.push(error.one_line()),
    }
    // The sessions are to be counted again.
    let note = format!(
        "INSERT INTO {} (name, value) VALUES ('{LAST_SWEEP}', {}), ('{COUNT}', 0), ('{COUNTED}', 0) \
         ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        database.state(),
        unix_seconds(now)
    );
    let noted = database.execute("note the clean-up in", &note, []);
    report.failures.extend(noted.err().map(|it| it.one_line()));
    Ok(report)
}
