//! `check --stress`: a trial of a store like that of the site, on the same file system.

mod trial;

use std::env;
use std::error::Error as StdError;
use std::io;
use std::iter;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cgi_session::{Config, one_line, shell_word};
use indicatif::HumanCount;
use serde_json::json;

use super::directory::make_room;
use super::finding::Findings;
use super::medium;
use crate::account::Account;
use crate::location::Location;
use crate::owner::is_roots_alone;
use crate::private::{self, PrivateDirectory};
use crate::report::{command_for, counted};
use crate::signals::Signals;
pub use trial::take_part;
use trial::{Failure, Outcome};

const TOPIC: &str = "stress";
/// What is counted for programs, by the names under which processes report it.
const FIGURES: &str = "processes killed reads newcomers newIds destroyed cleanedUp";
/// How many violations are reported.
const MAX_REPORTED: usize = 5;

/// Tries the store; returns the signal that ended the trial early.
pub(super) fn check(config: &Config, time: Duration, found: &mut Findings) -> Option<u8> {
    let Some(home) = home(config) else {
        nothing_to_try(config, found);
        return None;
    };
    match run(config, &home, time) {
        Ok((_, signal)) if signal != 0 => return u8::try_from(signal).ok(),
        Ok((outcome, _)) => report(config, &home, &outcome, found),
        Err(failure) => cannot_run(config, &home, &failure, found),
    }
    None
}

/// The directory of the sessions or of the database. A store in an engine needs none.
/// `None` when there is nothing to try.
fn home(config: &Config) -> Option<PathBuf> {
    let location = Location::of(config);
    match location.kind() {
        "file" => config.storage_file_dir().ok().map(Path::to_owned),
        "sqlite" => location.path()?.parent().map(Path::to_owned),
        _ => location.is_in_engine().then(env::temp_dir),
    }
}

fn nothing_to_try(config: &Config, found: &mut Findings) {
    let kind = config.get("storageType").unwrap_or_default();
    let reason = match kind.as_str() {
        "ram" => "the sessions are in the memory of one program: there is nothing to try",
        "cookie" => "the sessions are at the clients: there is nothing to try",
        _ => "the store is none that this tool has: there is nothing to try",
    };
    found.fine(TOPIC, format!("storageType = {kind}: {reason}"));
}

/// Runs a trial in a directory of its own, and tells which signal has interrupted it, if not zero.
fn run(config: &Config, home: &Path, time: Duration) -> Result<(Outcome, usize), Failure> {
    let signals = Signals::catch()?;
    let is_in_engine = Location::of(config).is_in_engine();
    if Account::current().is_root() && !is_in_engine && !is_roots_alone(home) {
        let reason = "as root nothing is made where other users could replace it";
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, reason).into());
    }
    private::remove_left(home, private::STRESS, usize::MAX);
    let place = PrivateDirectory::create(home, private::STRESS)?;
    let outcome = trial::run(config, place.path(), &signals, time);
    match signals.last() {
        0 => Ok((outcome?, 0)),
        // A wait for an answer that a signal ends may be an error.
        signal => Ok((outcome.unwrap_or_default(), signal)),
    }
}

