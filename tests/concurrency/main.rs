//! Many processes on one session: no update is lost, whatever else goes on. The same harness must
//! catch protocols that are broken on purpose, or it would prove nothing.

mod controls;
mod harness;
mod worker;

use std::time::{Duration, SystemTime};

use cgi_session::Sweep;

use harness::{Race, until_done};

#[test]
fn eight_processes_that_count_at_once_count_3200() {
    let outcome = Race::of("session").run(|_| ());
    assert_eq!(outcome.acknowledged, 3200);
    outcome.is_exact();
}

#[test]
fn nothing_is_lost_while_sessions_grow_and_shrink() {
    let outcome = Race::of("session")
        .increments(150)
        .sizes(20_000)
        .run(|_| ());
    outcome.is_exact();
}

#[test]
fn nothing_is_lost_while_a_cleaner_locks_the_session_again_and_again() {
    let race = Race::of("session").increments(150).sizes(5000).own_end();
    let outcome = race.run(|race| {
        let store = race.store();
        until_done(race, || {
            // The time in the file says that it expired long ago; what it holds says otherwise.
            if let Ok(file) = std::fs::File::options().write(true).open(race.path()) {
                file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
            }
            let report = store
                .delete_expired(&Sweep::new(), SystemTime::now())
                .unwrap();
            assert_eq!(report.deleted, 0);
            assert_eq!(report.failures, [""; 0]);
        });
    });
    outcome.is_exact();
}

#[test]
fn nothing_acknowledged_is_lost_when_processes_are_killed() {
    let outcome = Race::of("session")
        .increments(100_000)
        .kills(60)
        .run(|_| ());
    outcome.is_exact_but_for_the_killed();
}

#[test]
fn nothing_acknowledged_is_lost_when_processes_are_killed_while_they_grow() {
    let race = Race::of("session")
        .increments(100_000)
        .sizes(60_000)
        .kills(60);
    race.run(|_| ()).is_exact_but_for_the_killed();
}

#[test]
fn readers_see_no_counter_go_back_and_no_torn_record() {
    for size in [0, 20_000, 60_000] {
        let race = Race::of("session")
            .increments(100_000)
            .sizes(size)
            .kills(20);
        let outcome = race.run(|race| {
            let store = race.store();
            let (mut last, mut readings) = (0, 0);
            until_done(race, || {
                let stored = store.read(&race.id().digest(), SystemTime::now()).unwrap();
                let n = worker::number(&stored.expect("it is never gone").record);
                assert!(n >= last, "{last} was followed by {n}");
                (last, readings) = (n, readings + 1);
            });
            assert!(readings > 0);
        });
        outcome.is_exact_but_for_the_killed();
    }
}

#[test]
fn a_session_that_is_destroyed_and_made_again_loses_nothing_and_never_comes_back() {
    let race = Race::of("store").increments(300).sizes(3000);
    let mut destroyed = 0;
    let outcome = race.run(|race| {
        let store = race.store();
        let wait = Duration::from_secs(30);
        until_done(race, || {
            let found = store
                .lock(&race.id().digest(), wait, SystemTime::now())
                .unwrap();
            if let Some((stored, lease)) = found {
                destroyed += worker::number(&stored.record);
                lease.destroy().unwrap();
            }
        });
    });
    assert!(destroyed > 0);
    assert!(!outcome.failed);
    assert_eq!(outcome.value.unwrap_or(0) + destroyed, outcome.acknowledged);
}
