//! A storm on a store: processes count on sessions and are killed at random, clean-ups run all the time,
//! sessions end and begin, change their ids, grow and shrink, are read without a lock, and crowd in
//! where there is a cap.
//!
//! Each process keeps a ledger outside the sessions, with a line before and after each deed. At the end
//! every acknowledged increment is there once, and of the others at most those that were under way when
//! their process was killed; nothing that was read is torn or older than what was acknowledged, nothing
//! that ended comes back, nothing fails, and a clean-up leaves nothing behind. A broken promise is a
//! [`Violation`], and ends the storm.

mod content;
mod crew;
mod ground;
mod ledger;
mod settings;
mod tally;
mod task;
mod verdict;
mod violation;
mod worker;

use std::io;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use cgi_session::{Result, SessionDigest, SessionManager};

use crew::Crew;
use ground::{Field, Ground};

pub use settings::Settings;
pub use task::Task;
pub use violation::{Kind, Violation};

/// How long a session of the storm lives unused: every subject must have this timeout.
pub const TIMEOUT: Duration = Duration::from_secs(3600);

/// Between two looks at the processes.
const PAUSE: Duration = Duration::from_millis(1);

/// A store to be tried, which every process opens for itself.
pub trait Subject {
    /// Opens the store that belongs to this directory, which it makes when it is missing. With a cap, so
    /// many sessions may be there, and a newcomer sends away the least recently used.
    ///
    /// # Errors
    ///
    /// When that is not possible.
    fn open(&self, directory: &Path, cap: Option<u64>) -> Result<SessionManager>;

    /// Whether the store knows of a cap.
    fn has_cap(&self) -> bool;

    /// Makes what all processes need, in place of what a storm that was killed may have left.
    ///
    /// # Errors
    ///
    /// When that is not possible.
    fn prepare(&self, _directory: &Path) -> Result<()> {
        Ok(())
    }

    /// How long the lock of a process may outlive it.
    fn longest_wake(&self) -> Duration {
        Duration::ZERO
    }

    /// Whether an empty store may have a file of this name in its directory.
    fn is_of_empty_store(&self, name: &str) -> bool;
}

/// What a storm has shown.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Increments that were acknowledged.
    pub increments: u64,
    /// Increments of sessions that were deleted whenever nobody held them.
    pub brief_increments: u64,
    /// Sessions that got a new id.
    pub regenerated: u64,
    /// Of those, sessions whose old id showed them for some time as they were.
    pub replaced: u64,
    /// Sessions that were made where there is a cap; `None` when the store knows of none.
    pub newcomers: Option<u64>,
    /// Sessions that were destroyed.
    pub destroyed: u64,
    /// Sessions that were read without a lock.
    pub reads: u64,
    /// Expired sessions that a clean-up deleted.
    pub swept: u64,
    /// Processes that were started.
    pub processes: u64,
    /// Of those, processes that were killed.
    pub killed: u64,
    /// How long it went on.
    pub elapsed: Duration,
    /// The signal that ended it early.
    pub interrupted: Option<usize>,
    /// The promises that were broken.
    pub violations: Vec<Violation>,
}

/// A storm that is about to begin.
pub struct Storm<'a> {
    /// An empty directory for it. What it leaves there is of no use to anybody.
    pub place: &'a Path,
    /// The store.
    pub subject: &'a dyn Subject,
    /// A program that runs its [`Task`] on the same store, without arguments of ours.
    pub command: &'a dyn Fn() -> Command,
    /// Draws what happens when; two storms of one seed have the same plan, and yet differ.
    pub seed: u64,
    /// Ends the storm when it is no longer zero.
    pub signal: &'a AtomicUsize,
}

impl Storm<'_> {
    /// Runs it as long as `goes_on` says so, which hears all the time how far it has come, and as no
    /// promise is broken.
    ///
    /// # Errors
    ///
    /// When processes cannot be started, or the place cannot be written.
    pub fn run(&self, goes_on: &dyn Fn(&Outcome) -> bool) -> io::Result<Outcome> {
        let ground = Ground::at(self.place);
        ground.prepare()?;
        for field in Field::ALL {
            let prepared = self.subject.prepare(&ground.field(field));
            prepared.map_err(|error| io::Error::other(error.one_line()))?;
        }
        let has_cap = self.subject.has_cap();
        let mut crew = Crew::new(self.place, self.seed, has_cap, self.command);
        let begun = Instant::now();
        crew.start()?;
        let mut outcome = Outcome::default();
        while goes_on(&outcome) && outcome.violations.is_empty() && !crew.has_complaints()? {
            thread::sleep(PAUSE);
            outcome.violations.extend(crew.turn_over()?);
            outcome.note(&crew, begun);
            let signal = self.signal.load(Ordering::Relaxed);
            if signal != 0 {
                outcome.interrupted = Some(signal);
                break;
            }
        }
        outcome.violations.extend(crew.stop()?);
        outcome.violations.extend(crew.complaints()?);
        outcome.note(&crew, begun);
        if outcome.interrupted.is_none() {
            let found = verdict::pronounce(&ground, self.subject, &crew.tally)?;
            outcome.violations.extend(found);
        } else {
            verdict::remove(&ground, self.subject);
        }
        Ok(outcome)
    }
}

impl Outcome {
    fn note(&mut self, crew: &Crew<'_>, begun: Instant) {
        self.increments = crew.tally.acknowledged;
        self.brief_increments = crew.tally.brief;
        self.regenerated = crew.tally.regenerated;
        self.replaced = crew.tally.replaced;
        self.newcomers = crew.has_cap.then_some(crew.tally.newcomers);
        self.destroyed = crew.tally.destroyed;
        self.reads = crew.tally.reads;
        self.swept = crew.tally.swept;
        self.processes = crew.started;
        self.killed = crew.killed;
        self.elapsed = begun.elapsed();
    }
}

/// How the ledgers name a session: the first digits of its digest.
fn name_of(session: &SessionDigest) -> u64 {
    let digits = session.as_str().get(..16).unwrap_or_default();
    u64::from_str_radix(digits, 16).unwrap_or_default()
}
