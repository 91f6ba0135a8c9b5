//! Every operation, killed before each of its system calls on files, and with each of them failing in
//! every way that a system has.
//!
//! What is found afterwards must be a state that the operation may leave, the one after it if it was
//! acknowledged; the next requests go on from there; a clean-up leaves nothing behind.

use nix::errno::Errno;
use testkit::broken::Fault;
use testkit::prelude::*;

use crate::campaign::{Campaign, Case, Trial};
use crate::operation::Operation;
use crate::process;
use crate::scene::{self, Scene, State};
use crate::subject::Subject;
use crate::tracer::{Call, Ended};

pub(crate) const CAMPAIGN: Campaign = Campaign {
    name: "faults",
    about: "each operation killed before each of its system calls, and each call failing in every way",
    seconds: 300,
    is_sampled: true,
    cases,
};

const AT_ONCE: usize = 4;
const ERRORS: [Errno; 11] = [
    Errno::ENOSPC,
    Errno::EDQUOT,
    Errno::EIO,
    Errno::EROFS,
    Errno::EMFILE,
    Errno::ENFILE,
    Errno::EACCES,
    Errno::EINTR,
    Errno::ENOMEM,
    Errno::ENOENT,
    Errno::ESTALE,
];
const LOCK_ERRORS: [Errno; 2] = [Errno::ENOLCK, Errno::EDEADLK];

/// How a call goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Disturbance {
    Killed,
    Fails(Errno),
}

fn cases() -> Vec<Case> {
    let of = |fault| Subject::broken(fault);
    let mut cases = vec![
        case(Operation::Save, of(Fault::TruncateAndWrite), kills).finding(&[""]),
        case(Operation::Save, of(Fault::UncheckedWrite), all).finding(&["acknowledged, and found"]),
        case(Operation::Save, of(Fault::LeaveTemporary), kills).finding(&["is left behind"]),
    ];
    for operation in [Operation::First, Operation::Save, Operation::Destroy] {
        cases.push(case(operation, of(Fault::Nothing), kills));
    }
    for durability in ["none", "data"] {
        let subject = Subject::file().with("durability", durability);
        cases.extend(Operation::ALL.map(|operation| case(operation, subject.clone(), all)));
    }
    cases
}

fn case(operation: Operation, subject: Subject, ways: fn(&Call) -> Vec<Disturbance>) -> Case {
    let durability = subject.setting("durability").unwrap_or("none");
    let name = format!("{operation:?} durability={durability}");
    let store = subject.name.clone();
    Case::new(&store, &name, move |trial| {
        if operation.is_page() {
            // Its process must find it built.
            testkit::example("counter");
        }
        let place = process::memory();
        let before = place.path().join("before");
        let scene = Scene::set(operation, &subject, &before);
        let calls = undisturbed(&scene, &before);
        let mut jobs: Vec<(usize, &Call, Disturbance)> = Vec::new();
        for (at, call) in calls.iter().enumerate() {
            jobs.extend(ways(call).into_iter().map(|way| (at, call, way)));
        }
        fastrand::Rng::with_seed(trial.seed).shuffle(&mut jobs);
        trial.count("possible", jobs.len() as u64);
        let shared = Mutex::new((jobs.into_iter(), trial));
        let work = || {
            while let Some((at, call, way)) = next(&shared) {
                let disturbed = disturb(&scene, &before, at, call, way);
                let trial = &mut *shared.lock().unwrap().1;
                trial.count("runs", 1);
                if let Err(wrong) = disturbed {
                    trial.violation(format!("call {at} ({}) {way:?}: {wrong}", call.name()));
                }
            }
        };
        thread::scope(|scope| {
            for _ in 0..AT_ONCE {
                scope.spawn(work);
            }
        });
    })
}

fn next<T, I: Iterator<Item = T>>(shared: &Mutex<(I, &mut Trial)>) -> Option<T> {
    let mut shared = shared.lock().unwrap();
    let goes_on = shared.1.goes_on();
    shared.0.next().filter(|_| goes_on)
}

