//! Two processes, and every order in which they can make their system calls on the sessions: each
//! order must end as if one process had begun when the other had ended.

mod call;
mod explore;
mod outcome;
mod task;
mod tracee;

use testkit::broken::Fault;

use crate::campaign::{Campaign, Case, Trial};
use crate::subject::Subject;
use explore::{Exploration, Explorer};
use task::Pair;

pub(crate) use task::run;

pub(crate) const CAMPAIGN: Campaign = Campaign {
    name: "schedules",
    about: "every order in which two processes can make their system calls",
    seconds: 300,
    is_sampled: true,
    cases,
};

/// The pairs, and what may come of them.
const CASES: &str = include_str!("schedules/cases.txt");

fn cases() -> Vec<Case> {
    let lines = CASES.lines().filter(|line| !line.starts_with('#'));
    let lines: Vec<&str> = lines.collect();
    let blocks = lines.split(|line| line.is_empty());
    let blocks = blocks.filter(|block| !block.is_empty());
    let mut cases: Vec<Case> = blocks.flat_map(of_block).collect();
    for tasks in ["save 3 | destroy", "save 5 | read"] {
        let pair = Pair::parse(&format!("first: {tasks}"), &[]);
        let name = format!("{pair}, in full");
        cases.push(Case::new("file", &name, move |trial| in_full(&pair, trial)));
    }
    cases
}

/// The cases of a pair, one for each store.
fn of_block(block: &[&str]) -> Vec<Case> {
    let (stores, head) = block[0].split_once(", ").unwrap();
    let pair = Pair::parse(head, &block[1..]);
    let case = |store: &str| {
        let name = store.trim_start_matches('!');
        let (pair, subject) = (pair.clone(), subject(name));
        let case = Case::new(name, &pair.to_string(), move |trial| {
            attempt(&subject, &pair, trial);
        });
        if store == name {
            case
        } else {
            case.finding(&["ends otherwise: "])
        }
    };
    stores.split(' ').map(case).collect()
}

fn subject(name: &str) -> Subject {
    let subject = match name {
        "file" | "shards" | "capped" => Subject::file(),
        fault => Subject::broken(Fault::parse(fault).expect("a fault")),
    };
    match name {
        "shards" => subject.with("shards", "256"),
        "capped" | "EvictWithoutLock" => subject.with("maxSessions", "2"),
        _ => subject,
    }
}

fn attempt(subject: &Subject, pair: &Pair, trial: &mut Trial) {
    let is_right =
        |outcome: &String| pair.ends.contains(outcome) || pair.possible.contains(outcome);
    let mut explorer = Explorer::of(subject, trial.seed, false);
    let found = explorer.explore(pair, |found| {
        trial.goes_on() && found.outcomes.keys().all(is_right)
    });
    note(&found, trial);
    for (outcome, order) in &found.outcomes {
        if !is_right(outcome) {
            trial.violation(format!(
                "ends otherwise: {outcome}, by this order:\n{order}"
            ));
        }
    }
    if found.is_whole {
        trial.count("pairs in every order", 1);
        let never = |end: &&String| !found.outcomes.contains_key(*end);
        for end in pair.ends.iter().filter(never) {
            trial.violation(format!("never ends so: {end}"));
        }
    }
}

/// Orders that are given up have no outcome of their own.
fn in_full(pair: &Pair, trial: &mut Trial) {
    let [all, reduced] = [true, false].map(|is_complete| {
        let mut explorer = Explorer::of(&Subject::file(), trial.seed, is_complete);
        explorer.explore(pair, |_| trial.goes_on())
    });
    note(&all, trial);
    note(&reduced, trial);
    let are_alike = all.outcomes.keys().eq(reduced.outcomes.keys());
    if all.is_whole && reduced.is_whole && (!are_alike || reduced.orders >= all.orders) {
        let [all, reduced] = [all, reduced].map(|found| found.outcomes);
        trial.violation(format!("in full {all:#?}, and reduced {reduced:#?}"));
    }
}

fn note(found: &Exploration, trial: &mut Trial) {
    trial.count("orders", found.orders);
    trial.count("given up as like another", found.pruned);
}
