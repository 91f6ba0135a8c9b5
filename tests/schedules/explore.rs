//! Every order in which two processes can make their calls, depth first.
//!
//! Of two orders that differ only in calls that commute, one is enough: a call that was tried at a
//! point sleeps in the branches beside it until a call is made with which it does not commute
//! (Godefroid's sleep sets). Every result that some order has is still reached.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use crate::call::Call;
use crate::outcome;
use crate::pair::Pair;
use crate::task::Order;
use crate::tracee::Tracee;

/// What all orders of a pair have come to.
pub(crate) struct Exploration {
    /// Orders that were run to their end.
    pub(crate) schedules: u64,
    /// Orders that were given up for being like another.
    pub(crate) pruned: u64,
    /// The longest order.
    pub(crate) calls: usize,
    /// How often each outcome came about, and the first order that led to it.
    pub(crate) outcomes: BTreeMap<String, (u64, String)>,
}

/// A point at which either process can go on.
struct Point {
    pending: [Option<Call>; 2],
    can_go_on: [bool; 2],
    sleeps: [bool; 2],
    tried: [bool; 2],
    chosen: usize,
}

impl Point {
    fn next(&self) -> Option<usize> {
        (0..2).find(|&which| self.can_go_on[which] && !self.sleeps[which] && !self.tried[which])
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
    store: String,
    processes: [Tracee; 2],
    /// Orders that differ only in calls that commute are all run.
    is_complete: bool,
    points: Vec<Point>,
}

impl Explorer {
    pub(crate) fn of(store: &str, is_complete: bool) -> Self {
        Explorer {
            store: store.to_owned(),
            processes: [Tracee::start(store), Tracee::start(store)],
            is_complete,
            points: Vec::new(),
        }
    }

    /// Runs all orders, or until an outcome is one that `stops`.
    pub(crate) fn explore(&mut self, pair: &Pair, stops: impl Fn(&str) -> bool) -> Exploration {
        let mut exploration = Exploration {
            schedules: 0,
            pruned: 0,
            calls: 0,
            outcomes: BTreeMap::new(),
        };
        self.points.clear();
        loop {
            match self.run(pair) {
                End::LikeAnother => exploration.pruned += 1,
                End::Outcome(outcome) => {
                    exploration.schedules += 1;
                    exploration.calls = exploration.calls.max(self.points.len());
                    let is_last = stops(&outcome);
                    let order = || (0, self.order());
                    exploration.outcomes.entry(outcome).or_insert_with(order).0 += 1;
                    if is_last {
                        return exploration;
                    }
                }
            }
            while self
                .points
                .last_mut()
                .is_some_and(|last| !last.turn(self.is_complete))
            {
                self.points.pop();
            }
            if self.points.is_empty() {
                return exploration;
            }
        }
    }

    /// Runs one order: as far as it was chosen before, and then as it comes.
    fn run(&mut self, pair: &Pair) -> End {
        let place = outcome::place();
        let directory = place.path().join("sessions");
        pair.prepare(&self.store, &directory);
        for (process, task) in self.processes.iter_mut().zip(pair.tasks) {
            let directory = directory.clone();
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
            assert_eq!(
                shown(process.pending()),
                shown(point.pending[point.chosen].as_ref()),
                "{pair}: an order does not repeat itself:\n{}",
                self.order()
            );
            process.step();
            depth += 1;
        }
        End::Outcome(self.outcome(&directory))
    }

    /// Where the processes are now.
    fn point(&self) -> Point {
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
        let left = outcome::left(&self.store, directory);
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
