//! Every order in which two processes can make their calls, depth first.
//!
//! Of two orders that differ only in calls that commute, one is enough: a call that was tried at a
//! point sleeps in the branches beside it until a call is made with which it does not commute
//! (Godefroid's sleep sets). Every result that some order has is still reached.

use std::fmt::Write as _;

use testkit::prelude::*;

use super::call::Call;
use super::outcome;
use super::task::{Order, Pair};
use super::tracee::Tracee;
use crate::process;
use crate::subject::Subject;

/// What all orders of a pair have come to.
pub(crate) struct Exploration {
    /// Orders that were run to their end.
    pub(crate) orders: u64,
    /// Orders that were given up for being like another.
    pub(crate) pruned: u64,
    /// Each outcome, and the first order that led to it.
    pub(crate) outcomes: BTreeMap<String, String>,
    /// No order was left out.
    pub(crate) is_whole: bool,
}

/// A point at which either process can go on.
struct Point {
    pending: [Option<Call>; 2],
    can_go_on: [bool; 2],
    sleeps: [bool; 2],
    tried: [bool; 2],
    /// Which process is tried first.
    preferred: usize,
    chosen: usize,
}

impl Point {
    fn next(&self) -> Option<usize> {
        let mut both = [self.preferred, 1 - self.preferred].into_iter();
        both.find(|&which| self.can_go_on[which] && !self.sleeps[which] && !self.tried[which])
    }

    /// Goes on with the other process, if there is a reason.
    fn turn(&mut self, is_complete: bool) -> bool {
        self.tried[self.chosen] = true;
        // What was tried here comes first in other branches.
        self.sleeps[self.chosen] = !is_complete;
        match self.next() {
            Some(other) => {
                self.chosen = other;
                true
            }
            None => false,
        }
    }

    fn sleeps_after(&self, which: usize) -> bool {
        let chosen = self.pending[self.chosen].as_ref();
        let pending = self.pending[which].as_ref();
        let commutes = chosen.zip(pending).is_some_and(|(a, b)| a.commutes_with(b));
        which != self.chosen && self.sleeps[which] && commutes
    }
}

enum End {
    Outcome(String),
    LikeAnother,
}

pub(crate) struct Explorer {
    subject: Subject,
    rng: fastrand::Rng,
    processes: [Tracee; 2],
    /// Orders that differ only in calls that commute are all run.
    is_complete: bool,
    points: Vec<Point>,
}

impl Explorer {
    pub(crate) fn of(subject: &Subject, seed: u64, is_complete: bool) -> Self {
        Explorer {
            subject: subject.clone(),
            rng: fastrand::Rng::with_seed(seed),
            processes: [Tracee::start(subject), Tracee::start(subject)],
            is_complete,
            points: Vec::new(),
        }
    }

    /// Runs all orders, as long as `goes_on` says so.
    pub(crate) fn explore(
        &mut self,
        pair: &Pair,
        goes_on: impl Fn(&Exploration) -> bool,
    ) -> Exploration {
        let mut found = Exploration {
            orders: 0,
            pruned: 0,
            outcomes: BTreeMap::new(),
            is_whole: false,
        };
        self.points.clear();
        while goes_on(&found) {
            match self.run(pair) {
                End::LikeAnother => found.pruned += 1,
                End::Outcome(outcome) => {
                    found.orders += 1;
                    let entry = found.outcomes.entry(outcome);
                    entry.or_insert_with(|| self.order());
                }
            }
            let is_complete = self.is_complete;
            let is_done = |last: &mut Point| !last.turn(is_complete);
            while self.points.last_mut().is_some_and(is_done) {
                self.points.pop();
            }
            if self.points.is_empty() {
                found.is_whole = true;
                return found;
            }
        }
        found
    }

    /// Runs one order: as far as it was chosen before, and then as it comes.
    fn run(&mut self, pair: &Pair) -> End {
        let place = process::memory();
        let directory = place.path().join("sessions");
        pair.prepare(&self.subject, &directory);
        for (process, task) in self.processes.iter_mut().zip(&pair.tasks) {
            let (task, directory) = (task.clone(), directory.clone());
            process.order(&Order { task, directory });
        }
        let mut depth = 0;
        loop {
            if depth == self.points.len() {
                let point = self.point();
                let is_over = point.pending.iter().all(Option::is_none);
                if is_over {
                    break;
                }
                if !point.can_go_on.contains(&true) {
                    self.points.push(point);
                    panic!("{pair}: both wait for each other:\n{}", self.order());
                }
                let Some(chosen) = point.next() else {
                    self.finish();
                    return End::LikeAnother;
                };
                self.points.push(Point { chosen, ..point });
            }
            let point = &self.points[depth];
            let process = &mut self.processes[point.chosen];
            let shown = |call: Option<&Call>| call.map(ToString::to_string);
            let expected = shown(point.pending[point.chosen].as_ref());
            let seen = shown(process.pending());
            process.step();
            assert!(
                seen == expected,
                "{pair}: {seen:?}, not {expected:?}:\n{}",
                self.order()
            );
            depth += 1;
        }
        End::Outcome(self.outcome(&directory))
    }

    /// Where the processes are now.
    fn point(&mut self) -> Point {
        let pending = self.processes.each_ref().map(|one| one.pending().cloned());
        let can_go_on = [0, 1].map(|which| self.can_go_on(which));
        let sleeps = self.points.last().map_or([false; 2], |last| {
            [0, 1].map(|which| last.sleeps_after(which))
        });
        Point {
            pending,
            can_go_on,
            sleeps,
            tried: [false; 2],
            preferred: self.rng.usize(0..2),
            chosen: 0,
        }
    }

    fn can_go_on(&self, which: usize) -> bool {
        let other = self.processes[1 - which].process;
        let pending = self.processes[which].pending();
        pending.is_some_and(|call| call.can_return(other))
    }

    /// Lets both come to their end, in whatever order.
    fn finish(&mut self) {
        while let Some(which) = (0..2).find(|which| self.can_go_on(*which)) {
            self.processes[which].step();
        }
        for process in &mut self.processes {
            process.answer();
        }
    }

    fn outcome(&mut self, directory: &Path) -> String {
        let [one, other] = self.processes.each_mut().map(Tracee::answer);
        let left = outcome::left(&self.subject, directory);
        format!("{one}; {other}; {left}")
    }

    /// The order that was run, one call a line; what a process did not do for waiting comes last.
    fn order(&self) -> String {
        let mut text = String::new();
        for point in &self.points {
            let call = point.pending[point.chosen].as_ref();
            let call = call.map(ToString::to_string).unwrap_or_default();
            let indent = point.chosen * 44;
            let _ = writeln!(text, "    {:indent$}{call}", "");
        }
        text
    }
}
