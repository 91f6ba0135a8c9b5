//! A storm on the library's own store breaks no promise, and the same storm notices each store that is
//! broken on purpose.

mod controls;
mod subject;

use std::process::Command;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use cgi_session::Config;
use cgi_session_tools::storm::{Outcome, Settings, Storm};
#[cfg(any(
    feature = "redis",
    feature = "postgres",
    feature = "mysql",
    feature = "sqlite"
))]
use subject::Own;

/// A storm goes on at least so long, and until everything was tried.
const LEAST: Duration = Duration::from_secs(6);
/// By then something has gone wrong, however slow the machine is.
const LONGEST: Duration = Duration::from_secs(120);

/// Whether there is something that has not been tried yet.
fn needs_more(so_far: &Outcome) -> bool {
    so_far.elapsed < LEAST || (!has_tried_all(so_far) && so_far.elapsed < LONGEST)
}

fn has_tried_all(outcome: &Outcome) -> bool {
    let tried = [
        // Redis has no cap.
        outcome.newcomers.map_or(1, |number| number / 100),
        outcome.increments / 500,
        outcome.brief_increments / 10,
        (outcome.regenerated - outcome.replaced) / 2,
        outcome.replaced / 2,
        outcome.destroyed,
        outcome.reads,
        outcome.swept,
        outcome.killed / 30,
    ];
    tried.iter().all(|number| *number > 0)
}

/// Nothing was wrong, and everything that can go wrong was tried.
#[track_caller]
fn is_calm(outcome: &Outcome) {
    assert!(outcome.violations.is_empty(), "{outcome:#?}");
    assert!(has_tried_all(outcome), "{outcome:#?}");
}

/// Runs a storm of processes of the shipped tool.
fn storm(settings: &[(&str, &str)]) -> Outcome {
    let place = tempfile::tempdir().unwrap();
    let set = |config: Config, (key, value): &(&str, &str)| config.set(key, value).unwrap();
    let settings = Settings::of(&settings.iter().fold(Config::new(), set));
    let command = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cgi-session"));
        settings.give_to(&mut command);
        command
    };
    let storm = Storm {
        place: place.path(),
        subject: &settings,
        command: &command,
        seed: fastrand::u64(..),
        signal: &AtomicUsize::new(0),
    };
    storm.run(&needs_more).unwrap()
}

#[test]
fn a_storm_breaks_no_promise() {
    is_calm(&storm(&[]));
}

#[test]
fn a_storm_breaks_no_promise_in_shards_and_on_the_disk() {
    is_calm(&storm(&[("shards", "256"), ("durability", "data")]));
}

#[cfg(feature = "redis")]
#[test]
fn a_storm_breaks_no_promise_in_redis() {
    breaks_no_promise_in(Own::Redis);
}

#[cfg(feature = "postgres")]
#[test]
fn a_storm_breaks_no_promise_in_postgres() {
    breaks_no_promise_in(Own::Postgres);
}

#[cfg(feature = "mysql")]
#[test]
fn a_storm_breaks_no_promise_in_mysql() {
    breaks_no_promise_in(Own::Mysql);
}

#[cfg(any(feature = "redis", feature = "postgres", feature = "mysql"))]
#[track_caller]
fn breaks_no_promise_in(own: Own) {
    if own.url().is_some() {
        is_calm(&own.storm(needs_more));
    }
}

#[cfg(feature = "sqlite")]
#[test]
fn a_storm_breaks_no_promise_in_sqlite() {
    is_calm(&Own::Sqlite.storm(needs_more));
}
