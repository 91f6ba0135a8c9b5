//! A race: processes that count on one session, kept on a ledger.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use cgi_session::{Config, SessionId, Store};

use crate::worker::{self, DIRECTORY, ID, INCREMENTS, SIZES, VARIANT};

const PROCESSES: usize = 8;
const DEADLINE: Duration = Duration::from_secs(120);

/// What is to be run.
pub(crate) struct Race {
    variant: &'static str,
    increments: u64,
    sizes: u64,
    kills: u64,
    own_end: bool,
    directory: tempfile::TempDir,
    id: SessionId,
    done: AtomicBool,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Increments that a process has noted as done.
    pub(crate) acknowledged: u64,
    /// Processes that were killed while they ran.
    pub(crate) killed: u64,
    /// What the session holds at the end; `None` when it is gone or unreadable.
    pub(crate) value: Option<u64>,
    /// A process met an error or something that it could not read.
    pub(crate) failed: bool,
}

impl Outcome {
    #[track_caller]
    pub(crate) fn is_exact(&self) {
        assert!(!self.failed, "{self:?}");
        assert_eq!(self.value, Some(self.acknowledged), "{self:?}");
    }

    #[track_caller]
    pub(crate) fn is_exact_but_for_the_killed(&self) {
        assert!(!self.failed && self.killed > 0, "{self:?}");
        let value = self.value.expect("a session");
        assert!(self.acknowledged <= value, "lost: {self:?}");
        assert!(
            value <= self.acknowledged + self.killed,
            "doubled: {self:?}"
        );
    }

    /// Whether something was lost, doubled or torn.
    pub(crate) fn is_wrong(&self) -> bool {
        assert!(self.acknowledged > 0, "it did not even begin: {self:?}");
        let right = self.value.is_some_and(|value| {
            self.acknowledged <= value && value <= self.acknowledged + self.killed
        });
        self.failed || !right
    }
}

impl Race {
    pub(crate) fn of(variant: &'static str) -> Self {
        Race {
            variant,
            increments: 400,
            sizes: 0,
            kills: 0,
            own_end: false,
            directory: tempfile::tempdir().unwrap(),
            id: SessionId::generate().unwrap(),
            done: AtomicBool::new(false),
        }
    }

    /// How often each process counts. With kills they count until all kills are done.
    pub(crate) fn increments(mut self, increments: u64) -> Self {
        self.increments = increments;
        self
    }

    /// Each record takes up to so many bytes more, drawn anew each time.
    pub(crate) fn sizes(mut self, sizes: u64) -> Self {
        self.sizes = sizes;
        self
    }

    /// So often a process is killed and another one started in its place.
    pub(crate) fn kills(mut self, kills: u64) -> Self {
        self.kills = kills;
        self
    }

    /// The session has an end of its own, tomorrow.
    pub(crate) fn own_end(mut self) -> Self {
        self.own_end = true;
        self
    }

    pub(crate) fn id(&self) -> &SessionId {
        &self.id
    }

    pub(crate) fn store(&self) -> Arc<dyn Store> {
        let config = Config::new().set("storageFileDir", self.sessions());
        worker::store(self.variant, &config.unwrap())
    }

    /// The session's file, whatever the variant.
    pub(crate) fn path(&self) -> PathBuf {
        self.sessions().join(format!("{}.json", self.id.digest()))
    }

    fn sessions(&self) -> PathBuf {
        self.directory.path().join("sessions")
    }

    /// Runs the processes, and `beside` at the same time.
    pub(crate) fn run(self, beside: impl FnOnce(&Race) + Send) -> Outcome {
        let first = worker::record(0, 0, self.own_end);
        drop(
            self.store()
                .create(&self.id.digest(), &first, SystemTime::now())
                .unwrap(),
        );
        let (failed, killed) = thread::scope(|scope| {
            let beside = scope.spawn(|| beside(&self));
            let counted = self.count();
            self.done.store(true, Ordering::Relaxed);
            let beside_failed = beside.join().is_err();
            (counted.0 || beside_failed, counted.1)
        });
        let ledgers = fs::read_dir(self.directory.path())
            .unwrap()
            .map(Result::unwrap);
        let acknowledged = ledgers
            .filter(|entry| entry.file_name().to_string_lossy().starts_with("ledger-"))
            .map(|entry| entry.metadata().unwrap().len())
            .sum();
        Outcome {
            acknowledged,
            killed,
            value: self.value(),
            failed,
        }
    }

