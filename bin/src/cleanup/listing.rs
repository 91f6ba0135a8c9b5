//! The output of a run: the entries of a dry run, the summary line, the JSON object.

use std::io::{self, BufWriter, Stdout, Write as _};
use std::sync::{Mutex, MutexGuard, PoisonError};

use cgi_session::{SweepEvent, SweepReport};
use indicatif::HumanBytes;
use serde_json::{Value, json};

use crate::location::Location;
use crate::report::{self, counted, rough};

/// What a dry run would delete: written as it is found, or kept for the JSON object.
pub(crate) struct Listing {
    as_json: bool,
    found: Mutex<Found>,
}

struct Found {
    files: u64,
    bytes: u64,
    output: BufWriter<Stdout>,
    entries: Vec<Value>,
}

impl Listing {
    pub(crate) fn new(as_json: bool) -> Self {
        let found = Mutex::new(Found {
            files: 0,
            bytes: 0,
            output: BufWriter::new(io::stdout()),
            entries: Vec::new(),
        });
        Listing { as_json, found }
    }

    pub(crate) fn note(&self, event: SweepEvent<'_>) {
        let SweepEvent::Deleted {
            name,
            age,
            bytes,
            reason,
        } = event
        else {
            return;
        };
        let mut found = self.found();
        found.files += 1;
        found.bytes += bytes;
        if self.as_json {
            let age = age.as_secs();
            found
                .entries
                .push(json!({ "name": name, "ageSeconds": age, "bytes": bytes, "reason": reason }));
        } else {
            let (age, size) = (rough(age), HumanBytes(bytes).to_string());
            let line = writeln!(found.output, "{name:<72} {age:>5} {size:>11}  {reason}");
            report::written(line);
        }
    }

    pub(crate) fn entries(&self) -> Vec<Value> {
        std::mem::take(&mut self.found().entries)
    }

    /// The last line of a dry run, after all that was listed.
    pub(crate) fn total(&self) -> String {
        let mut found = self.found();
        report::written(found.output.flush());
        format!(
            "total: {} would be deleted, {}\n",
            counted(found.files, "file"),
            HumanBytes(found.bytes)
        )
    }

    fn found(&self) -> MutexGuard<'_, Found> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A finished run: `/var/lib/cgi-session: 3 sessions deleted (3.00 KiB), 12 live; 0.02 s`
pub(crate) fn line(report: &SweepReport, store: &Location, seconds: f64) -> String {
    if report.already_running {
        return format!("{store}: another clean-up is running; nothing done\n");
    }
    let deleted = counted(report.deleted, "session");
    let (bytes, live) = (HumanBytes(report.deleted_bytes), report.live);
    let mut parts = vec![
        format!("{deleted} deleted ({bytes})"),
        format!("{live} live"),
    ];
    let others = [
        (report.busy, "expired but in use"),
        (report.kept, "expired and kept"),
        (report.temporary, "temporary deleted"),
        (report.set_aside, "damaged set aside"),
        (report.foreign, "not ours"),
        (report.failures.len() as u64, "failed"),
    ];
    let others = others.into_iter().filter(|(number, _)| *number > 0);
    parts.extend(others.map(|(number, what)| format!("{number} {what}")));
    if report.stopped_early {
        parts.push("stopped at the limit".to_owned());
    }
    format!("{store}: {}; {seconds:.2} s\n", parts.join(", "))
}
