//! FastCGI programs on a socket that outlives them, as systemd would start them.

use crate::prelude::*;
use rustix::process::{PidfdFlags, pidfd_open};

use crate::apache::web_user;
use crate::outside::{run_as, send_to};
use crate::server::{log, stop};

/// A listening socket for one program.
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
}

/// A running program; dropped, it is stopped.
pub struct Responder {
    process: Child,
}

impl Socket {
    /// Makes a socket to which the web server may connect.
    pub fn bind(path: &Path) -> Self {
        let listener = UnixListener::bind(path).unwrap();
        fs::set_permissions(path, Permissions::from_mode(0o660)).unwrap();
        give(path, web_user());
        Socket {
            listener,
            path: path.to_owned(),
        }
    }

    /// Starts a program with the socket as descriptor 0.
    pub fn start(&self, program: &Path) -> Responder {
        let socket: OwnedFd = self.listener.try_clone().unwrap().into();
        let mut command = as_web_user(program);
        let log = log(&self.path.with_extension("log"));
        let process = command.process_group(0).env_clear().stdin(socket);
        let process = process
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        Responder { process }
    }

    /// Undoes what the program before may have set for all that share the socket, while none does: one that
    /// waits in accept(2) with a connection in hand would keep that waiting.
    pub fn block(&self) {
        self.listener.set_nonblocking(false).unwrap();
    }

    /// What the programs had to say.
    pub fn said(&self) -> String {
        fs::read_to_string(self.path.with_extension("log")).unwrap_or_default()
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the programs said:\n{}", self.said());
        }
    }
}

impl Responder {
    pub fn signal(&self, signal: Signal) {
        send_to(self.pid(), signal);
    }

    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.process)
    }

    /// Waits for the program's end.
    pub fn end(mut self) -> ExitStatus {
        self.process.wait().unwrap()
    }

    /// The most memory that the program has used at once, in KiB.
    pub fn peak_memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let number = line.unwrap().trim().trim_end_matches(" kB");
        number.parse().unwrap()
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        stop(&mut self.process);
    }
}

/// A command that runs as the user whom every server becomes.
pub fn as_web_user(program: &Path) -> Command {
    let mut command = Command::new(program);
    run_as(&mut command, web_user());
    command
}

/// The processes that run this program, whichever process started them, except this one.
pub fn processes_of(program: &Path, except: Option<Pid>) -> Vec<OwnedFd> {
    let names = fs::read_dir("/proc").unwrap();
    let names = names.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let pids = names.filter_map(|name| Pid::from_raw(name.parse().ok()?));
    let pids = pids.filter(|pid| Some(*pid) != except);
    // The descriptor is opened before the look at the program, so that the process that is killed
    // is the one that was looked at.
    let opened = pids.filter_map(|pid| Some((pid, pidfd_open(pid, PidfdFlags::empty()).ok()?)));
    let is_ours = |pid: Pid| {
        let executable = fs::read_link(format!("/proc/{pid}/exe"));
        executable.is_ok_and(|executable| executable == program)
    };
    opened
        .filter_map(|(pid, process)| is_ours(pid).then_some(process))
        .collect()
}
