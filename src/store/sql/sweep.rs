//! Clean-up: deletes what has expired and is in nobody's use, some at a time. The lock of a row in the table
//! of states, held to the end on a connection of its own, keeps a second clean-up out.

use std::time::{Duration, Instant, SystemTime};

use super::Shared;
use super::connector::Link;
use super::engine::{Kind, Script};
use crate::error::{Error, Result};
use crate::id::SessionDigest;
use crate::record::unix_seconds;
use crate::store::reading::time;
use crate::store::{Sweep, SweepEvent, SweepReport, age_of_sweep};

/// So many sessions go in one transaction.
const BATCH: u64 = 100;
/// The row of the table of states that holds the time of the last clean-up.
pub(super) const LAST_SWEEP: &str = "lastSweep";
const ACTION: &str = "delete expired sessions from";

/// Runs a clean-up unless one is running.
pub(super) fn run(shared: &Shared, sweep: &Sweep<'_>, now: SystemTime) -> Result<SweepReport> {
    let mut report = SweepReport::default();
    let mut link = shared.take_patient()?;
    if sweep.dry_run {
        // It changes nothing, so that it keeps nobody out.
        delete_batches(shared, &mut link, sweep, now, &mut report)?;
        return Ok(report);
    }
    let Some(mut guard) = guard(shared)? else {
        report.already_running = true;
        return Ok(report);
    };
    delete_batches(shared, &mut link, sweep, now, &mut report)?;
    let mut note = Script::of(&format!(
        "UPDATE {} SET value = {} WHERE name = '{LAST_SWEEP}'",
        shared.state(),
        unix_seconds(now)
    ));
    note.push("COMMIT");
    let noted = guard.run(&note);
    shared.checked("note the clean-up in", guard, noted)?;
    Ok(report)
}

/// How long ago the last clean-up ended.
pub(super) fn last(shared: &Shared, now: SystemTime) -> Option<Duration> {
    let script = Script::of(&format!(
        "SELECT value FROM {} WHERE name = '{LAST_SWEEP}' AND value > 0",
        shared.state()
    ));
    let answers = shared.ask("read", &script).ok()?;
    let ended = answers.row(0)?.number(0);
    age_of_sweep(time(ended), now)
}

