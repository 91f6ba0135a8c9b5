//! What one of the two processes does: one task for each order.

use std::io::{self, BufRead as _, Write as _};
use std::panic::{self, AssertUnwindSafe};
use std::path::PathBuf;

use cgi_session::{Error, Result, SessionId};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use testkit::subject::Subject;

pub(crate) const STORE: &str = "SCHEDULES_STORE";
/// The user of the sessions that have one.
pub(crate) const USER: &str = "ada";

/// What to do, mostly with the first session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Task {
    Read,
    /// In place; 5, 8 and every third number after them into a larger file.
    Save(u64),
    /// Two requests, one after the other.
    SaveTwice(u64, u64),
    Start(u64),
    /// The same, as the user.
    StartOfUser(u64),
    /// Begins a session of its own.
    Begin(u64),
    Destroy,
    DestroySecond,
    Renew(u64),
    /// Gives it a new id, and leaves the old one to be read under.
    Replace(u64),
    CleanUp,
    /// As a clean-up in two hours, when nobody has used the session meanwhile.
    CleanUpLater,
    LogIn,
    LogOutEverywhere,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) task: Task,
    pub(crate) directory: PathBuf,
}

/// The process: of no use when it runs as a test.
#[test]
fn process() {
    let Ok(store) = std::env::var(STORE) else {
        return;
    };
    panic::set_hook(Box::new(|_| ()));
    stay_on_one_processor();
    let mut out = io::stdout().lock();
    out.write_all(b"\nready\n").unwrap();
    for line in io::stdin().lock().lines() {
        let order: Order = serde_json::from_str(&line.unwrap()).unwrap();
        let subject = Subject::open(&store, &order.directory, || ());
        let answer = match panic::catch_unwind(AssertUnwindSafe(|| perform(&subject, order.task))) {
            Ok(Ok(answer)) => answer,
            Ok(Err(Error::Busy { .. })) => "busy".to_owned(),
            Ok(Err(Error::Replaced)) => "turned away".to_owned(),
            Ok(Err(error)) => format!("failed: {}", error.to_string().replace('\n', " ")),
            Err(_) => "half a record".to_owned(),
        };
        // One call, and none on the sessions: nobody has to be told when it is made.
        out.write_all((answer + "\n").as_bytes()).unwrap();
    }
}

/// A clean-up goes through shards in as many threads as there are processors, which no order could hold.
fn stay_on_one_processor() {
    let thread = Pid::from_raw(0);
    let allowed = sched_getaffinity(thread).unwrap();
    let mut numbers = 0..CpuSet::count();
    let first = numbers.find(|number| allowed.is_set(*number).unwrap());
    let mut one = CpuSet::new();
    one.set(first.unwrap()).unwrap();
    sched_setaffinity(thread, &one).unwrap();
}

/// The id of a session that both processes know.
pub(crate) fn id(number: u64) -> SessionId {
    SessionId::parse(format!("{number:040x}").as_bytes()).unwrap()
}

fn perform(subject: &Subject, task: Task) -> Result<String> {
    let (first, second) = (id(0), id(1));
    let was = |verb: &str, number: Option<u64>| match number {
        Some(number) => format!("{verb} {number}"),
        None => "none".to_owned(),
    };
    Ok(match task {
        Task::Read => was("read", subject.read(&first)?),
        Task::Save(number) => was("saved over", subject.save(&first, number)?),
        Task::SaveTwice(one, other) => {
            let [one, other] = [subject.save(&first, one)?, subject.save(&first, other)?];
            format!("{}, {}", was("saved over", one), was("saved over", other))
        }
        Task::Start(number) => match subject.start(&first, number)? {
            None => "began".to_owned(),
            before => was("saved over", before),
        },
        Task::StartOfUser(number) => match subject.start_of(&first, number, USER)? {
            None => "began".to_owned(),
            before => was("saved over", before),
        },
        Task::Begin(number) => {
            let before = subject.start(&id(number), number)?;
            before.map_or("began".to_owned(), |number| format!("found {number}"))
        }
        Task::Destroy => was("destroyed", subject.destroy(&first)?),
        Task::DestroySecond => was("destroyed", subject.destroy(&second)?),
        Task::Renew(number) => was(
            "renewed",
            subject.renew(&first, number)?.map(|(number, _)| number),
        ),
        Task::Replace(number) => was("replaced", subject.replace(&first, number)?),
        Task::CleanUp => format!("cleaned {}", subject.clean_up()?.deleted),
        Task::CleanUpLater => format!("cleaned {}", subject.clean_up_later()?.deleted),
        Task::LogIn => was("logged in", subject.log_in(&first, USER)?),
        Task::LogOutEverywhere => format!("logged out {}", subject.log_out_everywhere(USER)?),
    })
}
