//! A contest: all stores at one task in turns, and its table.

use std::fmt::Write as _;

use crate::measured::spread::{Spread, time};
use crate::measured::{Outcome, in_turns};
use crate::subject::Subject;
use crate::work::Task;

pub(crate) fn table((name, task): Task, subjects: &[Subject], rounds: usize) -> Outcome<String> {
    let run = |at: usize| Ok(task(&subjects[at])?.as_secs_f64());
    // A first round warms up.
    in_turns(subjects.len(), 1, run)?;
    let times = in_turns(subjects.len(), rounds, run)?;
    let mut table =
        format!("### {name}\n\n| store | time (quartiles) | to files |\n|---|---:|---:|");
    for (subject, own) in subjects.iter().zip(&times) {
        let ratios = own.iter().zip(&times[0]).map(|(own, files)| own / files);
        let ratio = Spread::of(ratios.collect()).median;
        let Spread { low, median, high } = Spread::of(own.clone());
        let [low, median, high] = [low, median, high].map(time);
        let name = subject.name;
        write!(table, "\n| {name} | {median} ({low}–{high}) | {ratio:.1} |")?;
    }
    Ok(table + "\n")
}
