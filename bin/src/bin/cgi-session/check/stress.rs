//! `check --stress`: a storm on a store like the one of the site, on the same file system.

mod place;

use std::env;
use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus};
use std::thread;
use std::time::Duration;

use cgi_session::{Config, SessionManager};
use cgi_session_tools::location::Location;
use cgi_session_tools::owner::{Account, is_roots_alone, this_program};
use cgi_session_tools::report;
use cgi_session_tools::storm::{Outcome, Settings, Storm, Task};
use indicatif::{HumanCount, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};

use super::finding::{Finding, Findings};
use super::medium;
use crate::signals::{self, Signals};
use place::Place;

const TOPIC: &str = "stress";
const STYLE: &str = "[{wide_bar}] {msg}, {eta} left";
/// Names the directory that root has made for the storm of another user.
const PLACE: &str = "_CGI_SESSION_STRESS_PLACE";
/// So many broken promises are told one by one.
const TOLD: usize = 5;

/// Plays a part in a storm, if this process was started for that.
pub(crate) fn take_part_in_storm() -> Option<ExitCode> {
    let (task, settings) = (Task::find()?, Settings::find()?);
    report::show_warnings();
    Some(task.run(&settings))
}

/// Runs this program as another user, and makes the directory for the storm where that user could not.
pub(super) fn run_as(account: &Account, config: &Config) -> Result<ExitCode, String> {
    let signals = Signals::catch().map_err(|error| format!("cannot catch signals: {error}"))?;
    let mut command = account.command(config);
    command.args(env::args_os().skip(1));
    // Where root cannot make it, or must not, the user may, or the check itself tells.
    let place = home(config).and_then(|home| Place::make(&home, account).ok());
    match &place {
        Some(place) => command.env(PLACE, place.path()),
        None => command.env_remove(PLACE),
    };
    let status = wait(&mut command, &signals);
    drop(place);
    let status = status.map_err(|error| format!("cannot run as {account}: {error}"))?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(ExitCode::from(code.unwrap_or(report::FAILED)))
}

