//! [`Trial`]: processes of this program count in the sessions of a scratch store, and are killed.
//!
//! A process reports each operation in a line to its pipe, an increment before and after it. The lines of a
//! killed process can still be read: an increment that was not acknowledged may or may not be there.

use std::collections::BTreeMap;
use std::env;
use std::error::Error as StdError;
use std::fs;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use cgi_session::{Config, Record, Session, SessionId, SessionManager, Sweep, Values};
use indicatif::HumanCount;
use rustix::process::{Signal, getpid, kill_process};

use crate::account::this_program;
use crate::progress::Progress;
use crate::signals::Signals;

/// The directory of the trial, for a process that takes part in it.
const PLACE: &str = "_CGI_SESSION_STRESS_TRIAL";
/// The Cookie headers of the sessions in which all processes count.
const COOKIES: &str = "_CGI_SESSION_STRESS_COOKIES";
const SESSIONS: usize = 3;
const PROCESSES: usize = 6;
/// How long a process lives, in milliseconds.
const LIFE: std::ops::Range<u64> = 20..400;
/// Longer than `timeout`, and than a clean-up waits after a session's end.
const LONG: Duration = Duration::from_secs(3600 + 180);

pub(super) type Failure = Box<dyn StdError + Send + Sync>;

/// What the processes have reported.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) elapsed: Duration,
    pub(super) violations: Vec<String>,
    lines: BTreeMap<String, u64>,
}

impl Outcome {
    /// How many times an operation was reported.
    pub(super) fn number(&self, operation: &str) -> u64 {
        self.lines.get(operation).copied().unwrap_or_default()
    }

    /// Increments that were acknowledged.
    pub(super) fn increments(&self) -> u64 {
        (0..SESSIONS).map(|it| self.number(&done(it))).sum()
    }

    fn note(&mut self, line: &str) {
        match line.strip_prefix("violation ") {
            Some(text) => self.violations.push(text.to_owned()),
            None => *self.lines.entry(line.to_owned()).or_default() += 1,
        }
    }
}

fn begun(session: usize) -> String {
    format!("begun {session}")
}

fn done(session: usize) -> String {
    format!("done {session}")
}

/// The store of the site in another place, without limits that would get in the way.
fn scratch(config: Config, place: &Path) -> cgi_session::Result<SessionManager> {
    // A name has 63 letters at most.
    let mut table = config.get("table").unwrap_or_default();
    table.truncate(48);
    table += "_storm_sessions";
    let mut config = config.set("storageFileDir", place.join("sessions"))?;
    if config.get("storageType").as_deref() == Some("sqlite") {
        config = config.set("database", place.join("sessions.db"))?;
    }
    for (key, value) in [
        ("table", table.as_str()),
        ("app", ""),
        ("idFrom", "cookie"),
        ("timeout", "1h"),
        ("lifetime", "0"),
        ("lockTimeout", "60s"),
        ("lockLease", "10m"),
        ("maxRecordBytes", "1048576"),
        ("maxKeyLength", "128"),
        ("maxSessions", "0"),
        ("minFreeSpace", "0"),
        ("cleanUpProbability", "0"),
    ] {
        config = config.set(key, value)?;
    }
    crate::stores::manager(config)
}

/// Tries sessions out in `place` for this time or until there is a violation.
pub(super) fn run(
    config: &Config,
    place: &Path,
    signals: &Signals,
    time: Duration,
) -> Result<Outcome, Failure> {
    let manager = scratch(config.clone(), place)?;
    // In an engine there may be what a killed trial has left.
    drop(manager.uninstall());
    manager.install().pop().map_or(Ok(()), Err)?;
    let cookies: Vec<_> = (0..SESSIONS)
        .map(|_| change(&manager, "", |session| put(session, 0)))
        .collect::<Result<_, _>>()
        .inspect_err(|_| drop(manager.uninstall()))?;
    let (started, outcome) = (Instant::now(), Mutex::new(Outcome::default()));
    let is_over = || {
        let is_broken = !lock(&outcome).violations.is_empty();
        is_broken || started.elapsed() >= time || signals.any()
    };
    let progress = Progress::begin();
    thread::scope(|scope| {
        for _ in 0..PROCESSES {
            scope.spawn(|| {
                while !is_over() {
                    if let Err(error) = run_process(config, place, signals, &cookies, &outcome) {
                        lock(&outcome).note(&format!("violation no process: {error}"));
                    }
                }
            });
        }
        let milliseconds = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        while !is_over() {
            let (done, all) = (milliseconds(started.elapsed()), milliseconds(time));
            let so_far = lock(&outcome);
            progress.note(done, Some(all), || {
                let (increments, killed) = (so_far.increments(), so_far.number("killed"));
                let (increments, killed) = (HumanCount(increments), HumanCount(killed));
                format!("{increments} increments, {killed} processes killed")
            });
            drop(so_far);
            thread::sleep(Duration::from_millis(20));
        }
    });
    progress.end();
    let mut outcome = outcome.into_inner().unwrap_or_else(PoisonError::into_inner);
    outcome.elapsed = started.elapsed();
    if !signals.any() {
        judge(&manager, place, &cookies, &mut outcome)?;
    }
    let errors = manager.uninstall().errors;
    let errors = errors.iter().map(cgi_session::Error::one_line);
    outcome.violations.extend(errors);
    Ok(outcome)
}

