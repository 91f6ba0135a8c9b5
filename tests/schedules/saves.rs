//! Two processes of which at least one saves: in place, into a larger file, or a session's first record.

use crate::ends_in;
use crate::pair::Before;
use crate::task::Task;
use testkit::subject::LIBRARY;

pub(crate) const SAVED_TWICE: [&str; 2] = [
    "saved over 1; saved over 3; first=6",
    "saved over 6; saved over 1; first=3",
];

#[test]
fn of_two_saves_each_is_kept() {
    let tasks = [Task::Save(3), Task::Save(6)];
    ends_in(LIBRARY, Before::First, tasks, &SAVED_TWICE);
}

pub(crate) const SAVED_THRICE: [&str; 3] = [
    "saved over 1, saved over 3; saved over 6; first=9",
    "saved over 1, saved over 9; saved over 3; first=6",
    "saved over 9, saved over 3; saved over 1; first=6",
];

#[test]
fn a_save_between_two_saves_of_another_is_kept() {
    let tasks = [Task::SaveTwice(3, 6), Task::Save(9)];
    ends_in(LIBRARY, Before::First, tasks, &SAVED_THRICE);
}

#[test]
fn a_growing_and_a_plain_save_are_both_kept() {
    let tasks = [Task::Save(5), Task::Save(3)];
    let expected = [
        "saved over 1; saved over 5; first=3",
        "saved over 3; saved over 1; first=5",
    ];
    ends_in(LIBRARY, Before::First, tasks, &expected);
}

#[test]
fn of_two_growing_saves_each_is_kept() {
    let tasks = [Task::Save(5), Task::Save(8)];
    let expected = [
        "saved over 1; saved over 5; first=8",
        "saved over 8; saved over 1; first=5",
    ];
    ends_in(LIBRARY, Before::First, tasks, &expected);
}

#[test]
fn a_reader_sees_the_record_before_a_save_or_after_it() {
    for number in [3, 5] {
        let (before, after) = (
            format!("saved over 1; read 1; first={number}"),
            format!("saved over 1; read {number}; first={number}"),
        );
        let tasks = [Task::Save(number), Task::Read];
        ends_in(LIBRARY, Before::First, tasks, &[&before, &after]);
    }
}

#[test]
fn a_saved_session_is_not_cleaned_up() {
    for number in [3, 5] {
        let tasks = [Task::Save(number), Task::CleanUp];
        let expected = format!("saved over 1; cleaned 0; first={number}");
        ends_in(LIBRARY, Before::First, tasks, &[&expected]);
    }
}

#[test]
fn an_expired_session_is_not_saved_whoever_deletes_it() {
    for number in [3, 5] {
        let tasks = [Task::Save(number), Task::CleanUp];
        let expected = ["none; cleaned 1; nothing", "none; cleaned 0; nothing"];
        ends_in(LIBRARY, Before::FirstExpired, tasks, &expected);
    }
}

#[test]
fn a_session_that_expires_while_it_is_waited_for_is_saved_before_or_not_at_all() {
    let tasks = [Task::Save(3), Task::CleanUpLater];
    let expected = [
        "none; cleaned 1; nothing",
        // In use, and therefore left alone.
        "saved over 1; cleaned 0; first=3",
        "saved over 1; cleaned 1; nothing",
    ];
    ends_in(LIBRARY, Before::First, tasks, &expected);
}

/// Who finds the file of a creation before its lock is taken sets it aside, empty as it is, and the
/// creation begins again.
pub(crate) const STARTED_TWICE: [&str; 6] = [
    "began; saved over 3; first=6",
    "saved over 6; began; first=3",
    "began; busy; first=3",
    "busy; began; first=6",
    "began; busy; a file .corrupt, first=3",
    "busy; began; a file .corrupt, first=6",
];

#[test]
fn of_two_first_records_of_one_id_one_is_kept_or_both_one_after_the_other() {
    let tasks = [Task::Start(3), Task::Start(6)];
    ends_in(LIBRARY, Before::Nothing, tasks, &STARTED_TWICE);
    ends_in(LIBRARY, Before::FirstExpired, tasks, &STARTED_TWICE);
}

#[test]
fn a_first_record_is_saved_over_or_not_seen() {
    let tasks = [Task::Start(3), Task::Save(6)];
    let expected = [
        "began; saved over 3; first=6",
        "began; none; first=3",
        "began; none; a file .corrupt, first=3",
    ];
    ends_in(LIBRARY, Before::Nothing, tasks, &expected);
    let tasks = [Task::Start(3), Task::Read];
    let expected = ["began; none; first=3", "began; read 3; first=3"];
    ends_in(LIBRARY, Before::Nothing, tasks, &expected);
}

pub(crate) const BEGAN_AND_CLEANED: [&str; 2] =
    ["began; cleaned 0; first=3", "began; cleaned 1; first=3"];

#[test]
fn a_session_that_begins_again_is_not_cleaned_up_for_the_one_that_expired() {
    let tasks = [Task::Start(3), Task::CleanUp];
    ends_in(LIBRARY, Before::Nothing, tasks, &BEGAN_AND_CLEANED[..1]);
    ends_in(LIBRARY, Before::FirstExpired, tasks, &BEGAN_AND_CLEANED);
}
