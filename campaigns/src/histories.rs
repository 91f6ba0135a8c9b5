//! Random histories: processes live for many rounds, each a short history that begins with an empty store. Some order
//! of the operations, done one after the other, must explain every answer.

mod history;
mod specification;
pub(crate) mod worker;

use std::process::ChildStdin;
use std::sync::mpsc::{Receiver, channel};

use crate::campaign::{Campaign, Case, Trial};
use crate::process::{self, Process, Role, Task};
use crate::requests::Requests;
use crate::subject::Subject;
use history::{Event, History, Moment};
use specification::{Answer, Door, Name, Operation};
use testkit::broken::Fault;
use testkit::prelude::*;
use worker::Round;

pub(crate) const CAMPAIGN: Campaign = Campaign {
    name: "histories",
    about: "some order explains every answer that processes get at once (linearizability)",
    seconds: 300,
    is_sampled: false,
    cases,
};

const PROCESSES: usize = 4;
/// In one round of so many a process is killed.
const KILLS: u64 = 10;
/// Enough for all processes to have read their orders before a round begins.
const PREPARATION: Moment = 150_000;
const DEADLINE: Duration = Duration::from_secs(120);
const SESSIONS: [Name; 2] = [Name(0), Name(1)];

fn cases() -> Vec<Case> {
    let case = |subject: Subject| {
        let name = subject.name.clone();
        Case::new(&name, "", move |trial| attempt(&subject, trial))
    };
    let control = |fault| case(Subject::broken(fault)).finding(&["no order of these operations"]);
    let mut cases = vec![
        control(Fault::NoLock),
        control(Fault::NoLinkCheck),
        control(Fault::Resurrect),
        control(Fault::SweepWithoutLock),
        control(Fault::ForgetEnd),
        control(Fault::DestroyAtEnd),
        control(Fault::LockFileRemoved),
        case(Subject::broken(Fault::Nothing)),
        case(Subject::file()),
    ];
    cases.extend(Subject::ENGINES.map(|engine| case(Subject::of(engine))));
    cases
}

fn attempt(subject: &Subject, trial: &mut Trial) {
    let Some(subject) = subject.in_engine() else {
        return trial.skip("not installed");
    };
    let mut crew = Crew::start(&subject);
    let seed = trial.seed;
    let mut round = 0;
    while round < trial.rounds && trial.goes_on_until(has_tried_all(trial)) {
        let seed = seed.wrapping_add(round);
        let history = crew.round(seed, trial);
        // An error shows without any of this: a control must be noticed by what it does in silence.
        let is_loud = trial.is_control() && history.has_failures();
        if !is_loud && !history.is_linearizable() {
            trial.violation(format!(
                "no order of these operations explains the answers (round with --seed {seed}):\n{history}"
            ));
        }
        round += 1;
    }
    if trial.rounds == u64::MAX && !trial.is_control() && !has_tried_all(trial) {
        trial.violation("too little was tried".to_owned());
    }
}

fn has_tried_all(trial: &Trial) -> bool {
    let kinds = ["killed", "unanswered", "turned away"];
    20 * trial.counted("overlapping") > trial.counted("histories")
        && kinds.into_iter().all(|kind| trial.counted(kind) > 0)
}

struct Crew {
    subject: Subject,
    sessions: PathBuf,
    _directory: tempfile::TempDir,
    members: Vec<Member>,
    requests: Requests,
}

impl Crew {
    fn start(subject: &Subject) -> Self {
        let directory = process::memory();
        let sessions = directory.path().join("sessions");
        subject.prepare(&sessions);
        let start = |_| Member::start(subject, &sessions);
        Crew {
            members: (0..PROCESSES).map(start).collect(),
            requests: Requests::of(subject, &sessions, || ()),
            subject: subject.clone(),
            sessions,
            _directory: directory,
        }
    }

