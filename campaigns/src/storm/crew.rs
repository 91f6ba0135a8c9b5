//! [`Crew`]: the processes of a storm, killed at random times and replaced at once.

use testkit::prelude::*;

use super::ground::Ground;
use super::ledger::{self, Operation, Step};
use super::tally::Tally;
use super::violation::Kind;
use super::{Host, Part, Role};
use crate::process::{self, Process, Task};

/// Which processes there are at any time.
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

pub(super) struct Crew {
    ground: Ground,
    /// The template of every process.
    part: Part,
    hosts: Vec<Host>,
    rng: fastrand::Rng,
    members: Vec<Member>,
    /// What the processes of each host that have ended were told to be done.
    done: Vec<u64>,
    pub(super) tally: Tally,
    pub(super) started: u64,
    pub(super) killed: u64,
}

struct Member {
    role: Role,
    host: usize,
    number: u64,
    process: Process,
    /// When it is killed, unless it has ended by then.
    end: Instant,
}

impl Crew {
    /// Starts every process, those of each role on the hosts in turn.
    pub(super) fn start(
        ground: Ground,
        part: Part,
        hosts: Vec<Host>,
        seed: u64,
    ) -> io::Result<Self> {
        let mut crew = Crew {
            ground,
            part,
            done: vec![0; hosts.len()],
            hosts,
            rng: fastrand::Rng::with_seed(seed),
            members: Vec::new(),
            tally: Tally::default(),
            started: 0,
            killed: 0,
        };
        let has_cap = crew.hosts[0].subject.has_cap();
        let roles = ROLES.into_iter();
        let roles = roles.filter(|role| has_cap || *role != Role::Newcomer);
        for (turn, role) in roles.enumerate() {
            crew.spawn(role, turn % crew.hosts.len())?;
        }
        Ok(crew)
    }

    fn spawn(&mut self, role: Role, host: usize) -> io::Result<()> {
        self.started += 1;
        let number = self.started;
        let part = Part {
            role,
            number,
            seed: self.rng.u64(..),
            ..self.part.clone()
        };
        let violations = OpenOptions::new()
            .append(true)
            .open(self.ground.violations())?;
        let at = &self.hosts[host];
        let role_of_process = process::Role::Storm(part);
        let task = Task::new(&at.subject, self.ground.place(), role_of_process);
        let mut command = task.command_by(&at.prefix);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(violations)
            // Ctrl-C ends the campaign, and the campaign them.
            .process_group(0);
        let process = Process::spawn(&mut command)?;
        let end = Instant::now() + self.life(role);
        self.members.push(Member {
            role,
            host,
            number,
            process,
            end,
        });
        Ok(())
    }

    /// How long a process may live: many die young, some before they have done anything.
    fn life(&mut self, role: Role) -> Duration {
        let top = match role {
            Role::Single => 64,
            _ => 8 << self.rng.u32(0..10),
        };
        Duration::from_micros(self.rng.u64(0..top * 1000))
    }

    /// Kills those whose time has come, and puts others in the place of all that have ended.
    pub(super) fn turn_over(&mut self) -> io::Result<Vec<String>> {
        let mut violations = Vec::new();
        let now = Instant::now();
        for mut member in std::mem::take(&mut self.members) {
            let mut status = member.process.child().try_wait()?;
            if status.is_none() && member.end <= now {
                status = Some(member.process.kill()?);
            }
            match status {
                None => self.members.push(member),
                Some(status) => {
                    let (role, host) = (member.role, member.host);
                    violations.extend(self.enter(&member, status)?);
                    self.spawn(role, host)?;
                }
            }
        }
        Ok(violations)
    }

    /// Kills every process.
    pub(super) fn stop(&mut self) -> io::Result<Vec<String>> {
        let mut violations = Vec::new();
        for mut member in std::mem::take(&mut self.members) {
            let status = member.process.kill()?;
            violations.extend(self.enter(&member, status)?);
        }
        Ok(violations)
    }

    /// Enters the ledger of a process that has ended into the tally.
    fn enter(&mut self, member: &Member, status: ExitStatus) -> io::Result<Vec<String>> {
        let path = self.ground.ledger(member.number);
        let mut violations = match fs::read(&path) {
            Ok(text) => {
                fs::remove_file(path)?;
                self.done[member.host] += done_in(&text);
                self.tally.add(ledger::lines(&text))
            }
            // It was killed before it opened one.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        let is_killed = status.signal() == Some(9);
        self.killed += u64::from(is_killed);
        if !is_killed && !status.success() && self.violations()?.is_empty() {
            let process = format!("a process ({:?})", member.role);
            violations.push(Kind::Failed.violation(process, "to end well", status));
        }
        Ok(violations)
    }

    /// How many operations of the processes of a host are acknowledged.
    pub(super) fn done_at(&self, host: usize) -> u64 {
        let members = self.members.iter().filter(|member| member.host == host);
        let texts = members.map(|member| fs::read(self.ground.ledger(member.number)));
        let open: u64 = texts.flatten().map(|text| done_in(&text)).sum();
        self.done[host] + open
    }

    /// What the processes have written to stderr.
    pub(super) fn violations(&self) -> io::Result<Vec<String>> {
        let text = fs::read(self.ground.violations())?;
        let text = String::from_utf8_lossy(&text);
        let lines = text.lines().filter(|line| !line.is_empty());
        Ok(lines.map(str::to_owned).collect())
    }
}

/// The operations in a ledger that were acknowledged.
fn done_in(ledger: &[u8]) -> u64 {
    let lines = ledger::lines(ledger).flatten();
    let done = lines.filter(|line| line.step == Step::Done && line.operation == Operation::Count);
    done.count() as u64
}