/// Runs one process to its end.
fn run_process(
    config: &Config,
    place: &Path,
    signals: &Signals,
    cookies: &[String],
    outcome: &Mutex<Outcome>,
) -> io::Result<()> {
    let mut command = Command::new(this_program());
    command.env(PLACE, place).env(COOKIES, cookies.join(" "));
    if let Some(file) = config.file() {
        command.env("CGI_SESSION_CONFIG", file);
    }
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    lock(outcome).note("processes");
    let output = child.stdout.take().map(BufReader::new);
    for line in output.into_iter().flat_map(BufReader::lines) {
        lock(outcome).note(&line?);
    }
    let status = child.wait()?;
    if status.signal() == Some(Signal::KILL.as_raw()) {
        lock(outcome).note("killed");
    } else if !status.success() && !signals.any() {
        lock(outcome).note(&format!("violation a process ended with {status}"));
    }
    Ok(())
}

/// Compares what is stored with what the processes reported, when all have ended.
fn judge(
    manager: &SessionManager,
    place: &Path,
    cookies: &[String],
    outcome: &mut Outcome,
) -> Result<(), Failure> {
    for (session, cookie) in cookies.iter().enumerate() {
        let (begun, done) = (
            outcome.number(&begun(session)),
            outcome.number(&done(session)),
        );
        let found = manager
            .existing(cookie)?
            .and_then(|session| number(&session));
        if found.is_none_or(|found| !(done..=begun).contains(&found)) {
            outcome.violations.push(format!(
                "a session holds {found:?} after {begun} increments, {done} of them acknowledged"
            ));
        }
    }
    // The second clean-up removes what was listed before the session to which it belongs.
    for _ in 0..2 {
        let later = SystemTime::now() + LONG;
        let swept = manager.store().delete_expired(&Sweep::new(), later)?;
        outcome.violations.extend(swept.failures);
        if swept.busy > 0 {
            let text = format!("{} sessions are locked by no process", swept.busy);
            outcome.violations.push(text);
        }
    }
    let mut left = files(&place.join("sessions"));
    left.retain(|name| !matches!(name.as_str(), ".gc" | ".count"));
    let left = left
        .into_iter()
        .map(|name| format!("{name} is left after a clean-up"));
    outcome.violations.extend(left);
    Ok(())
}

fn lock(outcome: &Mutex<Outcome>) -> MutexGuard<'_, Outcome> {
    outcome.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The names of the files in a directory and in those below it.
fn files(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let names = entries.flat_map(|entry| match entry.path() {
        path if path.is_dir() => files(&path),
        _ => vec![entry.file_name().to_string_lossy().into_owned()],
    });
    names.collect()
}

/// Takes part in a trial, if this process was started for that.
#[must_use]
pub fn take_part() -> Option<ExitCode> {
    let (place, cookies) = (env::var_os(PLACE)?, env::var(COOKIES).ok()?);
    let cookies: Vec<_> = cookies.split(' ').collect();
    let worked = work(Path::new(&place), &cookies);
    let reported = worked.or_else(|failure| say(&format!("violation {failure}")));
    // Where no process reads the report, the trial itself was killed.
    Some(reported.map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS))
}

/// One write for each line, so that it is whole or not there.
fn say(line: &str) -> io::Result<()> {
    io::stdout()
        .lock()
        .write_all(format!("{line}\n").as_bytes())
}

