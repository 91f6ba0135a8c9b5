//! Clean-up: deletes what has expired and no request holds, some at a time. A lock that its connection has to the end
//! keeps a second clean-up out.

use std::time::{Duration, SystemTime};

use cgi_session::store::{age_of_sweep, unix_seconds};
use cgi_session::{Error, Result, SessionDigest, Sweep, SweepReport};
use cgi_session_kit::reading::time;
use cgi_session_kit::rows::{BATCH, Candidate, IS_SESSION, LAST_SWEEP, Table, delete_expired};

use super::engine::{Row, Script};
use super::link::{Database, Link};

const ACTION: &str = "delete expired sessions from";

/// Runs a clean-up unless one is running.
pub(super) fn run(database: &Database, sweep: &Sweep<'_>, now: SystemTime) -> Result<SweepReport> {
    let mut report = SweepReport::default();
    let mut link = database.take_patient()?;
    if sweep.is_dry_run() {
        // What changes nothing keeps no other out.
        let link = &mut link;
        Rows {
            database,
            link,
            sweep,
            now,
        }
        .clean_up(&mut report)?;
        return Ok(report);
    }
    let question = last_sweep(database);
    let locked = database.lock(Some(link), LAST_SWEEP, Duration::ZERO, ACTION, &question);
    let (mut locked, found) = match locked {
        Err(Error::Busy { .. }) => {
            report.already_running = true;
            return Ok(report);
        }
        locked => locked?,
    };
    if found.is_empty() {
        return Err(incomplete(database));
    }
    let link = &mut locked.link;
    let mut rows = Rows {
        database,
        link,
        sweep,
        now,
    };
    rows.clean_up(&mut report)?;
    match rows.note() {
        Err(error) if error.status() == 503 && !matches!(error, Error::Busy { .. }) => {
            return Err(error);
        }
        // What is deleted is deleted all the same.
        Err(error) => report.failures.push(error.one_line()),
        Ok(()) => {}
    }
    locked.release(database);
    Ok(report)
}

fn last_sweep(database: &Database) -> String {
    let state = database.state();
    format!("SELECT value FROM {state} WHERE name = '{LAST_SWEEP}'")
}

fn incomplete(database: &Database) -> Error {
    let (state, address) = (database.state(), database.engine().address());
    let cause = format!("the row {LAST_SWEEP} is missing in {state}");
    Error::store(format!("cannot {ACTION} {address}"), cause).with_hint("run `cgi-session init`")
}

/// How long ago the last clean-up ended.
pub(super) fn last(database: &Database, now: SystemTime) -> Option<Duration> {
    let script = Script::of(&last_sweep(database));
    let answers = database.ask("read", &script, Duration::ZERO).ok()?;
    let ended = answers.row(0)?.number(0);
    (ended > 0).then(|| age_of_sweep(time(ended), now))?
}

/// The table of a clean-up at this time.
struct Rows<'a> {
    database: &'a Database,
    link: &'a mut Link,
    sweep: &'a Sweep<'a>,
    now: SystemTime,
}

impl Rows<'_> {
    fn clean_up(&mut self, report: &mut SweepReport) -> Result<()> {
        delete_expired(self, self.sweep, self.now, report)
    }

    fn note(&mut self) -> Result<()> {
        let note = format!(
            "UPDATE {} SET value = {} WHERE name = '{LAST_SWEEP}'",
            self.database.state(),
            unix_seconds(self.now)
        );
        self.ask("note the clean-up in", &note).map(drop)
    }

    fn ask(&mut self, action: &str, statement: &str) -> Result<Vec<Row>> {
        let script = Script::of(statement);
        let mut answers = self.database.ask_on(self.link, action, &script)?;
        Ok(answers.take_rows(0))
    }
}

impl Table for Rows<'_> {
    fn expired_after(&mut self, end: u64, name: &str) -> Result<Vec<Candidate>> {
        let name = self.database.key_literal(name);
        let question = format!(
            "SELECT session, expires, used, octet_length(record) FROM {} \
             WHERE expires >= {end} AND (expires > {end} OR session > {name}) AND expires < {} \
             ORDER BY expires, session LIMIT {BATCH}",
            self.database.table(),
            unix_seconds(self.now)
        );
        let rows = self.ask("look for expired sessions in", &question)?;
        let candidate = |row: &Row| Candidate {
            name: row.text(0).unwrap_or_default().to_owned(),
            end: row.number(1),
            used: row.number(2),
            bytes: row.number(3),
        };
        Ok(rows.iter().map(candidate).collect())
    }

    fn count_live(&mut self) -> Result<u64> {
        let question = format!(
            "SELECT count(*) FROM {} WHERE expires >= {} AND {IS_SESSION}",
            self.database.table(),
            unix_seconds(self.now)
        );
        let rows = self.ask("count the sessions in", &question)?;
        Ok(rows.first().map_or(0, |row| row.number(0)))
    }

    fn delete(&mut self, sessions: &[SessionDigest]) -> Result<Vec<SessionDigest>> {
        let is_expired = format!("expires < {}", unix_seconds(self.now));
        let condition = (!self.sweep.is_dry_run()).then_some(&*is_expired);
        (self.database).delete_free(self.link, ACTION, sessions, condition)
    }
}
