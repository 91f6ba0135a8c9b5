//! `cgi-session get`, `set` and `unset`: one value of a session.

use std::ffi::OsString;
use std::path::Path;

use cgi_session::{Error, Session, SessionManager, Values};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Number, Value};

use crate::report::{self, Ended};
use crate::sessions;
use crate::values_file::ValuesFile;

const GET_EXAMPLES: &str = "\
Examples:
  # In a CGI program in any language: a value of the visitor's session
  name=$(cgi-session get name) || name=stranger

  # As the administrator
  cgi-session get --session 9692e67b8378 --json cart

Text is printed as it is, anything else as JSON; --json prints text as JSON too. On a terminal
control characters are escaped, and a tab is a space. Reading waits for no lock; of the visitor's
session it counts as use. Exit status: 0, 1 when there is no such value (nothing is printed) or it
could not be read (stderr says why), 2 wrong usage, 78 when the configuration cannot be used.";

const SET_EXAMPLES: &str = "\
Examples:
  # In a CGI program in any language: put text into the visitor's session
  set_cookie=$(cgi-session set name \"$name\")

  # JSON, and a counter that no two requests count at once
  cgi-session set --json cart '[17, 4]'
  views=$(cgi-session set --add 1 pageViews)

  # As the administrator
  cgi-session set --session 9692e67b8378 theme dark

Where the visitor has no session, one is made. The value of the Set-Cookie header to send is printed
if one is due: for a new session, when its Max-Age is renewed, and with storageType = cookie after
every change. With --add it follows the new number on a line of its own. (Except with
storageType = cookie, `cgi-session start` before it prints it first, so that only the number is left.)

Options come before KEY: what follows is taken as it is, whatever it begins with. Exit status: 0, 1
when the value could not be stored or `allowCrossSiteStart` forbids a session, 2 wrong usage, 75 when the session was held for `lockTimeout`,
78 when the configuration cannot be used.";

const UNSET_EXAMPLES: &str = "\
Examples:
  cgi-session unset cart
  cgi-session unset --session 9692e67b8378 cart

That there is no such value or no session is no error: afterwards there is none. The value of the
Set-Cookie header to send is printed if one is due, as by `set`. Exit status: 0, 1
when it could not be removed, 2 wrong usage, 75 when the session was held for `lockTimeout`, 78
when the configuration cannot be used.";

/// Which session, and whose values in it.
#[derive(Debug, clap::Args)]
struct Place {
    /// The application whose values are meant, in place of the configuration's `app`
    #[arg(long, value_name = "APP")]
    app: Option<String>,

    /// The digest of the session, as `list` shows it; without it, the session of `HTTP_COOKIE`
    #[arg(long, value_name = "DIGEST")]
    session: Option<String>,
}

/// Print one value of a session
#[derive(Debug, clap::Args)]
#[command(after_help = GET_EXAMPLES)]
pub(crate) struct Get {
    #[command(flatten)]
    place: Place,

    /// Print text as JSON too
    #[arg(long)]
    json: bool,

    /// The key of the value
    key: String,
}

/// Store one value in a session
#[derive(Debug, clap::Args)]
#[command(after_help = SET_EXAMPLES, override_usage = "cgi-session set [OPTIONS] KEY VALUE\n       \
cgi-session set [OPTIONS] --add N KEY")]
pub(crate) struct Set {
    #[command(flatten)]
    place: Place,

    /// VALUE is JSON, not text
    #[arg(long, conflicts_with = "add")]
    json: bool,

    /// Add N to the number, which is 0 when there is none, and print the sum
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    add: Option<Number>,

    /// The key, and the value
    #[arg(value_names = ["KEY", "VALUE"], required = true, num_args = 1.., trailing_var_arg = true, allow_hyphen_values = true)]
    key_and_value: Vec<OsString>,
}

/// Remove one value from a session
#[derive(Debug, clap::Args)]
#[command(after_help = UNSET_EXAMPLES)]
pub(crate) struct Unset {
    #[command(flatten)]
    place: Place,

    /// The key of the value
    key: String,
}

pub(crate) fn get(arguments: &Get, file: Option<&Path>) -> Result<(), Ended> {
    let values = arguments.place.read(file)?.unwrap_or_default();
    let Some(value) = values.get::<Box<RawValue>>(&arguments.key)? else {
        return Ended::unless(false);
    };
    match serde_json::from_str(value.get()) {
        Ok(Value::String(text)) if !arguments.json => report::output_stored(&format!("{text}\n")),
        _ => report::output_json(&value),
    }
    Ok(())
}

pub(crate) fn set(arguments: &Set, file: Option<&Path>) -> Result<(), Ended> {
    let (key, change) = arguments.change()?;
    let change = |values: &mut Values| change.make(values, &key);
    let unknown = |digest: &str| Err(sessions::unknown(digest));
    arguments
        .place
        .change(file, sessions::start, unknown, change)
}

pub(crate) fn unset(arguments: &Unset, file: Option<&Path>) -> Result<(), Ended> {
    let remove = |values: &mut Values| {
        values.remove(&arguments.key);
        Ok(None)
    };
    // A new session in which nothing was put is not stored, and so gets no cookie.
    let open = |manager: &SessionManager| {
        let header = sessions::cookie_header(manager)?;
        Ok(manager.start(header.unwrap_or_default())?)
    };
    arguments.place.change(file, open, |_| Ok(()), remove)
}

/// What `set` does with a value.
enum Change {
    Store(Box<RawValue>),
    Add(Number),
}

impl Change {
    /// Makes the change and returns what is to be printed.
    fn make(&self, values: &mut Values, key: &str) -> cgi_session::Result<Option<String>> {
        let number = match self {
            Change::Store(value) => return values.insert(key, value).map(|()| None),
            Change::Add(number) => number,
        };
        let before = values.get::<Number>(key)?.unwrap_or_else(|| 0.into());
        let sum = sum(&before, number).ok_or_else(|| too_large(key))?;
        values.insert(key, &sum)?;
        Ok(Some(sum.to_string()))
    }
}

/// The sum, exact for whole numbers; `None` when it is no number that can be stored.
fn sum(one: &Number, other: &Number) -> Option<Number> {
    match (one.as_i128(), other.as_i128()) {
        (Some(one), Some(other)) => Number::from_i128(one.checked_add(other)?),
        _ => Number::from_f64(one.as_f64()? + other.as_f64()?),
    }
}

fn too_large(key: &str) -> Error {
    use serde::de::Error as _;
    Error::Value {
        key: key.to_owned(),
        source: serde_json::Error::custom("the sum needs more than 64 bits"),
    }
}

impl Set {
    fn change(&self) -> Result<(String, Change), Ended> {
        let usage = |line: &str| Ended::saying(line, report::USAGE);
        let mut texts = Vec::new();
        for argument in &self.key_and_value {
            let text = argument.to_str();
            texts.push(text.ok_or_else(|| usage("key and value must be text in UTF-8"))?);
        }
        let not_json = |error| usage(&format!("VALUE is not JSON: {error}"));
        match (texts.as_slice(), &self.add) {
            ([key], Some(number)) => Ok(((*key).to_owned(), Change::Add(number.clone()))),
            ([key, value], None) => {
                let value = if self.json {
                    serde_json::from_str(value)
                } else {
                    to_raw_value(value)
                };
                Ok(((*key).to_owned(), Change::Store(value.map_err(not_json)?)))
            }
            (_, Some(_)) => Err(usage("with --add there is a KEY and no VALUE")),
            ([_, _, more, ..], None) => Err(usage(&format!(
                "{more:?} follows KEY and VALUE: options stand before KEY"
            ))),
            _ => Err(usage("a VALUE must follow KEY, or --add N stand before it")),
        }
    }
}

impl Place {
    /// The wrapper's file, unless another session is meant.
    fn values_file(&self) -> Result<Option<ValuesFile>, Ended> {
        if self.session.is_some() {
            return Ok(None);
        }
        let file = ValuesFile::of_wrapper();
        if file.is_some() && self.app.is_some() {
            let line = "the values at hand are those of one application: --app belongs to \
                        cgi-session start, before PROGRAM";
            return Err(Ended::saying(line, report::USAGE));
        }
        Ok(file)
    }

    fn read(&self, file: Option<&Path>) -> Result<Option<Values>, Ended> {
        if let Some(values) = self.values_file()? {
            return values.values();
        }
        let manager = sessions::manager(file, self.app.as_deref())?;
        let Some(digest) = &self.session else {
            let header = sessions::cookie_header(&manager)?;
            let snapshot = manager.read(header.unwrap_or_default())?;
            return Ok(snapshot.map(|snapshot| Values::clone(&snapshot)));
        };
        let session = sessions::find(&manager, digest)?;
        let stored = manager.peek(&session)?;
        let stored = stored.ok_or_else(|| sessions::unknown(digest))?;
        let applications = sessions::applications(&stored.record);
        let mut applications = applications.map_err(|reason| format!("{session}: {reason}"))?;
        let app = manager.config().get("app").unwrap_or_default();
        Ok(applications.remove(&app))
    }

    /// Changes the values under the session's lock, and prints the line that `change` returns and the
    /// cookie, if one is due. `open` opens the visitor's session, `unknown` tells how it ends where there is none of
    /// the digest.
    fn change(
        &self,
        file: Option<&Path>,
        open: impl FnOnce(&SessionManager) -> Result<Session, Ended>,
        unknown: impl FnOnce(&str) -> Result<(), Ended>,
        change: impl FnOnce(&mut Values) -> cgi_session::Result<Option<String>>,
    ) -> Result<(), Ended> {
        let (line, set_cookie) = if let Some(values) = self.values_file()? {
            (values.change(change)?, None)
        } else {
            let manager = sessions::manager_for_writing(file, self.app.as_deref())?;
            let mut session = match &self.session {
                Some(digest) => {
                    match manager.open_by_digest(&sessions::find(&manager, digest)?)? {
                        Some(session) => session,
                        None => return unknown(digest),
                    }
                }
                None => open(&manager)?,
            };
            let line = change(&mut session)?;
            let is_https = sessions::is_https(&manager);
            let set_cookie = session.commit()?.map(|cookie| cookie.over_https(is_https));
            (line, set_cookie.map(|cookie| cookie.to_string()))
        };
        for line in line.into_iter().chain(set_cookie) {
            report::output(&format!("{line}\n"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_are_added_exactly_and_never_beyond_64_bits() {
        let add = |one: &str, other: &str| {
            let sum = sum(&one.parse().unwrap(), &other.parse().unwrap());
            sum.map(|sum| sum.to_string())
        };
        assert_eq!(add("9007199254740993", "1").unwrap(), "9007199254740994");
        assert_eq!(
            add("18446744073709551614", "1").unwrap(),
            "18446744073709551615"
        );
        assert_eq!(add("18446744073709551615", "1"), None);
        assert_eq!(add("-9223372036854775808", "-1"), None);
        assert_eq!(add("1", "-3").unwrap(), "-2");
        assert_eq!(add("1", "0.5").unwrap(), "1.5");
        assert_eq!(add("1e308", "1e308"), None);
    }
}
