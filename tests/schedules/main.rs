//! Two processes, and every order in which they can make their system calls on the sessions: each
//! order must end as if one process had begun when the other had ended. Stores that are broken on
//! purpose must have an order that does not.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

mod call;
mod controls;
mod ends;
mod explore;
mod grace;
mod outcome;
mod pair;
mod room;
mod saves;
mod shards;
mod task;
mod tracee;
mod users;

use std::time::Instant;

use explore::Explorer;
use pair::{Before, Pair};
use task::Task;

/// With any value, orders are all run that differ only in calls that commute.
const COMPLETE: &str = "SCHEDULES_COMPLETE";

/// Runs all orders, and expects each of these outcomes, and no other.
#[track_caller]
fn ends_in(store: &str, before: Before, tasks: [Task; 2], expected: &[&str]) {
    may_end_in(store, before, tasks, expected, &[]);
}

/// The same where some outcomes depend on the order in which the file system lists a directory.
#[track_caller]
fn may_end_in(store: &str, before: Before, tasks: [Task; 2], expected: &[&str], possible: &[&str]) {
    let (pair, started) = (Pair { before, tasks }, Instant::now());
    let is_complete = std::env::var_os(COMPLETE).is_some();
    let found = Explorer::of(store, is_complete).explore(&pair, |_| false);
    let (schedules, pruned, calls) = (found.schedules, found.pruned, found.calls);
    eprintln!(
        "{store}: {pair}: {schedules} orders of up to {calls} calls ({pruned} given up) in {:?}",
        started.elapsed()
    );
    for (outcome, (times, order)) in &found.outcomes {
        eprintln!("  {times:>6} × {outcome}");
        assert!(
            [expected, possible].concat().contains(&outcome.as_str()),
            "{pair}: {outcome}, by this order:\n{order}"
        );
    }
    for outcome in expected {
        assert!(
            found.outcomes.contains_key(*outcome),
            "{pair}: never {outcome}"
        );
    }
}
