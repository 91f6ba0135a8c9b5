//! The Common Gateway Interface, RFC 3875: one process, one request.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read, Write};
use std::mem;
use std::os::unix::ffi::OsStrExt as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, OFlags, fcntl_getfl};
use rustix::io::{Errno, retry_on_intr};

use crate::config::{Config, is_setting};
use crate::gateway::error_log;
use crate::gateway::limits::Limits;
use crate::gateway::pace::Pace;
use crate::gateway::runner::{Answer, Handler, answer, clean_up, report_cut};
use crate::http::body::Body;
use crate::http::params::Params;
use crate::http::request::Request;
use crate::http::stream::StreamEnd;
use crate::session::SessionManager;
use crate::session::lazy_manager::{LazyManager, RETRY};
use crate::store::StoreKind;

/// The longest that an unread body is read for, and the longest pause in it.
const DRAIN: Duration = Duration::from_secs(60);
const DRAIN_PAUSE: Duration = Duration::from_secs(5);

pub(crate) fn run(
    handler: &Handler<'_>,
    limits: Limits,
    manager: Option<LazyManager>,
    kinds: Vec<StoreKind>,
    variables: Vec<(OsString, OsString)>,
) -> ExitCode {
    let settings = variables.iter().filter(|(name, _)| is_setting(name));
    let settings: Vec<_> = settings.cloned().collect();
    let params = Params::Pairs(variables);
    let content_length = params.get("CONTENT_LENGTH").map(OsStr::as_bytes);
    let has_length = content_length.is_some_and(|length| !length.is_empty());
    // What has neither has no body (RFC 3875, 4.1.2; RFC 9112, 6.3).
    let has_body = has_length || params.get("HTTP_TRANSFER_ENCODING").is_some();
    let content_length = if has_body {
        content_length
    } else {
        Some(&b"0"[..])
    };
    let find = move || SessionManager::with_kinds(Config::find_among(&settings)?, &kinds);
    let manager = manager.unwrap_or_else(|| LazyManager::new(find));
    let stdin = StandardInput {
        limits,
        manager: manager.clone(),
        pace: None,
    };
    let body = Body::new(Box::new(stdin), content_length);
    let request = Request::new(params, body, manager, Instant::now());
    let method = request.method();
    let (answer, lines) = error_log::keep(|| answer(handler, request, || true));
    error_log::write_all(&lines);
    send(answer, method == http::Method::HEAD);
    ExitCode::SUCCESS
}

fn send(answer: Answer, head_only: bool) {
    let Answer {
        mut response,
        body,
        manager,
        session,
        params,
        visit,
    } = answer;
    // Before the response: a server that is still writing the body reads nothing of ours.
    let left = match body.check() {
        // It is waited for no longer.
        Err(error) if error.kind() == io::ErrorKind::TimedOut => Some(0),
        _ => body.remaining(),
    };
    let has_ended = drain(left);
    let sent = Stdout.write_all(&response.to_bytes(head_only));
    if sent.is_err() {
        // The client is gone. What was committed stays committed.
        return;
    }
    if let Some(body) = response.stream_body(head_only) {
        match body.run(&mut Stdout, &|| false, response.announced()) {
            StreamEnd::Whole => {}
            StreamEnd::ClientLeft => return,
            StreamEnd::Failed(reason) => report_cut(reason.as_deref(), session.as_ref()),
        }
    }
    if let Some(manager) = &manager {
        clean_up(manager);
    }
    if !has_ended {
        // What has come since.
        drain(Some(0));
    }
    response.drop_stream();
    // The end of the process is the end of all they hold.
    mem::forget((response, body, manager, params, visit));
}

/// Reads the body to its end. Under Apache's `mod_cgid` stdin is a socket, and a process that
/// exits with unread bytes in it resets the connection: the response would be lost. An input filter of
/// Apache's may send more than the length that was announced, and then all there is to its end is read.
/// Tells whether nothing can come any more.
fn drain(mut left: Option<u64>) -> bool {
    if left == Some(0) && !is_socket() {
        return true;
    }
    let started = Instant::now();
    let mut buffer = [0; 1 << 10];
    while started.elapsed() < DRAIN {
        let pause = match left {
            Some(0) => Duration::ZERO,
            _ => DRAIN_PAUSE,
        };
        if !is_readable(pause) {
            return false;
        }
        match rustix::io::read(rustix::stdio::stdin(), &mut buffer) {
            Err(Errno::INTR) => {}
            // There is nothing more to read, or nothing more that can be read.
            Ok(0) | Err(_) => return true,
            Ok(read) => left = left.and_then(|left| left.checked_sub(read as u64)),
        }
    }
    false
}

fn is_socket() -> bool {
    let stat = rustix::fs::fstat(rustix::stdio::stdin());
    stat.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Socket)
}

/// Whether stdin has bytes, or an end, within `pause`.
fn is_readable(pause: Duration) -> bool {
    let stdin = rustix::stdio::stdin();
    let mut polled = [PollFd::new(&stdin, PollFlags::IN)];
    let pause = Timespec::try_from(pause).unwrap_or_default();
    retry_on_intr(|| poll(&mut polled, Some(&pause))).is_ok_and(|ready| ready > 0)
}

/// The request's body, unbuffered: its readers have buffers. While it comes, a handler may hold a session.
struct StandardInput {
    limits: Limits,
    manager: LazyManager,
    pace: Option<Pace>,
}

impl Read for StandardInput {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let pace = self.pace.get_or_insert_with(|| {
            // A body may come before the session. Where there is no configuration, the defaults count.
            let _ = self.manager.get(RETRY);
            Pace::of_body(&self.limits.configured(&self.manager))
        });
        let started = Instant::now();
        if !is_readable(pace.left()) {
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "it came too slowly",
            ));
        }
        let read = rustix::io::read(rustix::stdio::stdin(), buffer)?;
        pace.moved(started.elapsed(), read);
        Ok(read)
    }
}

/// Where the response goes, in one piece.
struct Stdout;

impl Write for Stdout {
    /// Waits where the descriptor does not wait by itself: its open file is shared with the server, which may have made
    /// it so.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let stdout = rustix::stdio::stdout();
        loop {
            match rustix::io::write(stdout, bytes) {
                // Or the time is over that the server has set for its socket.
                Err(Errno::AGAIN) if fcntl_getfl(stdout)?.contains(OFlags::NONBLOCK) => {
                    let mut polled = [PollFd::new(&stdout, PollFlags::OUT)];
                    retry_on_intr(|| poll(&mut polled, None))?;
                }
                written => return Ok(written?),
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
