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
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;

use crate::signals::not_ignored;

/// The longest output, and the longest text of values. Both wait in memory until the session is stored.
pub(crate) const LONGEST: u64 = 64 << 20;
/// How long a program may take to end after SIGTERM.
const PATIENCE: Duration = Duration::from_secs(5);

/// A program whose output is kept or passed on. It ends with this value.
pub(super) struct Started {
    /// What has come and was not passed on.
    pub(super) output: Vec<u8>,
    /// How it has ended, if it has.
    pub(super) status: Option<ExitStatus>,
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
) -> io::Result<Started> {
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
    let mut started = Started {
        output: Vec::new(),
        status: None,
        reader,
        child,
        handle,
        watched,
    };
    while started.status.is_none() && !is_enough(&started.output) {
        let read = started.read_some().and_then(|()| started.limited());
        if let Err(error) = read {
            started.child.kill()?;
            return Err(error);
        }
    }
    if started.status.is_some() {
        // While a signal is at work on the program, this waits: the process is about to end.
        *started.watched.lock() = None;
    }
    Ok(started)
}

impl Started {
    /// Passes on what the program writes until it has ended, and says how.
    pub(super) fn pass_on(mut self, out: &mut impl Write) -> io::Result<ExitStatus> {
        if let Some(running) = self.watched.lock().as_mut() {
            running.loss = "its response is cut off";
        }
        loop {
            out.write_all(&mem::take(&mut self.output))?;
            if let Some(status) = self.status {
                return Ok(status);
            }
            self.read_some()?;
        }
    }

    /// Waits until the program writes something or has ended, and reads what is there. What a process of its own
    /// writes later is not waited for.
    fn read_some(&mut self) -> io::Result<()> {
        let events = |fd| PollFd::from_borrowed_fd(fd, PollFlags::IN);
        let mut polled = [events(self.reader.as_fd()), events(self.handle.as_fd())];
        rustix::io::retry_on_intr(|| poll(&mut polled, None))?;
        let [has_output, has_ended] = polled.map(|polled| !polled.revents().is_empty());
        if has_output {
            let mut buffer = [0; 1 << 14];
            let length = self.reader.read(&mut buffer)?;
            let read = buffer.get(..length).unwrap_or_default();
            self.output.extend_from_slice(read);
            if length > 0 {
                return Ok(());
            }
        }
        if has_output || has_ended {
            // It may have closed its output, and do something yet.
            self.status = Some(self.child.wait()?);
        }
        Ok(())
    }

    /// Refuses an output that is too long to be kept.
    fn limited(&self) -> io::Result<()> {
        if u64::try_from(self.output.len()).is_ok_and(|length| length <= LONGEST) {
            return Ok(());
        }
        let reason = "its output is longer than 64 MiB; for that use cgi-session start --stream";
        Err(io::Error::other(reason))
    }
}

impl Drop for Started {
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
        let mut signals = Signals::new(not_ignored(&[SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1]))?;
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
