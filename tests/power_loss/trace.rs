//! A process that stops before each of its system calls.

use std::fs;
use std::io::Read as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use nix::libc;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

/// Calls that leave every disk as it was. What is not listed counts as one that may not.
const HARMLESS: [i64; 18] = [
    libc::SYS_brk,
    libc::SYS_clock_gettime,
    libc::SYS_close,
    libc::SYS_fcntl,
    libc::SYS_flock,
    libc::SYS_fstat,
    libc::SYS_getdents64,
    libc::SYS_geteuid,
    libc::SYS_getrandom,
    libc::SYS_lseek,
    libc::SYS_madvise,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_munmap,
    libc::SYS_newfstatat,
    libc::SYS_pread64,
    libc::SYS_read,
    libc::SYS_statx,
];

/// A process stopped before a call; dropped, it is killed there.
pub(crate) struct Traced {
    child: Child,
    is_running: bool,
    is_before_call: bool,
}

/// A call that is about to be made.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    number: i64,
    /// What the descriptor leads to that is the call's first argument, if it is one.
    pub(crate) file: Option<PathBuf>,
}

impl Call {
    /// Waits for the disk to have what its descriptor leads to.
    pub(crate) fn is_sync(&self) -> bool {
        [libc::SYS_fsync, libc::SYS_fdatasync].contains(&self.number)
    }
}

impl Traced {
    /// Starts a process that lets itself be traced and stops.
    pub(crate) fn start(mut command: Command) -> Self {
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let traced = Traced {
            child: child.spawn().unwrap(),
            is_running: true,
            is_before_call: false,
        };
        let stopped = waitpid(traced.pid(), None).unwrap();
        assert_eq!(stopped, WaitStatus::Stopped(traced.pid(), Signal::SIGSTOP));
        let options = Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_EXITKILL;
        ptrace::setoptions(traced.pid(), options).unwrap();
        traced
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().try_into().unwrap())
    }

    /// Goes on to the next call that may change a disk; `None` when the process has ended.
    pub(crate) fn next(&mut self) -> Option<Call> {
        self.make();
        loop {
            self.go_on();
            if !self.is_running {
                return None;
            }
            self.is_before_call = true;
            let call = self.call();
            if !HARMLESS.contains(&call.number) {
                return Some(call);
            }
            self.make();
        }
    }

    /// Lets the call be made that the process stands before, and stops it behind.
    pub(crate) fn make(&mut self) {
        if self.is_before_call {
            self.is_before_call = false;
            self.go_on();
        }
    }

    /// Goes on to the entry of a call, to its end, or to the end of the process.
    fn go_on(&mut self) {
        if !self.is_running {
            return;
        }
        ptrace::syscall(self.pid(), None).unwrap();
        match waitpid(self.pid(), None).unwrap() {
            WaitStatus::PtraceSyscall(_) => {}
            WaitStatus::Exited(..) => self.is_running = false,
            other => panic!("the process met {other:?}"),
        }
    }

    fn call(&self) -> Call {
        let text = fs::read_to_string(format!("/proc/{}/syscall", self.child.id())).unwrap();
        let mut fields = text.split_ascii_whitespace();
        let number = fields.next().unwrap().parse().unwrap();
        let first = fields.next().and_then(|field| field.strip_prefix("0x"));
        let descriptor = first.and_then(|field| u64::from_str_radix(field, 16).ok());
        let link = descriptor.map(|fd| format!("/proc/{}/fd/{fd}", self.child.id()));
        Call {
            number,
            file: link.and_then(|link| fs::read_link(link).ok()),
        }
    }

    /// What a process that has ended said on stdout.
    #[track_caller]
    pub(crate) fn said(mut self) -> String {
        assert!(!self.is_running, "it has not ended");
        let (mut stdout, mut stderr) = (String::new(), String::new());
        let output = self.child.stdout.as_mut().unwrap();
        output.read_to_string(&mut stdout).unwrap();
        let errors = self.child.stderr.as_mut().unwrap();
        errors.read_to_string(&mut stderr).unwrap();
        assert_eq!(stderr, "");
        stdout
    }
}

impl Drop for Traced {
    fn drop(&mut self) {
        if self.is_running {
            self.child.kill().unwrap();
            self.child.wait().unwrap();
        }
    }
}
