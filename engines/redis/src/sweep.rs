//! Clean-up: what the server has not deleted by itself, and the names of ended sessions in the index
//! of users.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use cgi_session::store::{SweepClock, age_of_sweep, has_passed, unix_seconds};
use cgi_session::{Error, Result, SessionDigest, Sweep, SweepEvent, SweepReport};
use cgi_session_kit::reading::{NEVER, tell, time};
use cgi_session_kit::rows::{length, note_deleted};

use super::Shared;
use super::listing::PAGE;
use super::lock::{GRACE, Lock};
use super::record::{Field, number};
use super::scripts::{EXPIRE, FORGET, HOLD_SWEEP};
use super::server::At;

const ACTION: &str = "clean up";
/// A clean-up that lasts longer may meet another one; they do each other no harm.
const LONGEST: Duration = Duration::from_secs(600);
/// A session that is being saved stands in the index before its record names the user.
const SAVING: Duration = Duration::from_secs(3600);

/// Runs a clean-up unless one is running.
pub(super) fn run(shared: &Arc<Shared>, sweep: &Sweep<'_>, now: SystemTime) -> Result<SweepReport> {
    let mut progress = Progress {
        shared,
        sweep,
        now,
        clock: sweep.clock(),
        report: SweepReport::default(),
    };
    if sweep.is_dry_run() {
        progress.delete_expired()?;
        return Ok(progress.report);
    }
    let (key, no_wait) = (shared.key("sweep"), Duration::ZERO);
    let mut lock = Lock::new(shared, key.clone())?;
    match lock.wait(&HOLD_SWEEP, LONGEST, no_wait, no_wait, None::<u64>) {
        Err(Error::Busy { .. }) => {
            progress.report.already_running = true;
            return Ok(progress.report);
        }
        held => drop(held?),
    }
    progress.delete_expired()?;
    progress.clean_users()?;
    let arguments = (&key, "ended", unix_seconds(now));
    tell((shared.server).ask(ACTION, At::Key(&key), "HSET", arguments));
    Ok(progress.report)
}

/// How long ago the last clean-up ended.
pub(super) fn last(shared: &Shared, now: SystemTime) -> Option<Duration> {
    let key = shared.key("sweep");
    let ended: Result<Field> = (shared.server).ask("read", At::Key(&key), "HGET", (&key, "ended"));
    age_of_sweep(time(number(ended.ok()?)?), now)
}

struct Progress<'a> {
    shared: &'a Arc<Shared>,
    sweep: &'a Sweep<'a>,
    now: SystemTime,
    clock: SweepClock<'a>,
    report: SweepReport,
}

impl Progress<'_> {
    fn delete_expired(&mut self) -> Result<()> {
        let shared = self.shared;
        shared.scan_sessions(|sessions| {
            self.delete_from(&sessions)?;
            self.sweep.notify(SweepEvent::Examined(length(&sessions)));
            self.report.stopped_early |= self.clock.is_over();
            Ok(!self.report.stopped_early)
        })
    }

    /// Deletes those of these sessions that have expired.
    fn delete_from(&mut self, sessions: &[SessionDigest]) -> Result<()> {
        for (session, [end, used]) in self.shared.load(ACTION, sessions, ["end", "used"])? {
            let (Some(end), Some(used)) = (number(end), number(used)) else {
                continue;
            };
            self.report.examined += 1;
            if !has_passed(end, self.now) {
                self.report.live += u64::from(used != NEVER);
                continue;
            }
            if self.sweep.is_enough(self.report.deleted) || self.clock.is_over() {
                self.report.stopped_early = true;
                continue;
            }
            if let Some(bytes) = self.delete(&session)? {
                let row = [end, used, bytes];
                note_deleted(&session, row, self.sweep, self.now, &mut self.report);
            }
        }
        Ok(())
    }

    /// Deletes a session if it is still expired and not locked. Returns the size of its record.
    fn delete(&mut self, session: &SessionDigest) -> Result<Option<u64>> {
        let mut lock = Lock::new(self.shared, self.shared.record(session))?;
        let dry_run = self.sweep.is_dry_run().then_some("dry run");
        let (no_wait, arguments) = (Duration::ZERO, (unix_seconds(self.now), dry_run));
        match lock.wait(&EXPIRE, no_wait, no_wait, GRACE, arguments) {
            Ok(reply) if reply.word == "done" => {
                return Ok(reply.rest.into_iter().next().and_then(number));
            }
            Ok(reply) if reply.word == "live" => self.report.live += 1,
            Ok(_) | Err(Error::Busy { .. }) => self.report.busy += 1,
            Err(error) => return Err(error),
        }
        Ok(None)
    }

    /// Takes the sessions out of the index that have ended, or are not this user's any more.
    fn clean_users(&mut self) -> Result<()> {
        let shared = self.shared;
        shared.scan("user:*", "zset", |keys| {
            for key in keys {
                if self.clock.is_over() {
                    self.report.stopped_early = true;
                    return Ok(false);
                }
                self.clean_user(key)?;
            }
            Ok(true)
        })
    }

    fn clean_user(&self, key: &str) -> Result<()> {
        let (shared, server) = (self.shared, &self.shared.server);
        let user = shared.name(key).and_then(|name| name.strip_prefix("user:"));
        let limit = unix_seconds(self.now).saturating_sub(SAVING.as_secs());
        let arguments = (key, "-inf", limit);
        let members: Vec<String> = server.ask(ACTION, At::Key(key), "ZRANGEBYSCORE", arguments)?;
        let sessions = (members.iter()).filter_map(|it| SessionDigest::parse(it.as_bytes()));
        let sessions: Vec<_> = sessions.collect();
        for page in sessions.chunks(PAGE) {
            for (session, [named]) in shared.load(ACTION, page, ["user"])? {
                if named.as_deref() != user.map(str::as_bytes) {
                    server.call(&mut None, &FORGET, key, (limit, session.as_str()))?;
                }
            }
        }
        Ok(())
    }
}
