//! Two processes of which at least one ends a session: destroys it, gives it a new id, or cleans up.

use crate::ends_in;
use crate::pair::Before;
use crate::subject::LIBRARY;
use crate::task::Task;

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
        let saved = format!("saved over 1; renewed {number}; new=6");
        let expected = [saved.as_str(), "none; renewed 1; new=6"];
        ends_in(LIBRARY, Before::First, tasks, &expected);
    }
}

#[test]
fn a_session_is_destroyed_once() {
    let expected = ["destroyed 1; none; nothing", "none; destroyed 1; nothing"];
    ends_in(LIBRARY, Before::First, [Task::Destroy; 2], &expected);
}

#[test]
fn a_session_is_destroyed_or_gets_a_new_id_and_never_both() {
    let tasks = [Task::Destroy, Task::Renew(6)];
    let expected = ["destroyed 1; none; nothing", "none; renewed 1; new=6"];
    ends_in(LIBRARY, Before::First, tasks, &expected);
}

#[test]
fn a_session_gets_one_new_id() {
    let tasks = [Task::Renew(3), Task::Renew(6)];
    let expected = ["renewed 1; none; new=3", "none; renewed 1; new=6"];
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
