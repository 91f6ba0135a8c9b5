//! `cgi-session destroy`: ends sessions for good.

use std::path::Path;

use cgi_session::SessionManager;
use clap::builder::NonEmptyStringValueParser;

use crate::report::{self, Ended};
use crate::sessions;
use crate::values_file::ValuesFile;

const EXAMPLES: &str = "\
Examples:
  cgi-session destroy 9692e67b8378
  cgi-session destroy --user ada

  # In a CGI program: log the visitor out
  printf 'Set-Cookie: %s\\n' \"$(cgi-session destroy)\"

Without digests and user it ends the session of HTTP_COOKIE and prints the value of the Set-Cookie
that takes the cookie away; nothing is printed when the client has none. Inside
`cgi-session start PROGRAM` the session ends when PROGRAM succeeds, and nothing is printed: the
wrapper sends the cookie.

Sessions that requests hold are waited for, all others of a user are deleted before; nothing brings
them back. That a user has no session is said on stderr and no error. Exit status: 0, 1 when a
session is not there or could not be deleted, 2 wrong usage, 75
when all that are left were held all that time, 78 when the configuration cannot be used.";

/// End sessions: they are deleted and never come back
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// The digests of the sessions, as `list` shows them
    #[arg(value_name = "DIGEST")]
    digests: Vec<String>,

    /// All sessions of this user
    #[arg(long, value_name = "USER", conflicts_with = "digests", value_parser = NonEmptyStringValueParser::new())]
    user: Option<String>,

    /// How long to wait for what requests hold: in all with --user (default 60s), for each DIGEST
    /// (default `lockTimeout`)
    #[arg(long, value_name = "TIME", value_parser = |text: &str| sessions::time(text).map(|_| text.to_owned()))]
    wait: Option<String>,
}

/// Longer than a request that holds a session may take with the usual settings.
const WAIT_FOR_USER: &str = "60s";

pub(crate) fn run(arguments: &Arguments, file: Option<&Path>) -> Result<(), Ended> {
    if arguments.digests.is_empty() && arguments.user.is_none() {
        return match ValuesFile::of_wrapper() {
            Some(values) => values.destroy(),
            None => of_visitor(file),
        };
    }
    let usual = arguments.user.as_ref().map(|_| WAIT_FOR_USER);
    let wait = arguments.wait.as_deref().or(usual);
    let manager = sessions::manager_with(file, "lockTimeout", wait)?;
    if let Some(user) = &arguments.user {
        if manager.destroy_sessions_of(user, None)? == 0 {
            report::error(&format!("there is no session of user {user:?}"));
        }
        return Ok(());
    }
    all(&manager, &arguments.digests)
}

fn of_visitor(file: Option<&Path>) -> Result<(), Ended> {
    let manager = sessions::manager(file, None)?;
    let header = sessions::cookie_header(&manager)?.ok_or_else(|| {
        let list = report::command_for(manager.config(), "list");
        let line = format!(
            "which session? write its digest, as {list} shows it, or --user; HTTP_COOKIE is not set"
        );
        Ended::saying(&line, report::USAGE)
    })?;
    // A session that is new holds nothing: its end only takes the client's cookie away.
    let removal = manager.start(header)?.destroy()?;
    if let Some(removal) = removal {
        let removal = removal.over_https(sessions::is_https(&manager));
        report::output(&format!("{removal}\n"));
    }
    Ok(())
}

/// Destroys each of them, also when another could not be.
fn all(manager: &SessionManager, digests: &[String]) -> Result<(), Ended> {
    let (mut failed, mut named) = (Vec::new(), Vec::new());
    for digest in digests {
        match sessions::find(manager, digest) {
            Ok(session) => named.push(session),
            Err(ended) if ended.is(report::USAGE) => return Err(ended),
            Err(ended) => failed.push(ended),
        }
    }
    for session in &named {
        match manager.destroy_by_digest(session) {
            Ok(true) => {}
            Ok(false) => failed.push(sessions::unknown(session.as_str())),
            Err(error) => {
                report::error(&format!("{session}: {}", error.one_line()));
                failed.extend(Ended::with(report::status_of(&error)).err());
            }
        }
    }
    // Trying again helps only where nothing else is wrong.
    failed.sort_by_key(|ended| ended.is(report::TRY_AGAIN));
    failed.into_iter().next().map_or(Ok(()), Err)
}
