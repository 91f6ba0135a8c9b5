//! [`Matrix`]: an operation disturbed at each of its calls, some at a time, and what was found.

use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::ground::{Ground, State};
use crate::operation::Operation;
use crate::trace::{self, Call, Run};
use testkit::broken::Fault;

const AT_ONCE: usize = 4;

/// How a call goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Disturbance {
    Killed,
    Fails(&'static str),
}

/// Something that must not be.
pub(crate) struct Finding {
    operation: Operation,
    durability: &'static str,
    call: Call,
    disturbance: Disturbance,
    pub(crate) wrong: String,
}

impl fmt::Debug for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{:?}, durability {}, {:?} {:?}: {}",
            self.operation, self.durability, self.call, self.disturbance, self.wrong
        )
    }
}

/// All disturbances of one operation.
pub(crate) struct Matrix {
    pub(crate) operation: Operation,
    pub(crate) durability: &'static str,
    pub(crate) fault: Option<Fault>,
}

/// What was done and what was found.
#[derive(Default)]
pub(crate) struct Outcome {
    pub(crate) runs: usize,
    pub(crate) findings: Vec<Finding>,
}

impl Matrix {
    pub(crate) fn of(operation: Operation, durability: &'static str) -> Self {
        Matrix {
            operation,
            durability,
            fault: None,
        }
    }

    /// Disturbs each call in each of the ways that `ways` has for it.
    pub(crate) fn run(&self, ways: impl Fn(usize, &Call) -> Vec<Disturbance>) -> Outcome {
        let before = Ground::before(self.operation, self.fault);
        let calls = trace::calls(self.operation, &before.copy(), self.durability);
        assert!(calls.len() > 1, "{:?} makes no calls", self.operation);
        let jobs: Vec<(Call, Disturbance)> = calls
            .iter()
            .enumerate()
            .flat_map(|(at, call)| ways(at, call).into_iter().map(|way| (call.clone(), way)))
            .collect();
        let (next, findings) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
        let work = || {
            while let Some((call, way)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                if let Err(wrong) = self.disturb(&before, call, *way) {
                    findings.lock().unwrap().push(Finding {
                        operation: self.operation,
                        durability: self.durability,
                        call: call.clone(),
                        disturbance: *way,
                        wrong,
                    });
                }
            }
        };
        thread::scope(|scope| {
            for _ in 0..AT_ONCE {
                scope.spawn(work);
            }
        });
        Outcome {
            runs: jobs.len(),
            findings: findings.into_inner().unwrap(),
        }
    }

    fn disturb(&self, before: &Ground, call: &Call, way: Disturbance) -> Result<(), String> {
        let ground = before.copy();
        let run = match way {
            Disturbance::Killed => trace::kill(self.operation, &ground, self.durability, call),
            Disturbance::Fails(error) => {
                trace::fail(self.operation, &ground, self.durability, call, error)
            }
        };
        if way != Disturbance::Killed {
            check_ending(&run, self.operation, &ground)?;
        }
        let found = ground.state()?;
        let is_acknowledged = self.operation.is_acknowledged(&run.said);
        // A signal is nobody's error.
        if way == Disturbance::Fails("EINTR") && !is_acknowledged {
            let Run {
                said, complained, ..
            } = &run;
            return Err(format!("a signal is not survived: {said}{complained}"));
        }
        let mut allowed = match way {
            _ if is_acknowledged => vec![self.operation.after()],
            // What cannot be said at the end is done all the same.
            Disturbance::Fails(_) if call.name != "write" => self.operation.states_after_error(),
            _ => self.operation.states(),
        };
        if way != Disturbance::Killed {
            allowed.extend(self.operation.states_beside_errors());
        }
        // A name that is not there, says the system: then nothing needs to be done with it, and a visitor
        // whose session is not there is a new one.
        let is_denied = way == Disturbance::Fails("ENOENT") && self.is_near(&found);
        if !is_denied && !allowed.contains(&found) {
            let told = if is_acknowledged {
                "acknowledged"
            } else {
                "not acknowledged"
            };
            let Run {
                said, complained, ..
            } = run;
            return Err(format!(
                "{told}, and {found:?} was found; it said {said}{complained}"
            ));
        }
        if run.said.contains("Set-Cookie") && found.others.is_empty() {
            return Err("a cookie for a session that was not stored".to_owned());
        }
        if way != Disturbance::Fails("ENOENT") {
            ground.check_index()?;
        }
        ground.check_next_requests(&found)?;
        ground.check_nothing_is_left()
    }
}

impl Matrix {
    /// Whether `A` and `B` are what they may be, whatever else there is.
    fn is_near(&self, found: &State) -> bool {
        let states = self.operation.states();
        let mut near = states.iter().filter(|state| state.b == found.b);
        near.any(|state| state.a == found.a)
    }
}

/// A program that was not killed ends by itself, says why it failed, and never tells the id.
fn check_ending(run: &Run, operation: Operation, ground: &Ground) -> Result<(), String> {
    let is_acknowledged = operation.is_acknowledged(&run.said);
    if !run.has_ended() {
        return Err(format!("exit code {:?}: {}", run.code, run.complained));
    }
    if !is_acknowledged && run.complained.is_empty() && !run.said.is_empty() {
        return Err(format!("it failed without a word: {}", run.said));
    }
    if run.complained.contains(ground.a.secret()) {
        return Err(format!("the id is told: {}", run.complained));
    }
    Ok(())
}
