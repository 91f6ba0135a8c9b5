//! [`Gauge`]: what must stay level — files, memory, descriptors, threads, processes.

use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Pid;

use testkit::responder::{Responder, processes_of};
use testkit::servers::Servers;

/// What was there at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(crate) at: Duration,
    /// Session files.
    pub(crate) records: usize,
    /// Temporary files of commits under way, or left behind.
    pub(crate) temporary: usize,
    /// Damaged files set aside, and what is not the library's.
    pub(crate) others: usize,
    /// Of the responder that is never restarted.
    pub(crate) memory_kib: u64,
    pub(crate) descriptors: usize,
    pub(crate) threads: u64,
    /// All processes that run the program.
    pub(crate) processes: usize,
}

/// Takes samples of a site and of one responder.
pub(crate) struct Gauge<'a> {
    pub(crate) servers: &'a Servers,
    pub(crate) responder: &'a Responder,
    pub(crate) started: Instant,
}

impl Gauge<'_> {
    pub(crate) fn sample(&self) -> io::Result<Sample> {
        let pid = self.responder.pid();
        let mut sample = Sample {
            at: self.started.elapsed(),
            records: 0,
            temporary: 0,
            others: 0,
            memory_kib: of_status(pid, "RssAnon:")?,
            descriptors: fs::read_dir(format!("/proc/{pid}/fd"))?.count(),
            threads: of_status(pid, "Threads:")?,
            processes: processes_of(&self.servers.program(), None).len(),
        };
        for entry in fs::read_dir(self.servers.site.sessions())? {
            let name = entry?.file_name();
            let name = name.to_string_lossy();
            if name.contains(".tmp-") {
                sample.temporary += 1;
            } else if has_ending(&name, "json") {
                sample.records += 1;
            } else {
                sample.others += 1;
            }
        }
        Ok(sample)
    }
}

fn has_ending(name: &str, ending: &str) -> bool {
    Path::new(name).extension() == Some(ending.as_ref())
}

/// A number in `/proc/PID/status`.
fn of_status(pid: Pid, field: &str) -> io::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let number = line.and_then(|line| line.split_ascii_whitespace().next()?.parse().ok());
    number.ok_or_else(|| io::Error::other(format!("no {field} of {pid}")))
}

/// The samples as a table of comma-separated values.
pub(crate) fn table(samples: &[Sample]) -> String {
    let head = "seconds,records,temporary,others,memory_kib,descriptors,threads,processes";
    let lines = samples.iter().map(|sample| {
        let values = [
            sample.records as u64,
            sample.temporary as u64,
            sample.others as u64,
            sample.memory_kib,
            sample.descriptors as u64,
            sample.threads,
            sample.processes as u64,
        ];
        let values = values.map(|value| value.to_string()).join(",");
        format!("{:.1},{values}", sample.at.as_secs_f64())
    });
    let lines: Vec<_> = std::iter::once(head.to_owned()).chain(lines).collect();
    lines.join("\n") + "\n"
}
