//! Processes that are started here and end with their owner, and what they cost.

use std::fs;
use std::net::TcpStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use crate::measured::Outcome;

/// A running process that is asked to end when it is dropped.
pub(crate) struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts it; what it says goes to a log in `place`.
    pub(crate) fn start(command: &mut Command, place: &Path, name: &str) -> Outcome<Self> {
        let log = place.join(format!("{name}.log"));
        let file = fs::File::options().create(true).append(true).open(&log)?;
        command.stdout(file.try_clone()?).stderr(file);
        // A server that signals its process group must not reach ours.
        let started = command.process_group(0).spawn();
        let program = Path::new(command.get_program()).display().to_string();
        let child = started.map_err(|error| format!("{program}: {error}"))?;
        Ok(Process { child, log })
    }

    /// Ends it in the middle of whatever it does.
    pub(crate) fn kill(&mut self) -> Outcome<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn has_ended(&mut self) -> Outcome<bool> {
        Ok(self.child.try_wait()?.is_some())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        testkit::server::stop(&mut self.child);
    }
}

/// The children of a process.
pub(crate) fn children(parent: u32) -> Outcome<Vec<u32>> {
    let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"))?;
    let children = children.split_ascii_whitespace();
    children.map(|id| Ok(id.parse()?)).collect()
}

/// The processor time of some processes and their children.
pub(crate) fn processor_time(ids: &[u32]) -> Outcome<Duration> {
    let mut all = ids.to_vec();
    for id in ids {
        all.extend(children(*id)?);
    }
    let hundredths = |id: &u32| -> u64 {
        // It may have ended meanwhile.
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        // A program's name may have blanks and parentheses.
        let fields = stat.rsplit_once(')').map_or("", |(_, after)| after);
        let times = fields.split_ascii_whitespace().skip(11).take(2);
        times.filter_map(|time| time.parse::<u64>().ok()).sum()
    };
    Ok(Duration::from_millis(
        10 * all.iter().map(hundredths).sum::<u64>(),
    ))
}

/// Waits until somebody listens on the port.
pub(crate) fn wait_for_port(port: u16, server: &mut Process) -> Outcome<()> {
    wait_for(&format!("a server on port {port}"), server, || {
        TcpStream::connect(("127.0.0.1", port)).is_ok()
    })
}

/// Waits until a server is ready.
pub(crate) fn wait_for(
    what: &str,
    server: &mut Process,
    is_ready: impl Fn() -> bool,
) -> Outcome<()> {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !is_ready() {
        if server.has_ended()? || Instant::now() > deadline {
            let log = fs::read_to_string(&server.log).unwrap_or_default();
            let last: Vec<&str> = log.lines().rev().take(3).collect();
            return Err(format!("waited in vain for {what}: {}", last.join("; ")).into());
        }
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}
