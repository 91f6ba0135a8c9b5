//! [`Task`]: what one process of a storm is told to do, by variables of its environment.

use std::env;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use super::Subject;
use super::ground::{Field, Ground};
use super::worker::{Stop, Worker};

const PLACE: &str = "_CGI_SESSION_STORM_PLACE";
const ROLE: &str = "_CGI_SESSION_STORM_ROLE";
const NUMBER: &str = "_CGI_SESSION_STORM_NUMBER";
const SEED: &str = "_CGI_SESSION_STORM_SEED";

/// What a process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Counts until it is killed, as a FastCGI worker would.
    Resident,
    /// Does one thing and ends, as a CGI program would.
    Single,
    /// Reads without a lock.
    Reader,
    /// Cleans up.
    Sweeper,
    /// Cleans up with a clock that is ahead.
    HastySweeper,
    /// Makes sessions where there is a cap.
    Newcomer,
}

/// The part that this process has in a storm.
pub struct Task {
    place: PathBuf,
    role: Role,
    number: u64,
    seed: u64,
}

impl Role {
    const ALL: [Role; 6] = [
        Role::Resident,
        Role::Single,
        Role::Reader,
        Role::Sweeper,
        Role::HastySweeper,
        Role::Newcomer,
    ];

    fn name(self) -> String {
        format!("{self:?}")
    }
}

impl Task {
    pub(super) fn new(place: &Path, role: Role, number: u64, seed: u64) -> Self {
        Task {
            place: place.to_owned(),
            role,
            number,
            seed,
        }
    }

    /// The task of this process, if it was started for one.
    #[must_use]
    pub fn find() -> Option<Self> {
        let text = |name| env::var_os(name)?.into_string().ok();
        let role = text(ROLE)?;
        Some(Task {
            place: env::var_os(PLACE)?.into(),
            role: Role::ALL.into_iter().find(|known| known.name() == role)?,
            number: text(NUMBER)?.parse().ok()?,
            seed: text(SEED)?.parse().ok()?,
        })
    }

    /// Gives the task to a process that is about to be started.
    pub(super) fn give_to(&self, command: &mut Command) {
        command
            .env(PLACE, &self.place)
            .env(ROLE, self.role.name())
            .env(NUMBER, self.number.to_string())
            .env(SEED, self.seed.to_string());
    }

    /// Does it. What goes wrong is one line on stderr.
    #[must_use]
    pub fn run(&self, subject: &dyn Subject) -> ExitCode {
        #[cfg(target_os = "linux")]
        end_with_the_storm();
        let line = match self.work(subject) {
            Ok(()) => return ExitCode::SUCCESS,
            Err(Stop::Found(violation)) => violation.to_string(),
            Err(Stop::Failed(error)) => format!("a process of the storm: {error}"),
        };
        // In one piece: others write there too. If it cannot be said, the exit status says it.
        let _ = io::stderr().write_all(format!("{line}\n").as_bytes());
        ExitCode::FAILURE
    }

    fn work(&self, subject: &dyn Subject) -> Result<(), Stop> {
        let ground = Ground::at(&self.place);
        let mut worker = Worker::new(ground, self.number, self.seed, subject)?;
        match self.role {
            Role::Resident => worker.count(u64::MAX),
            Role::Single => worker.count(1),
            Role::Reader => worker.read_on(),
            Role::Sweeper => worker.sweep_on(Field::Lasting),
            Role::HastySweeper => worker.sweep_on(Field::Brief),
            Role::Newcomer => worker.crowd_in(),
        }
    }
}

/// A storm that is killed can stop nobody.
#[cfg(target_os = "linux")]
fn end_with_the_storm() {
    use rustix::process::{Signal, set_parent_process_death_signal};
    // Without it a process ends by itself soon after.
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
}
