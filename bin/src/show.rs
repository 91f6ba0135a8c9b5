//! `cgi-session show`: everything that is stored in one session.

use std::path::Path;

use cgi_session::{Record, SessionDigest, SessionManager, Stored, printable};
use serde_json::{Map, Value, json};

use crate::report::{self, Ended, moment};
use crate::sessions;

const EXAMPLES: &str = "\
Examples:
  cgi-session show 9692e67b8378
  cgi-session show --json 9692e67b8378 | jq '.values[\"\"].pageViews'

  # In a CGI program: the session of the visitor
  cgi-session show

The beginning of a digest is enough where only one live session has it. Showing waits for no lock
and does not count as use. Exit status: 0, 1 when there is no such session or it cannot be read,
2 wrong usage, 78 when the configuration cannot be used.";

/// Show everything that is stored in one session
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// The session's digest, as `list` shows it; without it, the session of `HTTP_COOKIE`
    digest: Option<String>,

    /// Write one JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments, file: Option<&Path>) -> Result<(), Ended> {
    let manager = sessions::manager(file, None)?;
    let session = match &arguments.digest {
        Some(digest) => sessions::find(&manager, digest)?,
        None => of_visitor(&manager)?,
    };
    let Some(stored) = manager.peek(&session)? else {
        return Err(sessions::unknown(session.as_str()));
    };
    let values: Value = serde_json::from_slice(stored.record.values())
        .map_err(|error| format!("cannot read the values of {session}: {error}"))?;
    report::output(&if arguments.json {
        format!("{}\n", object(&manager, &session, &stored, &values))
    } else {
        text(&manager, &session, &stored, &values)
    });
    Ok(())
}

fn of_visitor(manager: &SessionManager) -> Result<SessionDigest, Ended> {
    let id = sessions::cookie_header(manager)?.and_then(|header| manager.session_id(header));
    id.map(|id| id.digest()).ok_or_else(|| {
        let line = "which session? write its digest, as cgi-session list shows it; \
                    HTTP_COOKIE names none";
        Ended::saying(line, report::USAGE)
    })
}

fn object(
    manager: &SessionManager,
    session: &SessionDigest,
    stored: &Stored,
    values: &Value,
) -> Value {
    json!({
        "digest": session.as_str(),
        "created": moment(stored.record.created()),
        "lastAccess": moment(stored.last_access),
        "ends": moment(manager.end_of(stored)),
        "idle": sessions::idle(manager, &stored.record).as_secs(),
        "timeout": stored.record.timeout().map(|timeout| timeout.as_secs()),
        "user": stored.record.user(),
        "bytes": sessions::size(stored),
        "values": values,
    })
}

fn text(
    manager: &SessionManager,
    session: &SessionDigest,
    stored: &Stored,
    values: &Value,
) -> String {
    let mut lines = vec![
        format!("digest       {session}"),
        format!("created      {}", moment(stored.record.created())),
        format!("last used    {}", moment(stored.last_access)),
        format!("ends         {}", moment(manager.end_of(stored))),
        format!(
            "idle time    {} s",
            sessions::idle(manager, &stored.record).as_secs()
        ),
    ];
    lines.extend(own_settings(&stored.record));
    lines.push(format!("size         {} bytes", sessions::size(stored)));
    let none = Map::new();
    for (app, values) in values.as_object().unwrap_or(&none) {
        lines.push(String::new());
        lines.push(format!("application  {}", sessions::shown_app(app)));
        for (key, value) in values.as_object().unwrap_or(&none) {
            let text = format!("{}: {value:#}", Value::from(key.as_str()));
            lines.extend(text.lines().map(|line| format!("    {}", printable(line))));
        }
    }
    lines.push(String::new());
    lines.join("\n")
}

/// What a program has said of this session alone.
fn own_settings(record: &Record) -> impl Iterator<Item = String> {
    let timeout = record.timeout();
    let timeout = timeout.map(|timeout| format!("timeout      {} s", timeout.as_secs()));
    let user = record
        .user()
        .map(|user| format!("user         {}", printable(user)));
    timeout.into_iter().chain(user)
}
