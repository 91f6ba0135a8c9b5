//! One process of the histories: draws what it does from the seed of each round, does it, and says
//! when and with what answer.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};

use cgi_session::Result;
use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use testkit::prelude::*;

use super::history::{Event, Moment};
use super::specification::{Answer, Door, Name, Operation};
use crate::process::Task;
use crate::requests::Requests;

/// What a process is told for one round.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Round {
    pub(crate) seed: u64,
    pub(crate) process: u64,
    pub(crate) operations: u64,
    /// How many of the two sessions that all know are used.
    pub(crate) sessions: u64,
    pub(crate) is_of_ends: bool,
    /// All begin at this moment.
    pub(crate) start: Moment,
    /// One of the processes will be killed, and must have told before what it was about to do.
    pub(crate) tells_at_once: bool,
}

/// Does what each line of stdin says.
pub(crate) fn run(task: &Task) {
    panic::set_hook(Box::new(|_| ()));
    let requests = Requests::of(&task.subject, &task.directory, dawdle);
    let mut teller = Teller {
        out: io::stdout().lock(),
        is_waiting: false,
        untold: Vec::new(),
    };
    for line in io::stdin().lock().lines() {
        let round: Round = serde_json::from_str(&line.unwrap()).unwrap();
        teller.is_waiting = !round.tells_at_once;
        Worker::new(&requests, round).run(&mut teller);
    }
}

/// Lets others run while a session is held.
fn dawdle() {
    for _ in 0..fastrand::u8(0..3) {
        thread::yield_now();
    }
}

pub(crate) fn now() -> Moment {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap();
    u64::try_from(time.tv_sec()).unwrap() * 1_000_000_000 + u64::try_from(time.tv_nsec()).unwrap()
}

/// The ids of the sessions that all processes of a round know.
pub(crate) fn known_id(seed: u64, name: Name) -> SessionId {
    SessionId::parse(format!("{seed:024x}{:016x}", name.0).as_bytes()).unwrap()
}

/// Tells at once, or when the round is over: telling takes time, in which nothing overlaps.
struct Teller<W> {
    out: W,
    is_waiting: bool,
    untold: Vec<Event>,
}

impl<W: io::Write> Teller<W> {
    fn tell(&mut self, event: Event) {
        self.untold.push(event);
        if !self.is_waiting {
            self.flush();
        }
    }

    fn flush(&mut self) {
        let lines = self.untold.drain(..).map(|event| {
            let line = serde_json::to_string(&event).unwrap();
            line + "\n"
        });
        let lines: String = lines.collect();
        self.out.write_all(lines.as_bytes()).unwrap();
        self.out.flush().unwrap();
    }
}

struct Worker<'a> {
    requests: &'a Requests,
    round: Round,
    rng: fastrand::Rng,
    ids: BTreeMap<Name, SessionId>,
    numbers: u64,
    last: Cell<Moment>,
}

impl<'a> Worker<'a> {
    fn new(requests: &'a Requests, round: Round) -> Self {
        let names = (0..round.sessions).map(Name);
        Worker {
            requests,
            rng: fastrand::Rng::with_seed(round.seed.wrapping_mul(64) + round.process),
            ids: names
                .map(|name| (name, known_id(round.seed, name)))
                .collect(),
            numbers: 0,
            last: Cell::new(0),
            round,
        }
    }

    fn run(mut self, teller: &mut Teller<impl io::Write>) {
        while now() < self.round.start {
            thread::yield_now();
        }
        for _ in 0..self.round.operations {
            let operation = self.draw();
            teller.tell(Event::Asked(self.moment(), operation));
            let answer = self.perform(operation);
            teller.tell(Event::Answered(self.moment(), answer));
        }
        teller.tell(Event::End);
        teller.flush();
    }

    /// Later than every moment before.
    fn moment(&self) -> Moment {
        self.last.set(now().max(self.last.get() + 1));
        self.last.get()
    }

    fn draw(&mut self) -> Operation {
        let names: Vec<Name> = self.ids.keys().copied().collect();
        let name = names[self.rng.usize(0..names.len())];
        let door = if self.rng.bool() {
            Door::Manager
        } else {
            Door::Store
        };
        self.numbers += 1;
        let own = 100 * (self.round.process + 1) + self.numbers;
        // Some rounds are all about the end of sessions, and their beginning again.
        let kinds = if self.round.is_of_ends { 14..20 } else { 0..20 };
        match self.rng.u8(kinds) {
            0 => Operation::Create(name, own),
            1..4 => Operation::Read(name, door),
            4..10 => Operation::Save(name, own, door),
            10..12 => Operation::Destroy(name, door),
            12..14 => Operation::Renew(name, Name(own), own),
            14..17 => Operation::Start(name, own),
            17 => Operation::Expire(name),
            _ => Operation::CleanUp,
        }
    }

    fn perform(&mut self, operation: Operation) -> Answer {
        // What a broken store makes of a record is one of the things that must be told.
        match panic::catch_unwind(AssertUnwindSafe(|| self.ask(operation))) {
            Ok(Ok(answer)) => answer,
            Ok(Err(Error::Busy { .. })) => Answer::Busy,
            Ok(Err(Error::Replaced)) => Answer::Replaced,
            Ok(Err(error)) => Answer::Failed(error.to_string()),
            Err(_) => Answer::Failed("what was found is no whole record".to_owned()),
        }
    }

    fn ask(&mut self, operation: Operation) -> Result<Answer> {
        let requests = self.requests;
        let id = |name: Name| &self.ids[&name];
        let before = match operation {
            Operation::Create(name, number) => {
                return requests.create(id(name), number, None).map(Answer::Created);
            }
            Operation::CleanUp => return requests.clean_up().map(|_| Answer::Done),
            Operation::Renew(name, new, number) => {
                let renewed = requests.renew(id(name), number)?;
                renewed.map(|(before, id)| {
                    self.ids.insert(new, id);
                    before
                })
            }
            Operation::Start(name, number) => requests.start(id(name), number, None)?,
            Operation::Read(name, Door::Manager) => requests.read(id(name))?,
            Operation::Read(name, Door::Store) => requests.read_record(id(name))?,
            Operation::Save(name, number, Door::Manager) => requests.save(id(name), number)?,
            Operation::Save(name, number, Door::Store) => requests.save_record(id(name), number)?,
            Operation::Destroy(name, Door::Manager) => requests.destroy(id(name))?,
            Operation::Destroy(name, Door::Store) => requests.destroy_record(id(name))?,
            Operation::Expire(name) => requests.expire(id(name))?,
        };
        Ok(Answer::Was(before))
    }
}
