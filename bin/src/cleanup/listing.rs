//! The output of a run: the entries of a dry run, the summary line, the JSON object.

use std::io::{self, BufWriter, Stdout, Write as _};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cgi_session::{Config, SweepEvent, SweepReport};
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
        let found = Found {
            files: 0,
            bytes: 0,
            output: BufWriter::new(io::stdout()),
            entries: Vec::new(),
        };
        Listing {
            as_json,
            found: Mutex::new(found),
        }
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

/// A finished run.
pub(crate) struct Summary<'a> {
    pub(crate) config: &'a Config,
    pub(crate) report: &'a SweepReport,
    pub(crate) elapsed: Duration,
}

impl Summary<'_> {
    pub(crate) fn store(&self) -> Location {
        Location::of(self.config)
    }

    /// `/var/lib/cgi-session: 3 sessions deleted (3.00 KiB), 12 live; 0.02 s`
    pub(crate) fn line(&self) -> String {
        let report = self.report;
        let store = self.store();
        if report.already_running {
            return format!("{store}: another clean-up is running; nothing done\n");
        }
        let mut parts = vec![
            format!(
                "{} deleted ({})",
                counted(report.deleted, "session"),
                HumanBytes(report.deleted_bytes)
            ),
            format!("{} live", report.live),
        ];
        let others = [
            (report.busy, "expired but in use"),
            (report.kept, "expired and kept"),
            (report.temporary, "temporary deleted"),
            (report.set_aside, "damaged set aside"),
            (report.foreign, "not ours"),
        ];
        let others = others.into_iter().filter(|(number, _)| *number > 0);
        parts.extend(others.map(|(number, what)| format!("{number} {what}")));
        if !report.failures.is_empty() {
            parts.push(format!("{} failed", report.failures.len()));
        }
        if report.stopped_early {
            parts.push("stopped at the limit".to_owned());
        }
        let seconds = self.elapsed.as_secs_f64();
        format!("{store}: {}; {seconds:.2} s\n", parts.join(", "))
    }

    /// One object; `entries` are those of a dry run.
    pub(crate) fn json(&self, entries: Option<Vec<Value>>) -> String {
        let report = self.report;
        let mut object = json!({
            "store": self.store().to_string(),
            "storageFileDir": self.config.get("storageFileDir"),
            "dryRun": entries.is_some(),
            "alreadyRunning": report.already_running,
            "stoppedEarly": report.stopped_early,
            "examined": report.examined,
            "deleted": report.deleted,
            "deletedBytes": report.deleted_bytes,
            "live": report.live,
            "busy": report.busy,
            "kept": report.kept,
            "temporary": report.temporary,
            "setAside": report.set_aside,
            "foreign": report.foreign,
            "failures": report.failures,
            "seconds": self.elapsed.as_secs_f64(),
        });
        if let (Some(object), Some(entries)) = (object.as_object_mut(), entries) {
            object.insert("entries".to_owned(), Value::Array(entries));
        }
        format!("{object}\n")
    }
}
