//! [`Process`]: this program once more, with a [`Task`] of its own.

use std::process::ExitCode;

use rustix::process::set_parent_process_death_signal;
use serde::{Deserialize, Serialize};
use testkit::prelude::*;

use crate::subject::Subject;
use crate::{engines, histories, operation, schedules, storm};

const VARIABLE: &str = "_CAMPAIGNS_TASK";

/// What a process does with a store.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Task {
    pub(crate) subject: Subject,
    /// The directory of the store, or of all stores of a storm.
    pub(crate) directory: PathBuf,
    pub(crate) role: Role,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Role {
    /// Does what each line of stdin says.
    History,
    /// The same under a tracer.
    Orders,
    Storm(storm::Part),
    Traced(operation::Traced),
    /// Pages of a FastCGI program.
    Pages,
}

impl Task {
    pub(crate) fn new(subject: &Subject, directory: &Path, role: Role) -> Self {
        Task {
            subject: subject.clone(),
            directory: directory.to_owned(),
            role,
        }
    }

    /// The task of this process, if it was started for one.
    pub(crate) fn find() -> Option<Self> {
        let text = env::var(VARIABLE).ok()?;
        Some(serde_json::from_str(&text).unwrap())
    }

    pub(crate) fn command(&self) -> Command {
        self.command_by(&[])
    }

    /// Started by another command, which has this program and nothing more as its last words.
    pub(crate) fn command_by(&self, prefix: &[String]) -> Command {
        let program = env::current_exe().unwrap().into_os_string();
        let mut words = prefix.iter().map(Into::into).chain([program]);
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words);
        command.env(VARIABLE, serde_json::to_string(self).unwrap());
        command.env("RUST_BACKTRACE", "0");
        command
    }

    /// Does it, until it is done or the parent ends.
    pub(crate) fn perform(&self) -> ExitCode {
        // Where it fails, a process ends by itself soon after.
        let _ = set_parent_process_death_signal(Some(Signal::KILL));
        match &self.role {
            Role::History => histories::worker::run(self),
            Role::Orders => schedules::run(self),
            Role::Pages => return engines::switch_over::pages(),
            Role::Storm(part) => return part.perform(self),
            Role::Traced(traced) => {
                if let Err(error) = traced.perform(self) {
                    eprintln!("{error}");
                    return ExitCode::FAILURE;
                }
            }
        }
        ExitCode::SUCCESS
    }
}

/// A process that is killed when this is dropped.
pub(crate) struct Process(Child);

impl Process {
    pub(crate) fn spawn(command: &mut Command) -> io::Result<Self> {
        command.spawn().map(Process)
    }

    pub(crate) fn child(&mut self) -> &mut Child {
        &mut self.0
    }

    /// Kills it, if it has not ended, and says how it ended.
    pub(crate) fn kill(&mut self) -> io::Result<ExitStatus> {
        self.0.kill()?;
        self.0.wait()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // One that has ended cannot be killed, and needs not be.
        let _ = self.kill();
    }
}

/// A directory in memory where there is one: on a disk processes wait for it most of the time, and little
/// happens at once.
pub(crate) fn memory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .unwrap()
}
