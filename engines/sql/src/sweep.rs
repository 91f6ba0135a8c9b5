//! Clean-up: deletes what has expired and is in nobody's use, some at a time. The lock of a row in the table
//! of states, held to the end on a connection of its own, keeps a second clean-up out.

use std::time::{Duration, Instant, SystemTime};

use cgi_session::store::{age_of_sweep, unix_seconds};
use cgi_session::{Error, Result, SessionDigest, Sweep, SweepReport};
use cgi_session_kit::reading::time;
use cgi_session_kit::rows::{
    BATCH, Candidate, IS_SESSION, LAST_SWEEP, Table, delete_expired, length,
};

use super::engine::{Answers, Failure, Kind, Row, Script};
use super::link::{Database, Link};

const ACTION: &str = "delete expired sessions from";
/// The server ends a connection that has locked something and is silent for long.
const SILENCE: Duration = Duration::from_secs(2);

/// Runs a clean-up unless one is running.
pub(super) fn run(database: &Database, sweep: &Sweep<'_>, now: SystemTime) -> Result<SweepReport> {
    let mut report = SweepReport::default();
    let mut rows = Rows {
        database,
        link: database.take_patient()?,
        guard: None,
        sweep,
        now,
    };
    if sweep.is_dry_run() {
        // It changes nothing, so that it keeps nobody out.
        delete_expired(&mut rows, sweep, &mut report)?;
        return Ok(report);
    }
    rows.guard = Guard::take(database)?;
    if rows.guard.is_none() {
        report.already_running = true;
        return Ok(report);
    }
    delete_expired(&mut rows, sweep, &mut report)?;
    if let Some(guard) = rows.guard
        && let Err(error) = guard.note(database, now)
    {
        // What is deleted is deleted all the same.
        report.failures.push(error.one_line());
    }
    Ok(report)
}

/// How long ago the last clean-up ended.
pub(super) fn last(database: &Database, now: SystemTime) -> Option<Duration> {
    let script = Script::of(&format!(
        "SELECT value FROM {} WHERE name = '{LAST_SWEEP}' AND value > 0",
        database.state()
    ));
    let answers = database.ask("read", &script).ok()?;
    let ended = answers.row(0)?.number(0);
    age_of_sweep(time(ended), now)
}

/// The connection that keeps other clean-ups out.
struct Guard {
    link: Link,
    asked: Instant,
    /// Why it is of no use any more.
    failure: Option<Failure>,
}

impl Guard {
    /// `None` when another clean-up is running.
    fn take(database: &Database) -> Result<Option<Self>> {
        let mut link = database.take_patient()?;
        let mut script = database.transaction(Duration::ZERO);
        let select = script.push(&format!(
            "SELECT value FROM {} WHERE name = '{LAST_SWEEP}' {}",
            database.state(),
            database.engine().for_update(Duration::ZERO)
        ));
        let answers = link.run(&script);
        if let Some(failure) = &answers.failure
            && failure.kind == Kind::Locked
        {
            return Ok(None);
        }
        let (link, answers) = database.checked(ACTION, link, answers)?;
        if answers.row(select).is_none() {
            let (state, address) = (database.state(), database.engine().address());
            let cause = format!("the row {LAST_SWEEP} is missing in {state}");
            let error = Error::store(format!("cannot {ACTION} {address}"), cause);
            return Err(error.with_hint("run `cgi-session init`"));
        }
        Ok(Some(Guard {
            link,
            asked: Instant::now(),
            failure: None,
        }))
    }

    /// Asks for something, lest the server take it for forgotten.
    fn stay(&mut self) {
        if self.failure.is_none() && self.asked.elapsed() >= SILENCE {
            self.failure = self.link.run(&Script::of("SELECT 1")).failure;
            self.asked = Instant::now();
        }
    }

    /// Notes when the clean-up was, and lets others in.
    fn note(mut self, database: &Database, now: SystemTime) -> Result<()> {
        let action = "note the clean-up in";
        if let Some(failure) = self.failure {
            return Err(database.explain(action, failure));
        }
        let mut note = Script::of(&format!(
            "UPDATE {} SET value = {} WHERE name = '{LAST_SWEEP}'",
            database.state(),
            unix_seconds(now)
        ));
        note.push("COMMIT");
        let noted = self.link.run(&note);
        database.checked(action, self.link, noted).map(drop)
    }
}

