//! [`Call`] and [`Run`]: which system calls an operation makes, and what became of it when one of them
//! went wrong.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::ground::Ground;
use crate::operation::Operation;

/// Calls that have nothing to do with files.
const OTHERS: [&str; 16] = [
    "brk",
    "exit_group",
    "futex",
    "getpid",
    "getrandom",
    "geteuid",
    "madvise",
    "mmap",
    "mprotect",
    "mremap",
    "munmap",
    "poll",
    "ppoll",
    "rt_sigaction",
    "rt_sigprocmask",
    "sigaltstack",
];

/// One system call of a program: the so-manieth of its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) name: String,
    number: usize,
}

/// What a program did that was disturbed.
pub(crate) struct Run {
    pub(crate) said: String,
    pub(crate) complained: String,
    /// Its exit code, if it was not killed.
    pub(crate) code: Option<i32>,
}

impl Run {
    /// Whether it ended by itself and in order.
    pub(crate) fn has_ended(&self) -> bool {
        self.code.is_some_and(|code| code == 0 || code == 1)
    }
}

/// The calls of an undisturbed operation, from the first that touches the sessions.
pub(crate) fn calls(operation: Operation, ground: &Ground, durability: &str) -> Vec<Call> {
    let log = ground.place.path().join("trace");
    let mut strace = Command::new("strace");
    strace.arg("-o").arg(&log);
    let run = run(strace, operation, ground, durability);
    assert!(
        operation.is_acknowledged(&run.said),
        "{operation:?}: {}{}",
        run.said,
        run.complained
    );
    let text = std::fs::read_to_string(&log).unwrap();
    storage_calls(&text, &ground.sessions())
}

fn storage_calls(trace: &str, sessions: &Path) -> Vec<Call> {
    let sessions = format!("\"{}", sessions.display());
    let mut all: Vec<Call> = Vec::new();
    let mut first = None;
    // The command line names the directory, too.
    for line in trace.lines().filter(|line| !line.starts_with("execve(")) {
        let Some((name, arguments)) = line.split_once('(') else {
            continue;
        };
        if first.is_none() && arguments.contains(&sessions) {
            first = Some(all.len());
        }
        let number = 1 + all.iter().filter(|call| call.name == name).count();
        let name = name.to_owned();
        all.push(Call { name, number });
    }
    let first = first.expect("a call that touches the sessions");
    all.drain(..first);
    all.retain(|call| !OTHERS.contains(&&*call.name));
    all
}

/// Runs the operation and kills it before this call.
pub(crate) fn kill(operation: Operation, ground: &Ground, durability: &str, call: &Call) -> Run {
    disturb(operation, ground, durability, call, "signal=KILL")
}

/// Runs the operation and lets this call fail.
pub(crate) fn fail(
    operation: Operation,
    ground: &Ground,
    durability: &str,
    call: &Call,
    error: &str,
) -> Run {
    disturb(
        operation,
        ground,
        durability,
        call,
        &format!("error={error}"),
    )
}

fn disturb(operation: Operation, ground: &Ground, durability: &str, call: &Call, how: &str) -> Run {
    let Call { name, number } = call;
    let mut strace = Command::new("strace");
    strace
        .args(["-o", "/dev/null", "-e"])
        .arg(format!("trace={name}"));
    strace
        .arg("-e")
        .arg(format!("inject={name}:{how}:when={number}"));
    run(strace, operation, ground, durability)
}

fn run(mut strace: Command, operation: Operation, ground: &Ground, durability: &str) -> Run {
    strace.arg(operation.program());
    operation.prepare(&mut strace, ground, durability);
    // Cleared for the program; strace itself needs no more.
    let output = strace
        .env("PATH", "/usr/bin:/bin")
        .stdin(Stdio::null())
        .output();
    let output = output.unwrap();
    Run {
        said: String::from_utf8_lossy(&output.stdout).into_owned(),
        complained: String::from_utf8_lossy(&output.stderr).into_owned(),
        code: output.status.code(),
    }
}
