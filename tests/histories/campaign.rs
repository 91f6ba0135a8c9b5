//! A campaign: processes that live for many rounds, each a short history that begins with nothing.

use std::env;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::history::{Event, History, Moment};
use crate::sessions::{Answer, Door, Name, Operation};
use crate::worker::{self, DIRECTORY, Round, STORE};
use testkit::subject::{ENGINE, Subject};

/// Where to put the sessions.
const PLACE: &str = "HISTORIES_PLACE";
const PROCESSES: usize = 4;
/// In one round of so many a process is killed.
const KILLS: u64 = 10;
/// Enough for all processes to have heard of a round before it begins.
const PREPARATION: Moment = 150_000;
const DEADLINE: Duration = Duration::from_secs(120);
const SESSIONS: [Name; 2] = [Name(0), Name(1)];

pub(crate) struct Campaign {
    store: &'static str,
    /// The directory of the sessions, or the configuration that says where they are.
    sessions: PathBuf,
    _directory: tempfile::TempDir,
    workers: Vec<Worker>,
    subject: Subject,
}

/// What a campaign has seen.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) histories: u64,
    pub(crate) operations: u64,
    pub(crate) overlapping: u64,
    pub(crate) killed: u64,
    /// Operations of which nobody knows whether they were done.
    pub(crate) open: u64,
    pub(crate) busy: u64,
    /// Requests that found the marker of a changed id.
    pub(crate) turned_away: u64,
}

impl Campaign {
    pub(crate) fn of(store: &'static str) -> Self {
        let directory = place();
        let sessions = directory.path().join("sessions");
        Campaign::begin(store, directory, sessions)
    }

    /// The same in an engine, with these settings.
    pub(crate) fn of_engine(settings: &[(&str, String)]) -> Self {
        let directory = place();
        let config = directory.path().join("config.ini");
        let lines = settings
            .iter()
            .map(|(key, value)| format!("{key} = {value}"));
        let lines: Vec<String> = lines.collect();
        let text = format!("[session]\nlockTimeout = 600s\n{}\n", lines.join("\n"));
        fs::write(&config, text).unwrap();
        Campaign::begin(ENGINE, directory, config)
    }

    fn begin(store: &'static str, directory: tempfile::TempDir, sessions: PathBuf) -> Self {
        let subject = Subject::open(store, &sessions, || ());
        let start = |_| Worker::start(store, &sessions);
        Campaign {
            store,
            workers: (0..PROCESSES).map(start).collect(),
            subject,
            sessions,
            _directory: directory,
        }
    }

    /// Runs so many histories, until one is wrong: that is the error.
    pub(crate) fn run(
        &mut self,
        seed: u64,
        histories: u64,
        is_wrong: fn(&History) -> bool,
    ) -> Result<Tally, String> {
        let mut tally = Tally::default();
        for round in 0..histories {
            let seed = seed.wrapping_add(round);
            let history = self.round(seed, &mut tally);
            if is_wrong(&history) {
                return Err(format!(
                    "no order of these operations explains the answers (seed {seed}, history {round}):\n{history}"
                ));
            }
        }
        Ok(tally)
    }

    fn round(&mut self, seed: u64, tally: &mut Tally) -> History {
        self.clear();
        let mut chance = StdRng::seed_from_u64(seed);
        let mut history = History::default();
        if chance.random_bool(0.7) {
            self.ask(seed, &mut history, Operation::Create(SESSIONS[0], 1));
        }
        let processes = chance.random_range(3..=PROCESSES);
        let mut round = Round {
            seed,
            process: 0,
            operations: chance.random_range(2..=4),
            sessions: chance.random_range(1..=2),
            is_of_ends: chance.random_bool(0.3),
            start: worker::now() + PREPARATION,
            tells_at_once: chance.random_range(0..KILLS) == 0,
        };
        for worker in &mut self.workers[..processes] {
            worker.tell(&round);
            round.process += 1;
        }
        let victim = round.tells_at_once.then(|| {
            let victim = chance.random_range(0..processes);
            // What goes to an engine and back takes longer.
            let longest = if self.store == ENGINE {
                4_000_000
            } else {
                400_000
            };
            let end = round.start + chance.random_range(0..longest);
            while worker::now() < end {
                thread::yield_now();
            }
            self.workers[victim].kill();
            history.note_death();
            victim
        });
        for (process, worker) in self.workers[..processes].iter().enumerate() {
            while let Some(event) = worker.hear(victim == Some(process)) {
                history.add(process, event);
            }
        }
        for name in SESSIONS {
            self.ask(seed, &mut history, Operation::Read(name, Door::Store));
        }
        if let Some(victim) = victim {
            self.workers[victim] = Worker::start(self.store, &self.sessions);
        }
        tally.note(&history, victim.is_some());
        history
    }

