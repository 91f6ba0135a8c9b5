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
#[path = "floor/crowd.rs"]
mod crowd;
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
use measured::machine;
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
    measured::main("cargo bench --bench floor", run)
}

fn run() -> Outcome<()> {
    let arguments = env::args().skip(1);
    let chosen: Vec<String> = arguments.filter(|it| !it.starts_with('-')).collect();
    let unknown = |name: &&String| GROUPS.iter().all(|(group, _)| group != name);
    if let Some(name) = chosen.iter().find(unknown) {
        return Err(format!("there is no group {name}").into());
    }
    let places = place::all()?;
    let names: Vec<&str> = places.iter().map(Place::name).collect();
    println!("{}; {}.\n", machine::description(), names.join(" and "));
    println!("| what | on | raw system calls | library | ratio (quartiles) | target | |");
    println!("|---|---|---:|---:|---:|---:|---|");
    for (name, group) in GROUPS {
        if !chosen.is_empty() && !chosen.iter().any(|it| it == name) {
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
