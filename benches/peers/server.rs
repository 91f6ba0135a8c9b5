//! [`Server`]: one peer's processes, which answer on a socket with so many workers.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rand::RngExt as _;
use rustix::process::{Pid, Signal};

use crate::measured::Outcome;
use crate::peer::Peer;
use crate::process::{self, Process};
use crate::workshop::{Installed, Serving};

/// How a peer is started.
#[derive(Clone, Copy)]
pub(crate) struct Deployment {
    pub(crate) workers: usize,
    /// After so many minutes without a request a session ends.
    pub(crate) minutes: i32,
}

pub(crate) struct Server {
    pub(crate) peer: Peer,
    pub(crate) workers: usize,
    pub(crate) name: String,
    pub(crate) socket: PathBuf,
    pub(crate) sessions: PathBuf,
    start: Box<dyn Fn() -> Outcome<Process> + Send + Sync>,
    /// Whether the process that is started here keeps the workers, and starts them again.
    is_master: bool,
    processes: Mutex<Vec<Process>>,
}

impl Server {
    pub(crate) fn start(
        installed: &Installed,
        deployment: Deployment,
        place: &Path,
    ) -> Outcome<Self> {
        let workers = deployment.workers;
        let name = format!("{}-{workers}", installed.peer.key());
        let socket = place.join(format!("{name}.sock"));
        let sessions = place.join(format!("{name}-sessions"));
        fs::create_dir(&sessions)?;
        let mut command = command(installed, deployment, &name, place)?;
        sessions_in(&mut command, &sessions, deployment.minutes);
        let is_master = matches!(
            installed.serving,
            Serving::PhpFpm(_) | Serving::Gunicorn(..)
        );
        let start = starter(command, (!is_master).then_some(&*socket), place, &name)?;
        let count = match installed.serving {
            Serving::Processes(..) => workers,
            _ => 1,
        };
        let mut processes = (0..count).map(|_| start()).collect::<Outcome<Vec<_>>>()?;
        process::wait_for(&name, &mut processes[0], || socket.exists())?;
        Ok(Server {
            peer: installed.peer,
            workers,
            name,
            socket,
            sessions,
            start,
            is_master,
            processes: Mutex::new(processes),
        })
    }

    /// Kills a worker in the middle of whatever it does, and sees that there is a new one.
    pub(crate) fn kill_one(&self) -> Outcome<()> {
        let mut processes = self
            .processes
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if !self.is_master {
            let at = rand::rng().random_range(..processes.len());
            processes[at].kill()?;
            processes[at] = (self.start)()?;
            return Ok(());
        }
        let workers = process::children(processes[0].id())?;
        if workers.is_empty() {
            return Ok(()); // The master has not replaced the last one yet.
        }
        let worker = workers[rand::rng().random_range(..workers.len())];
        if let Some(worker) = i32::try_from(worker).ok().and_then(Pid::from_raw) {
            rustix::process::kill_process(worker, Signal::KILL)?;
        }
        Ok(())
    }

    pub(crate) fn processor_time(&self) -> Outcome<Duration> {
        let processes = self
            .processes
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let ids: Vec<u32> = processes.iter().map(Process::id).collect();
        process::processor_time(&ids)
    }
}

/// Tells any of the programs where its sessions lie.
pub(crate) fn sessions_in(command: &mut Command, directory: &Path, minutes: i32) {
    command.env("CGI_SESSION_STORAGE_FILE_DIR", directory);
    command.env("SESSION_DIRECTORY", directory);
    command.env("SESSION_MINUTES", minutes.to_string());
}

/// What starts one process, with a socket that all of them share as its descriptor 0.
fn starter(
    command: Command,
    socket: Option<&Path>,
    place: &Path,
    name: &str,
) -> Outcome<Box<dyn Fn() -> Outcome<Process> + Send + Sync>> {
    let listener = socket.map(UnixListener::bind).transpose()?;
    let command = Mutex::new(command);
    let (place, name) = (place.to_owned(), name.to_owned());
    Ok(Box::new(move || {
        let mut command = command.lock().unwrap_or_else(PoisonError::into_inner);
        command.stdin(match &listener {
            Some(listener) => Stdio::from(OwnedFd::from(listener.try_clone()?)),
            None => Stdio::null(),
        });
        Process::start(&mut command, &place, &name)
    }))
}

fn command(
    installed: &Installed,
    Deployment { workers, minutes }: Deployment,
    name: &str,
    place: &Path,
) -> Outcome<Command> {
    let mut command;
    match &installed.serving {
        Serving::Threads(program) => {
            command = Command::new(program);
            if installed.peer == Peer::Ours {
                command.args(["--workers", &workers.to_string()]);
            }
            command.env("GOMAXPROCS", workers.to_string());
            command.env("TOKIO_WORKER_THREADS", workers.to_string());
        }
        Serving::Processes(program, script) => {
            command = Command::new(program);
            command.args(script);
        }
        Serving::PhpFpm(program) => {
            let configuration = place.join(format!("{name}.conf"));
            let text = php_fpm(workers, minutes, name, place);
            fs::write(&configuration, text)?;
            command = Command::new(program);
            command.arg("-R").arg("-y").arg(configuration);
        }
        Serving::Gunicorn(program, module) => {
            command = Command::new(program);
            let programs = program
                .ancestors()
                .nth(3)
                .unwrap_or(program)
                .join("programs");
            command.arg("--chdir").arg(programs);
            let socket = place.join(format!("{name}.sock"));
            command
                .arg("--bind")
                .arg(format!("unix:{}", socket.display()));
            command.args(["--workers", &workers.to_string(), "--log-level", "warning"]);
            command.arg(format!("{module}:application"));
        }
    }
    Ok(command)
}

fn php_fpm(workers: usize, minutes: i32, name: &str, place: &Path) -> String {
    format!(
        "[global]\nerror_log = {0}/{name}.log\ndaemonize = no\n\
         [www]\nuser = root\ngroup = root\nlisten = {0}/{name}.sock\n\
         pm = static\npm.max_children = {workers}\n\
         env[SESSION_DIRECTORY] = {0}/{name}-sessions\n\
         env[SESSION_MINUTES] = {minutes}\n\
         php_admin_value[session.gc_probability] = 0\n",
        place.display()
    )
}
