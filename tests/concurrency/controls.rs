//! Protocols that are broken on purpose. The harness must catch each of them.

use std::fs;
use std::time::SystemTime;

use crate::harness::{Outcome, Race, until_done};
use crate::worker;

/// A broken protocol may get away with it once, but not so often.
const ROUNDS: u32 = 20;

#[track_caller]
fn is_caught(mut run: impl FnMut() -> bool) {
    assert!((0..ROUNDS).any(|_| run()), "nothing was noticed");
}

#[track_caller]
fn is_found_wrong(race: impl Fn() -> Race) {
    is_caught(|| race().run(|_| ()).is_wrong());
}

#[test]
fn nothing_is_noticed_where_nothing_is_wrong() {
    let outcome = Race::of("Nothing").increments(100).sizes(1000).run(|_| ());
    outcome.is_exact();
}

#[test]
fn without_a_lock_updates_are_lost_and_it_is_noticed() {
    is_found_wrong(|| Race::of("NoLock").increments(200));
}

#[test]
fn a_rename_without_a_look_at_the_link_count_is_noticed() {
    is_found_wrong(|| Race::of("NoLinkCheck").increments(200).sizes(1000));
}

#[test]
fn a_shared_lock_for_reading_and_an_exclusive_one_for_writing_is_noticed() {
    is_found_wrong(|| Race::of("SharedLock").increments(200));
}

#[test]
fn a_lock_file_that_is_deleted_after_use_is_noticed() {
    is_found_wrong(|| Race::of("LockFileRemoved").increments(200));
}

#[test]
fn a_truncation_and_a_kill_are_noticed() {
    is_found_wrong(|| {
        Race::of("TruncateAndWrite")
            .increments(100_000)
            .sizes(20_000)
            .kills(40)
    });
}

#[test]
fn a_cleaner_that_deletes_without_the_lock_is_noticed() {
    is_caught(|| {
        let mut destroyed = 0;
        let outcome: Outcome = Race::of("store").increments(200).run(|race| {
            let store = race.store();
            until_done(race, || {
                // Read and deleted in two steps: what is committed in between is lost.
                if let Some(stored) = store.read(&race.id().digest(), SystemTime::now()).unwrap()
                    && fs::remove_file(race.path()).is_ok()
                {
                    destroyed += worker::number(&stored.record);
                }
            });
        });
        outcome.value.unwrap_or(0) + destroyed != outcome.acknowledged
    });
}
