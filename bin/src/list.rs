//! `cgi-session list`: one line for each live session.

use std::iter;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::SystemTime;

use cgi_session::{SessionDigest, Stored, printable};
use serde_json::Value;
use unicode_width::UnicodeWidthStr as _;

use crate::report::{self, Ended, moment, rough};
use crate::screen::{Screen, Style, cut};
use crate::sessions::{self, About};

const EXAMPLES: &str = "\
Examples:
  cgi-session list
  cgi-session list --user ada
  cgi-session list --json | jq -r '.[] | select(.bytes > 10000) | .digest'

A session is named by the SHA-256 of its id, its digest: the id itself is known to the visitor's
browser alone. The most recently used comes first. Listing waits for no lock and does not count
as use. On a terminal the digest is cut to its first digits, which every command takes, and
times are relative: age, time unused, time left. Exit status: 0, or 1 when a session cannot be
read (stderr has a line for each), 78 when the configuration cannot be used.";

/// What a terminal shows of a session.
const TITLES: [&str; 8] = [
    "DIGEST",
    "AGE",
    "UNUSED",
    "LEFT",
    "IDLE",
    "BYTES",
    "USER",
    "APPLICATIONS",
];

/// List the live sessions: digest, created, last used, end, idle time, size, user, applications
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Only the sessions of this user, with the browsers that recordClient has recorded
    #[arg(long, value_name = "USER")]
    user: Option<String>,

    /// Write a JSON array with an object for each session
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments, file: Option<&Path>) -> Result<(), Ended> {
    let manager = sessions::manager(file, None)?;
    let (mut is_well, mut rows) = (true, Vec::new());
    let mut visit = |session: &SessionDigest, stored: cgi_session::Result<Stored>| {
        let stored = stored.map_err(|error| error.one_line());
        match stored.and_then(|it| Row::new(About::of(&manager, session, &it), &it)) {
            Ok(row) => rows.push(row),
            Err(reason) => {
                report::error(&format!("{session}: {reason}"));
                is_well = false;
            }
        }
    };
    match &arguments.user {
        // By the user's index, where the store has one.
        Some(user) => {
            for session in manager.sessions_of(user)? {
                if let Some(stored) = manager.peek(&session).transpose() {
                    visit(&session, stored);
                }
            }
        }
        None => manager.for_each(|session, stored| {
            visit(session, stored);
            ControlFlow::Continue(())
        })?,
    }
    rows.sort_by_key(|row| std::cmp::Reverse(row.about.last_access));
    if arguments.json {
        let rows: Vec<_> = rows.iter().map(Row::json).collect();
        report::output_json(&Value::from(rows));
        return Ended::unless(is_well);
    }
    let screen = Screen::of_stdout();
    let devices = |row: &Row| {
        let shown = arguments.user.as_ref().and_then(|_| row.devices_line());
        shown.unwrap_or_default()
    };
    let text: String = if screen.is_terminal && !rows.is_empty() {
        let now = SystemTime::now();
        let since = |time| rough(now.duration_since(time).unwrap_or_default());
        let left = |end: SystemTime| rough(end.duration_since(now).unwrap_or_default());
        let rows = rows.iter().map(|row| {
            let cells =
                row.cells(|[created, used, ends]| [since(created), since(used), left(ends)]);
            let devices = devices(row);
            let lines = devices.lines().map(|line| cut(line, 80) + "\n");
            short_line(&cells) + &lines.collect::<String>()
        });
        let titles = short_line(&TITLES.map(str::to_owned));
        let titles = screen.painted(titles.trim_end(), Style::Bold);
        iter::once(titles + "\n").chain(rows).collect()
    } else {
        let line = |row: &Row| line(&row.cells(|times| times.map(moment))) + &devices(row);
        rows.iter().map(line).collect()
    };
    report::output(&text);
    Ended::unless(is_well)
}

struct Row {
    about: About,
    applications: Vec<String>,
    /// With `recordClient`, the browsers that made it and last used it.
    devices: Option<Value>,
}

impl Row {
    fn new(about: About, stored: &Stored) -> Result<Self, String> {
        let applications = sessions::applications(&stored.record)?;
        let notes = applications.get("@");
        Ok(Row {
            about,
            devices: notes.and_then(|notes| notes.get("devices").ok().flatten()),
            applications: applications.into_keys().collect(),
        })
    }

    /// Which browsers made and last used the session, on a line of its own.
    fn devices_line(&self) -> Option<String> {
        let devices = self.devices.as_ref()?;
        let text =
            |which: &str, part: &str| printable(devices[which][part].as_str().unwrap_or("-"));
        let [first, last] = ["first", "last"]
            .map(|which| format!("{} {}", text(which, "address"), text(which, "agent")));
        Some(format!("    made by {first}\n    used by {last}\n"))
    }

    /// What a line has of the session, the times as `shown` has them.
    fn cells(&self, shown: impl Fn([SystemTime; 3]) -> [String; 3]) -> [String; 8] {
        let about = &self.about;
        let [created, used, ends] = shown([about.created, about.last_access, about.ends]);
        let applications = self.applications.iter().map(|app| sessions::shown_app(app));
        let applications = applications.collect::<Vec<_>>().join(",");
        let none = applications.is_empty().then(|| "-".to_owned());
        [
            about.digest.to_string(),
            created,
            used,
            ends,
            rough(about.idle),
            about.bytes.to_string(),
            printable(about.user.as_deref().unwrap_or("-")),
            none.unwrap_or(applications),
        ]
    }

    fn json(&self) -> Value {
        let mut row = self.about.json();
        row["applications"] = self.applications.clone().into();
        if let Some(devices) = &self.devices {
            row["devices"] = devices.clone();
        }
        row
    }
}

fn line(
    [
        digest,
        created,
        last_use,
        ends,
        idle,
        bytes,
        user,
        applications,
    ]: &[String; 8],
) -> String {
    format!(
        "{digest}  {created}  {last_use}  {ends}  {idle:>4}  {bytes:>7}  {user}  {applications}\n"
    )
}

/// A line of at most 80 columns.
fn short_line(
    [digest, age, unused, left, idle, bytes, user, applications]: &[String; 8],
) -> String {
    let (user, applications) = (cut(user, 12), cut(applications, 13));
    let padding = 14_usize.saturating_sub(user.width());
    format!(
        "{digest:<12.12}  {age:>5}  {unused:>6}  {left:>5}  {idle:>5}  {bytes:>8}  {user}{:padding$}{applications}\n",
        ""
    )
}
