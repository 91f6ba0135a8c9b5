//! Clean-up: what the server has not deleted by itself, and the names of ended sessions in the index
//! of users.

use std::ops::ControlFlow;
use std::time::{Duration, SystemTime};

use cgi_session::store::{SweepClock, age_of_sweep, has_passed, unix_seconds};
use cgi_session::{Result, SessionDigest, Sweep, SweepEvent, SweepReport};
use cgi_session_kit::reading::{NEVER, time};
use cgi_session_kit::rows::{Candidate, digests, length};

use super::Shared;
use super::listing::PAGE;
use super::lock::{Presence, Token};
use super::node::{Link, millis};
use super::record::{Field, parse};
use super::scripts::{END_SWEEP, EXPIRE, FORGET, HOLD, Reply};
use super::server::{At, keep, nothing};

/// A clean-up that lasts longer may meet another one; they do each other no harm.
const LONGEST: Duration = Duration::from_secs(600);
/// A session that is being saved stands in the index before its record names the user.
const SAVING: Duration = Duration::from_secs(3600);

/// Runs a clean-up unless one is running.
pub(super) fn run(shared: &Shared, sweep: &Sweep<'_>, now: SystemTime) -> Result<SweepReport> {
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
    let token = Token::generate()?;
    let mut link = None;
    if !progress.begin(&mut link, &token)? {
        keep(link);
        progress.report.already_running = true;
        return Ok(progress.report);
    }
    let done = progress
        .delete_expired()
        .and_then(|()| progress.clean_users());
    progress.end(&mut link, &token, done.is_ok());
    keep(link);
    done.map(|()| progress.report)
}

/// How long ago the last clean-up ended.
pub(super) fn last(shared: &Shared, now: SystemTime) -> Option<Duration> {
    let key = shared.names.sweep();
    let ended = (shared.server).ask("read", At::Key(&key), "HGET", (&key, "ended"));
    let ended: Field = ended.ok()?;
    age_of_sweep(time(parse(&ended?)?), now)
}

struct Progress<'a> {
    shared: &'a Shared,
    sweep: &'a Sweep<'a>,
    now: SystemTime,
    clock: SweepClock<'a>,
    report: SweepReport,
}

