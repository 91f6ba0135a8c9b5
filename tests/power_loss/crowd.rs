//! Many saves by several processes, cut at a random moment. The ledger is what the processes said
//! through pipes: it lies on no disk.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;

use cgi_session::SessionId;

use crate::rig::begin;
use crate::verdict::{Inspection, Kind, State};
use testkit::disk::{Cut, Ext4, Room};
use testkit::{DEADLINE, example};

const PROCESSES: u64 = 3;
const SESSIONS: usize = 4;

/// What the processes have said of one session.
#[derive(Default)]
struct Account {
    /// The greatest number that was said to be saved.
    saved: u64,
    is_ending: bool,
    has_ended: bool,
}

/// Lets the processes run until they have said so many things, cuts the power, and looks.
pub(crate) fn cut_after(room: &Room, kind: Kind, lines: usize, options: &str) -> Vec<String> {
    let disk = Ext4::format(&room.path().join("crowd"), &room.path().join("disk"), &[]);
    disk.mount();
    let directory = disk.place().join("sessions");
    let manager = kind.manager(&directory);
    let first = State { n: 0, length: 0 };
    let ids: Vec<_> = (0..SESSIONS)
        .map(|_| begin(&manager, first, None))
        .collect();
    drop(manager);
    disk.unmount();

    let disk = disk.copy(options);
    disk.mount();
    let (heard, processes) = start(&disk, kind, &ids);
    let mut said: Vec<String> = Vec::new();
    while said.len() < lines {
        said.push(heard.recv_timeout(DEADLINE).expect("the processes save"));
    }
    disk.cut(Cut::Everything);
    drop(processes);
    said.extend(heard);
    disk.unmount();

    disk.mount();
    let violations = compare(kind, &disk, &said);
    disk.unmount();
    violations
}

/// A process that does not outlive its disk.
struct Worker(Child);

impl Drop for Worker {
    fn drop(&mut self) {
        // It may have ended by itself, for its disk fails.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(disk: &Ext4, kind: Kind, ids: &[SessionId]) -> (Receiver<String>, Vec<Worker>) {
    let (sender, heard) = mpsc::channel();
    let start = |_| {
        let mut command = Command::new(example("operation"));
        command.arg("crowd").arg(disk.place().join("sessions"));
        command.args([kind.durability, &kind.store()]);
        command.args(ids.iter().map(SessionId::secret));
        let piped = command.stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = piped.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let sender = sender.clone();
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                // Whoever counts the lines has failed, and says so.
                let _ = sender.send(line);
            }
        });
        Worker(child)
    };
    let workers = (0..PROCESSES).map(start).collect();
    (heard, workers)
}

fn compare(kind: Kind, disk: &Ext4, said: &[String]) -> Vec<String> {
    let mut accounts = BTreeMap::<&str, Account>::new();
    for line in said {
        let words: Vec<_> = line.split(' ').collect();
        let account = accounts.entry(words[1]).or_default();
        match words[0] {
            "saved" => account.saved = account.saved.max(words[2].parse().unwrap()),
            "ending" => account.is_ending = true,
            "ended" => account.has_ended = true,
            word => panic!("what is {word}?"),
        }
    }
    let mut inspection = Inspection::new(kind, &disk.place().join("sessions"));
    let mut wrong = Vec::new();
    for (id, account) in accounts {
        let id = SessionId::parse(id.as_bytes()).unwrap();
        let n = inspection.state(&id).map(|state| state.n);
        // Each process may have saved once more without having said so.
        let is_saved = n.is_some_and(|n| (account.saved..=account.saved + PROCESSES).contains(&n));
        let is_right = match (account.is_ending, account.has_ended) {
            (_, true) => n.is_none(),
            (true, false) => n.is_none() || is_saved,
            (false, false) => is_saved,
        };
        if !is_right {
            let saved = account.saved;
            let ended = account.has_ended;
            wrong.push(format!("{n:?}, but {saved} was saved, and ended: {ended}"));
        }
    }
    wrong.append(&mut inspection.violations);
    wrong
}