fn kills(_: &Call) -> Vec<Disturbance> {
    vec![Disturbance::Killed]
}

fn all(call: &Call) -> Vec<Disturbance> {
    let locks = LOCK_ERRORS.iter().filter(|_| call.name() == "flock");
    let errors = ERRORS.iter().chain(locks);
    let errors = errors.map(|error| Disturbance::Fails(*error));
    errors.chain([Disturbance::Killed]).collect()
}

/// The calls of the operation when nothing goes wrong.
fn undisturbed(scene: &Scene, before: &Path) -> Vec<Call> {
    let place = process::memory();
    let directory = place.path().join("sessions");
    scene::copy(before, &directory);
    let mut tracer = scene.start(&directory);
    let mut calls = Vec::new();
    while let Some(call) = tracer.next() {
        calls.push(call);
    }
    let Ended {
        said, complained, ..
    } = tracer.finish();
    let is_done = scene.operation.is_acknowledged(&said);
    assert!(is_done && calls.len() > 1, "{said}{complained}");
    calls
}

fn disturb(
    scene: &Scene,
    before: &Path,
    at: usize,
    call: &Call,
    way: Disturbance,
) -> Result<(), String> {
    let place = process::memory();
    let directory = place.path().join("sessions");
    scene::copy(before, &directory);
    let mut tracer = scene.start(&directory);
    let is_there = (0..=at).all(|_| tracer.next().is_some());
    let ended = match way {
        Disturbance::Killed => tracer.kill(),
        Disturbance::Fails(error) => {
            if is_there {
                tracer.fail(error);
            }
            let ended = tracer.finish();
            check_ending(scene, &ended)?;
            ended
        }
    };
    let Ended {
        said, complained, ..
    } = ended;
    let checked = check_state(scene, &directory, call, way, &said);
    checked.map_err(|wrong| format!("{wrong}; it said {said}{complained}"))
}

fn check_state(
    scene: &Scene,
    directory: &Path,
    call: &Call,
    way: Disturbance,
    said: &str,
) -> Result<(), String> {
    let operation = scene.operation;
    let is_acknowledged = operation.is_acknowledged(said);
    // A signal is no error.
    if way == Disturbance::Fails(Errno::EINTR) && !is_acknowledged {
        return Err("a signal is not survived".to_owned());
    }
    let mut allowed = match way {
        _ if is_acknowledged => operation.states().pop().into_iter().collect(),
        // What cannot be said at the end is done all the same.
        Disturbance::Fails(_) if call.name() != "write" => operation.states_after_error(),
        _ => operation.states(),
    };
    if way != Disturbance::Killed {
        allowed.extend(operation.states_beside_errors());
    }
    // A name that is not there, says the system: then nothing needs to be done with it, and a client
    // whose session is not there gets a new one.
    let is_denied = way == Disturbance::Fails(Errno::ENOENT);
    let is_near = |found: &State| {
        let mut states = operation.states().into_iter();
        is_denied && states.any(|state| (state.a, state.b) == (found.a, found.b))
    };
    let is_allowed = |found: &State| is_near(found) || allowed.contains(found);
    match scene.check(directory, is_allowed, said) {
        Err(wrong) if is_denied && wrong == scene::NOT_IN_INDEX => Ok(()),
        checked => checked,
    }
}

/// A program that was not killed ends by itself, says why it failed, and never tells the id.
fn check_ending(scene: &Scene, ended: &Ended) -> Result<(), String> {
    let Ended {
        code,
        said,
        complained,
    } = ended;
    let is_acknowledged = scene.operation.is_acknowledged(said);
    if *code != Some(0) && *code != Some(1) {
        return Err(format!("exit code {code:?}: {complained}"));
    }
    if !is_acknowledged && complained.is_empty() && !said.is_empty() {
        return Err(format!("it failed without a word: {said}"));
    }
    if complained.contains(scene.a.secret()) {
        return Err(format!("the id is told: {complained}"));
    }
    Ok(())
}
