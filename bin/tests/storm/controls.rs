//! Stores that are broken on purpose. The storm must notice each, for the right reason, and nothing in
//! the one that is not broken.

use std::time::Duration;

use cgi_session_tools::storm::{Kind, Outcome, Violation};

use crate::subject::Own;
use crate::{is_calm, needs_more};
use testkit::broken::Fault;

/// A broken protocol may get away with it for some time, but not for so long.
const LONGEST: Duration = Duration::from_secs(120);

/// Not every storm kills somebody between a temporary file and its rename, and one fault can break
/// several promises.
const ROUNDS: u32 = 10;

fn storm(fault: Fault, duration: Duration) -> Outcome {
    Own::Broken(fault).storm(|so_far| so_far.elapsed < duration)
}

/// Every storm ends early, and one of the first because a promise of these kinds is broken.
#[track_caller]
fn is_noticed(fault: Fault, kinds: &[Kind]) {
    is_noticed_as(fault, |violation| kinds.contains(&violation.kind));
}

#[track_caller]
fn is_noticed_as(fault: Fault, is_it: impl Fn(&Violation) -> bool) {
    let shows_it = |_| {
        let outcome = storm(fault, LONGEST);
        assert!(!outcome.violations.is_empty(), "{outcome:#?}");
        outcome.violations.iter().any(&is_it)
    };
    assert!((0..ROUNDS).any(shows_it), "it was another promise");
}

#[test]
fn a_store_without_a_lock_loses_updates() {
    is_noticed(Fault::NoLock, &[Kind::Lost, Kind::Doubled, Kind::Stale]);
}

#[test]
fn a_rename_without_a_look_at_the_link_loses_updates() {
    is_noticed(
        Fault::NoLinkCheck,
        &[Kind::Lost, Kind::Doubled, Kind::Stale],
    );
}

#[test]
fn a_lock_file_that_is_deleted_after_use_loses_updates() {
    is_noticed(
        Fault::LockFileRemoved,
        &[Kind::Lost, Kind::Doubled, Kind::Stale],
    );
}

#[test]
fn a_record_written_in_place_is_torn() {
    // Who reads half of one either says so or fails.
    is_noticed_as(Fault::TruncateAndWrite, |violation| {
        violation.kind == Kind::Torn || violation.to_string().contains("EOF while parsing")
    });
}

#[test]
fn a_commit_that_makes_the_record_again_resurrects_it() {
    is_noticed(Fault::Resurrect, &[Kind::Resurrected]);
}

#[test]
fn a_clean_up_without_the_lock_deletes_a_session_in_use() {
    is_noticed(Fault::SweepWithoutLock, &[Kind::Deleted]);
}

#[test]
fn an_id_that_goes_on_leading_to_its_session_after_it_was_replaced_is_noticed() {
    is_noticed(Fault::ForgetEnd, &[Kind::Resurrected]);
}

#[test]
fn an_id_that_shows_nothing_during_its_grace_is_noticed() {
    is_noticed(Fault::DestroyAtEnd, &[Kind::Lost]);
}

#[test]
fn newcomers_that_send_away_whoever_is_in_use_are_noticed() {
    is_noticed(Fault::EvictWithoutLock, &[Kind::Deleted]);
}

#[test]
fn a_cap_that_nobody_looks_at_is_exceeded() {
    let outcome = Own::Broken(Fault::NoCap).storm(needs_more);
    let mut kinds = outcome.violations.iter().map(|violation| violation.kind);
    assert!(
        kinds.next() == Some(Kind::Crowded) && kinds.next().is_none(),
        "{outcome:#?}"
    );
}

#[test]
fn temporary_files_that_nobody_sweeps_are_left_behind() {
    // Nothing else is wrong with it, so that each storm goes on to its end.
    let is_noticed = |_| {
        let outcome = Own::Broken(Fault::LeaveTemporary).storm(needs_more);
        let mut violations = outcome.violations.iter();
        assert!(
            violations.all(|violation| violation.kind == Kind::Left),
            "{outcome:#?}"
        );
        !outcome.violations.is_empty()
    };
    assert!((0..ROUNDS).any(is_noticed), "nothing was left behind");
}

#[test]
fn sessions_that_their_user_does_not_find_are_lost_to_him() {
    let outcome = Own::Broken(Fault::ForgetUsers).storm(needs_more);
    let is_lost_to_user = |line: String| line.contains("among the sessions of user ");
    let mut violations = outcome.violations.iter();
    let all_are = violations.all(|it| it.kind == Kind::Lost && is_lost_to_user(it.to_string()));
    assert!(all_are && !outcome.violations.is_empty(), "{outcome:#?}");
}

#[test]
fn nothing_is_noticed_in_a_store_that_is_not_broken() {
    let outcome = Own::Broken(Fault::Nothing).storm(needs_more);
    is_calm(&outcome);
}
