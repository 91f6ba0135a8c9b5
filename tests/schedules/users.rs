//! Two processes of which at least one ends the sessions of a user, or changes whose session it is.

use crate::ends_in;
use crate::pair::Before;
use crate::task::Task;
use testkit::subject::LIBRARY;

#[test]
fn a_login_is_ended_with_the_others_or_comes_after_them() {
    let tasks = [Task::LogIn, Task::LogOutEverywhere];
    let expected = [
        "logged in 1; logged out 2; nothing",
        "logged in 1; logged out 1; first=1 of ada",
    ];
    ends_in(LIBRARY, Before::SecondOfUser, tasks, &expected);
}

#[test]
fn a_new_id_saves_no_session_from_a_logout_everywhere() {
    let tasks = [Task::Renew(3), Task::LogOutEverywhere];
    let expected = [
        "renewed 1; logged out 1; nothing",
        "none; logged out 1; nothing",
    ];
    ends_in(LIBRARY, Before::FirstOfUser, tasks, &expected);
}

#[test]
fn a_save_saves_no_session_from_a_logout_everywhere() {
    let tasks = [Task::Save(3), Task::LogOutEverywhere];
    let expected = [
        "saved over 1; logged out 1; nothing",
        "none; logged out 1; nothing",
    ];
    ends_in(LIBRARY, Before::FirstOfUser, tasks, &expected);
}

#[test]
fn two_logouts_everywhere_end_a_session_once() {
    let expected = [
        "logged out 1; logged out 0; nothing",
        "logged out 0; logged out 1; nothing",
    ];
    let tasks = [Task::LogOutEverywhere; 2];
    ends_in(LIBRARY, Before::FirstOfUser, tasks, &expected);
}

#[test]
fn the_index_of_a_user_keeps_who_logs_in_while_another_session_ends() {
    let tasks = [Task::LogIn, Task::DestroySecond];
    let expected = ["logged in 1; destroyed 2; first=1 of ada"];
    ends_in(LIBRARY, Before::SecondOfUser, tasks, &expected);
    let tasks = [Task::Destroy, Task::DestroySecond];
    let expected = ["destroyed 1; destroyed 2; nothing"];
    ends_in(LIBRARY, Before::BothOfUser, tasks, &expected);
}

#[test]
fn a_session_that_begins_again_stays_in_the_index_while_the_old_one_is_taken_out() {
    let tasks = [Task::Destroy, Task::StartOfUser(3)];
    let expected = [
        "destroyed 1; began; first=3 of ada",
        "destroyed 3; saved over 1; nothing",
    ];
    ends_in(LIBRARY, Before::FirstOfUser, tasks, &expected);
}
