//! The program inside the wrapper: its output is kept until it has ended, or passed on from some point, and it is
//! ended with the wrapper.

use std::fs;
use std::io::{self, PipeReader, Read as _, Write};
use std::mem;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{self, Child, Command, ExitStatus};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// The longest output, and the longest text of values. Both wait in memory until the session is stored.
pub(crate) const LONGEST: u64 = 64 << 20;
/// How long a program may take to end after SIGTERM.
const PATIENCE: Duration = Duration::from_secs(5);

/// What became of a program.
pub(super) enum Outcome {
    Ended {
        status: ExitStatus,
        output: Vec<u8>,
    },
    /// It has said enough to begin the response, and goes on.
    Streams(Streaming),
}

/// A program whose output is passed on. It ends with this value.
pub(super) struct Streaming {
    /// What has come and was not passed on.
    pub(super) output: Vec<u8>,
    reader: PipeReader,
    child: Child,
    handle: Arc<OwnedFd>,
    watched: Watched,
}

/// Runs a program to its end, or until `is_enough` of its output. From now on a signal that ends this process ends
/// the program first, and removes `private`, the directory with its values.
pub(super) fn run(
    command: &mut Command,
    private: &Path,
    is_enough: fn(&[u8]) -> bool,
) -> io::Result<Outcome> {
    let watched = Watched::begin()?;
    let (reader, writer) = io::pipe()?;
    command.stdout(writer);
    let mut slot = watched.lock();
    let mut child = command.spawn()?;
    // The command holds the end for writing: without it the output ends with the program.
    command.stdout(process::Stdio::null());
    let handle = Arc::new(handle_of(&mut child)?);
    *slot = Some(Running {
        handle: Arc::clone(&handle),
        private: private.to_owned(),
        loss: "nothing was saved",
    });
    drop(slot);
    let mut output = Vec::new();
    let mut has_ended = Ok(false);
    while matches!(has_ended, Ok(false)) && !is_enough(&output) {
        has_ended = read_some(&reader, &handle, &mut output).and_then(limited(&output));
    }
    match has_ended {
        Ok(false) => {
            return Ok(Outcome::Streams(Streaming {
                output,
                reader,
                child,
                handle,
                watched,
            }));
        }
        Ok(true) => {}
        Err(_) => child.kill()?,
    }
    let status = child.wait()?;
    // While a signal is at work on the program, this waits: the process is about to end.
    *watched.lock() = None;
    has_ended.map(|_| Outcome::Ended { status, output })
}

impl Streaming {
    /// Passes on what the program writes until it has ended, and says how.
    pub(super) fn pass_on(mut self, out: &mut impl Write) -> io::Result<ExitStatus> {
        if let Some(running) = self.watched.lock().as_mut() {
            running.loss = "its response is cut off";
        }
        let mut has_ended = false;
        loop {
            out.write_all(&mem::take(&mut self.output))?;
            if has_ended {
                return self.child.wait();
            }
            has_ended = read_some(&self.reader, &self.handle, &mut self.output)?;
        }
    }
}

impl Drop for Streaming {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            end(&self.handle);
        }
        // It has ended, or was killed.
        let _ = self.child.wait();
        *self.watched.lock() = None;
    }
}

/// A handle that means this process and never another one that got its number.
pub(crate) fn handle_of(child: &mut Child) -> io::Result<OwnedFd> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let opened = pid.map_or(Err(Errno::SRCH), |pid| pidfd_open(pid, PidfdFlags::empty()));
    if opened.is_err() {
        child.kill()?;
        child.wait()?;
    }
    Ok(opened?)
}

/// Waits until the program writes something or has ended, and reads what is there; `true` when it has ended. What a
/// process of its own writes later is not waited for.
fn read_some(mut reader: &PipeReader, handle: &OwnedFd, output: &mut Vec<u8>) -> io::Result<bool> {
    let events = |fd| PollFd::from_borrowed_fd(fd, PollFlags::IN);
    let mut polled = [events(reader.as_fd()), events(handle.as_fd())];
    rustix::io::retry_on_intr(|| poll(&mut polled, None))?;
    let [has_output, has_ended] = polled.map(|polled| !polled.revents().is_empty());
    if has_output {
        let mut buffer = [0; 1 << 14];
        let length = reader.read(&mut buffer)?;
        output.extend_from_slice(buffer.get(..length).unwrap_or_default());
        if length > 0 {
            return Ok(false);
        }
        // It has closed its output, and may do something yet.
        rustix::io::retry_on_intr(|| poll(&mut [events(handle.as_fd())], None))?;
        return Ok(true);
    }
    Ok(has_ended)
}

/// Refuses an output that is too long to be kept.
fn limited(output: &[u8]) -> impl FnOnce(bool) -> io::Result<bool> {
    let is_too_long = u64::try_from(output.len()).is_ok_and(|length| length > LONGEST);
    move |has_ended| {
        if is_too_long {
            let reason =
                "its output is longer than 64 MiB; for that use cgi-session start --stream";
            return Err(io::Error::other(reason));
        }
        Ok(has_ended)
    }
}

/// What a signal has to end before this process.
struct Running {
    handle: Arc<OwnedFd>,
    private: PathBuf,
    /// What the end costs.
    loss: &'static str,
}

#[derive(Clone)]
struct Watched(Arc<Mutex<Option<Running>>>);

impl Watched {
    /// Waits for signals in a thread of its own.
    fn begin() -> io::Result<Self> {
        let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM])?;
        let watched = Watched(Arc::default());
        let noticed = watched.clone();
        thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || {
                if let Some(signal) = signals.forever().next() {
                    noticed.end_all(signal);
                }
            })?;
        Ok(watched)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Running>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the program and this process. The lock is not given back: the other thread must not go
    /// on as if the program had ended by itself.
    fn end_all(&self, signal: i32) -> ! {
        let running = self.lock();
        if let Some(running) = running.as_ref() {
            end(&running.handle);
            // What is left is removed by the next wrapper or clean-up.
            let _ = fs::remove_dir_all(&running.private);
            // The session is locked, and stderr may take nothing: the library's log never waits.
            log::error!("ended by signal {signal}; {}", running.loss);
        }
        process::exit(128 + signal)
    }
}

/// Asks the program to end, and makes it end when it does not.
pub(crate) fn end(handle: &OwnedFd) {
    let Ok(patience) = Timespec::try_from(PATIENCE) else {
        return;
    };
    // A program that has ended gets no signal, and needs none.
    let _ = pidfd_send_signal(handle, Signal::TERM);
    let mut polled = [PollFd::new(handle, PollFlags::IN)];
    let ended = poll(&mut polled, Some(&patience));
    if !ended.is_ok_and(|ended| ended > 0) {
        let _ = pidfd_send_signal(handle, Signal::KILL);
    }
}
