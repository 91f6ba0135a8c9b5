//! A storm on a store: processes count on sessions and are killed at random, clean-ups run all the time,
//! sessions end and begin, change their ids, grow and shrink, are read without a lock, and evict each other
//! where there is a cap.
//!
//! Each process keeps a ledger outside the sessions, with a line before and after each operation. At the end
//! every acknowledged increment is there once, and of the others at most those that were under way when
//! their process was killed; nothing that was read is torn or older than what was acknowledged, nothing
//! that ended comes back, nothing fails, and a clean-up leaves nothing behind.

mod content;
mod crew;
mod ground;
mod ledger;
mod tally;
mod verdict;
mod violation;
mod worker;

use std::process::ExitCode;

use serde::{Deserialize, Serialize};

use crate::campaign::{Campaign, Case, Trial};
use crate::process::{self, Task};
use crate::subject::Subject;
use crew::Crew;
use ground::{Field, Ground};
use ledger::Operation;
use testkit::broken::Fault;
use testkit::prelude::*;
use worker::{Stop, Worker};

pub(crate) const CAMPAIGN: Campaign = Campaign {
    name: "storm",
    about: "what processes acknowledge is stored once, whatever is killed, destroyed, evicted and cleaned up",
    seconds: 300,
    is_sampled: false,
    cases,
};

/// Between two looks at the processes.
const PAUSE: Duration = Duration::from_millis(1);
/// So many acknowledged operations are progress.
const PROGRESS: u64 = 30;

/// What a process of a storm does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Role {
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
    /// Creates sessions where there is a cap.
    Newcomer,
}

/// The part of one process in a storm.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Part {
    role: Role,
    number: u64,
    seed: u64,
    stores: PathBuf,
    manner: Manner,
}

/// How the processes of a storm treat the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Manner {
    /// It always answers.
    Strict,
    /// It may say that it cannot answer, and a lock may end before its holder.
    Troubled,
    /// They count from what they read before they have the session, as they should not.
    Careless,
}

/// Where processes run: with this store, and by a command that has theirs as its last words.
pub(crate) struct Host {
    pub(crate) subject: Subject,
    pub(crate) prefix: Vec<String>,
}

impl Host {
    /// This machine.
    pub(crate) fn here(subject: Subject) -> Self {
        let prefix = Vec::new();
        Host { subject, prefix }
    }
}

impl Part {
    /// Plays it. What goes wrong is one line on stderr.
    pub(crate) fn perform(&self, task: &Task) -> ExitCode {
        let line = match self.work(task) {
            Ok(()) => return ExitCode::SUCCESS,
            Err(Stop::Unavailable(_)) if self.manner == Manner::Troubled => {
                thread::sleep(worker::PAUSE);
                return ExitCode::SUCCESS;
            }
            Err(Stop::Found(line) | Stop::Unavailable(line)) => line,
            Err(Stop::Failed(error)) => format!("failed: a process of the storm: {error}"),
        };
        // In one piece: others write there too. If it cannot be said, the exit status says it.
        let _ = io::stderr().write_all(format!("{line}\n").as_bytes());
        ExitCode::FAILURE
    }

    fn work(&self, task: &Task) -> Result<(), Stop> {
        let mut worker = Worker::new(task, self)?;
        match self.role {
            Role::Resident => worker.repeat(u64::MAX, Worker::count),
            Role::Single => worker.repeat(1, Worker::count),
            Role::Reader => worker.repeat(u64::MAX, Worker::look_around),
            Role::Sweeper => worker.repeat(u64::MAX, Worker::sweep),
            Role::HastySweeper => worker.repeat(u64::MAX, Worker::sweep_ahead),
            Role::Newcomer => worker.repeat(u64::MAX, Worker::crowd_in),
        }
    }
}

/// A storm that has begun.
pub(crate) struct Storm {
    ground: Ground,
    subject: Subject,
    crew: Crew,
    violations: Vec<String>,
}

