//! A storm on the library's own store breaks no promise, and the same storm notices each store that is
//! broken on purpose.

#[path = "../../../tests/support/broken.rs"]
mod broken;
mod controls;
mod subject;

use std::path::Path;
use std::process::Command;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use cgi_session::Config;
use cgi_session_tools::storm::{Outcome, Settings, Storm};
use subject::Own;

/// Runs a storm of processes of the shipped tool.
fn storm(place: &Path, settings: &[(&str, &str)], seconds: u64) -> Outcome {
    let config = settings.iter().fold(Config::new(), |config, (key, value)| {
        config.set(key, value).unwrap()
    });
    let settings = Settings::of(&config);
    let command = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cgi-session"));
        settings.give_to(&mut command);
        command
    };
    let storm = Storm {
        place,
        subject: &settings,
        command: &command,
        duration: Duration::from_secs(seconds),
        seed: fastrand::u64(..),
        signal: &AtomicUsize::new(0),
    };
    storm.run(&|_| ()).unwrap()
}

/// Nothing was wrong, and everything that can go wrong was tried.
#[track_caller]
fn is_calm(outcome: &Outcome) {
    assert!(outcome.violations.is_empty(), "{outcome:#?}");
    let tried = [
        outcome.increments / 100,
        outcome.brief_increments,
        outcome.regenerated,
        outcome.destroyed,
        outcome.reads,
        outcome.swept,
        outcome.killed / 10,
    ];
    assert!(tried.iter().all(|number| *number > 0), "{outcome:#?}");
    eprintln!("{outcome:?}");
}

#[test]
fn a_storm_breaks_no_promise() {
    let place = tempfile::tempdir().unwrap();
    is_calm(&storm(place.path(), &[], 12));
}

#[test]
fn a_storm_breaks_no_promise_in_shards_and_on_the_disk() {
    let place = tempfile::tempdir().unwrap();
    let settings = [("shards", "256"), ("durability", "data")];
    is_calm(&storm(place.path(), &settings, 8));
}

#[test]
fn a_storm_breaks_no_promise_in_sqlite() {
    is_calm(&Own::Sqlite.storm(Duration::from_secs(5)));
}