fn wait(command: &mut Command, signals: &Signals) -> io::Result<ExitStatus> {
    let mut child = command.spawn()?;
    let mut is_told = false;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if signals.any() && !is_told {
            // Ctrl-C reaches both; a signal to this process alone does not.
            signals::pass_on(&child);
            is_told = true;
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// Tries the store; returns the signal that ended the trial early.
pub(super) fn check(config: &Config, duration: Duration, found: &mut Findings) -> Option<u8> {
    let Some(home) = home(config) else {
        found.add(nothing_to_try(config));
        return None;
    };
    let signals = match Signals::catch() {
        Ok(signals) => signals,
        Err(error) => {
            found.add(cannot_run(config, &home, &error));
            return None;
        }
    };
    let place = match env::var_os(PLACE) {
        Some(path) => Ok(Place::lent(path.into())),
        None => Place::make(&home, &Account::current()),
    };
    let outcome = place.and_then(|place| storm(place.path(), config, duration, &signals));
    match outcome {
        Ok(outcome) => {
            if let Some(signal) = outcome.interrupted {
                return u8::try_from(signal).ok();
            }
            tell(&tried(config, &home), &outcome, found);
        }
        Err(error) => found.add(cannot_run(config, &home, &error)),
    }
    None
}

/// The directory beside the sessions, on the same file system. Of a store in an engine nothing but
/// what the processes tell each other lies there. `None` when there is nothing to try.
fn home(config: &Config) -> Option<PathBuf> {
    let location = Location::of(config);
    match location.kind() {
        "file" => {
            let directory: PathBuf = config.storage_file_dir().ok()?.components().collect();
            Some(place::beside(&directory))
        }
        "sqlite" => location.path()?.parent().map(Path::to_owned),
        _ => location.is_in_engine().then(env::temp_dir),
    }
}

fn nothing_to_try(config: &Config) -> Finding {
    let kind = config.get("storageType").unwrap_or_default();
    let reason = match kind.as_str() {
        "ram" => "the sessions are in the memory of one program: there is nothing to try",
        "cookie" => "the sessions are at the clients: there is nothing to try",
        _ => "the store is none that this tool has: there is nothing to try",
    };
    Finding::fine(TOPIC, format!("storageType = {kind}: {reason}"))
}

fn cannot_run(config: &Config, home: &Path, error: &io::Error) -> Finding {
    let account = Account::current();
    let location = Location::of(config);
    if location.is_in_engine() {
        return Finding::problem(
            TOPIC,
            format!("cannot try sessions out in {location}: {error}"),
        );
    }
    let text = format!(
        "{account} cannot try sessions out in {}: {error}",
        home.display()
    );
    let remedy = match error.kind() {
        io::ErrorKind::PermissionDenied if account.is_root() => {
            let owner = Account::owning(home).map_or("USER".to_owned(), |owner| owner.handle());
            format!("cgi-session check --stress --as {owner}")
        }
        io::ErrorKind::PermissionDenied if is_roots_alone(home) => {
            format!("sudo cgi-session check --stress --as {}", account.handle())
        }
        io::ErrorKind::PermissionDenied => format!("chown root: {}", home.display()),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            format!("make room: df -h {0}; df -i {0}", home.display())
        }
        _ => format!("findmnt -T {}", home.display()),
    };
    Finding::problem(TOPIC, text).at(home).remedy(remedy)
}

fn storm(
    place: &Path,
    config: &Config,
    duration: Duration,
    signals: &Signals,
) -> io::Result<Outcome> {
    let settings = Settings::of(config);
    let command = || {
        let mut command = Command::new(this_program());
        settings.give_to(&mut command);
        command
    };
    let storm = Storm {
        place,
        subject: &settings,
        command: &command,
        seed: fastrand::u64(..),
        signal: signals.caught(),
    };
    let bar = progress_bar(duration);
    let outcome = storm.run(&|so_far| {
        if let Some(bar) = &bar {
            bar.set_position(milliseconds(so_far.elapsed));
            let increments = HumanCount(so_far.increments);
            let killed = HumanCount(so_far.killed);
            bar.set_message(format!(
                "{increments} increments, {killed} processes killed"
            ));
        }
        so_far.elapsed < duration
    });
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    outcome
}

fn progress_bar(duration: Duration) -> Option<ProgressBar> {
    io::stderr().is_terminal().then(|| {
        let length = Some(milliseconds(duration));
        let bar = ProgressBar::with_draw_target(length, ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template(STYLE) {
            bar.set_style(style);
        }
        bar
    })
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// What was tried, for people, and what to do when it is not safe.
struct Tried {
    place: String,
    remedy: String,
}

fn tried(config: &Config, home: &Path) -> Tried {
    let location = Location::of(config);
    if location.is_in_engine() {
        let engine = SessionManager::new(config.clone()).ok();
        let engine = engine.and_then(|manager| manager.store().examine().engine);
        let engine = engine.map_or(String::new(), |engine| format!(" ({engine})"));
        return Tried {
            place: format!("{location}{engine}"),
            remedy:
                "look at the engine's own log; check --stress on another one tells whether it is \
                     this one"
                    .to_owned(),
        };
    }
    let kind = medium::file_system(home);
    let kind = kind.map_or(String::new(), |kind| format!(" ({kind})"));
    Tried {
        place: format!("{}{kind}", home.display()),
        remedy: remedy(home),
    }
}

/// One line that says whether sessions are safe there, and one for each promise that was broken.
fn tell(tried: &Tried, outcome: &Outcome, found: &mut Findings) {
    let place = &tried.place;
    let what = format!(
        "{} increments by {} processes, {} of them killed",
        HumanCount(outcome.increments),
        HumanCount(outcome.processes),
        HumanCount(outcome.killed)
    );
    let Some(first) = outcome.violations.first() else {
        found.add(if outcome.increments == 0 {
            let text = format!("too little was tried on {place}: {what}");
            let remedy = "cgi-session check --stress --seconds 60".to_owned();
            Finding::warning(TOPIC, text).remedy(remedy)
        } else {
            let text = format!(
                "sessions are safe on {place}: {what}; none lost, none doubled, nothing left behind"
            );
            Finding::fine(TOPIC, text).figures(figures(outcome))
        });
        return;
    };
    let number = report::counted(outcome.violations.len() as u64, "broken promise");
    let text = format!("sessions are NOT safe on {place}: {number} after {what}; {first}");
    let finding = Finding::problem(TOPIC, text).remedy(tried.remedy.clone());
    found.add(finding.figures(figures(outcome)));
    for violation in outcome.violations.iter().skip(1).take(TOLD - 1) {
        found.add(Finding::problem(TOPIC, violation.to_string()));
    }
}

fn remedy(home: &Path) -> String {
    if medium::is_network(home) {
        "storageFileDir on a local disk: locks of a network file system are not dependable"
            .to_owned()
    } else {
        "storageFileDir on another local file system, such as /var/lib/cgi-session on ext4 or xfs; \
         check --stress tells there, too"
            .to_owned()
    }
}

fn figures(outcome: &Outcome) -> Value {
    json!({
        "increments": outcome.increments,
        "processes": outcome.processes,
        "killed": outcome.killed,
        "seconds": outcome.elapsed.as_secs_f64(),
        "newIds": outcome.regenerated,
        "newcomers": outcome.newcomers,
        "destroyed": outcome.destroyed,
        "reads": outcome.reads,
        "cleanedUp": outcome.swept,
        "violations": outcome.violations.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}