impl Progress<'_> {
    /// Whether no other clean-up is running. The connection is the sign that this one still is.
    fn begin(&self, link: &mut Option<Link>, token: &Token) -> Result<bool> {
        let (shared, key) = (self.shared, self.shared.names.sweep());
        let first = |link: &Link| (token.value(link), millis(LONGEST));
        let try_it = |link: &mut Option<Link>| {
            let server = &shared.server;
            server.call(link, "clean up", &HOLD, &key, first, None::<u64>)
        };
        let reply = try_it(link)?;
        if reply.word() == "yours" {
            return Ok(true);
        }
        let holder = reply.text(1);
        if shared.presence(link, &key, &holder)? == Presence::Here {
            return Ok(false);
        }
        shared.unlock(link, &key, &holder)?;
        Ok(try_it(link)?.word() == "yours")
    }

    fn end(&self, link: &mut Option<Link>, token: &Token, is_done: bool) {
        let (shared, key) = (self.shared, self.shared.names.sweep());
        let ended = is_done.then(|| unix_seconds(self.now));
        let (server, first) = (&shared.server, |link: &Link| token.value(link));
        if let Err(error) = server.call(link, "clean up", &END_SWEEP, &key, first, ended) {
            // The next one begins when this one's time is over.
            log::warn!("{}", error.one_line());
        }
    }

    fn delete_expired(&mut self) -> Result<()> {
        let shared = self.shared;
        shared.scan_sessions(|sessions| {
            self.delete_from(&sessions)?;
            self.sweep.notify(SweepEvent::Examined(length(&sessions)));
            self.report.stopped_early |= self.clock.is_over();
            Ok(if self.report.stopped_early {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            })
        })
    }

    /// Deletes those of these sessions that have expired.
    fn delete_from(&mut self, sessions: &[SessionDigest]) -> Result<()> {
        for (session, candidate) in self.expired(sessions)? {
            if self.sweep.is_enough(self.report.deleted) || self.clock.is_over() {
                self.report.stopped_early = true;
                return Ok(());
            }
            if let Some(bytes) = self.delete(&session)? {
                let candidate = Candidate { bytes, ..candidate };
                candidate.note_deleted(self.sweep, self.now, &mut self.report);
            }
        }
        Ok(())
    }

    /// Those that have expired; the others are counted.
    fn expired(&mut self, sessions: &[SessionDigest]) -> Result<Vec<(SessionDigest, Candidate)>> {
        let rows: Vec<(Field, Field)> = self.shared.load("clean up", sessions, &["end", "used"])?;
        let mut candidates = Vec::new();
        for (session, (end, used)) in sessions.iter().zip(rows) {
            let number = |field: Field| parse(&field?);
            let (Some(end), Some(used)) = (number(end), number(used)) else {
                continue;
            };
            self.report.examined += 1;
            if has_passed(end, self.now) {
                let candidate = Candidate {
                    name: session.to_string(),
                    end,
                    used,
                    bytes: 0,
                };
                candidates.push((*session, candidate));
            } else if used != NEVER {
                self.report.live += 1;
            }
        }
        Ok(candidates)
    }

    /// Deletes a session if it is still expired and not locked. Returns the size of its record.
    fn delete(&mut self, session: &SessionDigest) -> Result<Option<u64>> {
        let (shared, key) = (self.shared, self.shared.names.record(session));
        let mut link = None;
        let mut reply = self.expire(&mut link, &key)?;
        if reply.word() == "busy" && !self.sweep.is_dry_run() {
            let holder = reply.text(1);
            if shared.presence(&mut link, &key, &holder)? == Presence::Gone {
                shared.unlock(&mut link, &key, &holder)?;
                reply = self.expire(&mut link, &key)?;
            }
        }
        keep(link);
        match reply.word() {
            "busy" => self.report.busy += 1,
            "live" => self.report.live += 1,
            _ => return Ok(reply.part(1).and_then(parse)),
        }
        Ok(None)
    }

    fn expire(&self, link: &mut Option<Link>, key: &str) -> Result<Reply> {
        let dry_run = self.sweep.is_dry_run().then_some("dry run");
        let arguments = (unix_seconds(self.now), dry_run);
        let server = &self.shared.server;
        server.call(link, "clean up", &EXPIRE, key, nothing, arguments)
    }

    /// Takes the sessions out of the index that have ended, or are not this user's any more.
    fn clean_users(&mut self) -> Result<()> {
        let shared = self.shared;
        shared.scan(&shared.names.all_users(), "zset", |keys| {
            for key in keys {
                if self.clock.is_over() {
                    self.report.stopped_early = true;
                    return Ok(ControlFlow::Break(()));
                }
                self.clean_user(key)?;
            }
            Ok(ControlFlow::Continue(()))
        })
    }

    fn clean_user(&self, key: &str) -> Result<()> {
        let shared = self.shared;
        let user = key.strip_prefix(&shared.names.user("")).unwrap_or_default();
        let limit = unix_seconds(self.now).saturating_sub(SAVING.as_secs());
        let (at, arguments) = (At::Key(key), (key, "-inf", limit));
        let members: Vec<String> =
            (shared.server).ask("clean up", at, "ZRANGEBYSCORE", arguments)?;
        let sessions: Vec<_> = digests(&members).collect();
        for page in sessions.chunks(PAGE) {
            let named: Vec<(Field,)> = shared.load("clean up", page, &["user"])?;
            for (session, (named,)) in page.iter().zip(named) {
                if named.as_deref() == Some(user.as_bytes()) {
                    continue;
                }
                let arguments = (limit, session.as_str());
                let server = &shared.server;
                server.call_once("clean up", &FORGET, key, arguments)?;
            }
        }
        Ok(())
    }
}
