//! [`Tracer`]: a process that stops before each of its system calls, of which any can be made to fail.

use nix::errno::Errno;
use nix::libc::{self, user_regs_struct};
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use testkit::prelude::*;

use crate::process::Process;

/// Calls that have nothing to do with files.
const OTHERS: [i64; 20] = [
    libc::SYS_brk,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_futex,
    libc::SYS_geteuid,
    libc::SYS_getpid,
    libc::SYS_getrandom,
    libc::SYS_gettid,
    libc::SYS_madvise,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_poll,
    libc::SYS_ppoll,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_sigaltstack,
];

/// Calls on files, and whether they leave every disk as it was. One that is not listed may not.
const NAMES: [(i64, &str, bool); 24] = [
    (libc::SYS_close, "close", true),
    (libc::SYS_fallocate, "fallocate", false),
    (libc::SYS_fchown, "fchown", false),
    (libc::SYS_fcntl, "fcntl", true),
    (libc::SYS_fdatasync, "fdatasync", false),
    (libc::SYS_flock, "flock", true),
    (libc::SYS_fstat, "fstat", true),
    (libc::SYS_fstatfs, "fstatfs", true),
    (libc::SYS_fsync, "fsync", false),
    (libc::SYS_ftruncate, "ftruncate", false),
    (libc::SYS_getdents64, "getdents64", true),
    (libc::SYS_linkat, "linkat", false),
    (libc::SYS_lseek, "lseek", true),
    (libc::SYS_mkdirat, "mkdirat", false),
    (libc::SYS_newfstatat, "newfstatat", true),
    (libc::SYS_openat, "openat", false),
    (libc::SYS_pread64, "pread64", true),
    (libc::SYS_pwrite64, "pwrite64", false),
    (libc::SYS_read, "read", true),
    (libc::SYS_renameat2, "renameat2", false),
    (libc::SYS_statx, "statx", true),
    (libc::SYS_unlinkat, "unlinkat", false),
    (libc::SYS_utimensat, "utimensat", false),
    (libc::SYS_write, "write", false),
];

/// A process that is stopped before a call; dropped, it is killed there.
pub(crate) struct Tracer {
    process: Process,
    is_before_call: bool,
    /// The call that it stands before has not been told.
    is_untold: bool,
    code: Option<i32>,
}

/// A call on files that is about to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    number: i64,
    /// What the descriptor leads to that is the call's first argument, if it is one.
    pub(crate) file: Option<PathBuf>,
}

/// How a process has ended, and what it said.
pub(crate) struct Ended {
    /// Its exit code, if it was not killed.
    pub(crate) code: Option<i32>,
    pub(crate) said: String,
    pub(crate) complained: String,
}

impl Call {
    pub(crate) fn name(&self) -> String {
        let known = NAMES.iter().find(|(number, ..)| *number == self.number);
        let name = known.map(|(_, name, _)| (*name).to_owned());
        name.unwrap_or_else(|| format!("call {}", self.number))
    }

    /// Whether a disk may be another afterwards.
    pub(crate) fn may_change_disk(&self) -> bool {
        let mut harmless = NAMES.iter().filter(|(.., is_harmless)| *is_harmless);
        harmless.all(|(number, ..)| *number != self.number)
    }

    /// Waits for the disk to have what its descriptor leads to.
    pub(crate) fn is_sync(&self) -> bool {
        [libc::SYS_fsync, libc::SYS_fdatasync].contains(&self.number)
    }
}

impl Tracer {
    /// Starts a process that lets itself be traced and stops, and lets it run up to its first call that names
    /// this directory.
    pub(crate) fn start(mut command: Command, directory: &Path) -> Self {
        command.stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut tracer = Tracer {
            process: Process::spawn(&mut command).unwrap(),
            is_before_call: false,
            is_untold: false,
            code: None,
        };
        let pid = tracer.pid();
        let stopped = waitpid(pid, None).unwrap();
        assert_eq!(stopped, WaitStatus::Stopped(pid, Signal::SIGSTOP));
        let options = Options::PTRACE_O_TRACESYSGOOD
            | Options::PTRACE_O_TRACEEXEC
            | Options::PTRACE_O_EXITKILL;
        ptrace::setoptions(pid, options).unwrap();
        loop {
            tracer.go_on();
            assert_eq!(tracer.code, None, "it calls nothing on the directory");
            if tracer.names(directory) {
                (tracer.is_before_call, tracer.is_untold) = (true, true);
                return tracer;
            }
            tracer.go_on();
        }
    }

