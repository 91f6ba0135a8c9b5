//! Two processes of which at least one ends a session: destroys it, gives it a new id, or cleans up.

use crate::pair::Before;
use crate::task::Task;
use crate::{ends_in, may_end_in};
use testkit::subject::LIBRARY;

pub(crate) const SAVED_AND_DESTROYED: [&str; 2] = [
    "saved over 1; destroyed 3; nothing",
    "none; destroyed 1; nothing",
];

#[test]
fn a_destroyed_session_does_not_come_back_by_a_save() {
    let tasks = [Task::Save(3), Task::Destroy];
    ends_in(LIBRARY, Before::First, tasks, &SAVED_AND_DESTROYED);
    let tasks = [Task::Save(5), Task::Destroy];
    let expected = [
        "saved over 1; destroyed 5; nothing",
        "none; destroyed 1; nothing",
    ];
    ends_in(LIBRARY, Before::First, tasks, &expected);
}

#[test]
fn a_save_goes_to_the_new_id_or_to_none() {
    for number in [3, 5] {
        let tasks = [Task::Save(number), Task::Renew(6)];
        let saved = format!("saved over 1; renewed {number}; first=marker, new=6");
        let expected = [saved.as_str(), "none; renewed 1; first=marker, new=6"];
        ends_in(LIBRARY, Before::First, tasks, &expected);
    }
}

pub(crate) const STARTED_AND_RENEWED: [&str; 2] = [
    "saved over 1; renewed 3; first=marker, new=6",
    "turned away; renewed 1; first=marker, new=6",
];

#[test]
fn who_waits_for_a_session_that_gets_a_new_id_begins_none() {
    let tasks = [Task::Start(3), Task::Renew(6)];
    ends_in(LIBRARY, Before::First, tasks, &STARTED_AND_RENEWED);
    // The record needs a larger file, or a smaller one.
    for (number, after) in [(5, 6), (3, 8), (5, 8)] {
        let tasks = [Task::Start(number), Task::Renew(after)];
        let expected = [
            format!("saved over 1; renewed {number}; first=marker, new={after}"),
            format!("turned away; renewed 1; first=marker, new={after}"),
        ];
        let expected = expected.each_ref().map(String::as_str);
        ends_in(LIBRARY, Before::First, tasks, &expected);
    }
}

#[test]
fn a_reader_finds_the_session_until_it_has_a_new_id_and_never_what_came_after() {
    let tasks = [Task::Read, Task::Renew(6)];
    let expected = [
        "read 1; renewed 1; first=marker, new=6",
        "none; renewed 1; first=marker, new=6",
    ];
    ends_in(LIBRARY, Before::First, tasks, &expected);
}

#[test]
fn a_clean_up_leaves_the_marker_until_its_time_is_over() {
    let tasks = [Task::CleanUp, Task::Renew(6)];
    let expected = ["cleaned 0; renewed 1; first=marker, new=6"];
    ends_in(LIBRARY, Before::First, tasks, &expected);
    let tasks = [Task::CleanUpLater, Task::Renew(6)];
    // One that is in use is left alone; a file that is not locked yet is made again.
    let expected = [
        "cleaned 1; renewed 1; first=marker, new=6",
        "cleaned 0; renewed 1; first=marker, new=6",
        "cleaned 1; none; nothing",
        "cleaned 1; renewed 1; new=6",
        "cleaned 2; renewed 1; new=6",
        "cleaned 2; renewed 1; nothing",
    ];
    // The first is listed before the new one, or behind it.
    let possible = [
        "cleaned 1; renewed 1; first=marker",
        "cleaned 2; renewed 1; new=6",
    ];
    may_end_in(LIBRARY, Before::First, tasks, &expected, &possible);
}

/// First the session ends, and then what its earlier id leads to: each request finds one or the other.
#[test]
fn a_session_that_is_destroyed_takes_the_marker_of_its_earlier_id_along() {
    let tasks = [Task::Start(3), Task::DestroySecond];
    let expected = [
        "began; destroyed 2; first=3",
        "turned away; destroyed 2; nothing",
    ];
    ends_in(LIBRARY, Before::SecondAfterFirst, tasks, &expected);
    let tasks = [Task::Save(3), Task::DestroySecond];
    let expected = ["none; destroyed 2; nothing"];
    ends_in(LIBRARY, Before::SecondAfterFirst, tasks, &expected);
}

#[test]
fn a_session_is_destroyed_once() {
    let expected = ["destroyed 1; none; nothing", "none; destroyed 1; nothing"];
    ends_in(LIBRARY, Before::First, [Task::Destroy; 2], &expected);
}

#[test]
fn a_session_is_destroyed_or_gets_a_new_id_and_never_both() {
    let tasks = [Task::Destroy, Task::Renew(6)];
    let expected = [
        "destroyed 1; none; nothing",
        "none; renewed 1; first=marker, new=6",
    ];
    ends_in(LIBRARY, Before::First, tasks, &expected);
}

#[test]
fn a_session_gets_one_new_id() {
    let tasks = [Task::Renew(3), Task::Renew(6)];
    let expected = [
        "renewed 1; none; first=marker, new=3",
        "none; renewed 1; first=marker, new=6",
    ];
    ends_in(LIBRARY, Before::First, tasks, &expected);
}

#[test]
fn a_destroyed_session_begins_again_with_nothing_of_the_old_one() {
    let tasks = [Task::Start(3), Task::Destroy];
    let expected = [
        "saved over 1; destroyed 3; nothing",
        "began; destroyed 1; first=3",
    ];
    ends_in(LIBRARY, Before::First, tasks, &expected);
}

#[test]
fn of_two_clean_ups_one_deletes_what_has_expired() {
    let expected = [
        "cleaned 1; cleaned 0; nothing",
        "cleaned 0; cleaned 1; nothing",
    ];
    ends_in(LIBRARY, Before::FirstExpired, [Task::CleanUp; 2], &expected);
}

#[test]
fn a_reader_and_a_clean_up_do_not_disturb_each_other() {
    let tasks = [Task::CleanUp, Task::Read];
    let expected = ["cleaned 1; none; nothing"];
    ends_in(LIBRARY, Before::FirstExpired, tasks, &expected);
    let tasks = [Task::CleanUpLater, Task::Read];
    let expected = ["cleaned 1; read 1; nothing", "cleaned 1; none; nothing"];
    ends_in(LIBRARY, Before::First, tasks, &expected);
}
