//! `cgi-session stats`: how many sessions there are, and how large and old they are.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use cgi_session::{SessionManager, Stored};
use serde_json::json;
use serde_json::value::RawValue;

use crate::report::{self, moment, rough};
use crate::sessions::{self, Ended};

const EXAMPLES: &str = "\
Examples:
  cgi-session stats
  cgi-session stats --json | jq .sessions

Every live session is read once, without its lock and without counting as use. Expired sessions do
not count, whether or not a clean-up has deleted them. Exit status: 0, or 1 when a session
cannot be read (stderr says how many), 78 when the configuration cannot be used.";

/// Count the live sessions: number, bytes, oldest, newest, applications, clean-up, cap
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Write one JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments, file: Option<&Path>) -> Result<ExitCode, Ended> {
    let manager = sessions::manager(file, None)?;
    let mut counts = Counts::default();
    manager.for_each(|_, stored| {
        match stored {
            Ok(stored) => counts.add(&stored),
            Err(_) => counts.unreadable += 1,
        }
        ControlFlow::Continue(())
    })?;
    report::output(&if arguments.json {
        counts.json(&manager)
    } else {
        counts.text(&manager)
    });
    if counts.unreadable == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    let unreadable = report::counted(counts.unreadable, "session");
    let line = format!("{unreadable} could not be read; cgi-session list says why");
    Err(Ended::saying(&line, report::FAILED))
}

#[derive(Default)]
struct Counts {
    sessions: u64,
    bytes: u64,
    unreadable: u64,
    /// First and last moment at which a session was made.
    created: Option<(SystemTime, SystemTime)>,
    last_access: Option<SystemTime>,
    applications: BTreeMap<String, u64>,
}

impl Counts {
    fn add(&mut self, stored: &Stored) {
        let values = stored.record.values();
        let Ok(applications) = serde_json::from_slice::<BTreeMap<String, &RawValue>>(values) else {
            self.unreadable += 1;
            return;
        };
        for app in applications.into_keys() {
            *self.applications.entry(app).or_default() += 1;
        }
        let created = stored.record.created();
        let (oldest, newest) = self.created.unwrap_or((created, created));
        self.created = Some((oldest.min(created), newest.max(created)));
        self.last_access = self.last_access.max(Some(stored.last_access));
        self.sessions += 1;
        self.bytes += sessions::size(stored);
    }

    fn text(&self, manager: &SessionManager) -> String {
        let at = |time: Option<SystemTime>| time.map_or("-".to_owned(), moment);
        let ago = |age: Duration| format!("{} ago", rough(age));
        let mut lines = vec![
            format!("sessions       {}", self.sessions),
            format!("bytes          {}", self.bytes),
            format!(
                "oldest         {}",
                at(self.created.map(|(oldest, _)| oldest))
            ),
            format!(
                "newest         {}",
                at(self.created.map(|(_, newest)| newest))
            ),
            format!("last used      {}", at(self.last_access)),
            format!(
                "last clean-up  {}",
                manager.last_clean_up().map_or("never".to_owned(), ago)
            ),
            format!("cap            {}", cap(manager)),
        ];
        for (app, number) in &self.applications {
            let number = report::counted(*number, "session");
            lines.push(format!(
                "application    {}: {number}",
                sessions::shown_app(app)
            ));
        }
        lines.push(String::new());
        lines.join("\n")
    }

    fn json(&self, manager: &SessionManager) -> String {
        let setting = |key: &str| manager.config().get(key).unwrap_or_default();
        let object = json!({
            "sessions": self.sessions,
            "bytes": self.bytes,
            "unreadable": self.unreadable,
            "oldest": self.created.map(|(oldest, _)| moment(oldest)),
            "newest": self.created.map(|(_, newest)| moment(newest)),
            "lastAccess": self.last_access.map(moment),
            "lastCleanUpSecondsAgo": manager.last_clean_up().map(|age| age.as_secs()),
            "maxSessions": setting("maxSessions").parse::<u64>().ok(),
            "whenFull": setting("whenFull"),
            "applications": self.applications,
        });
        format!("{object}\n")
    }
}

fn cap(manager: &SessionManager) -> String {
    let setting = |key: &str| manager.config().get(key).unwrap_or_default();
    match setting("maxSessions").as_str() {
        "0" => "none (maxSessions = 0)".to_owned(),
        number => format!("{number}, then whenFull = {}", setting("whenFull")),
    }
}
