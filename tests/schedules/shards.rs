//! Two processes where the sessions lie in 256 directories, each made when it is first needed.

use crate::ends_in;
use crate::pair::Before;
use crate::saves::{BEGAN_AND_CLEANED, SAVED_TWICE, STARTED_TWICE};
use crate::task::Task;
use testkit::subject::SHARDED;

#[test]
fn of_two_saves_each_is_kept() {
    let tasks = [Task::Save(3), Task::Save(6)];
    ends_in(SHARDED, Before::First, tasks, &SAVED_TWICE);
}

#[test]
fn a_destroyed_session_does_not_come_back_by_a_save_that_grows() {
    let tasks = [Task::Save(5), Task::Destroy];
    let expected = [
        "saved over 1; destroyed 5; nothing",
        "none; destroyed 1; nothing",
    ];
    ends_in(SHARDED, Before::First, tasks, &expected);
}

#[test]
fn a_new_id_in_another_directory_takes_every_save_along() {
    let tasks = [Task::Renew(3), Task::Save(6)];
    let expected = [
        "renewed 6; saved over 1; first=marker, new=3",
        "renewed 1; none; first=marker, new=3",
    ];
    ends_in(SHARDED, Before::First, tasks, &expected);
}

#[test]
fn a_directory_is_made_by_whoever_comes_first() {
    let tasks = [Task::Start(3), Task::Start(6)];
    ends_in(SHARDED, Before::Nothing, tasks, &STARTED_TWICE);
    let tasks = [Task::Begin(3), Task::Begin(6)];
    let expected = ["began; began; new=3, new=6"];
    ends_in(SHARDED, Before::Nothing, tasks, &expected);
}

#[test]
fn a_clean_up_takes_no_directory_away_from_who_begins_there() {
    let tasks = [Task::Start(3), Task::CleanUp];
    ends_in(SHARDED, Before::Nothing, tasks, &BEGAN_AND_CLEANED[..1]);
    ends_in(SHARDED, Before::FirstExpired, tasks, &BEGAN_AND_CLEANED);
}

#[test]
fn of_two_clean_ups_one_deletes_what_has_expired() {
    let expected = [
        "cleaned 1; cleaned 0; nothing",
        "cleaned 0; cleaned 1; nothing",
    ];
    ends_in(SHARDED, Before::FirstExpired, [Task::CleanUp; 2], &expected);
}
