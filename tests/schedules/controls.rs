//! Stores that are broken on purpose: there must be an order that shows it. A plain store that is right
//! must pass the same.

use crate::ends::{SAVED_AND_DESTROYED, STARTED_AND_RENEWED};
use crate::ends_in;
use crate::explore::Explorer;
use crate::grace::{READ_AND_REPLACED, SAVED_AND_REPLACED};
use crate::pair::{Before, Pair};
use crate::room::SAVED_AND_BEGAN;
use crate::saves::{BEGAN_AND_CLEANED, SAVED_THRICE, SAVED_TWICE};
use crate::task::Task;
use testkit::subject::LIBRARY;

/// Looks for an order with an outcome that is none of these.
#[track_caller]
fn is_found_out(store: &str, before: Before, tasks: [Task; 2], expected: &[&str]) {
    let pair = Pair { before, tasks };
    let is_wrong = |outcome: &str| !expected.contains(&outcome);
    let found = Explorer::of(store, false).explore(&pair, is_wrong);
    let wrong = found.outcomes.iter().find(|(outcome, _)| is_wrong(outcome));
    let (outcome, (_, order)) = wrong.unwrap_or_else(|| {
        panic!(
            "{store}: {pair}: nothing was noticed in {} orders",
            found.schedules
        )
    });
    eprintln!(
        "{store}: {pair}, order {}: {outcome}\n{order}",
        found.schedules
    );
}

#[test]
fn a_plain_store_that_is_right_ends_as_the_library_does() {
    let tasks = [Task::Save(3), Task::Save(6)];
    ends_in("Nothing", Before::First, tasks, &SAVED_TWICE);
    let tasks = [Task::SaveTwice(3, 6), Task::Save(9)];
    ends_in("Nothing", Before::First, tasks, &SAVED_THRICE);
    let tasks = [Task::Save(3), Task::Destroy];
    ends_in("Nothing", Before::First, tasks, &SAVED_AND_DESTROYED);
    let tasks = [Task::Start(3), Task::CleanUp];
    ends_in("Nothing", Before::FirstExpired, tasks, &BEGAN_AND_CLEANED);
    let tasks = [Task::Save(3), Task::Replace(6)];
    ends_in("Nothing", Before::First, tasks, &SAVED_AND_REPLACED);
    let tasks = [Task::Start(3), Task::Renew(6)];
    ends_in("Nothing", Before::First, tasks, &STARTED_AND_RENEWED);
}

#[test]
fn without_a_lock_an_order_loses_a_save() {
    let tasks = [Task::Save(3), Task::Save(6)];
    is_found_out("NoLock", Before::First, tasks, &SAVED_TWICE);
}

#[test]
fn without_a_look_at_the_link_an_order_loses_a_save() {
    let tasks = [Task::Save(3), Task::Save(6)];
    is_found_out("NoLinkCheck", Before::First, tasks, &SAVED_TWICE);
}

#[test]
fn a_commit_that_makes_a_session_again_has_an_order_that_brings_it_back() {
    let tasks = [Task::Save(3), Task::Destroy];
    is_found_out("Resurrect", Before::First, tasks, &SAVED_AND_DESTROYED);
}

#[test]
fn a_clean_up_without_the_lock_has_an_order_that_deletes_a_live_session() {
    let tasks = [Task::Start(3), Task::CleanUp];
    let store = "SweepWithoutLock";
    is_found_out(store, Before::FirstExpired, tasks, &BEGAN_AND_CLEANED);
}

#[test]
fn a_lock_file_that_is_removed_has_an_order_that_loses_a_save() {
    let tasks = [Task::SaveTwice(3, 6), Task::Save(9)];
    is_found_out("LockFileRemoved", Before::First, tasks, &SAVED_THRICE);
}

#[test]
fn an_old_id_that_goes_on_has_an_order_that_saves_under_it() {
    let tasks = [Task::Save(3), Task::Replace(6)];
    is_found_out("ForgetEnd", Before::First, tasks, &SAVED_AND_REPLACED);
    let tasks = [Task::Start(3), Task::Renew(6)];
    is_found_out("ForgetEnd", Before::First, tasks, &STARTED_AND_RENEWED);
}

#[test]
fn an_old_id_without_a_marker_has_an_order_in_which_a_session_begins_under_it() {
    let tasks = [Task::Start(3), Task::Renew(6)];
    is_found_out("DestroyAtEnd", Before::First, tasks, &STARTED_AND_RENEWED);
}

#[test]
fn an_old_id_that_shows_nothing_has_an_order_in_which_nothing_is_read() {
    let tasks = [Task::Read, Task::Replace(6)];
    is_found_out("DestroyAtEnd", Before::First, tasks, &READ_AND_REPLACED);
}

#[test]
fn a_newcomer_without_the_lock_has_an_order_that_sends_away_who_saves() {
    let tasks = [Task::Save(3), Task::Begin(6)];
    is_found_out("EvictWithoutLock", Before::Both, tasks, &SAVED_AND_BEGAN);
}

#[test]
fn orders_that_are_given_up_have_no_outcome_of_their_own() {
    let pairs = [
        (Before::First, [Task::Save(3), Task::Destroy]),
        (Before::First, [Task::Save(5), Task::Read]),
    ];
    for (before, tasks) in pairs {
        let pair = Pair { before, tasks };
        let [all, reduced] = [true, false].map(|is_complete| {
            let found = Explorer::of(LIBRARY, is_complete).explore(&pair, |_| false);
            (
                found.schedules,
                found.outcomes.into_keys().collect::<Vec<_>>(),
            )
        });
        assert!(reduced.0 < all.0, "{pair}: {} of {}", reduced.0, all.0);
        assert_eq!(reduced.1, all.1, "{pair}");
    }
}
