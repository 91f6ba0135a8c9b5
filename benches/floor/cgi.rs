//! A whole CGI request: start a process, let it answer, see it end.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use cgi_session::SessionId;
use tempfile::{TempDir, TempPath};

use crate::measure::{Outcome, Row, compare, timed};
use crate::measured::build;
use crate::place::Place;
use crate::save::Sessions;

pub(crate) const NOT_INSTALLED: &str = "skipped: the musl target is not installed";

/// What Apache tells a CGI program about a request of a browser, without the cookie.
const ENVIRONMENT: &str = "\
CONTEXT_DOCUMENT_ROOT=/usr/lib/cgi-bin/
CONTEXT_PREFIX=/cgi-bin/
DOCUMENT_ROOT=/var/www/html
GATEWAY_INTERFACE=CGI/1.1
HTTP_ACCEPT=text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8
HTTP_ACCEPT_ENCODING=gzip, deflate, br, zstd
HTTP_ACCEPT_LANGUAGE=en-GB,en;q=0.5
HTTP_CONNECTION=keep-alive
HTTP_HOST=www.example.org
HTTP_REFERER=http://www.example.org/
HTTP_USER_AGENT=Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
QUERY_STRING=
REMOTE_ADDR=192.0.2.7
REMOTE_PORT=51234
REQUEST_METHOD=GET
REQUEST_SCHEME=http
REQUEST_URI=/cgi-bin/counter
SCRIPT_FILENAME=/usr/lib/cgi-bin/counter
SCRIPT_NAME=/cgi-bin/counter
SERVER_ADDR=192.0.2.1
SERVER_ADMIN=webmaster@example.org
SERVER_NAME=www.example.org
SERVER_PORT=80
SERVER_PROTOCOL=HTTP/1.1
SERVER_SOFTWARE=Apache/2.4.65 (Debian)";

pub(crate) fn requests(place: &Place) -> Outcome<Vec<Row>> {
    let what = "CGI request, static musl build";
    let Some(programs) = Programs::build()? else {
        return Ok(vec![Row::skipped(what, place, NOT_INSTALLED)]);
    };
    let (mut by_main, mut by_c) = (
        Sessions::new(place, "none", 200)?,
        Sessions::new(place, "none", 200)?,
    );
    let (directory, id) = (place.directory()?, SessionId::generate()?);
    let directory = directory.path();
    fs::write(directory.join(id.secret()).with_extension("json"), "")?;
    let Some(in_place) = c_in_place()? else {
        return Ok(vec![Row::skipped(
            what,
            place,
            "skipped: musl-gcc is not installed",
        )]);
    };
    let [empty, c, counter, counter_c] = compare(
        100,
        [
            Box::new(|| timed(10, || run(&programs.empty, directory, &id).map(drop))),
            Box::new(|| timed(10, || count(&in_place, directory, &id))),
            Box::new(|| timed(10, || by_main.count(&programs.counter))),
            Box::new(|| timed(10, || by_c.count(&programs.counter_c))),
        ],
    )?;
    let row = |name: &str, floor, measured, target| {
        Row::ratio(
            format!("{what}: {name}"),
            place,
            [floor, measured],
            Some(target),
        )
    };
    Ok(vec![
        row("against an empty program", &empty, &counter, 1.45),
        row("against C in place", &c, &counter, 1.8),
        row("by a C main, against C in place", &c, &counter_c, 1.4),
    ])
}

pub(crate) fn memory(place: &Place) -> Outcome<Vec<Row>> {
    let what = "memory of a CGI request at its peak, static musl build";
    Ok(vec![match Programs::build()? {
        Some(programs) => Row::memory(what, place, peak(&programs, place)?, 3072),
        None => Row::skipped(what, place, NOT_INSTALLED),
    }])
}

/// The counter, and a program that does nothing, built as the profile `release` says and installed:
/// a file that was copied is faster to start than one that a linker wrote.
pub(crate) struct Programs {
    _directory: TempDir,
    empty: PathBuf,
    pub(crate) counter: PathBuf,
    counter_c: PathBuf,
}

