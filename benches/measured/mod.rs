//! What all benchmarks measure with: turns, quartiles, the name of the machine, and programs that are
//! built as the profile `release` says.

#[allow(dead_code, reason = "not every benchmark builds programs")]
pub(crate) mod build;
pub(crate) mod machine;
pub(crate) mod spread;

use std::env;
use std::error::Error;
use std::process::ExitCode;
use std::str::FromStr;

use rand::seq::SliceRandom as _;

pub(crate) type Outcome<T> = Result<T, Box<dyn Error>>;

/// Runs a benchmark that `command` has asked for.
pub(crate) fn main(command: &str, run: impl FnOnce() -> Outcome<()>) -> ExitCode {
    if !env::args().any(|argument| argument == "--bench") {
        // `cargo test --all-targets` starts benchmarks too, and has no time for them.
        println!("to measure: {command}");
        return ExitCode::SUCCESS;
    }
    let failed = |error| {
        eprintln!("{command}: {error}");
        ExitCode::FAILURE
    };
    run().map_or_else(failed, |()| ExitCode::SUCCESS)
}

/// The positive number that a variable sets, or this one.
#[allow(dead_code, reason = "not every benchmark has settings")]
pub(crate) fn number<T: FromStr + PartialOrd + Default>(name: &str, default: T) -> Outcome<T> {
    let Ok(text) = env::var(name) else {
        return Ok(default);
    };
    match text.parse() {
        Ok(number) if number > T::default() => Ok(number),
        _ => Err(format!("{name} is not a positive number: {text}").into()),
    }
}

/// Lets each of so many contenders run once in each round, every time in another order; returns
/// what they tell, by contender and round.
pub(crate) fn in_turns<T>(
    contenders: usize,
    rounds: usize,
    mut run: impl FnMut(usize) -> Outcome<T>,
) -> Outcome<Vec<Vec<T>>> {
    let mut order: Vec<usize> = (0..contenders).collect();
    let mut told: Vec<Vec<T>> = order.iter().map(|_| Vec::new()).collect();
    for _ in 0..rounds {
        order.shuffle(&mut rand::rng());
        for &at in &order {
            told[at].push(run(at)?);
        }
    }
    Ok(told)
}
