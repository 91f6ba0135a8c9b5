//! A process that makes one system call on the sessions when it is told, and no other.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::process::{ChildStdin, ChildStdout};

use nix::errno::Errno;
use nix::libc::{self, c_long};
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use testkit::prelude::*;

use super::call::Call;
use super::task::Order;
use crate::process::{Process, Role, Task};
use crate::subject::Subject;

const DEADLINE: Duration = Duration::from_secs(60);

pub(crate) struct Tracee {
    child: Process,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    pub(crate) process: Pid,
    /// The thread that does what the process is told.
    worker: Pid,
    threads: HashSet<Pid>,
    /// Threads that are in a system call: the next stop is its end.
    inside: HashSet<Pid>,
    directory: PathBuf,
    pending: Option<Call>,
    is_idle: bool,
}

impl Tracee {
    pub(crate) fn start(subject: &Subject) -> Self {
        let mut command = Task::new(subject, Path::new(""), Role::Orders).command();
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // A group of its own, so that all its threads can be waited for and no other process.
            .process_group(0);
        let mut child = Process::spawn(&mut command).unwrap();
        let stdin = child.child().stdin.take().unwrap();
        let mut stdout = BufReader::new(child.child().stdout.take().unwrap());
        let mut line = String::new();
        while line.trim() != "ready" {
            line.clear();
            assert!(stdout.read_line(&mut line).unwrap() > 0, "it has ended");
        }
        let process = Pid::from_raw(i32::try_from(child.child().id()).unwrap());
        let mut tracee = Tracee {
            child,
            stdin,
            stdout,
            process,
            worker: process,
            threads: HashSet::new(),
            inside: HashSet::new(),
            directory: PathBuf::new(),
            pending: None,
            is_idle: false,
        };
        tracee.seize();
        tracee
    }

    fn seize(&mut self) {
        let options = Options::PTRACE_O_TRACESYSGOOD
            | Options::PTRACE_O_TRACECLONE
            | Options::PTRACE_O_EXITKILL;
        for entry in fs::read_dir(format!("/proc/{}/task", self.process)).unwrap() {
            let name = entry.unwrap().file_name();
            let thread = Pid::from_raw(name.to_str().unwrap().parse().unwrap());
            ptrace::seize(thread, options).unwrap();
            ptrace::interrupt(thread).unwrap();
            self.threads.insert(thread);
        }
        self.run();
    }

    /// Tells the process what to do, and lets it run up to its first call.
    pub(crate) fn order(&mut self, order: &Order) {
        assert!(self.is_idle && self.pending.is_none());
        self.directory.clone_from(&order.directory);
        let line = serde_json::to_string(order).unwrap() + "\n";
        io::Write::write_all(&mut self.stdin, line.as_bytes()).unwrap();
        self.is_idle = false;
        resume(self.worker, None);
        self.run();
    }

    /// The call that is made next; `None` when all is done.
    pub(crate) fn pending(&self) -> Option<&Call> {
        self.pending.as_ref()
    }

    /// Makes the pending call, and runs up to the next.
    pub(crate) fn step(&mut self) {
        let call = self.pending.take().expect("a call to be made");
        resume(call.thread, None);
        self.run();
    }

    /// What the process says when all is done.
    pub(crate) fn answer(&mut self) -> String {
        assert!(self.is_idle);
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }

    /// Runs up to the next call on the sessions, or until the process waits for an order.
    fn run(&mut self) {
        let deadline = Instant::now() + DEADLINE;
        while !self.rests() {
            let group = Pid::from_raw(-self.process.as_raw());
            let flags = WaitPidFlag::__WALL | WaitPidFlag::WNOHANG;
            match waitpid(group, Some(flags)).unwrap() {
                WaitStatus::StillAlive => {
                    let is_it = Instant::now() < deadline;
                    assert!(is_it, "no call returns: {}", self.state());
                    thread::yield_now();
                }
                status => self.handle(status),
            }
        }
    }

    /// Where all threads are, to find out why they do not go on.
    fn state(&self) -> String {
        let mut state = format!("{:?}", self.pending);
        for thread in &self.threads {
            let about = |what| {
                let path = format!("/proc/{}/task/{thread}/{what}", self.process);
                fs::read_to_string(path).unwrap_or_default()
            };
            let inside = self.inside.contains(thread);
            let (stat, call) = (about("stat"), about("syscall"));
            let _ = write!(state, "\n{thread} {inside} {stat}{call}");
        }
        state
    }

    fn rests(&self) -> bool {
        match &self.pending {
            // A thread that waited for a lock and has handed it over is let come to its end.
            Some(call) => call.thread != self.worker || self.is_alone(),
            None => self.is_idle && self.is_alone(),
        }
    }

    /// Whether no thread is there that was started to wait for a lock.
    fn is_alone(&self) -> bool {
        let known = [self.worker, self.process];
        self.threads.iter().all(|thread| known.contains(thread))
    }

    fn handle(&mut self, status: WaitStatus) {
        match status {
            WaitStatus::PtraceSyscall(thread) if self.inside.remove(&thread) => {
                resume(thread, None);
            }
            WaitStatus::PtraceSyscall(thread) => self.enter(thread),
            WaitStatus::PtraceEvent(thread, _, _) => {
                self.threads.insert(thread);
                resume(thread, None);
            }
            WaitStatus::Stopped(thread, signal) => resume(thread, Some(signal)),
            WaitStatus::Exited(thread, _) | WaitStatus::Signaled(thread, _, _) => {
                assert_ne!(thread, self.process, "the process has died");
                self.threads.remove(&thread);
                self.inside.remove(&thread);
            }
            other => panic!("{other:?}"),
        }
    }

    fn enter(&mut self, thread: Pid) {
        self.inside.insert(thread);
        let registers = ptrace::getregs(thread).unwrap();
        let number = c_long::try_from(registers.orig_rax).unwrap_or(-1);
        if number == libc::SYS_read && registers.rdi == 0 {
            self.worker = thread;
            self.is_idle = true;
            return;
        }
        let directory: &Path = &self.directory;
        let call = Call::about_to_be_made(thread, self.process, &registers, directory);
        // What a thread that waited for a lock does afterwards, no other process notices.
        match call.filter(|_| thread == self.worker || number == libc::SYS_flock) {
            Some(call) => self.pending = Some(call),
            None => resume(thread, None),
        }
    }
}

impl Drop for Tracee {
    fn drop(&mut self) {
        // It may have died already. Not by `Process::kill`, which would wait for one thread alone.
        let _ = self.child.child().kill();
        // Its threads must be waited for, too, or it would never have ended.
        let group = Pid::from_raw(-self.process.as_raw());
        let wait = || waitpid(group, Some(WaitPidFlag::__WALL));
        while wait() != Err(Errno::ECHILD) {}
    }
}

fn resume(thread: Pid, signal: Option<Signal>) {
    match ptrace::syscall(thread, signal) {
        // Killed meanwhile; its end is reported.
        Ok(()) | Err(Errno::ESRCH) => {}
        Err(errno) => panic!("cannot resume {thread}: {errno}"),
    }
}