impl Programs {
    /// `None` when the standard library for static programs is not installed.
    pub(crate) fn build() -> Outcome<Option<Self>> {
        if !build::can_be_static()? {
            return Ok(None);
        }
        let what = "--package cgi-session --features dlmalloc --example empty --example counter --example counter_c";
        let examples = build::release(what, Some(build::STATIC))?.join("examples");
        let directory = TempDir::new_in(build::target_directory())?;
        let install = |name: &str| -> Outcome<PathBuf> {
            let program = directory.path().join(name);
            fs::copy(examples.join(name), &program)?;
            Ok(program)
        };
        Ok(Some(Programs {
            empty: install("empty")?,
            counter: install("counter")?,
            counter_c: install("counter_c")?,
            _directory: directory,
        }))
    }
}

/// The counter in C, compiled as the static programs are; `None` where that cannot be done.
fn c_in_place() -> Outcome<Option<TempPath>> {
    let program = tempfile::Builder::new().tempfile_in(build::target_directory())?;
    let program = program.into_temp_path();
    let mut compiler = Command::new("musl-gcc");
    compiler.current_dir(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/benches/peers/programs"
    ));
    compiler.args(["-O2", "-static", "-DPLAIN_CGI", "floor.c", "-o"]);
    match compiler.arg(&program).status() {
        Ok(status) if status.success() => Ok(Some(program)),
        Ok(status) => Err(format!("musl-gcc: {status}").into()),
        Err(_) => Ok(None),
    }
}

/// One page view of a visitor.
pub(crate) fn count(program: &Path, directory: &Path, visitor: &SessionId) -> Outcome<()> {
    let page = run(program, directory, visitor)?;
    let is_counted = page.contains("been here") && !page.contains("been here -1");
    let answered = || format!("{} answered: {page}", program.display());
    is_counted.then_some(()).ok_or_else(|| answered().into())
}

/// Starts a program as a web server would, and takes what it says until it ends.
fn run(program: &Path, directory: &Path, visitor: &SessionId) -> Outcome<String> {
    let mut child = start(program, directory, visitor, Stdio::piped())?;
    let mut page = String::new();
    if let Some(mut stdout) = child.stdout.take() {
        stdout.read_to_string(&mut page)?;
    }
    child.wait()?;
    Ok(page)
}

fn start(program: &Path, directory: &Path, visitor: &SessionId, out: Stdio) -> Outcome<Child> {
    let mut command = Command::new(program);
    let variables = ENVIRONMENT.lines();
    command
        .env_clear()
        .envs(variables.filter_map(|line| line.split_once('=')));
    command.env(
        "HTTP_COOKIE",
        format!("theme=dark; sessionId={}", visitor.secret()),
    );
    command.env("CGI_SESSION_STORAGE_FILE_DIR", directory);
    command.env("SESSION_DIRECTORY", directory);
    Ok(command.stdin(Stdio::null()).stdout(out).spawn()?)
}

/// The most memory, in KiB, that a request had taken when it was about to answer.
fn peak(programs: &Programs, place: &Place) -> Outcome<u32> {
    let mut sessions = Sessions::new(place, "none", 200)?;
    let directory = sessions.directory().to_owned();
    // The first request of all cleans up besides.
    count(&programs.counter, &directory, sessions.next())?;
    // Nobody empties this pipe, which is full: the program stops where it writes its answer.
    let (mut reader, mut writer) = std::io::pipe()?;
    writer.write_all(&vec![b' '; 65536])?;
    let mut child = start(
        &programs.counter,
        &directory,
        sessions.next(),
        writer.into(),
    )?;
    let kib = when_asleep(&child);
    std::io::copy(&mut reader, &mut std::io::sink())?;
    child.wait()?;
    kib
}

fn when_asleep(child: &Child) -> Outcome<u32> {
    let deadline = Instant::now() + Duration::from_secs(10);
    while Instant::now() < deadline {
        let status = fs::read_to_string(format!("/proc/{}/status", child.id()))?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|line| line.split_ascii_whitespace().next())
        };
        if field("State:") == Some("S") {
            return Ok(field("VmHWM:").ok_or("no VmHWM")?.parse()?);
        }
        thread::yield_now();
    }
    Err("the counter did not stop at its answer".into())
}