/// The table of a clean-up at this time.
struct Rows<'a> {
    database: &'a Database,
    /// Closed with the clean-up, whether it fails or not, as its guard is.
    link: Link,
    guard: Option<Guard>,
    sweep: &'a Sweep<'a>,
    now: SystemTime,
}

impl Table for Rows<'_> {
    fn expired_after(&mut self, end: u64, name: &str) -> Result<Vec<Candidate>> {
        let name = self.database.key(name);
        let script = Script::of(&format!(
            "SELECT session, expires, used, octet_length(record) FROM {} \
             WHERE expires >= {end} AND (expires > {end} OR session > {name}) AND expires < {} \
             ORDER BY expires, session LIMIT {BATCH}",
            self.database.table(),
            unix_seconds(self.now)
        ));
        let answers = self.run("look for expired sessions in", &script)?;
        let candidate = |row: &Row| Candidate {
            name: row.text(0).unwrap_or_default().to_owned(),
            end: row.number(1),
            used: row.number(2),
            bytes: row.number(3),
        };
        Ok(answers.rows(0).iter().map(candidate).collect())
    }

    fn count_live(&mut self) -> Result<u64> {
        let script = Script::of(&format!(
            "SELECT count(*) FROM {} WHERE expires >= {} AND {IS_SESSION}",
            self.database.table(),
            unix_seconds(self.now)
        ));
        let answers = self.run("count the sessions in", &script)?;
        Ok(answers.row(0).map_or(0, |row| row.number(0)))
    }

    fn delete(&mut self, batch: Vec<Candidate>, report: &mut SweepReport) -> Result<()> {
        let mut chosen = Vec::new();
        for candidate in batch {
            if self
                .sweep
                .is_enough(report.deleted.saturating_add(length(&chosen)))
            {
                report.stopped_early = true;
                break;
            }
            report.examined += 1;
            // A name that another program has made is none of ours.
            if SessionDigest::parse(candidate.name.as_bytes()).is_none() {
                report.foreign += 1;
            } else {
                chosen.push(candidate);
            }
        }
        let wanted = length(&chosen);
        let free = self.delete_free(chosen)?;
        report.busy += wanted - length(&free);
        for candidate in free {
            candidate.note_deleted(self.sweep, self.now, report);
        }
        Ok(())
    }
}

impl Rows<'_> {
    /// Deletes those that nobody has locked and that are still expired, and returns them.
    fn delete_free(&mut self, mut chosen: Vec<Candidate>) -> Result<Vec<Candidate>> {
        if chosen.is_empty() {
            return Ok(chosen);
        }
        let database = self.database;
        let names: Vec<_> = chosen
            .iter()
            .map(|candidate| format!("'{}'", candidate.name))
            .collect();
        let mut script = database.transaction(Duration::ZERO);
        let select = script.push(&format!(
            "SELECT session FROM {} WHERE session IN ({}) AND expires < {} AND {} \
             FOR UPDATE SKIP LOCKED",
            database.engine().by_index(&database.table, None),
            names.join(", "),
            unix_seconds(self.now),
            database.unmarked()
        ));
        let answers = self.run(ACTION, &script)?;
        let free: Vec<_> = answers
            .rows(select)
            .iter()
            .filter_map(|row| row.text(0))
            .collect();
        chosen.retain(|candidate| free.contains(&candidate.name.as_str()));
        let mut script = Script::new();
        if self.sweep.is_dry_run() {
            script.push("ROLLBACK");
        } else {
            database.delete_found(&mut script, &answers, select);
            script.push("COMMIT");
        }
        self.run(ACTION, &script)?;
        Ok(chosen)
    }

    fn run(&mut self, action: &str, script: &Script) -> Result<Answers> {
        let mut answers = self.link.run(script);
        if let Some(guard) = &mut self.guard {
            guard.stay();
        }
        match answers.failure.take() {
            None => Ok(answers),
            Some(failure) => Err(self.database.explain(action, failure)),
        }
    }
}
