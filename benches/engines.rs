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
#[path = "engines/relay.rs"]
mod relay;
#[path = "engines/subject.rs"]
mod subject;
#[path = "engines/work.rs"]
mod work;

use std::env;
use std::error::Error;
use std::process::ExitCode;

use cgi_session::{Program, Request, Response};
use cgi_session_redis::REDIS;
use cgi_session_sql::{MYSQL, POSTGRES};
use cgi_session_sqlite::SQLITE;
use measured::{Outcome, machine, number};
use subject::Subject;

/// So many rounds of what takes long.
const LONG_ROUNDS: usize = 3;

fn main() -> ExitCode {
    if env::var_os("ENGINES_PAGE").is_some() {
        let program = Program::new().store(SQLITE).store(REDIS);
        return program.store(POSTGRES).store(MYSQL).run(page);
    }
    measured::main("cargo bench --package campaigns --bench engines", run)
}

fn run() -> Outcome<()> {
    let rounds = number("ENGINES_ROUNDS", 20)?;
    let subjects = Subject::all()?;
    println!("{}. Rounds: {rounds}.\n", machine::description());
    for subject in &subjects {
        println!("* {}: {}", subject.name, subject.version);
    }
    println!(
        "\n### Round trips of a page view\n\n| store | connects first | kept connection |\n|---|---:|---:|"
    );
    for subject in &subjects {
        let [first, kept] = work::round_trips(subject)?;
        println!("| {} | {first} | {kept} |", subject.name);
    }
    let long = [(work::CLEAN_UP, rounds.min(LONG_ROUNDS))];
    for (task, rounds) in work::TASKS
        .map(|task| (task, rounds))
        .into_iter()
        .chain(long)
    {
        eprintln!("measuring: {}", task.0);
        println!("\n{}", contest::table(task, &subjects, rounds)?);
    }
    Ok(())
}

/// What a CGI or FastCGI program of this benchmark answers with.
fn page(request: &mut Request) -> Result<Response, Box<dyn Error + Send + Sync>> {
    let session = request.session()?;
    let views = session.get::<u64>("pageViews")?.unwrap_or_default() + 1;
    session.insert("pageViews", views)?;
    Ok(Response::text(views.to_string()))
}