    fn pid(&mut self) -> Pid {
        Pid::from_raw(self.process.child().id().try_into().unwrap())
    }

    /// Goes on to the next call on files, from the first that names the directory; `None` when the process has
    /// ended.
    pub(crate) fn next(&mut self) -> Option<Call> {
        loop {
            if !std::mem::take(&mut self.is_untold) {
                self.make();
                self.go_on();
                self.is_before_call = true;
            }
            if self.code.is_some() {
                return None;
            }
            let call = self.call();
            if !OTHERS.contains(&call.number) {
                return Some(call);
            }
        }
    }

    /// Lets the call be made that the process stands before, and stops it behind.
    pub(crate) fn make(&mut self) {
        if self.is_before_call {
            self.is_before_call = false;
            self.go_on();
        }
    }

    /// Lets the call fail that the process stands before.
    pub(crate) fn fail(&mut self, error: Errno) {
        let pid = self.pid();
        let mut registers = ptrace::getregs(pid).unwrap();
        registers.orig_rax = u64::MAX;
        ptrace::setregs(pid, registers).unwrap();
        self.make();
        let mut registers = ptrace::getregs(pid).unwrap();
        registers.rax = (-i64::from(error as i32)).cast_unsigned();
        ptrace::setregs(pid, registers).unwrap();
    }

    /// Kills it before the call.
    pub(crate) fn kill(mut self) -> Ended {
        if self.code.is_none() {
            self.process.kill().unwrap();
        }
        self.ended()
    }

    /// Lets it run to its end.
    pub(crate) fn finish(mut self) -> Ended {
        self.make();
        while self.code.is_none() {
            self.go_on();
        }
        self.ended()
    }

    fn ended(mut self) -> Ended {
        let child = self.process.child();
        let (mut said, mut complained) = (Vec::new(), Vec::new());
        child.stdout.take().unwrap().read_to_end(&mut said).unwrap();
        let stderr = child.stderr.take();
        stderr.unwrap().read_to_end(&mut complained).unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ended {
            code: self.code,
            said: text(&said),
            complained: text(&complained),
        }
    }

    /// Goes on to the entry of a call, to its end, or to the end of the process.
    fn go_on(&mut self) {
        let pid = self.pid();
        while self.code.is_none() {
            ptrace::syscall(pid, None).unwrap();
            match waitpid(pid, None).unwrap() {
                WaitStatus::PtraceSyscall(_) => return,
                // Another program in its place.
                WaitStatus::PtraceEvent(..) => {}
                WaitStatus::Exited(_, code) => self.code = Some(code),
                other => panic!("the process met {other:?}"),
            }
        }
    }

    fn registers(&mut self) -> user_regs_struct {
        ptrace::getregs(self.pid()).unwrap()
    }

    /// Whether the call has the name of something in this directory among its first two arguments.
    fn names(&mut self, directory: &Path) -> bool {
        let registers = self.registers();
        let memory = File::open(format!("/proc/{}/mem", self.pid())).unwrap();
        let mut text = vec![0; directory.as_os_str().len()];
        [registers.rdi, registers.rsi].into_iter().any(|address| {
            let read = memory.read_exact_at(&mut text, address);
            read.is_ok() && text == directory.as_os_str().as_bytes()
        })
    }

    fn call(&mut self) -> Call {
        let registers = self.registers();
        let link = format!("/proc/{}/fd/{}", self.pid(), registers.rdi);
        Call {
            number: registers.orig_rax.cast_signed(),
            file: fs::read_link(link).ok(),
        }
    }
}
