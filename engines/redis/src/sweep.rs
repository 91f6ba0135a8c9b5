//! Clean-up: what the server has not deleted by itself, and the names of ended sessions in the index
//! of users.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::time::{Duration, SystemTime};

use cgi_session::store::{SweepClock, age_of_sweep, has_passed, unix_seconds};
use cgi_session::{Result, SessionDigest, Sweep, SweepEvent, SweepReport};
use cgi_session_kit::reading::{NEVER, time};
use cgi_session_kit::rows::{Candidate, length};

use super::Shared;
use super::listing::PAGE;
use super::lock::{Presence, Token};
use super::node::{Link, number_of_millis};
use super::record::{Field, parse};
use super::scripts::{Reply, number};
use super::server::keep;

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
    let ended: Result<Option<Vec<u8>>> = shared.server.once("read", &key, |link| {
        let mut command = redis::cmd("HGET");
        command.arg(&key).arg("ended").query(link.connection())
    });
    age_of_sweep(time(parse(&ended.ok()??)?), now)
}

struct Progress<'a> {
    shared: &'a Shared,
    sweep: &'a Sweep<'a>,
    now: SystemTime,
    clock: SweepClock<'a>,
    report: SweepReport,
}

impl Progress<'_> {
    /// Whether nobody else is cleaning up. The connection is the sign that this one still is.
    fn begin(&self, link: &mut Option<Link>, token: &Token) -> Result<bool> {
        let (shared, key) = (self.shared, self.shared.names.sweep());
        let begin = &shared.scripts.begin_sweep;
        let first = |link: &Link| vec![token.value(link), number_of_millis(LONGEST)];
        let try_it = |link: &mut Option<Link>| {
            let server = &shared.server;
            server.call(link, "clean up", begin, &key, first, &[])
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
        let ended = is_done.then(|| number(unix_seconds(self.now)));
        let ended: Vec<_> = ended.into_iter().collect();
        let (end, first) = (&shared.scripts.end_sweep, |link: &Link| {
            vec![token.value(link)]
        });
        let server = &shared.server;
        if let Err(error) = server.call(link, "clean up", end, &key, first, &ended) {
            // The next one begins when this one's time is over.
            log::warn!("{}", error.one_line());
        }
    }

    fn delete_expired(&mut self) -> Result<()> {
        let shared = self.shared;
        // The server may show a key twice.
        let mut seen = HashSet::new();
        shared.scan(&shared.names.all_records(), "hash", |keys| {
            let sessions = keys.iter().filter_map(|key| shared.names.session(key));
            let sessions: Vec<_> = sessions.filter(|session| seen.insert(*session)).collect();
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
        let names = &self.shared.names;
        let keys: Vec<_> = sessions
            .iter()
            .map(|session| names.record(session))
            .collect();
        let rows = self.shared.server.load("clean up", &keys, |key| {
            let mut command = redis::cmd("HMGET");
            command.arg(key).arg(&["end", "used"]);
            command
        })?;
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

    /// Deletes a session if it is still expired and nobody has it. Returns the size of its record.
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
        let mut arguments = vec![number(unix_seconds(self.now))];
        arguments.extend(self.sweep.is_dry_run().then(|| b"dry run".to_vec()));
        let (server, expire) = (&self.shared.server, &self.shared.scripts.expire);
        server.call(link, "clean up", expire, key, |_| Vec::new(), &arguments)
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
        let members: Vec<String> = shared.server.once("clean up", key, |link| {
            let mut command = redis::cmd("ZRANGEBYSCORE");
            command.arg(key).arg("-inf").arg(limit);
            command.query(link.connection())
        })?;
        let sessions = members
            .iter()
            .filter_map(|name| SessionDigest::parse(name.as_bytes()));
        let sessions: Vec<_> = sessions.collect();
        for page in sessions.chunks(PAGE) {
            let keys: Vec<_> = page
                .iter()
                .map(|session| shared.names.record(session))
                .collect();
            let named: Vec<Field> = shared.server.load("clean up", &keys, |key| {
                let mut command = redis::cmd("HGET");
                command.arg(key).arg("user");
                command
            })?;
            for (session, named) in page.iter().zip(named) {
                if named.as_deref() == Some(user.as_bytes()) {
                    continue;
                }
                let arguments = [number(limit), session.as_str().as_bytes().to_vec()];
                let forget = &shared.scripts.forget;
                let server = &shared.server;
                server.call_once("clean up", forget, key, &arguments)?;
            }
        }
        Ok(())
    }
}
