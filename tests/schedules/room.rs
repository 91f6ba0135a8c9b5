//! Two processes where there is room for two sessions, of which at least one is a newcomer: the session
//! that was not used for longest has to go, unless somebody uses it.

use crate::ends_in;
use crate::pair::Before;
use crate::task::Task;
use testkit::subject::CAPPED;

pub(crate) const SAVED_AND_BEGAN: [&str; 2] = [
    "saved over 1; began; first=3, new=6",
    "none; began; new=6, second=2",
];

#[test]
fn a_newcomer_sends_nobody_away_who_saves() {
    let tasks = [Task::Save(3), Task::Begin(6)];
    ends_in(CAPPED, Before::Both, tasks, &SAVED_AND_BEGAN);
}

/// A reader does not show that he is there.
#[test]
fn a_reader_sees_the_session_until_it_has_to_go() {
    let tasks = [Task::Read, Task::Begin(6)];
    let expected = [
        "read 1; began; new=6, second=2",
        "none; began; new=6, second=2",
    ];
    ends_in(CAPPED, Before::Both, tasks, &expected);
}

/// Who makes room goes by what was there: one more than needed may go, and never one less.
#[test]
fn a_newcomer_comes_in_while_a_session_is_destroyed() {
    let tasks = [Task::Destroy, Task::Begin(6)];
    let expected = [
        "destroyed 1; began; new=6, second=2",
        "none; began; new=6, second=2",
        "destroyed 1; began; new=6",
    ];
    ends_in(CAPPED, Before::Both, tasks, &expected);
}

#[test]
fn two_newcomers_come_in_where_one_has_room() {
    let tasks = [Task::Begin(3), Task::Begin(6)];
    let expected = ["began; began; new=3, new=6"];
    ends_in(CAPPED, Before::First, tasks, &expected);
}
