//! The program inside the wrapper: run to its end, its output kept, and ended with the wrapper.

use std::fs;
use std::io::{self, PipeReader, Read as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{self, Child, Command, ExitStatus};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// The longest output. It waits in memory until the session is stored.
const LONGEST: u64 = 64 << 20;
/// How long a program may take to end after SIGTERM.
const PATIENCE: Duration = Duration::from_secs(5);

/// What became of a program.
pub(super) struct Ended {
    pub(super) status: ExitStatus,
    pub(super) output: Vec<u8>,
}

/// Runs a program. From now on a signal that ends this process ends the program first, and
/// removes `private`, the directory with its values.
pub(super) fn run(command: &mut Command, private: &Path) -> io::Result<Ended> {
    let watched = Watched::begin()?;
    let (mut reader, writer) = io::pipe()?;
    command.stdout(writer);
    let mut slot = watched.lock();
    let mut child = command.spawn()?;
    // The command holds the end for writing: without it the output ends with the program.
    command.stdout(process::Stdio::null());
    let Some(handle) = handle_of(&mut child)? else {
        return Err(io::Error::other("the kernel gives no handle for it"));
    };
    let handle = Arc::new(handle);
    *slot = Some(Running {
        handle: Arc::clone(&handle),
        private: private.to_owned(),
    });
    drop(slot);
    let output = collect(&mut reader, &handle);
    if output.is_err() {
        child.kill()?;
    }
    let status = child.wait()?;
    // While a signal is at work on the program, this waits: the process is about to end.
    *watched.lock() = None;
    Ok(Ended {
        status,
        output: output?,
    })
}

/// A handle that means this process and never another one that got its number.
pub(crate) fn handle_of(child: &mut Child) -> io::Result<Option<OwnedFd>> {
    let opened = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let opened = opened
        .map(|pid| pidfd_open(pid, PidfdFlags::empty()))
        .transpose();
    if !matches!(opened, Ok(Some(_))) {
        child.kill()?;
        child.wait()?;
    }
    Ok(opened?)
}

/// Reads what the program writes until it has ended. What a process of its own writes later is not
/// waited for.
fn collect(reader: &mut PipeReader, handle: &OwnedFd) -> io::Result<Vec<u8>> {
    let mut output = Vec::new();
    let mut is_open = true;
    loop {
        let mut polled = vec![PollFd::from_borrowed_fd(handle.as_fd(), PollFlags::IN)];
        if is_open {
            polled.push(PollFd::from_borrowed_fd(reader.as_fd(), PollFlags::IN));
        }
        rustix::io::retry_on_intr(|| poll(&mut polled, None))?;
        let mut ready = polled.iter().map(|polled| !polled.revents().is_empty());
        let has_ended = ready.next().unwrap_or_default();
        let has_output = ready.next().unwrap_or_default();
        drop(ready);
        if has_output {
            is_open = read_some(reader, &mut output)?;
        } else if has_ended {
            return Ok(output);
        }
    }
}

/// Reads what is there; `false` at the end.
fn read_some(reader: &mut PipeReader, output: &mut Vec<u8>) -> io::Result<bool> {
    let mut buffer = [0; 1 << 14];
    let length = reader.read(&mut buffer)?;
    output.extend_from_slice(buffer.get(..length).unwrap_or_default());
    if u64::try_from(output.len()).is_ok_and(|length| length <= LONGEST) {
        return Ok(length > 0);
    }
    Err(io::Error::other(
        "its output is longer than 64 MiB; for that use cgi-session start without a program, get \
         and set",
    ))
}

/// What a signal has to end before this process.
struct Running {
    handle: Arc<OwnedFd>,
    private: PathBuf,
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
            log::error!("ended by signal {signal}; nothing was saved");
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