    fn value(&self) -> Option<u64> {
        let wait = Duration::from_secs(30);
        let store = self.store();
        let found = store.lock(&self.id.digest(), wait, SystemTime::now());
        // A session that nobody can read any more is as good as gone.
        found
            .ok()?
            .map(|(stored, _)| worker::number(&stored.record))
    }

    /// Whether a process failed, and how many were killed.
    fn count(&self) -> (bool, u64) {
        let mut workers: Vec<Worker> = (0..PROCESSES).map(|_| self.spawn()).collect();
        let (mut failed, mut killed) = (false, 0);
        for number in 0..self.kills {
            let turn = usize::try_from(number).unwrap() % PROCESSES;
            // Let somebody get something done first.
            let before = self.progress();
            let deadline = Instant::now() + DEADLINE;
            while self.progress() < before + 20 && Instant::now() < deadline && !failed {
                failed |= workers.iter_mut().any(Worker::has_failed);
                thread::sleep(Duration::from_millis(1));
            }
            match workers[turn].kill() {
                Killed::Running => killed += 1,
                Killed::Done => {}
                Killed::Failed => failed = true,
            }
            if failed {
                break;
            }
            workers[turn] = self.spawn();
        }
        if self.kills > 0 {
            fs::write(self.directory.path().join("stop"), "").unwrap();
        }
        for worker in &mut workers {
            failed |= worker.is_failed_at_end();
        }
        (failed, killed)
    }

    fn progress(&self) -> u64 {
        let entries = fs::read_dir(self.directory.path()).unwrap();
        entries
            .map(|entry| entry.unwrap().metadata().unwrap().len())
            .sum()
    }

    fn spawn(&self) -> Worker {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args([
                "worker::process",
                "--exact",
                "--nocapture",
                "--test-threads=1",
            ])
            .env(VARIANT, self.variant)
            .env(DIRECTORY, self.directory.path())
            .env(ID, self.id.secret())
            .env(INCREMENTS, self.increments.to_string())
            .env(SIZES, self.sizes.to_string())
            .env("RUST_BACKTRACE", "0")
            .stdout(Stdio::null());
        if !worker::is_sound(self.variant) {
            // What it fails at is what is looked for.
            command.stderr(Stdio::null());
        }
        Worker(command.spawn().unwrap())
    }
}

/// Does `work` again and again until the processes have ended.
pub(crate) fn until_done(race: &Race, mut work: impl FnMut()) {
    while !race.done.load(Ordering::Relaxed) {
        work();
    }
}

/// A process that does not outlive its race.
struct Worker(Child);

enum Killed {
    Running,
    Done,
    Failed,
}

impl Worker {
    fn has_failed(&mut self) -> bool {
        let ended = self.0.try_wait().unwrap();
        ended.is_some_and(|status| !status.success())
    }

    fn kill(&mut self) -> Killed {
        // One that has ended already cannot be killed: its status tells.
        let _ = self.0.kill();
        let status = self.0.wait().unwrap();
        match status.code() {
            None => Killed::Running,
            Some(0) => Killed::Done,
            Some(_) => Killed::Failed,
        }
    }

    fn is_failed_at_end(&mut self) -> bool {
        let deadline = Instant::now() + DEADLINE;
        while Instant::now() < deadline {
            if let Some(status) = self.0.try_wait().unwrap() {
                return !status.success();
            }
            thread::sleep(Duration::from_millis(2));
        }
        true
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // One that has ended already cannot be killed, and needs not be.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
