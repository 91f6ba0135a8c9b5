//! Prints what a session costs in each store that several processes can share: files, SQLite, and the
//! engines that several machines can share. The engines are this benchmark's own, on a Unix socket of this machine.
//!
//! ```sh
//! cargo bench --package campaigns --bench engines
//! ENGINES_ONLY=file,redis ENGINES_ROUNDS=20 ENGINES_SESSIONS=20000 cargo bench ...
//! ```
//!
//! Every store does the same work in turns, in an order shuffled anew for each round: a page view is
//! counted in a session of some 500 bytes. The tables have medians and quartiles over all rounds.

#[path = "engines/contest.rs"]
mod contest;
#[path = "measured/mod.rs"]
mod measured;
#[path = "engines/settings.rs"]
mod settings;
#[path = "engines/subject.rs"]
mod subject;
#[path = "engines/work.rs"]
mod work;

use std::env;
use std::process::ExitCode;

use measured::{Outcome, machine};
use settings::Settings;
use subject::Subject;

fn main() -> ExitCode {
    if !env::args().any(|argument| argument == "--bench") {
        // `cargo test --all-targets` starts benchmarks too, and has no time for them.
        println!("to measure: cargo bench --package campaigns --bench engines");
        return ExitCode::SUCCESS;
    }
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("engines: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Outcome<()> {
    let settings = Settings::from_environment()?;
    let subjects = Subject::all(&settings)?;
    println!("{}. Rounds: {}.\n", machine::description(), settings.rounds);
    for subject in &subjects {
        println!("* {}: {}", subject.name, subject.version);
    }
    for task in work::TASKS {
        eprintln!("measuring: {}", task.name);
        println!("\n{}", contest::table(task, &subjects, &settings)?);
    }
    Ok(())
}
