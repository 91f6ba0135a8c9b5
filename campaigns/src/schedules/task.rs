//! [`Pair`]: two tasks at once, what there is before, and what may come of it; and the process that does one.

use std::fmt;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::panic::{self, AssertUnwindSafe};

use cgi_session::Result;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use testkit::prelude::*;

use crate::operation::USER;
use crate::process::{self, Task};
use crate::requests::Requests;
use crate::subject::Subject;

#[derive(Clone)]
pub(super) struct Pair {
    before: String,
    pub(super) tasks: [String; 2],
    /// What some order must end in.
    pub(super) ends: Vec<String>,
    /// What an order may end in besides.
    pub(super) possible: Vec<String>,
}

/// What a process is told.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Order {
    pub(super) task: String,
    pub(super) directory: PathBuf,
}

impl Pair {
    /// Reads `BEFORE: TASK | TASK`, and its ends.
    pub(super) fn parse(head: &str, ends: &[&str]) -> Self {
        let (before, tasks) = head.split_once(": ").expect("what there is before");
        let (one, other) = tasks.split_once(" | ").expect("two tasks");
        let ends = ends.iter().map(|end| end.trim());
        let (possible, ends): (Vec<&str>, Vec<&str>) = ends.partition(|end| end.starts_with('?'));
        let owned = |text: &str| text.trim_start_matches("? ").to_owned();
        Pair {
            before: before.to_owned(),
            tasks: [one, other].map(owned),
            ends: ends.into_iter().map(owned).collect(),
            possible: possible.into_iter().map(owned).collect(),
        }
    }

    /// Makes what there is before.
    pub(super) fn prepare(&self, subject: &Subject, directory: &Path) {
        let requests = Requests::of(subject, directory, || ());
        let draws_an_id = |task: &String| task.starts_with("re") && task != "read";
        if subject.setting("shards").is_some() && self.tasks.iter().any(draws_an_id) {
            // As the id is drawn, its shard would have to be made or be that of the other.
            let mut shards = DirBuilder::new();
            shards.recursive(true).mode(0o700);
            for shard in 0..=u8::MAX {
                let shard = directory.join(format!("{shard:02x}"));
                shards.create(shard).unwrap();
            }
        }
        let create = |number, user| {
            let created = requests.create(&id(number), number + 1, user);
            assert!(created.unwrap());
        };
        match self.before.as_str() {
            "nothing" => fs::create_dir_all(directory).unwrap(),
            "first" => create(0, None),
            "first expired" => {
                create(0, None);
                requests.expire(&id(0)).unwrap();
            }
            "both" => {
                create(0, None);
                create(1, None);
                // Else chance would say which of them was unused longest. So soon no reader counts as use.
                requests.age(&id(0), 20);
                requests.age(&id(1), 10);
            }
            "first of user" => create(0, Some(USER)),
            "second of user" => {
                create(0, None);
                create(1, Some(USER));
            }
            "both of user" => {
                create(0, Some(USER));
                create(1, Some(USER));
            }
            "second after first" => {
                create(0, None);
                requests.renew_as(&id(0), &id(1), 2).unwrap();
            }
            unknown => panic!("what is there before in {unknown:?}?"),
        }
    }
}

impl fmt::Display for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [one, other] = &self.tasks;
        write!(f, "{}: {one} | {other}", self.before)
    }
}

/// Does what each line of stdin says.
pub(crate) fn run(task: &Task) {
    panic::set_hook(Box::new(|_| ()));
    stay_on_one_processor();
    // A process looks at its first file alone to know the umask: that is done before any order.
    let place = process::memory();
    let first = Requests::of(&task.subject, &place.path().join("sessions"), || ());
    assert!(first.create(&id(0), 1, None).unwrap());
    drop(place);
    let mut out = io::stdout().lock();
    out.write_all(b"ready\n").unwrap();
    for line in io::stdin().lock().lines() {
        let order: Order = serde_json::from_str(&line.unwrap()).unwrap();
        let requests = Requests::of(&task.subject, &order.directory, || ());
        let done = panic::catch_unwind(AssertUnwindSafe(|| perform(&requests, &order.task)));
        let answer = match done {
            Ok(Ok(answer)) => answer,
            Ok(Err(Error::Busy { .. })) => "busy".to_owned(),
            Ok(Err(Error::Replaced)) => "turned away".to_owned(),
            Ok(Err(error)) => format!("failed: {}", error.one_line()),
            Err(_) => "half a record".to_owned(),
        };
        // One call, and none on the sessions: when it is made makes no difference.
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
pub(super) fn id(number: u64) -> SessionId {
    SessionId::parse(format!("{number:040x}").as_bytes()).unwrap()
}

fn perform(requests: &Requests, task: &str) -> Result<String> {
    let (first, second) = (id(0), id(1));
    let was = |verb: &str, number: Option<u64>| match number {
        Some(number) => format!("{verb} {number}"),
        None => "none".to_owned(),
    };
    let began = |verb: &str, before: Option<u64>| {
        before.map_or("began".to_owned(), |before| was(verb, Some(before)))
    };
    let words: Vec<&str> = task.split(' ').collect();
    let number = |word: &str| word.parse::<u64>().expect("a number");
    let save = |word: &str| -> Result<String> {
        Ok(was("saved over", requests.save(&first, number(word))?))
    };
    Ok(match words[..] {
        ["read"] => was("read", requests.read(&first)?),
        // 5, 8 and every third number after them into a larger file, the others in place.
        ["save", n] => save(n)?,
        // Two requests, one after the other.
        ["save", one, other] => format!("{}, {}", save(one)?, save(other)?),
        ["start", n] => began("saved over", requests.start(&first, number(n), None)?),
        ["start", n, "of", "user"] => {
            let before = requests.start(&first, number(n), Some(USER))?;
            began("saved over", before)
        }
        // A session of its own.
        ["begin", n] => began("found", requests.start(&id(number(n)), number(n), None)?),
        ["destroy"] => was("destroyed", requests.destroy(&first)?),
        ["destroy", "second"] => was("destroyed", requests.destroy(&second)?),
        ["renew", n] => {
            let renewed = requests.renew(&first, number(n))?;
            was("renewed", renewed.map(|(number, _)| number))
        }
        // A new id, while the old one can be read under.
        ["replace", n] => was("replaced", requests.replace(&first, number(n))?),
        ["clean", "up"] => format!("cleaned {}", requests.clean_up()?.deleted),
        // In two hours, when no request has used the session meanwhile.
        ["clean", "up", "later"] => format!("cleaned {}", requests.clean_up_later()?.deleted),
        ["log", "in"] => was("logged in", requests.log_in(&first, USER)?),
        ["log", "out", "everywhere"] => {
            format!("logged out {}", requests.log_out_everywhere(USER)?)
        }
        _ => panic!("what is {task:?}?"),
    })
}
