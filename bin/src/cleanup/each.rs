//! [`Each`]: the program of `--each`, run for an expired session.

use std::env;
use std::fs::{self, File};
use std::io::{self, Seek as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cgi_session::{Config, SessionDigest, Stored};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::Access;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process_group};

use super::Arguments;
use crate::report::{how_it_ended, rough};
use crate::start::child;
use crate::{sessions, values_file};

/// How long a signal may wait for its effect.
const STEP: Duration = Duration::from_millis(200);

/// A program that is run for each expired session.
pub(super) struct Each<'a> {
    program: &'a Path,
    arguments: &'a Arguments,
    /// Whose values it is given.
    app: String,
    /// Whether the clean-up is to end.
    stop: &'a AtomicBool,
    /// Why the program cannot be started for any session.
    unusable: OnceLock<String>,
}

impl<'a> Each<'a> {
    pub(super) fn new(
        program: &'a Path,
        arguments: &'a Arguments,
        config: &Config,
        stop: &'a AtomicBool,
    ) -> Self {
        Each {
            program,
            arguments,
            app: config.get("app").unwrap_or_default(),
            stop,
            unusable: OnceLock::new(),
        }
    }

    /// Why the program cannot be started, as far as that shows before it is.
    pub(super) fn problem(&self) -> Option<&str> {
        let found = || -> io::Result<()> {
            tempfile::tempfile().map_err(|error| {
                let place = env::temp_dir();
                let reason = format!(
                    "no file for values can be made in {}: {error}",
                    place.display()
                );
                io::Error::new(error.kind(), reason)
            })?;
            // The system looks for a name without a slash in PATH.
            let is_path = self.program.components().count() > 1 || self.program.is_absolute();
            if !is_path {
                return Ok(());
            }
            if fs::metadata(self.program)?.is_dir() {
                return Err(io::ErrorKind::IsADirectory.into());
            }
            Ok(rustix::fs::access(self.program, Access::EXEC_OK)?)
        };
        if let Err(error) = found() {
            self.give_up(&error);
        }
        self.unusable()
    }

    /// Why no session can be handed over: the clean-up has ended by that.
    pub(super) fn unusable(&self) -> Option<&str> {
        self.unusable.get().map(String::as_str)
    }

    /// Ends the clean-up: that the program was never started is no try of a session.
    fn give_up(&self, error: &io::Error) -> String {
        self.stop.store(true, Ordering::Relaxed);
        let line = format!("cannot run {}: {error}", self.program.display());
        self.unusable.get_or_init(|| line).clone()
    }

    /// Runs the program to its end, or says why it has failed.
    pub(super) fn call(&self, session: &SessionDigest, stored: &Stored) -> Result<(), String> {
        let program = self.program.display();
        let values = self.values(stored)?;
        let ran = self.run(session, stored.record.user(), values);
        match ran.map_err(|error| self.give_up(&error))? {
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(format!("{program} {}", how_it_ended(status))),
            None if self.is_stopped() => Err(format!("{program} was interrupted")),
            None => {
                let time = rough(self.arguments.each_timeout);
                Err(format!("{program} was ended after {time}"))
            }
        }
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// The values as a file that has no name, which a program may read or not.
    fn values(&self, stored: &Stored) -> Result<File, String> {
        let mut applications = sessions::applications(&stored.record)?;
        let values = applications.remove(&self.app).unwrap_or_default();
        let written = || -> io::Result<File> {
            let mut file = tempfile::tempfile()?;
            serde_json::to_writer(&mut file, &values)?;
            file.write_all(b"\n")?;
            file.rewind()?;
            Ok(file)
        };
        written().map_err(|error| self.give_up(&error))
    }

    /// How the program has ended; `None` after the time limit.
    fn run(
        &self,
        session: &SessionDigest,
        user: Option<&str>,
        values: File,
    ) -> io::Result<Option<ExitStatus>> {
        let mut command = Command::new(self.program);
        command.stdin(values).process_group(0);
        command.env("SESSION_DIGEST", session.as_str());
        match user.filter(|user| !user.contains('\0')) {
            Some(user) => command.env("SESSION_USER", user),
            None => command.env_remove("SESSION_USER"),
        };
        // It is not started by `cgi-session start`, whatever this program is.
        command.env_remove(values_file::VARIABLE);
        if self.arguments.json {
            // Stdout is this program's alone.
            command.stdout(Stdio::from(io::stderr()));
        }
        let mut child = command.spawn()?;
        let handle = child::handle_of(&mut child)?;
        let started = Instant::now();
        while let Some(left) = self.arguments.each_timeout.checked_sub(started.elapsed())
            && !self.is_stopped()
        {
            let step = Timespec::try_from(left.min(STEP)).map_err(io::Error::other)?;
            let mut polled = [PollFd::new(&handle, PollFlags::IN)];
            match poll(&mut polled, Some(&step)) {
                Ok(1..) => return child.wait().map(Some),
                Ok(0) | Err(Errno::INTR) => {}
                Err(_) => break,
            }
        }
        child::end(&handle);
        // Also what it has started, before its number can be another group's.
        let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        if let Some(group) = group {
            // It has ended altogether when that fails.
            let _ = kill_process_group(group, Signal::KILL);
        }
        child.wait()?;
        Ok(None)
    }
}
