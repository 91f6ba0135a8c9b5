//! [`Gauge`]: what must stay level — files, memory, descriptors, threads, processes.

use serde::Serialize;

use testkit::prelude::*;
use testkit::responder::{Responder, processes_of};

/// What was there at one moment.
#[derive(Debug, Serialize)]
pub(crate) struct Sample {
    seconds: u64,
    /// Session files.
    pub(crate) records: u64,
    /// Temporary files of commits under way, or left behind.
    pub(crate) temporary: u64,
    /// Damaged files set aside, and what is not the library's.
    pub(crate) others: u64,
    /// Of the responder that is never restarted.
    pub(crate) memory_kib: u64,
    pub(crate) descriptors: u64,
    pub(crate) threads: u64,
    /// All processes that run the program.
    pub(crate) processes: u64,
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
            seconds: self.started.elapsed().as_secs(),
            records: 0,
            temporary: 0,
            others: 0,
            memory_kib: of_status(pid, "RssAnon:")?,
            descriptors: fs::read_dir(format!("/proc/{pid}/fd"))?.count() as u64,
            threads: of_status(pid, "Threads:")?,
            processes: processes_of(&self.servers.program(), None).len() as u64,
        };
        for entry in fs::read_dir(self.servers.site.sessions())? {
            let name = entry?.file_name();
            let name = name.to_string_lossy();
            if name.contains(".tmp-") {
                sample.temporary += 1;
            } else if Path::new(&*name).extension() == Some("json".as_ref()) {
                sample.records += 1;
            } else {
                sample.others += 1;
            }
        }
        Ok(sample)
    }
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
    let members = |sample| serde_json::to_value(sample).unwrap().as_object().cloned();
    let samples: Vec<_> = samples.iter().filter_map(members).collect();
    let head = samples.iter().take(1).map(|sample| {
        let names: Vec<_> = sample.keys().cloned().collect();
        names.join(",") + "\n"
    });
    let lines = samples.iter().map(|sample| {
        let values: Vec<_> = sample.values().map(ToString::to_string).collect();
        values.join(",") + "\n"
    });
    head.chain(lines).collect()
}
