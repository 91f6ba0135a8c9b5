//! Turns, ratios and the rows of the table.

use std::fmt;
use std::time::{Duration, Instant};

pub(crate) use crate::measured::Outcome;
use crate::measured::in_turns;
use crate::measured::spread::{Spread, time};
use crate::place::Place;

/// Something to be measured: runs once and tells how long that took.
pub(crate) type Contender<'a> = Box<dyn FnMut() -> Outcome<Duration> + 'a>;

/// Runs `operation` so many times and returns the time of one.
pub(crate) fn timed(times: u32, mut operation: impl FnMut() -> Outcome<()>) -> Outcome<Duration> {
    let start = Instant::now();
    for _ in 0..times {
        operation()?;
    }
    Ok(start.elapsed() / times)
}

/// Lets all contenders run once in each round, every time in another order; returns the times in
/// seconds, by contender and round. A first round warms up and is not counted.
pub(crate) fn compare<const N: usize>(
    rounds: usize,
    mut contenders: [Contender<'_>; N],
) -> Outcome<[Vec<f64>; N]> {
    let mut run = |at: usize| Ok(contenders[at]()?.as_secs_f64());
    in_turns(N, 1, &mut run)?;
    let times = in_turns(N, rounds, run)?;
    times.try_into().map_err(|_| "a time is missing".into())
}

/// A line of the table.
pub(crate) struct Row {
    what: String,
    on: String,
    figures: [String; 4],
    verdict: &'static str,
}

impl Row {
    /// What was measured against the floor, both in seconds by round.
    pub(crate) fn ratio(
        what: impl Into<String>,
        place: &Place,
        [floor, measured]: [&[f64]; 2],
        target: Option<f64>,
    ) -> Self {
        let ratios = measured.iter().zip(floor);
        let ratios = ratios.map(|(measured, floor)| measured / floor);
        let Spread { low, median, high } = Spread::of(ratios.collect());
        let seconds = |times: &[f64]| time(Spread::of(times.to_vec()).median);
        let figures = [
            seconds(floor),
            seconds(measured),
            format!("{median:.2} ({low:.2}–{high:.2})"),
            target.map(|target| target.to_string()).unwrap_or_default(),
        ];
        let verdict = target.map_or("for information", |target| verdict(median <= target));
        Row::new(what, place, figures, verdict)
    }

    /// An amount of memory in KiB.
    pub(crate) fn memory(what: &str, place: &Place, measured: u32, target: u32) -> Self {
        let text = |kib: u32| format!("{:.2} MiB", f64::from(kib) / 1024.0);
        let [none, nothing] = [const { String::new() }; 2];
        let figures = [none, text(measured), nothing, text(target)];
        Row::new(what, place, figures, verdict(measured <= target))
    }

    /// A row that could not be measured, and why.
    pub(crate) fn skipped(what: &str, place: &Place, reason: &'static str) -> Self {
        Row::new(what, place, [const { String::new() }; 4], reason)
    }

    fn new(
        what: impl Into<String>,
        place: &Place,
        figures: [String; 4],
        verdict: &'static str,
    ) -> Self {
        let (what, on) = (what.into(), place.name().to_owned());
        Row {
            what,
            on,
            figures,
            verdict,
        }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [floor, measured, ratio, target] = &self.figures;
        write!(
            f,
            "| {} | {} | {floor} | {measured} | {ratio} | {target} | {} |",
            self.what, self.on, self.verdict
        )
    }
}

fn verdict(is_met: bool) -> &'static str {
    if is_met { "met" } else { "**missed**" }
}
