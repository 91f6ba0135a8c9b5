//! Clean-up: what the server has not deleted by itself, and the names of ended sessions in the index
//! of users.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::time::{Duration, Instant, SystemTime};

use super::Shared;
use super::lease::Token;
use super::record::{parse, time};
use super::scripts::number;
use crate::error::Result;
use crate::id::SessionDigest;
use crate::record::unix_seconds;
use crate::store::expiry::has_passed;
use crate::store::{Sweep, SweepEvent, SweepReport, age_of_sweep};

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
        deadline: sweep
            .max_time
            .and_then(|time| Instant::now().checked_add(time)),
        report: SweepReport::default(),
    };
    if sweep.dry_run {
        progress.delete_expired()?;
        return Ok(progress.report);
    }
    let token = Token::generate()?;
    if !progress.begin(&token)? {
        progress.report.already_running = true;
        return Ok(progress.report);
    }
    let done = progress
        .delete_expired()
        .and_then(|()| progress.clean_users())
        .and_then(|()| progress.note());
    progress.end(&token);
    done.map(|()| progress.report)
}

/// How long ago the last clean-up ended.
pub(super) fn last(shared: &Shared, now: SystemTime) -> Option<Duration> {
    let key = shared.names.last_sweep();
    let ended: Result<Option<Vec<u8>>> = shared.server.once("read", |link| {
        redis::cmd("GET").arg(&key).query(link.connection())
    });
    age_of_sweep(time(parse(&ended.ok()??)?), now)
}

struct Progress<'a> {
    shared: &'a Shared,
    sweep: &'a Sweep<'a>,
    now: SystemTime,
    deadline: Option<Instant>,
    report: SweepReport,
}

/// A session as far as a clean-up needs to know it.
struct Candidate {
    session: SessionDigest,
    used: u64,
}

