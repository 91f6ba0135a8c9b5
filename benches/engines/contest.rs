//! A contest: all stores at one task in turns, and its table.

use std::fmt::Write as _;

use rand::seq::SliceRandom as _;

use crate::measured::Outcome;
use crate::measured::spread::Spread;
use crate::settings::Settings;
use crate::subject::Subject;
use crate::work::Task;

/// So many rounds of what takes long.
const LONG_ROUNDS: usize = 3;

pub(crate) fn table(task: &Task, subjects: &[Subject], settings: &Settings) -> Outcome<String> {
    let rounds = if task.is_long {
        settings.rounds.min(LONG_ROUNDS)
    } else {
        settings.rounds
    };
    let mut times = vec![Vec::new(); subjects.len()];
    let mut order: Vec<usize> = (0..subjects.len()).collect();
    // The first round warms up.
    for round in 0..=rounds {
        order.shuffle(&mut rand::rng());
        for &at in &order {
            let time = (task.run)(&subjects[at], settings)?.as_secs_f64();
            if round > 0 || task.is_long {
                times[at].push(time);
            }
        }
    }
    let mut table = format!(
        "### {}\n\n| store | time (quartiles) | to files |\n|---|---:|---:|",
        task.name
    );
    for (subject, own) in subjects.iter().zip(&times) {
        let ratios = own.iter().zip(&times[0]).map(|(own, files)| own / files);
        let Spread { low, median, high } = Spread::of(own.clone());
        write!(
            table,
            "\n| {} | {} ({}–{}) | {:.1} |",
            subject.name,
            time(median),
            time(low),
            time(high),
            Spread::of(ratios.collect()).median
        )?;
    }
    Ok(table + "\n")
}

fn time(seconds: f64) -> String {
    match seconds {
        s if s < 1e-3 => format!("{:.0} µs", s * 1e6),
        s if s < 1.0 => format!("{:.2} ms", s * 1e3),
        s => format!("{s:.2} s"),
    }
}