    fn round(&mut self, seed: u64, trial: &mut Trial) -> History {
        self.clear();
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut history = History::default();
        if rng.u8(0..10) < 7 {
            self.ask(seed, &mut history, Operation::Create(SESSIONS[0], 1));
        }
        let processes = rng.usize(3..=PROCESSES);
        let mut round = Round {
            seed,
            process: 0,
            operations: rng.u64(2..=4),
            sessions: rng.u64(1..=2),
            is_of_ends: rng.u8(0..10) < 3,
            start: worker::now() + PREPARATION,
            tells_at_once: rng.u64(0..KILLS) == 0,
        };
        for member in &mut self.members[..processes] {
            member.tell(&round);
            round.process += 1;
        }
        let victim = round.tells_at_once.then(|| {
            let victim = rng.usize(0..processes);
            // What goes to an engine and back takes longer.
            let longest = [400_000, 4_000_000][usize::from(self.subject.is_engine())];
            let end = round.start + rng.u64(0..longest);
            while worker::now() < end {
                thread::yield_now();
            }
            self.members[victim].process.kill().unwrap();
            history.note_death();
            victim
        });
        for (process, member) in self.members[..processes].iter().enumerate() {
            while let Some(event) = member.hear(victim == Some(process)) {
                history.add(process, event);
            }
        }
        for name in SESSIONS {
            self.ask(seed, &mut history, Operation::Read(name, Door::Store));
        }
        if let Some(victim) = victim {
            self.members[victim] = Member::start(&self.subject, &self.sessions);
        }
        note(trial, &history, victim.is_some());
        history
    }

    /// Something that is done before or after all processes.
    fn ask(&self, seed: u64, history: &mut History, operation: Operation) {
        history.add(PROCESSES, Event::Asked(worker::now(), operation));
        let answer = match operation {
            Operation::Create(name, number) => {
                let id = worker::known_id(seed, name);
                let created = self.requests.create(&id, number, None);
                created.map(Answer::Created)
            }
            Operation::Read(name, _) => {
                let read = self.requests.read_record(&worker::known_id(seed, name));
                read.map(Answer::Was)
            }
            other => unreachable!("{other} is done by processes alone"),
        };
        let answer = answer.unwrap_or_else(|error| Answer::Failed(error.to_string()));
        history.add(PROCESSES, Event::Answered(worker::now(), answer));
    }

    /// Begins with an empty store: a process that was killed may have left half a file.
    fn clear(&self) {
        if !self.subject.has_files() {
            return self.requests.clear().unwrap();
        }
        for entry in fs::read_dir(&self.sessions).into_iter().flatten() {
            fs::remove_file(entry.unwrap().path()).unwrap();
        }
    }
}

fn note(trial: &mut Trial, history: &History, is_killed: bool) {
    let answered = history.answers(|_| true);
    trial.count("histories", 1);
    trial.count("operations", history.operations());
    trial.count("overlapping", u64::from(history.has_overlap()));
    trial.count("killed", u64::from(is_killed));
    trial.count("unanswered", history.operations() - answered);
    for (what, like) in [("busy", Answer::Busy), ("turned away", Answer::Replaced)] {
        trial.count(what, history.answers(|answer| *answer == like));
    }
}

/// A process that does what it is told and says what came of it.
struct Member {
    process: Process,
    stdin: ChildStdin,
    events: Receiver<Event>,
}

impl Member {
    fn start(subject: &Subject, sessions: &Path) -> Self {
        let mut command = Task::new(subject, sessions, Role::History).command();
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = Process::spawn(&mut command).unwrap();
        let stdin = process.child().stdin.take().unwrap();
        let stdout = BufReader::new(process.child().stdout.take().unwrap());
        let (sender, events) = channel();
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                // A killed process may leave half a line.
                if let Ok(event) = serde_json::from_str(&line)
                    && sender.send(event).is_err()
                {
                    return;
                }
            }
        });
        Member {
            process,
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
}
