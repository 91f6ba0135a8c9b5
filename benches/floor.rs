//! Prints what the library costs, each figure as a ratio to the bare system calls of the same run.
//!
//! ```sh
//! cargo bench                                    # every row, in about two minutes
//! cargo bench --bench floor -- save cgi          # the groups save and cgi only
//! FLOOR_SESSIONS=1000000 cargo bench             # clean-up and growth at the full size
//! ```
//!
//! The groups are save, read, durable, cgi, memory, cap, cleanup and growth.
//! What is compared runs in turns, in an order shuffled anew for each of many rounds. A ratio is that
//! of two neighbours in one round; the table has the median and the quartiles over all rounds.
//! Files lie in two directories of their own, one below `target` and one in `/dev/shm`.

#[path = "floor/cgi.rs"]
mod cgi;
#[path = "floor/many.rs"]
mod many;
#[path = "floor/measure.rs"]
mod measure;
#[path = "measured/mod.rs"]
mod measured;
#[path = "floor/place.rs"]
mod place;
#[path = "floor/save.rs"]
mod save;

use std::env;
use std::process::ExitCode;

use measure::{Outcome, Row};
use place::Place;

type Group = fn(&Place) -> Outcome<Vec<Row>>;

const GROUPS: [(&str, Group); 8] = [
    ("save", save::saves),
    ("read", save::reads),
    ("durable", save::durable_saves),
    ("cgi", cgi::requests),
    ("memory", cgi::memory),
    ("cap", many::creations),
    ("cleanup", many::clean_ups),
    ("growth", many::growth),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if !arguments.iter().any(|argument| argument == "--bench") {
        // `cargo test --all-targets` starts benchmarks too, and has no time for them.
        println!("to measure: cargo bench");
        return ExitCode::SUCCESS;
    }
    let chosen: Vec<&str> = arguments
        .iter()
        .map(String::as_str)
        .filter(|argument| !argument.starts_with('-'))
        .collect();
    match run(&chosen) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("floor: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(chosen: &[&str]) -> Outcome<()> {
    let unknown = |name: &&&str| GROUPS.iter().all(|(group, _)| group != *name);
    if let Some(name) = chosen.iter().find(unknown) {
        return Err(format!("there is no group {name}").into());
    }
    let places = place::all()?;
    println!("{}\n", measure::conditions(&places));
    println!("| what | on | raw system calls | library | ratio (quartiles) | target | |");
    println!("|---|---|---:|---:|---:|---:|---|");
    for (name, group) in GROUPS {
        if !chosen.is_empty() && !chosen.contains(&name) {
            continue;
        }
        for place in &places {
            eprintln!("measuring {name} on {}", place.name());
            for row in group(place)? {
                println!("{row}");
            }
        }
    }
    Ok(())
}
