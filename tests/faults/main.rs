//! Every operation, killed before each of its system calls on files, and with each of them failing in
//! every way that a system has.
//!
//! What is found afterwards must be a state that the operation may leave, the one after it if it was
//! acknowledged; the next requests go on from there; a clean-up leaves nothing behind. `FAULTS=all` tries
//! every error at every call; without it each call gets some of them in turn. The same must find the
//! faults of stores that are broken on purpose.

mod ground;
mod matrix;
mod operation;
mod trace;

use std::env;

use matrix::{Disturbance, Matrix, Outcome};
use operation::Operation;
use testkit::broken::Fault;
use testkit::is_installed;
use trace::Call;

const ERRORS: [&str; 11] = [
    "ENOSPC", "EDQUOT", "EIO", "EROFS", "EMFILE", "ENFILE", "EACCES", "EINTR", "ENOMEM", "ENOENT",
    "ESTALE",
];
const LOCK_ERRORS: [&str; 2] = ["ENOLCK", "EDEADLK"];
/// So many errors for each call, unless all are asked for.
const SOME: usize = 3;

fn kills(_: usize, _: &Call) -> Vec<Disturbance> {
    vec![Disturbance::Killed]
}

fn every_error(_: usize, call: &Call) -> Vec<Disturbance> {
    let locks = LOCK_ERRORS.iter().filter(|_| call.name == "flock");
    let errors = ERRORS.iter().chain(locks);
    errors.map(|error| Disturbance::Fails(error)).collect()
}

/// Different ones for each call, so that all have their turn, and always a signal.
fn some_errors(at: usize, call: &Call) -> Vec<Disturbance> {
    let signal = Disturbance::Fails("EINTR");
    let mut all = every_error(at, call);
    all.retain(|error| *error != signal);
    let chosen = (0..SOME).map(|number| all[(at * SOME + number * 4) % all.len()]);
    chosen.chain([signal]).collect()
}

fn run_all(ways: fn(usize, &Call) -> Vec<Disturbance>) {
    if !is_installed("strace") {
        return;
    }
    let (mut runs, mut findings) = (0, Vec::new());
    for durability in ["none", "data"] {
        for operation in Operation::ALL {
            let outcome = Matrix::of(operation, durability).run(ways);
            eprintln!(
                "{operation:?}, durability {durability}: {} runs",
                outcome.runs
            );
            runs += outcome.runs;
            findings.extend(outcome.findings);
        }
    }
    eprintln!("{runs} runs in all");
    assert!(findings.is_empty(), "{}: {findings:#?}", findings.len());
}

#[test]
fn killed_before_any_of_its_calls_an_operation_leaves_the_old_state_or_the_new() {
    run_all(kills);
}

#[test]
fn whichever_call_fails_nothing_is_acknowledged_that_is_not_stored() {
    let is_complete = env::var_os("FAULTS").is_some_and(|faults| faults == "all");
    run_all(if is_complete {
        every_error
    } else {
        some_errors
    });
}

fn of_broken(
    fault: Fault,
    operation: Operation,
    ways: fn(usize, &Call) -> Vec<Disturbance>,
) -> Option<Outcome> {
    if !is_installed("strace") {
        return None;
    }
    let matrix = Matrix {
        operation,
        durability: "none",
        fault: Some(fault),
    };
    Some(matrix.run(ways))
}

#[test]
fn a_record_that_is_truncated_and_written_in_place_is_found() {
    if let Some(outcome) = of_broken(Fault::TruncateAndWrite, Operation::Save, kills) {
        assert!(!outcome.findings.is_empty());
    }
}

#[test]
fn errors_that_nobody_looks_at_are_found() {
    if let Some(outcome) = of_broken(Fault::UncheckedWrite, Operation::Save, every_error) {
        assert!(!outcome.findings.is_empty());
    }
}

#[test]
fn temporary_files_that_nobody_deletes_are_found() {
    if let Some(outcome) = of_broken(Fault::LeaveTemporary, Operation::Save, kills) {
        let left = outcome.findings.iter();
        let left = left.filter(|finding| finding.wrong.ends_with("is left behind"));
        assert!(left.count() > 0);
    }
}

#[test]
fn nothing_is_found_where_nothing_is_wrong() {
    for operation in [Operation::First, Operation::Save, Operation::Destroy] {
        if let Some(outcome) = of_broken(Fault::Nothing, operation, kills) {
            assert!(outcome.findings.is_empty(), "{:#?}", outcome.findings);
        }
    }
}
