//! The error log: one line on stderr for each error, and on the stderr stream of FastCGI.
//!
//! Without a reader of stderr a write would wait for ever. So what a request says is kept until
//! its session is unlocked, and a line that stderr does not take at once is lost and counted.
//! Descriptor 2 is never made non-blocking: the web server has it, too.

use std::any::Any;
use std::cell::RefCell;
use std::env;
use std::ffi::{OsStr, OsString};
use std::mem::ManuallyDrop;
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, TryLockError};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::retry_on_intr;

use crate::error::printable;

/// A pipe that is ready takes so much in one piece, without waiting (`PIPE_BUF`).
const MAX_WRITE: usize = 4096;
/// The most lines that are kept of one request.
const MAX_LINES: usize = 64;
/// How often, and how far apart, a thread tries to write while another one does.
const TRIES: usize = 100;
const PAUSE: Duration = Duration::from_millis(1);

/// The target of errors of requests, which are on stderr already when a logger of the program's gets them.
pub(crate) const REQUEST_TARGET: &str = "cgi_session::request";

/// How many lines stderr has not taken since it last took one.
static LOST: AtomicU64 = AtomicU64::new(0);
/// Between the look at stderr and the write, no other thread may fill it.
static TURN: Mutex<()> = Mutex::new(());

thread_local! {
    /// The lines of the request that this thread handles. Not to be dropped with the thread, which has taken
    /// them out by then: to register that costs a CGI program six system calls.
    static KEPT: RefCell<Kept> = const { RefCell::new(ManuallyDrop::new(None)) };
}

type Kept = ManuallyDrop<Option<Vec<String>>>;

/// Writes one line to stderr, or keeps it while this thread handles a request.
pub(crate) fn report(line: &str) {
    let mut line = Some(format!("{}: {}", name(), printable(line)));
    KEPT.with(|kept| {
        if let Ok(mut kept) = kept.try_borrow_mut()
            && let Some(lines) = kept.as_mut()
        {
            match line.take() {
                Some(line) if lines.len() < MAX_LINES => lines.push(line),
                _ => lose(1),
            }
        }
    });
    if let Some(line) = line {
        write(&line);
    }
}

/// Does some work for a request and returns what there is to report of it.
pub(crate) fn keep<T>(work: impl FnOnce() -> T) -> (T, Vec<String>) {
    let kept = KeptLines;
    KEPT.set(ManuallyDrop::new(Some(Vec::new())));
    let done = work();
    let lines = take_kept();
    drop(kept);
    (done, lines)
}

/// Writes what is kept also when the work panics.
struct KeptLines;

impl Drop for KeptLines {
    fn drop(&mut self) {
        write_all(&take_kept());
    }
}

fn take_kept() -> Vec<String> {
    ManuallyDrop::into_inner(KEPT.take()).unwrap_or_default()
}

pub(crate) fn write_all(lines: &[String]) {
    for line in lines {
        write(line);
    }
}

/// Writes a line in one piece: Apache's `mod_cgi` makes a line of its log of each write.
fn write(line: &str) {
    let lost = LOST.swap(0, Ordering::Relaxed);
    let mut text = match lost {
        0 => String::new(),
        lost => format!("{}: {lost} lines before this one are lost\n", name()),
    };
    text.push_str(line);
    while text.len() >= MAX_WRITE {
        text.pop();
    }
    text.push('\n');
    if !write_at_once(text.as_bytes()) {
        lose(lost + 1);
    }
}

/// What the program was started as.
pub(crate) fn program() -> OsString {
    let file = || env::current_exe().ok().map(PathBuf::into_os_string);
    env::args_os().next().or_else(file).unwrap_or_default()
}

fn name() -> String {
    let program = program();
    let name = Path::new(&program).file_name().map(OsStr::to_string_lossy);
    printable(&name.unwrap_or_default())
}

fn lose(lines: u64) {
    LOST.fetch_add(lines, Ordering::Relaxed);
}

/// Writes to stderr if that takes all of it without waiting.
fn write_at_once(bytes: &[u8]) -> bool {
    let Some(_turn) = (0..TRIES).find_map(|_| my_turn()) else {
        return false;
    };
    // Not the standard library's handle: a program's own write may wait in its lock.
    let stderr = rustix::stdio::stderr();
    let mut polled = [PollFd::new(&stderr, PollFlags::OUT)];
    let ready = retry_on_intr(|| poll(&mut polled, Some(&Timespec::default())));
    ready == Ok(1)
        && polled[0].revents().contains(PollFlags::OUT)
        && retry_on_intr(|| rustix::io::write(stderr, bytes)) == Ok(bytes.len())
}

fn my_turn() -> Option<impl Drop> {
    match TURN.try_lock() {
        Ok(turn) => Some(turn),
        Err(TryLockError::Poisoned(turn)) => Some(turn.into_inner()),
        Err(TryLockError::WouldBlock) => {
            thread::sleep(PAUSE);
            None
        }
    }
}

/// Panics and the library's warnings go to stderr, on one line each, from now on.
pub fn report_everything() {
    panic::set_hook(Box::new(report_panic));
    if log::set_logger(&StderrLog).is_ok() {
        log::set_max_level(log::LevelFilter::Warn);
    }
}

fn report_panic(info: &PanicHookInfo<'_>) {
    let text = panic_text(info.payload());
    let place = info.location().map(|place| format!(" at {place}"));
    report(&format!("panicked{}: {text}", place.unwrap_or_default()));
    if cfg!(panic = "abort") {
        write_all(&take_kept());
    }
}

/// Does what may panic. The panic hook has said why; returned is a line on who panicked.
pub(crate) fn catch<T>(who: &str, work: impl FnOnce() -> T) -> Result<T, String> {
    panic::catch_unwind(AssertUnwindSafe(work))
        .map_err(|payload| format!("{who} panicked: {}", panic_text(&*payload)))
}

/// What was said with a panic.
fn panic_text(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or_default()
}

/// Warnings of the library go to stderr, unless the program has its own logger.
struct StderrLog;

impl log::Log for StderrLog {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() <= log::Level::Warn && metadata.target() != REQUEST_TARGET
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            report(&record.args().to_string());
        }
    }

    fn flush(&self) {}
}
