//! Two processes of which at least one gives a session a new id, and leaves the old one to be read under.

use crate::ends_in;
use crate::pair::Before;
use crate::task::Task;
use testkit::subject::LIBRARY;

pub(crate) const SAVED_AND_REPLACED: [&str; 2] = [
    "saved over 1; replaced 3; first=6 (replaced), new=6",
    "turned away; replaced 1; first=6 (replaced), new=6",
];

#[test]
fn a_save_goes_along_to_the_new_id_or_is_turned_away() {
    let tasks = [Task::Save(3), Task::Replace(6)];
    ends_in(LIBRARY, Before::First, tasks, &SAVED_AND_REPLACED);
    let tasks = [Task::SaveTwice(3, 5), Task::Replace(6)];
    let expected = [
        "saved over 1, saved over 3; replaced 5; first=6 (replaced), new=6",
        "turned away; replaced 3; first=6 (replaced), new=6",
        "turned away; replaced 1; first=6 (replaced), new=6",
    ];
    ends_in(LIBRARY, Before::First, tasks, &expected);
}

pub(crate) const READ_AND_REPLACED: [&str; 2] = [
    "read 1; replaced 1; first=6 (replaced), new=6",
    "read 6; replaced 1; first=6 (replaced), new=6",
];

#[test]
fn a_reader_finds_the_session_before_and_after() {
    let tasks = [Task::Read, Task::Replace(6)];
    ends_in(LIBRARY, Before::First, tasks, &READ_AND_REPLACED);
}

#[test]
fn a_session_is_destroyed_or_replaced_and_never_both() {
    let tasks = [Task::Destroy, Task::Replace(6)];
    let expected = [
        "destroyed 1; none; nothing",
        "turned away; replaced 1; first=6 (replaced), new=6",
    ];
    ends_in(LIBRARY, Before::First, tasks, &expected);
}

#[test]
fn a_session_is_replaced_once() {
    let tasks = [Task::Replace(3), Task::Replace(6)];
    let expected = [
        "replaced 1; turned away; first=3 (replaced), new=3",
        "turned away; replaced 1; first=6 (replaced), new=6",
    ];
    ends_in(LIBRARY, Before::First, tasks, &expected);
    let tasks = [Task::Renew(3), Task::Replace(6)];
    let expected = [
        "renewed 1; none; first=marker, new=3",
        "turned away; replaced 1; first=6 (replaced), new=6",
    ];
    ends_in(LIBRARY, Before::First, tasks, &expected);
}

#[test]
fn a_clean_up_leaves_an_id_that_can_still_be_read_under() {
    let tasks = [Task::CleanUp, Task::Replace(6)];
    let expected = ["cleaned 0; replaced 1; first=6 (replaced), new=6"];
    ends_in(LIBRARY, Before::First, tasks, &expected);
}

#[test]
fn a_new_id_saves_no_session_from_a_logout_everywhere() {
    let tasks = [Task::LogOutEverywhere, Task::Replace(6)];
    let expected = [
        "logged out 1; none; nothing",
        // What could still be read ends with its session.
        "logged out 1; replaced 1; nothing",
    ];
    ends_in(LIBRARY, Before::FirstOfUser, tasks, &expected);
}