fn work(place: &Path, cookies: &[&str]) -> Result<(), Failure> {
    let manager = scratch(Config::find()?, place)?;
    let life = Duration::from_millis(fastrand::u64(LIFE));
    if fastrand::bool() {
        thread::spawn(move || {
            thread::sleep(life);
            kill_process(getpid(), Signal::KILL)
        });
    }
    let (started, mut seen) = (Instant::now(), [0; SESSIONS]);
    while started.elapsed() < life {
        let session = fastrand::usize(..SESSIONS);
        let (Some(cookie), Some(seen)) = (cookies.get(session), seen.get_mut(session)) else {
            return Err("a session is missing".into());
        };
        match fastrand::u8(..20) {
            0 => live(&manager)?,
            1 => clean_up(&manager)?,
            2..8 => {
                let snapshot = manager.read(cookie)?.ok_or("a session is gone")?;
                *seen = at_least(*seen, &snapshot)?;
                say("reads")?;
            }
            _ => {
                say(&begun(session))?;
                let mut opened = manager.existing(cookie)?.ok_or("a session is gone")?;
                *seen = at_least(*seen, &opened)? + 1;
                put(&mut opened, *seen)?;
                opened.commit()?;
                say(&done(session))?;
            }
        }
    }
    Ok(())
}

/// The number in a session, which is never smaller than one that was seen before.
fn at_least(seen: u64, values: &Values) -> Result<u64, Failure> {
    match number(values) {
        Some(number) if number >= seen => Ok(number),
        Some(number) => Err(format!("a session that held {seen} holds {number}").into()),
        None => Err("a session is torn".into()),
    }
}

/// Stores a number and as much padding as belongs to it: records grow and shrink.
fn put(values: &mut Values, number: u64) -> cgi_session::Result<()> {
    values.insert("number", number)?;
    values.insert("padding", padding(number))
}

/// The number in a session, if all of it was written at once.
fn number(values: &Values) -> Option<u64> {
    let number = values.get("number").ok()??;
    let found: String = values.get("padding").ok()??;
    (found == padding(number)).then_some(number)
}

fn padding(number: u64) -> String {
    let times = number.wrapping_mul(7919) % 3_000;
    number
        .to_string()
        .repeat(usize::try_from(times).unwrap_or_default())
}

/// Creates a session or changes the one of this Cookie header, and returns the next Cookie header.
fn change(
    manager: &SessionManager,
    cookie: &str,
    change: impl FnOnce(&mut Session) -> cgi_session::Result<()>,
) -> Result<String, Failure> {
    let ((), set_cookie) = manager.update(cookie, change)?;
    let set_cookie = set_cookie.ok_or("a new id was not sent")?.to_string();
    Ok(set_cookie.split(';').next().unwrap_or_default().to_owned())
}

/// A session from its creation over a change of its id to its end.
fn live(manager: &SessionManager) -> Result<(), Failure> {
    let old = change(manager, "", |session| put(session, 0))?;
    say("newcomers")?;
    let new = change(manager, &old, |session| {
        session.regenerate_id();
        put(session, 1)
    })?;
    say("newIds")?;
    let session = manager
        .existing(&new)?
        .ok_or("a session is gone with its id")?;
    at_least(1, &session)?;
    if manager.read(&old)?.is_some() {
        return Err("a replaced id shows a session".into());
    }
    session.destroy()?;
    say("destroyed")?;
    match (manager.read(&new)?, manager.read(&old)?) {
        (None, None) => Ok(()),
        _ => Err("a destroyed session is back".into()),
    }
}

/// Stores a session that expired long ago, and cleans up.
fn clean_up(manager: &SessionManager) -> Result<(), Failure> {
    let (now, past) = (SystemTime::now(), SystemTime::now() - LONG);
    let digest = SessionId::generate()?.digest();
    if let Some(mut lease) = manager.store().create(&digest, &Record::new(past), now)? {
        lease.touch(past)?;
    }
    let swept = manager.delete_expired(&Sweep::new())?;
    if let Some(failure) = swept.failures.into_iter().next() {
        return Err(failure.into());
    }
    (0..swept.deleted).try_for_each(|_| Ok(say("cleanedUp")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_that_was_not_written_at_once_has_no_number() {
        let mut values = Values::default();
        for one in [0, 3, 12_345] {
            put(&mut values, one).unwrap();
            assert_eq!(number(&values), Some(one));
        }
        values.insert("number", 4).unwrap();
        assert_eq!(number(&values), None);
    }
}