    /// Something that is done before or after all processes.
    fn ask(&self, seed: u64, history: &mut History, operation: Operation) {
        history.add(PROCESSES, Event::Asked(worker::now(), operation));
        // Not through the manager: this process is that of other campaigns, too.
        let answer = match operation {
            Operation::Create(name, number) => {
                let created = self.subject.create(&worker::known_id(seed, name), number);
                created.map(Answer::Created)
            }
            Operation::Read(name, _) => {
                let read = self.subject.read_record(&worker::known_id(seed, name));
                read.map(Answer::Was)
            }
            other => panic!("nobody asks for this here: {other}"),
        };
        let answer = answer.unwrap_or_else(|error| Answer::Failed(error.to_string()));
        history.add(PROCESSES, Event::Answered(worker::now(), answer));
    }

    /// Begins with nothing: who was killed may have left half a file.
    fn clear(&self) {
        if self.store == ENGINE {
            return self.subject.clear().unwrap();
        }
        let Ok(entries) = fs::read_dir(&self.sessions) else {
            return;
        };
        for entry in entries.map(Result::unwrap) {
            fs::remove_file(entry.path()).unwrap();
        }
    }
}

/// A directory in memory where there is one: on a disk everybody waits for it most of the time, and
/// little happens at once.
fn place() -> tempfile::TempDir {
    let place = env::var_os(PLACE).unwrap_or_else(|| "/dev/shm".into());
    tempfile::tempdir_in(place)
        .or_else(|_| tempfile::tempdir())
        .unwrap()
}

impl Tally {
    fn note(&mut self, history: &History, is_killed: bool) {
        self.histories += 1;
        self.operations += history.operations();
        self.overlapping += u64::from(history.has_overlap());
        self.killed += u64::from(is_killed);
        self.open += history.operations() - history.answers(|_| true);
        self.busy += history.answers(|answer| *answer == Answer::Busy);
        self.turned_away += history.answers(|answer| *answer == Answer::Replaced);
    }
}

struct Worker {
    child: Child,
    stdin: ChildStdin,
    events: Receiver<Event>,
}

impl Worker {
    fn start(store: &str, directory: &Path) -> Self {
        let mut child = Command::new(env::current_exe().unwrap())
            .args([
                "worker::process",
                "--exact",
                "--nocapture",
                "--test-threads=1",
            ])
            .env(STORE, store)
            .env(DIRECTORY, directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, events) = channel();
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                // The test runner speaks, too; and a killed process may leave half a line.
                if let Ok(event) = serde_json::from_str(&line)
                    && sender.send(event).is_err()
                {
                    return;
                }
            }
        });
        Worker {
            child,
            stdin,
            events,
        }
    }

    fn tell(&mut self, round: &Round) {
        let line = serde_json::to_string(round).unwrap() + "\n";
        self.stdin.write_all(line.as_bytes()).unwrap();
    }

    /// The next event of this round.
    fn hear(&self, may_be_dead: bool) -> Option<Event> {
        match self.events.recv_timeout(DEADLINE) {
            Ok(Event::End) => None,
            Ok(event) => Some(event),
            Err(_) if may_be_dead => None,
            Err(error) => panic!("a process has not answered: {error}"),
        }
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // One that was killed before cannot be killed again, and needs not be.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