/// The connection that keeps other clean-ups out; `None` when one is running.
fn guard(shared: &Shared) -> Result<Option<Link>> {
    let mut link = shared.take_patient()?;
    let mut script = shared.transaction(Duration::ZERO);
    let select = script.push(&format!(
        "SELECT value FROM {} WHERE name = '{LAST_SWEEP}' {}",
        shared.state(),
        shared.engine().for_update(Duration::ZERO)
    ));
    let answers = link.run(&script);
    if let Some(failure) = &answers.failure
        && failure.kind == Kind::Locked
    {
        return Ok(None);
    }
    let (link, answers) = shared.checked(ACTION, link, answers)?;
    if answers.row(select).is_none() {
        let (state, address) = (shared.state(), shared.engine().address());
        let cause = format!("the row {LAST_SWEEP} is missing in {state}");
        let error = Error::store(format!("cannot {ACTION} {address}"), cause);
        return Err(error.with_hint("run `cgi-session init`"));
    }
    Ok(Some(link))
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
    link: &mut Link,
    sweep: &Sweep<'_>,
    now: SystemTime,
    report: &mut SweepReport,
) -> Result<()> {
    let deadline = sweep
        .max_time
        .and_then(|time| Instant::now().checked_add(time));
    let mut last = (0, String::new());
    loop {
        let batch = candidates(shared, link, &last, now)?;
        let Some(candidate) = batch.last() else {
            report.live = count_live(shared, link, now)?;
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
        delete_batch(shared, link, sweep, now, batch, report)?;
        if let Some(observer) = sweep.observer {
            observer(SweepEvent::Examined(report.examined - examined));
        }
        if report.stopped_early {
            return Ok(());
        }
    }
}

/// The next expired sessions, the longest expired first.
fn candidates(
    shared: &Shared,
    link: &mut Link,
    last: &(u64, String),
    now: SystemTime,
) -> Result<Vec<Candidate>> {
    let (end, name) = (last.0, shared.key(&last.1));
    let script = Script::of(&format!(
        "SELECT session, expires, used, octet_length(record) FROM {} \
         WHERE expires >= {end} AND (expires > {end} OR session > {name}) AND expires < {} \
         ORDER BY expires, session LIMIT {BATCH}",
        shared.table(),
        unix_seconds(now)
    ));
    let answers = shared.run_on("look for expired sessions in", link, &script)?;
    let candidate = |row: &super::engine::Row| Candidate {
        name: row.text(0).unwrap_or_default().to_owned(),
        end: row.number(1),
        used: row.number(2),
        bytes: row.number(3),
    };
    Ok(answers.rows(0).iter().map(candidate).collect())
}

fn count_live(shared: &Shared, link: &mut Link, now: SystemTime) -> Result<u64> {
    let script = Script::of(&format!(
        "SELECT count(*) FROM {} WHERE expires >= {}",
        shared.table(),
        unix_seconds(now)
    ));
    let answers = shared.run_on("count the sessions in", link, &script)?;
    Ok(answers.row(0).map_or(0, |row| row.number(0)))
}

/// Deletes those of a batch that nobody uses, in one transaction.
fn delete_batch(
    shared: &Shared,
    link: &mut Link,
    sweep: &Sweep<'_>,
    now: SystemTime,
    batch: Vec<Candidate>,
    report: &mut SweepReport,
) -> Result<()> {
    let mut chosen = Vec::new();
    for candidate in batch {
        // A name of somebody else's making is none of ours.
        if SessionDigest::parse(candidate.name.as_bytes()).is_none() {
            report.foreign += 1;
        } else {
            chosen.push(candidate);
        }
        report.examined += 1;
    }
    if let Some(max) = sweep.max_files {
        let left = usize::try_from(max.saturating_sub(report.deleted)).unwrap_or(usize::MAX);
        if chosen.len() > left {
            report.examined -= length(&chosen) - max.saturating_sub(report.deleted);
            chosen.truncate(left);
            report.stopped_early = true;
        }
    }
    let wanted = length(&chosen);
    let free = delete(shared, link, sweep, now, chosen)?;
    report.busy += wanted - length(&free);
    for candidate in free {
        report.deleted += 1;
        report.deleted_bytes += candidate.bytes;
        if let Some(observer) = sweep.observer {
            observer(SweepEvent::Deleted {
                name: &candidate.name,
                age: now.duration_since(time(candidate.used)).unwrap_or_default(),
                bytes: candidate.bytes,
                reason: "expired",
            });
        }
    }
    Ok(())
}

/// Deletes those that nobody has locked and that are still expired, and returns them.
fn delete(
    shared: &Shared,
    link: &mut Link,
    sweep: &Sweep<'_>,
    now: SystemTime,
    mut chosen: Vec<Candidate>,
) -> Result<Vec<Candidate>> {
    if chosen.is_empty() {
        return Ok(chosen);
    }
    let names: Vec<_> = chosen
        .iter()
        .map(|candidate| format!("'{}'", candidate.name))
        .collect();
    let mut script = shared.transaction(Duration::ZERO);
    let select = script.push(&format!(
        "SELECT session FROM {} WHERE session IN ({}) AND expires < {} AND {} \
         FOR UPDATE SKIP LOCKED",
        shared.engine().by_index(&shared.table, None),
        names.join(", "),
        unix_seconds(now),
        shared.unmarked()
    ));
    let answers = shared.run_on(ACTION, link, &script)?;
    let free: Vec<_> = answers
        .rows(select)
        .iter()
        .filter_map(|row| row.text(0))
        .collect();
    chosen.retain(|candidate| free.contains(&candidate.name.as_str()));
    let mut script = Script::new();
    if !sweep.dry_run {
        shared.delete_found(&mut script, &answers, select);
    }
    script.push(if sweep.dry_run { "ROLLBACK" } else { "COMMIT" });
    shared.run_on(ACTION, link, &script)?;
    Ok(chosen)
}

impl Shared {
    /// Runs a script on a connection that is closed with the clean-up, whether it fails or not.
    fn run_on(
        &self,
        action: &str,
        link: &mut Link,
        script: &Script,
    ) -> Result<super::engine::Answers> {
        let mut answers = link.run(script);
        match answers.failure.take() {
            None => Ok(answers),
            Some(failure) => Err(self.explain(action, failure)),
        }
    }
}

fn length(chosen: &[Candidate]) -> u64 {
    u64::try_from(chosen.len()).unwrap_or(u64::MAX)
}
