//! A whole CGI request: start a process, let it answer, see it end.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use cgi_session::SessionId;
use tempfile::TempDir;

use crate::measure::{Outcome, Row, compare, timed};
use crate::measured::build;
use crate::place::Place;
use crate::save::Sessions;

const NOT_INSTALLED: &str = "skipped: the musl target is not installed";

/// What Apache tells a CGI program about a request of a browser, without the cookie.
const ENVIRONMENT: [(&str, &str); 26] = [
    ("CONTEXT_DOCUMENT_ROOT", "/usr/lib/cgi-bin/"),
    ("CONTEXT_PREFIX", "/cgi-bin/"),
    ("DOCUMENT_ROOT", "/var/www/html"),
    ("GATEWAY_INTERFACE", "CGI/1.1"),
    (
        "HTTP_ACCEPT",
        "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    ),
    ("HTTP_ACCEPT_ENCODING", "gzip, deflate, br, zstd"),
    ("HTTP_ACCEPT_LANGUAGE", "en-GB,en;q=0.5"),
    ("HTTP_CONNECTION", "keep-alive"),
    ("HTTP_HOST", "www.example.org"),
    ("HTTP_REFERER", "http://www.example.org/"),
    (
        "HTTP_USER_AGENT",
        "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0",
    ),
    (
        "PATH",
        "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    ),
    ("QUERY_STRING", ""),
    ("REMOTE_ADDR", "192.0.2.7"),
    ("REMOTE_PORT", "51234"),
    ("REQUEST_METHOD", "GET"),
    ("REQUEST_SCHEME", "http"),
    ("REQUEST_URI", "/cgi-bin/counter"),
    ("SCRIPT_FILENAME", "/usr/lib/cgi-bin/counter"),
    ("SCRIPT_NAME", "/cgi-bin/counter"),
    ("SERVER_ADDR", "192.0.2.1"),
    ("SERVER_ADMIN", "webmaster@example.org"),
    ("SERVER_NAME", "www.example.org"),
    ("SERVER_PORT", "80"),
    ("SERVER_PROTOCOL", "HTTP/1.1"),
    ("SERVER_SOFTWARE", "Apache/2.4.65 (Debian)"),
];

pub(crate) fn requests(place: &Place) -> Outcome<Vec<Row>> {
    let mut rows = Vec::new();
    let what = "CGI request, static musl build";
    match Programs::build_static()? {
        Some(programs) => rows.push(request(what, place, &programs, Some(1.2))?),
        None => rows.push(Row::skipped(what, place, NOT_INSTALLED)),
    }
    let what = "CGI request, dynamic glibc build";
    rows.push(request(what, place, &Programs::build(None)?, None)?);
    Ok(rows)
}

fn request(what: &str, place: &Place, programs: &Programs, target: Option<f64>) -> Outcome<Row> {
    let mut sessions = Sessions::new(place, "none", 200)?;
    let directory = sessions.directory().to_owned();
    let [floor, counter] = compare(
        100,
        [
            Box::new(|| {
                let id = SessionId::generate()?;
                timed(10, || run(&programs.empty, &directory, &id).map(drop))
            }),
            Box::new(|| timed(10, || count(programs, &directory, sessions.next()))),
        ],
    )?;
    Ok(Row::ratio(what, place, [&floor, &counter], target))
}

pub(crate) fn memory(place: &Place) -> Outcome<Vec<Row>> {
    let mut rows = Vec::new();
    let what = "memory of a CGI request at its peak, static musl build";
    match Programs::build_static()? {
        Some(programs) => rows.push(Row::memory(
            what,
            place,
            peak(&programs, place)?,
            Some(3072),
        )),
        None => rows.push(Row::skipped(what, place, NOT_INSTALLED)),
    }
    let what = "memory of a CGI request at its peak, dynamic glibc build";
    let kib = peak(&Programs::build(None)?, place)?;
    rows.push(Row::memory(what, place, kib, None));
    Ok(rows)
}

/// The counter, and a program that does nothing, built as the profile `release` says and installed:
/// a file that was copied is faster to start than one that a linker wrote.
pub(crate) struct Programs {
    _directory: TempDir,
    empty: PathBuf,
    counter: PathBuf,
}

impl Programs {
    /// The static programs; `None` when the standard library for them is not installed.
    pub(crate) fn build_static() -> Outcome<Option<Self>> {
        if !build::can_be_static()? {
            return Ok(None);
        }
        Programs::build(Some(build::STATIC)).map(Some)
    }

    pub(crate) fn build(target: Option<&str>) -> Outcome<Self> {
        let what = [
            "--package",
            "cgi-session",
            "--example",
            "counter",
            "--example",
            "empty",
            "--features",
            "dlmalloc",
        ];
        let examples = build::release(&what, target)?.join("examples");
        let directory = TempDir::new_in(build::target_directory())?;
        let install = |name: &str| -> Outcome<PathBuf> {
            let program = directory.path().join(name);
            fs::copy(examples.join(name), &program)?;
            Ok(program)
        };
        Ok(Programs {
            empty: install("empty")?,
            counter: install("counter")?,
            _directory: directory,
        })
    }
}

/// One page view of a visitor.
pub(crate) fn count(programs: &Programs, directory: &Path, visitor: &SessionId) -> Outcome<()> {
    let page = run(&programs.counter, directory, visitor)?;
    if page.starts_with("Status: 200") && page.contains("been here") {
        Ok(())
    } else {
        Err(format!("the counter answered: {page}").into())
    }
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
    command.env_clear().envs(ENVIRONMENT);
    command.env(
        "HTTP_COOKIE",
        format!("theme=dark; sessionId={}", visitor.secret()),
    );
    command.env("CGI_SESSION_STORAGE_FILE_DIR", directory);
    Ok(command.stdin(Stdio::null()).stdout(out).spawn()?)
}

/// The most memory, in KiB, that a request had taken when it was about to answer.
fn peak(programs: &Programs, place: &Place) -> Outcome<u32> {
    let mut sessions = Sessions::new(place, "none", 200)?;
    let directory = sessions.directory().to_owned();
    // The first request of all cleans up besides.
    count(programs, &directory, sessions.next())?;
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