impl Storm {
    /// Begins a storm. `place` is an empty directory for the ledgers, `stores` one for the stores.
    pub(crate) fn begin(
        place: &Path,
        stores: &Path,
        hosts: Vec<Host>,
        seed: u64,
        manner: Manner,
    ) -> io::Result<Self> {
        let ground = Ground::new(place, stores);
        ground.prepare()?;
        let subject = hosts[0].subject.clone();
        for field in Field::ALL {
            subject.prepare(&ground.field(field));
        }
        let part = Part {
            role: Role::Resident,
            number: 0,
            seed: 0,
            stores: stores.to_owned(),
            manner,
        };
        Ok(Storm {
            crew: Crew::start(ground.clone(), part, hosts, seed)?,
            ground,
            subject,
            violations: Vec::new(),
        })
    }

    /// Waits a moment and replaces the processes that have ended. Whether nothing is wrong so far.
    pub(crate) fn turn(&mut self) -> io::Result<bool> {
        thread::sleep(PAUSE);
        self.violations.extend(self.crew.turn_over()?);
        Ok(self.violations.is_empty() && self.crew.violations()?.is_empty())
    }

    /// Lets it go on for so long. What is wrong is the error.
    pub(crate) fn wait(&mut self, time: Duration) -> Result<(), String> {
        let end = Instant::now() + time;
        self.until(|_| Instant::now() >= end)
    }

    /// Waits until each of these hosts has had operations acknowledged that began now.
    pub(crate) fn goes_on(&mut self, hosts: &[usize], when: &str) -> Result<(), String> {
        let limit = Instant::now() + testkit::DEADLINE;
        let progress = |storm: &Storm, host: &usize| storm.crew.done_at(*host);
        let before: Vec<u64> = hosts.iter().map(|host| progress(self, host)).collect();
        let has_gone_on = |storm: &Storm| {
            let mut all = hosts.iter().zip(&before);
            all.all(|(host, before)| progress(storm, host) >= before + PROGRESS)
        };
        self.until(|storm| has_gone_on(storm) || Instant::now() >= limit)?;
        if has_gone_on(self) {
            return Ok(());
        }
        Err(format!("{when}, hosts {hosts:?} do not all go on"))
    }

    fn until(&mut self, is_over: impl Fn(&Storm) -> bool) -> Result<(), String> {
        while !is_over(self) {
            if !self.turn().map_err(|error| error.to_string())? {
                let said = self.crew.violations().map_err(|error| error.to_string())?;
                let said = said.first().map_or("", String::as_str);
                return Err(format!("the storm has ended early: {said}"));
            }
        }
        Ok(())
    }

    /// Ends it, and counts what it has done.
    pub(crate) fn end(&mut self, trial: &mut Trial) -> io::Result<()> {
        self.stop_hearing()?;
        self.stop()?;
        self.note(trial);
        Ok(())
    }

    /// What the processes say from now on does not count.
    pub(crate) fn stop_hearing(&mut self) -> io::Result<()> {
        self.violations.extend(self.crew.violations()?);
        Ok(())
    }

    /// Ends the processes.
    pub(crate) fn stop(&mut self) -> io::Result<()> {
        self.crew.stop().map(drop)
    }

    /// What is wrong with what the processes said and left, which is removed.
    pub(crate) fn verdict(mut self) -> io::Result<Vec<String>> {
        let found = verdict::pronounce(&self.ground, &self.subject, &self.crew.tally)?;
        self.violations.extend(found);
        Ok(self.violations)
    }

    /// What has been done by processes that have ended.
    pub(crate) fn note(&self, trial: &mut Trial) {
        let done = |operation| self.crew.tally.done_of(operation);
        let moved = [Operation::Regenerate, Operation::Replace].map(done);
        let brief = done(Operation::Brief);
        for (what, number) in [
            ("increments", done(Operation::Count) + moved[0] + moved[1]),
            ("increments between clean-ups", brief),
            ("new ids", moved[0]),
            ("new ids with grace", moved[1]),
            ("new sessions at the cap", done(Operation::Crowd)),
            ("destroyed", done(Operation::Destroy)),
            ("reads", done(Operation::Read)),
            ("swept", done(Operation::Sweep)),
            ("refused", done(Operation::Refused)),
            ("processes", self.crew.started),
            ("killed", self.crew.killed),
        ] {
            trial.set(what, number);
        }
    }
}

fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = CONTROLS
        .iter()
        .map(|(fault, texts)| case(Subject::broken(*fault), "").finding(texts))
        .collect();
    let sharded = Subject::file().with("shards", "256");
    let sharded = sharded.with("durability", "data");
    cases.extend([
        case(Subject::broken(Fault::Nothing), ""),
        case(Subject::file(), ""),
        case(sharded, "shards=256 durability=data"),
        case(Subject::of("sqlite"), ""),
    ]);
    cases.extend(Subject::ENGINES.map(|engine| case(Subject::of(engine), "")));
    cases
}

/// What is wrong with a store, and how it must be noticed.
const CONTROLS: [(Fault, &[&str]); 13] = [
    (Fault::NoLock, &["lost: ", "doubled: ", "stale: "]),
    (Fault::SharedLock, &["lost: ", "doubled: ", "stale: "]),
    (Fault::NoLinkCheck, &["lost: ", "doubled: ", "stale: "]),
    (Fault::LockFileRemoved, &["lost: ", "doubled: ", "stale: "]),
    (Fault::TruncateAndWrite, &["torn: ", "EOF while parsing"]),
    (Fault::Resurrect, &["resurrected: "]),
    (Fault::SweepWithoutLock, &["deleted in use: "]),
    (Fault::ForgetEnd, &["resurrected: "]),
    (Fault::DestroyAtEnd, &["lost: "]),
    (Fault::EvictWithoutLock, &["deleted in use: "]),
    (Fault::NoCap, &["crowded: "]),
    (Fault::LeaveTemporary, &["left behind: "]),
    (Fault::ForgetUsers, &["among the sessions of user "]),
];

fn case(subject: Subject, name: &str) -> Case {
    let label = subject.name.clone();
    Case::new(&label, name, move |trial| {
        let Some(subject) = subject.in_engine() else {
            return trial.skip("not installed");
        };
        // These stores sync much. In memory that costs nothing; on the disk it is a good time to die.
        let place = match subject.fault() {
            None | Some(Fault::LeaveTemporary) => tempfile::tempdir().unwrap(),
            Some(_) => process::memory(),
        };
        let hosts = vec![Host::here(subject.clone())];
        let (stores, seed) = (place.path().join("stores"), trial.seed);
        let storm = Storm::begin(place.path(), &stores, hosts, seed, Manner::Strict);
        let mut storm = storm.unwrap();
        let has_tried_all = |trial: &Trial| has_tried_all(trial, &subject);
        while storm.turn().unwrap() && trial.goes_on_until(has_tried_all(trial)) {
            storm.note(trial);
            if trial.is_control() && has_tried_all(trial) {
                break;
            }
        }
        storm.end(trial).unwrap();
        let violations = storm.verdict().unwrap();
        if violations.is_empty() && !trial.is_control() && !has_tried_all(trial) {
            trial.violation("too little was tried".to_owned());
        }
        trial.violations(violations);
    })
}

fn has_tried_all(trial: &Trial, subject: &Subject) -> bool {
    let cap = if subject.has_cap() { 100 } else { 0 };
    let least = [
        ("new sessions at the cap", cap),
        ("increments", 500),
        ("increments between clean-ups", 10),
        ("new ids", 2),
        ("new ids with grace", 2),
        ("destroyed", 1),
        ("reads", 1),
        ("swept", 1),
        ("killed", 30),
    ];
    let mut least = least.into_iter();
    least.all(|(what, least)| trial.counted(what) >= least)
}

/// How the ledgers name a session: the first digits of its digest.
fn name_of(session: &SessionDigest) -> u64 {
    let digits = session.as_str().get(..16).unwrap_or_default();
    u64::from_str_radix(digits, 16).unwrap_or_default()
}
