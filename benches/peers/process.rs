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

/// A process of the system, as /proc tells.
struct Entry {
    id: u32,
    parent: u32,
    /// Processor time in hundredths of a second.
    ticks: u64,
}

/// The children of a process.
pub(crate) fn children(parent: u32) -> Outcome<Vec<u32>> {
    let children = entries()?
        .into_iter()
        .filter(|entry| entry.parent == parent);
    Ok(children.map(|entry| entry.id).collect())
}

/// The processor time of some processes and their children.
pub(crate) fn processor_time(ids: &[u32]) -> Outcome<Duration> {
    let theirs = entries()?
        .into_iter()
        .filter(|entry| ids.contains(&entry.id) || ids.contains(&entry.parent));
    Ok(Duration::from_millis(
        10 * theirs.map(|entry| entry.ticks).sum::<u64>(),
    ))
}

fn entries() -> Outcome<Vec<Entry>> {
    let mut entries = Vec::new();
    for process in fs::read_dir("/proc")?.flatten() {
        // It may have ended meanwhile.
        let stat = fs::read_to_string(process.path().join("stat")).unwrap_or_default();
        entries.extend(entry(&stat));
    }
    Ok(entries)
}

fn entry(stat: &str) -> Option<Entry> {
    // A program's name may have blanks and parentheses.
    let (before, after) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = after.split_ascii_whitespace().collect();
    let ticks = |at: usize| fields.get(at)?.parse::<u64>().ok();
    Some(Entry {
        id: before.split(' ').next()?.parse().ok()?,
        parent: fields.get(1)?.parse().ok()?,
        ticks: ticks(11)? + ticks(12)?,
    })
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
