//! Clean-up: deletes what has expired and no request holds, some at a time. A lock that its connection has to the end
//! keeps a second clean-up out.

use std::time::{Duration, SystemTime};

use cgi_session::store::unix_seconds;
use cgi_session::{Error, Result, Sweep, SweepReport};
use cgi_session_kit::rows::{DELETE_EXPIRED, Deleter as _, delete_expired};
use cgi_session_kit::table::{ADMINISTRATOR, COUNTED, LAST_SWEEP, Table as _};

use super::link::Database;
use super::rows::Rows;

/// Runs a clean-up unless one is running.
pub(super) fn run(database: &Database, sweep: &Sweep<'_>, now: SystemTime) -> Result<SweepReport> {
    let server = database.server();
    // It may be silent for longer than an answer takes on another connection. It is not for the pool.
    let mut link = server.open_checked(ADMINISTRATOR, 2 * ADMINISTRATOR)?;
    if sweep.is_dry_run() {
        // What changes nothing keeps no other out.
        return delete_expired(&mut Rows(database, &mut link), sweep, now);
    }
    let (question, action) = (database.selection_of_last_sweep(), DELETE_EXPIRED);
    let locked = database.lock(Some(link), LAST_SWEEP, Duration::ZERO, action, &question);
    let (mut locked, found) = match locked {
        Err(Error::Busy { .. }) => {
            let mut report = SweepReport::default();
            report.already_running = true;
            return Ok(report);
        }
        locked => locked?,
    };
    let (state, address) = (database.state(), &server.address);
    if found.is_empty() {
        let cause = format!("the row {LAST_SWEEP} is missing in {state}");
        let error = Error::store(format!("cannot {action} {address}"), cause);
        return Err(error.with_hint("run `cgi-session init`"));
    }
    let mut rows = Rows(database, &mut locked.link);
    let mut report = delete_expired(&mut rows, sweep, now)?;
    let ended = unix_seconds(now);
    // The sessions are to be counted again.
    let note = format!(
        "UPDATE {state} SET value = CASE name WHEN '{LAST_SWEEP}' THEN {ended} ELSE 0 END \
         WHERE name IN ('{LAST_SWEEP}', '{COUNTED}')"
    );
    // What is deleted is deleted all the same.
    let noted = rows.ask("note the clean-up in", &note).err();
    report.failures.extend(noted.map(|error| error.one_line()));
    locked.release(database);
    Ok(report)
}
