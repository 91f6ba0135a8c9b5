//! `cgi-session show`: everything that is stored in one session.

use std::path::Path;
use std::time::Duration;

use cgi_session::{SessionDigest, SessionManager, printable};
use serde_json::{Map, Value};

use crate::report::{self, Ended, moment};
use crate::sessions::{self, About};

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
    let about = About::of(&manager, &session, &stored);
    let timeout = stored.record.timeout();
    if arguments.json {
        let mut object = about.json();
        object["timeout"] = timeout.map(|timeout| timeout.as_secs()).into();
        object["values"] = values;
        report::output_json(&object);
    } else {
        report::output_stored(&text(&about, timeout, &values));
    }
    Ok(())
}

fn of_visitor(manager: &SessionManager) -> Result<SessionDigest, Ended> {
    let header = sessions::cookie_header(manager)?.unwrap_or_default();
    let session = sessions::of_cookies(manager, &header);
    session.ok_or_else(|| {
        if manager.session_id(header).is_some() {
            return "HTTP_COOKIE leads to no session".to_owned().into();
        }
        let list = report::command_for(manager.config(), "list");
        let line =
            format!("which session? write its digest, as {list} shows it; HTTP_COOKIE names none");
        Ended::saying(&line, report::USAGE)
    })
}

fn text(about: &About, timeout: Option<Duration>, values: &Value) -> String {
    let mut lines = vec![
        format!("digest       {}", about.digest),
        format!("created      {}", moment(about.created)),
        format!("last used    {}", moment(about.last_access)),
        format!("ends         {}", moment(about.ends)),
        format!("idle time    {} s", about.idle.as_secs()),
    ];
    // What a program has said of this session alone.
    lines.extend(timeout.map(|timeout| format!("timeout      {} s", timeout.as_secs())));
    let user = about.user.as_ref();
    lines.extend(user.map(|user| format!("user         {}", printable(user))));
    lines.push(format!("size         {} bytes", about.bytes));
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
