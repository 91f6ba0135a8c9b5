//! Pages that count in a session in Redis; the query says which.

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use std::{env, fs, io, thread};

use cgi_session::{Program, Request, Response};
use cgi_session_redis::REDIS;

fn main() -> ExitCode {
    Program::new().store(REDIS).run(page)
}

fn page(request: &mut Request) -> Result<Response, Box<dyn Error + Send + Sync>> {
    let mode = request.query("mode").unwrap_or_default();
    if mode == "none" {
        return Ok(Response::text("no session"));
    }
    let session = request.session()?;
    let count = session.get::<u64>("count")?.unwrap_or(0) + 1;
    session.insert("count", count)?;
    if mode == "count-and-wait" {
        wait()?;
    }
    Ok(Response::text(match mode.as_str() {
        "" => format!("{count} time(s)"),
        _ => count.to_string(),
    }))
}

/// Tells that the page has its session, and waits until the test makes the file `go`.
fn wait() -> io::Result<()> {
    let directory = PathBuf::from(env::var_os("ECHO_DIRECTORY").unwrap_or_default());
    fs::write(directory.join("started-1"), "")?;
    while !directory.join("go").exists() {
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}
