//! `cgi-session stats`: how many sessions there are, and how large and old they are.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, SystemTime};

use cgi_session::store::unix_seconds;
use cgi_session::{SessionManager, Stored};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::report::{self, Ended, moment, rough};
use crate::screen::{Screen, Style};
use crate::sessions;

const EXAMPLES: &str = "\
Examples:
  cgi-session stats
  cgi-session stats --json | jq .sessions

  # For the textfile collector of Prometheus' node_exporter, from cron
  cgi-session stats --prometheus > /var/lib/prometheus/node-exporter/cgi-session.prom.new &&
      mv /var/lib/prometheus/node-exporter/cgi-session.prom.new /var/lib/prometheus/node-exporter/cgi-session.prom

Every live session is read once, without its lock and without counting as use. Expired sessions do
not count, whether or not a clean-up has deleted them. Exit status: 0, or 1 when a session
cannot be read (stderr says how many; with --prometheus it is 0, and a metric says it), 78 when the configuration cannot be used.";

/// Where the values begin.
const INDENT: usize = 15;

/// The metrics of single numbers, and what each is.
const METRICS: &str = "\
sessions: Live sessions.
size_bytes: Size of the live sessions.
unreadable_sessions: Sessions that cannot be read.
max_sessions: The setting maxSessions; 0 is no limit.
oldest_created_timestamp_seconds: When the oldest live session was created.
newest_created_timestamp_seconds: When the newest live session was created.
last_used_timestamp_seconds: When a session was last used.
last_clean_up_timestamp_seconds: When the last clean-up ended.";

/// Count the live sessions: number, bytes, oldest, newest, applications, clean-up, cap
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Write one JSON object
    #[arg(long)]
    json: bool,

    /// Write metrics in the text format of Prometheus (0.0.4)
    #[arg(long, conflicts_with = "json")]
    prometheus: bool,
}

pub(crate) fn run(arguments: &Arguments, file: Option<&Path>) -> Result<(), Ended> {
    let manager = sessions::manager(file, None)?;
    let mut counts = Counts::default();
    manager.for_each(|_, stored| {
        match stored {
            Ok(stored) => counts.add(&stored),
            Err(_) => counts.unreadable += 1,
        }
        ControlFlow::Continue(())
    })?;
    if arguments.json {
        report::output_json(&counts.json(&manager));
    } else if arguments.prometheus {
        report::output_stored(&counts.metrics(&manager));
    } else {
        report::output(&counts.text(&manager));
    }
    if counts.unreadable == 0 || arguments.prometheus {
        return Ok(());
    }
    let unreadable = report::counted(counts.unreadable, "session");
    let list = report::command_for(manager.config(), "list");
    Err(format!("{unreadable} could not be read; {list} says why").into())
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
        let (oldest, newest) = self.created.unzip();
        let clean_up = manager.last_clean_up();
        let mut lines = vec![
            ("sessions", self.sessions.to_string()),
            ("bytes", self.bytes.to_string()),
            ("oldest", at(oldest)),
            ("newest", at(newest)),
            ("last used", at(self.last_access)),
            ("last clean-up", clean_up.map_or("never".to_owned(), ago)),
            ("cap", cap(manager)),
        ];
        lines.extend(self.applications.iter().map(|(app, number)| {
            let number = report::counted(*number, "session");
            (
                "application",
                format!("{}: {number}", sessions::shown_app(app)),
            )
        }));
        let screen = Screen::of_stdout();
        let line = |(name, value): (&str, String)| {
            let name = screen.painted(&format!("{name:<INDENT$}"), Style::Bold);
            format!("{name}{}\n", screen.cut(&value, INDENT))
        };
        lines.into_iter().map(line).collect()
    }

    /// What promtool takes: each metric with its help and type, times in seconds since 1970.
    fn metrics(&self, manager: &SessionManager) -> String {
        let (oldest, newest) = self.created.unzip();
        let now = SystemTime::now();
        let clean_up = manager.last_clean_up().and_then(|age| now.checked_sub(age));
        let setting = manager.config().get("maxSessions").unwrap_or_default();
        let head = |name: &str, help: &str| format!("# HELP {name} {help}\n# TYPE {name} gauge\n");
        let values = [
            Some(self.sessions),
            Some(self.bytes),
            Some(self.unreadable),
            setting.parse().ok(),
            oldest.map(unix_seconds),
            newest.map(unix_seconds),
            self.last_access.map(unix_seconds),
            clean_up.map(unix_seconds),
        ];
        let mut text = String::new();
        for (metric, value) in METRICS.lines().zip(values) {
            if let (Some((name, help)), Some(value)) = (metric.split_once(": "), value) {
                let name = format!("cgi_session_{name}");
                let _ = writeln!(text, "{}{name} {value}", head(&name, help));
            }
        }
        let name = "cgi_session_application_sessions";
        if !self.applications.is_empty() {
            text += &head(name, "Live sessions with values of an application.");
        }
        for (app, number) in &self.applications {
            let app = app.replace('\\', "\\\\").replace('"', "\\\"");
            let app = app.replace('\n', "\\n");
            let _ = writeln!(text, "{name}{{app=\"{app}\"}} {number}");
        }
        text
    }

    fn json(&self, manager: &SessionManager) -> Value {
        let setting = |key: &str| manager.config().get(key).unwrap_or_default();
        let (oldest, newest) = self.created.unzip();
        json!({
            "sessions": self.sessions,
            "bytes": self.bytes,
            "unreadable": self.unreadable,
            "oldest": oldest.map(moment),
            "newest": newest.map(moment),
            "lastAccess": self.last_access.map(moment),
            "lastCleanUpSecondsAgo": manager.last_clean_up().map(|age| age.as_secs()),
            "maxSessions": setting("maxSessions").parse::<u64>().ok(),
            "whenFull": setting("whenFull"),
            "applications": self.applications,
        })
    }
}

fn cap(manager: &SessionManager) -> String {
    let setting = |key: &str| manager.config().get(key).unwrap_or_default();
    match setting("maxSessions").as_str() {
        "0" => "none (maxSessions = 0)".to_owned(),
        number => format!("{number}, then whenFull = {}", setting("whenFull")),
    }
}