impl Progress<'_> {
    fn begin(&self, token: &Token) -> Result<bool> {
        let key = self.shared.names.sweep();
        let limit = u64::try_from(LONGEST.as_millis()).unwrap_or(u64::MAX);
        let answer: Option<String> = self.shared.server.once("clean up", |link| {
            let mut command = redis::cmd("SET");
            command
                .arg(&key)
                .arg(token.value(link))
                .arg("NX")
                .arg("PX")
                .arg(limit);
            command.query(link.connection())
        })?;
        Ok(answer.is_some())
    }

    fn end(&self, token: &Token) {
        let (keys, mut link) = ([self.shared.names.sweep()], None);
        let unlock = &self.shared.scripts.unlock;
        let server = &self.shared.server;
        let ended = server.call(&mut link, "clean up", unlock, &keys, |link| {
            vec![token.value(link)]
        });
        server.keep(link);
        if let Err(error) = ended {
            // The next one begins when this one's time is over.
            log::warn!("{}", error.one_line());
        }
    }

    fn note(&self) -> Result<()> {
        let key = self.shared.names.last_sweep();
        self.shared.server.once("note the clean-up in", |link| {
            let mut command = redis::cmd("SET");
            command
                .arg(&key)
                .arg(unix_seconds(self.now))
                .exec(link.connection())
        })
    }

    fn is_late(&self) -> bool {
        self.deadline
            .is_some_and(|deadline| Instant::now() >= deadline)
    }

    fn delete_expired(&mut self) -> Result<()> {
        let shared = self.shared;
        // The server may show a key twice.
        let mut seen = HashSet::new();
        shared.scan(&shared.names.all_records(), "hash", |keys| {
            let sessions = keys.iter().filter_map(|key| shared.names.session(key));
            let sessions: Vec<_> = sessions.filter(|session| seen.insert(*session)).collect();
            self.delete_from(&sessions)?;
            if let Some(observer) = self.sweep.observer {
                observer(SweepEvent::Examined(count(sessions.len())));
            }
            Ok(if self.report.stopped_early {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            })
        })
    }

    /// Deletes those of these sessions that have expired.
    fn delete_from(&mut self, sessions: &[SessionDigest]) -> Result<()> {
        for candidate in self.expired(sessions)? {
            let is_enough = self
                .sweep
                .max_files
                .is_some_and(|max| self.report.deleted >= max);
            if is_enough || self.is_late() {
                self.report.stopped_early = true;
                return Ok(());
            }
            if let Some(bytes) = self.delete(&candidate)? {
                self.count(&candidate, bytes);
            }
        }
        Ok(())
    }

    /// Those that have expired; the others are counted.
    fn expired(&mut self, sessions: &[SessionDigest]) -> Result<Vec<Candidate>> {
        let mut pipe = redis::pipe();
        for session in sessions {
            let record = self.shared.names.record(session);
            pipe.cmd("HMGET").arg(&record).arg(&["end", "used"]);
        }
        let rows: Vec<[Option<Vec<u8>>; 2]> = self
            .shared
            .server
            .once("clean up", |link| pipe.query(link.connection()))?;
        let mut candidates = Vec::new();
        for (session, times) in sessions.iter().zip(rows) {
            let [Some(end), Some(used)] = times.map(|time| time.as_deref().and_then(parse)) else {
                continue;
            };
            self.report.examined += 1;
            if has_passed(end, self.now) {
                candidates.push(Candidate {
                    session: *session,
                    used,
                });
            } else {
                self.report.live += 1;
            }
        }
        Ok(candidates)
    }

    /// Deletes a session if it is still expired and nobody has it. Returns the size of its record.
    fn delete(&mut self, candidate: &Candidate) -> Result<Option<u64>> {
        let (server, names) = (&self.shared.server, &self.shared.names);
        let keys = [
            names.record(&candidate.session),
            names.lock(&candidate.session),
        ];
        if self.sweep.dry_run {
            let (is_locked, bytes): (bool, u64) = server.once("clean up", |link| {
                let mut pipe = redis::pipe();
                pipe.cmd("EXISTS").arg(&keys[1]);
                pipe.cmd("HSTRLEN").arg(&keys[0]).arg("record");
                pipe.query(link.connection())
            })?;
            self.report.busy += u64::from(is_locked);
            return Ok((!is_locked).then_some(bytes));
        }
        let (expire, mut link) = (&self.shared.scripts.expire, None);
        let reply = server.call(&mut link, "clean up", expire, &keys, |_| {
            vec![number(unix_seconds(self.now))]
        });
        server.keep(link);
        let reply = reply?;
        match reply.word() {
            "busy" => self.report.busy += 1,
            "live" => self.report.live += 1,
            _ => return Ok(reply.part(1).and_then(parse)),
        }
        Ok(None)
    }

    fn count(&mut self, candidate: &Candidate, bytes: u64) {
        self.report.deleted += 1;
        self.report.deleted_bytes += bytes;
        if let Some(observer) = self.sweep.observer {
            let age = self.now.duration_since(time(candidate.used));
            observer(SweepEvent::Deleted {
                name: candidate.session.as_str(),
                age: age.unwrap_or_default(),
                bytes,
                reason: "expired",
            });
        }
    }

    /// Takes the sessions out of the index that have ended, or are not this user's any more.
    fn clean_users(&mut self) -> Result<()> {
        let shared = self.shared;
        shared.scan(&shared.names.all_users(), "zset", |keys| {
            for key in keys {
                if self.is_late() {
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
        let members: Vec<String> = shared.server.once("clean up", |link| {
            let mut command = redis::cmd("ZRANGEBYSCORE");
            command
                .arg(key)
                .arg("-inf")
                .arg(limit)
                .query(link.connection())
        })?;
        let sessions = members
            .iter()
            .filter_map(|name| SessionDigest::parse(name.as_bytes()));
        for session in sessions {
            let record = shared.names.record(&session);
            let named: Option<Vec<u8>> = shared.server.once("clean up", |link| {
                redis::cmd("HGET")
                    .arg(&record)
                    .arg("user")
                    .query(link.connection())
            })?;
            if named.as_deref() == Some(user.as_bytes()) {
                continue;
            }
            let (keys, mut link) = ([key.to_owned()], None);
            let forget = &shared.scripts.forget;
            let forgotten = shared
                .server
                .call(&mut link, "clean up", forget, &keys, |_| {
                    vec![number(limit), session.as_str().as_bytes().to_vec()]
                });
            shared.server.keep(link);
            forgotten?;
        }
        Ok(())
    }
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
