//! [`Crew`]: the processes of a storm, killed at random times and replaced at once.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::ground::Ground;
use super::ledger;
use super::tally::Tally;
use super::task::{Role, Task};
use super::violation::{Kind, Violation};

/// Who is there at any time.
const ROLES: [Role; 10] = [
    Role::Resident,
    Role::Resident,
    Role::Resident,
    Role::Resident,
    Role::Single,
    Role::Reader,
    Role::Sweeper,
    Role::HastySweeper,
    Role::Newcomer,
    Role::Newcomer,
];

pub(super) struct Crew<'a> {
    ground: Ground,
    place: &'a Path,
    command: &'a dyn Fn() -> Command,
    /// Nobody crowds in where there is no cap.
    pub(super) has_cap: bool,
    rng: fastrand::Rng,
    members: Vec<Member>,
    pub(super) tally: Tally,
    pub(super) started: u64,
    pub(super) killed: u64,
}

struct Member {
    role: Role,
    number: u64,
    child: Child,
    /// When it is killed, unless it has ended by then.
    end: Instant,
}

impl<'a> Crew<'a> {
    pub(super) fn new(
        place: &'a Path,
        seed: u64,
        has_cap: bool,
        command: &'a dyn Fn() -> Command,
    ) -> Self {
        Crew {
            ground: Ground::at(place),
            place,
            command,
            has_cap,
            rng: fastrand::Rng::with_seed(seed),
            members: Vec::new(),
            tally: Tally::default(),
            started: 0,
            killed: 0,
        }
    }

    /// Starts everybody.
    pub(super) fn start(&mut self) -> io::Result<()> {
        for role in ROLES {
            if self.has_cap || role != Role::Newcomer {
                self.hire(role)?;
            }
        }
        Ok(())
    }

    fn hire(&mut self, role: Role) -> io::Result<()> {
        self.started += 1;
        let number = self.started;
        let mut command = (self.command)();
        Task::new(self.place, role, number, self.rng.u64(..)).give_to(&mut command);
        let complaints = OpenOptions::new()
            .append(true)
            .open(self.ground.violations())?;
        let child = command
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(complaints)
            // Ctrl-C is for whoever started the storm.
            .process_group(0)
            .spawn()?;
        let end = Instant::now() + self.life(role);
        self.members.push(Member {
            role,
            number,
            child,
            end,
        });
        Ok(())
    }

    /// How long a process may live: many die young, some before they have done anything.
    fn life(&mut self, role: Role) -> Duration {
        let top = match role {
            Role::Single => 64,
            Role::Resident | Role::Reader | Role::Sweeper | Role::HastySweeper | Role::Newcomer => {
                8 << self.rng.u32(0..10)
            }
        };
        Duration::from_micros(self.rng.u64(0..top * 1000))
    }

    /// Kills those whose time has come, and puts others in the place of all that have ended.
    pub(super) fn turn_over(&mut self) -> io::Result<Vec<Violation>> {
        let mut violations = Vec::new();
        let now = Instant::now();
        for mut member in std::mem::take(&mut self.members) {
            let mut status = member.child.try_wait()?;
            if status.is_none() && member.end <= now {
                status = Some(member.kill()?);
            }
            match status {
                None => self.members.push(member),
                Some(status) => {
                    let role = member.role;
                    violations.extend(self.bury(&member, status)?);
                    self.hire(role)?;
                }
            }
        }
        Ok(violations)
    }

    /// Kills everybody.
    pub(super) fn stop(&mut self) -> io::Result<Vec<Violation>> {
        let mut violations = Vec::new();
        for mut member in std::mem::take(&mut self.members) {
            let status = member.kill()?;
            violations.extend(self.bury(&member, status)?);
        }
        Ok(violations)
    }

    fn bury(&mut self, member: &Member, status: ExitStatus) -> io::Result<Vec<Violation>> {
        let path = self.ground.ledger(member.number);
        let mut violations = match fs::read(&path) {
            Ok(text) => {
                fs::remove_file(path)?;
                self.tally.add(ledger::lines(&text))
            }
            // It was killed before it opened one.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        let is_killed = status.signal() == Some(9);
        self.killed += u64::from(is_killed);
        if !is_killed && !status.success() && !self.has_complaints()? {
            let process = format!("a process ({:?})", member.role);
            violations.push(Violation::new(Kind::Failed, process, "a good end", status));
        }
        Ok(violations)
    }

    /// Whether a process has complained about anything.
    pub(super) fn has_complaints(&self) -> io::Result<bool> {
        Ok(fs::metadata(self.ground.violations())?.len() > 0)
    }

    /// What the processes have complained about.
    pub(super) fn complaints(&self) -> io::Result<Vec<Violation>> {
        let text = fs::read(self.ground.violations())?;
        let text = String::from_utf8_lossy(&text);
        Ok(text
            .lines()
            .filter(|line| !line.is_empty())
            .map(Violation::parse)
            .collect())
    }
}

impl Member {
    fn kill(&mut self) -> io::Result<ExitStatus> {
        self.child.kill()?;
        self.child.wait()
    }
}

impl Drop for Crew<'_> {
    fn drop(&mut self) {
        for member in &mut self.members {
            // One that has ended already cannot be killed, and needs not be.
            let _ = member.kill();
        }
    }
}
