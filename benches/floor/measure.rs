//! Turns, ratios and the rows of the table.

use std::fmt;
use std::time::{Duration, Instant};

use rand::seq::SliceRandom as _;

pub(crate) use crate::measured::Outcome;
use crate::measured::machine;
use crate::measured::spread::Spread;
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
    let mut order: [usize; N] = std::array::from_fn(|at| at);
    let mut times = [const { Vec::new() }; N];
    for contender in &mut contenders {
        contender()?;
    }
    for _ in 0..rounds {
        order.shuffle(&mut rand::rng());
        for at in order {
            times[at].push(contenders[at]()?.as_secs_f64());
        }
    }
    Ok(times)
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
        let ratios = measured
            .iter()
            .zip(floor)
            .map(|(measured, floor)| measured / floor);
        let Spread {
            low,
            median: ratio,
            high,
        } = Spread::of(ratios.collect());
        let median = |times: &[f64]| time(Spread::of(times.to_vec()).median);
        Row {
            what: what.into(),
            on: place.name().to_owned(),
            figures: [
                median(floor),
                median(measured),
                format!("{ratio:.2} ({low:.2}–{high:.2})"),
                target.map(|target| format!("{target}")).unwrap_or_default(),
            ],
            verdict: target.map_or("for information", |target| verdict(ratio, target)),
        }
    }

    /// An amount of memory in KiB.
    pub(crate) fn memory(
        what: impl Into<String>,
        place: &Place,
        measured: u32,
        target: Option<u32>,
    ) -> Self {
        let text = |kib: u32| format!("{:.2} MiB", f64::from(kib) / 1024.0);
        Row {
            what: what.into(),
            on: place.name().to_owned(),
            figures: [
                String::new(),
                text(measured),
                String::new(),
                target.map(text).unwrap_or_default(),
            ],
            verdict: target.map_or("for information", |target| {
                verdict(f64::from(measured), f64::from(target))
            }),
        }
    }

    /// A row that could not be measured, and why.
    pub(crate) fn skipped(what: impl Into<String>, place: &Place, reason: &'static str) -> Self {
        Row {
            what: what.into(),
            on: place.name().to_owned(),
            figures: [const { String::new() }; 4],
            verdict: reason,
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

fn verdict(measured: f64, target: f64) -> &'static str {
    if measured <= target {
        "met"
    } else {
        "**missed**"
    }
}

fn time(seconds: f64) -> String {
    match seconds {
        s if s < 1e-3 => format!("{:.2} µs", s * 1e6),
        s if s < 1.0 => format!("{:.2} ms", s * 1e3),
        s => format!("{s:.2} s"),
    }
}

/// Where and on what all this was measured.
pub(crate) fn conditions(places: &[Place]) -> String {
    let names: Vec<&str> = places.iter().map(Place::name).collect();
    format!("{}; {}.", machine::description(), names.join(" and "))
}