fn cannot_run(config: &Config, home: &Path, failure: &Failure, found: &mut Findings) {
    let location = Location::of(config);
    let failure: &(dyn StdError + 'static) = &**failure;
    let reason = one_line(failure);
    if location.is_in_engine() {
        let text = format!("cannot try sessions out in {location}: {reason}");
        found.problem(TOPIC, text);
        return;
    }
    let (account, shown) = (Account::current(), home.display());
    let text = format!("{account} cannot try sessions out in {shown}: {reason}");
    let mut causes = iter::successors(Some(failure), |error| (*error).source());
    let error = causes.find_map(|error| error.downcast_ref::<io::Error>());
    let remedy = match error.map(io::Error::kind) {
        Some(io::ErrorKind::PermissionDenied) => {
            let user = home.ancestors().find_map(|path| {
                let owner = Account::owning(path);
                owner.filter(|owner| !owner.is_root() || !account.is_root())
            });
            let user = user.map_or("USER".to_owned(), |user| user.handle());
            command_for(config, "check") + " --stress --as " + &user
        }
        Some(io::ErrorKind::NotFound) => {
            command_for(config, "init") + " --owner " + &account.programs_handle()
        }
        kind => kind
            .and_then(|kind| make_room(kind, home))
            .unwrap_or_else(|| format!("findmnt -T {}", shell_word(home))),
    };
    found.problem(TOPIC, text).at(home).remedy(remedy);
}

/// One line that says whether sessions are safe there, and one for each further violation.
fn report(config: &Config, home: &Path, outcome: &Outcome, found: &mut Findings) {
    let (place, remedy) = place_and_remedy(config, home);
    let what = format!(
        "{} increments by {} processes, {} of them killed",
        HumanCount(outcome.increments()),
        HumanCount(outcome.number("processes")),
        HumanCount(outcome.number("killed"))
    );
    let mut figures = json!({
        "increments": outcome.increments(),
        "seconds": outcome.elapsed.as_secs_f64(),
        "violations": outcome.violations,
    });
    for key in FIGURES.split(' ') {
        figures[key] = outcome.number(key).into();
    }
    let mut violations = outcome.violations.iter().take(MAX_REPORTED);
    let Some(first) = violations.next() else {
        if outcome.increments() == 0 {
            let text = format!("too little was tried on {place}: {what}");
            let finding = found.warning(TOPIC, text);
            finding.remedy(command_for(config, "check") + " --stress --seconds 60");
        } else {
            let text = format!(
                "sessions are safe on {place}: {what}; none lost, none doubled, nothing left behind"
            );
            found.fine(TOPIC, text).figures(figures);
        }
        return;
    };
    let number = counted(outcome.violations.len() as u64, "broken promise");
    let text = format!("sessions are NOT safe on {place}: {number} after {what}; {first}");
    let finding = found.problem(TOPIC, text).remedy(remedy);
    finding.figures(figures);
    for violation in violations {
        found.problem(TOPIC, violation);
    }
}

/// What was tried, and what to do when it is not safe.
fn place_and_remedy(config: &Config, home: &Path) -> (String, &'static str) {
    let location = Location::of(config);
    let in_brackets =
        |text: Option<String>| text.map_or(String::new(), |text| format!(" ({text})"));
    if location.is_in_engine() {
        let engine = crate::stores::manager(config.clone()).ok();
        let engine = engine.and_then(|manager| manager.store().examine().engine);
        let remedy = "look at the engine's own log; check --stress on another one tells whether it \
                      is this one";
        return (format!("{location}{}", in_brackets(engine)), remedy);
    }
    let remedy = if medium::is_network(home) {
        "storageFileDir on a local disk: locks of a network file system are not dependable"
    } else {
        "storageFileDir on another local file system, such as /var/lib/cgi-session on ext4 or xfs; \
         check --stress tells there, too"
    };
    let kind = in_brackets(medium::file_system(home));
    (format!("{}{kind}", home.display()), remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is said of a trial in a directory that this has kept from beginning.
    fn said(kind: io::ErrorKind, home: &str) -> String {
        let failure = cgi_session::Error::io("cannot create", home, kind.into()).into();
        let mut found = Findings::default();
        let config = Config::new().set("storageFileDir", home).unwrap();
        cannot_run(&config, Path::new(home), &failure, &mut found);
        found.json().to_string()
    }

    #[test]
    fn the_remedy_is_for_the_cause_also_of_an_error_of_the_store() {
        let full = said(io::ErrorKind::StorageFull, "/my sessions");
        assert!(
            full.contains("cannot create /my sessions: no storage space"),
            "{full}"
        );
        assert!(full.contains("df -h '/my sessions'"), "{full}");
        let missing = said(io::ErrorKind::NotFound, "/sessions");
        assert!(missing.contains("cgi-session init --owner "), "{missing}");
        let other = said(io::ErrorKind::InvalidInput, "/my sessions");
        assert!(other.contains("findmnt -T '/my sessions'"), "{other}");
    }
}
