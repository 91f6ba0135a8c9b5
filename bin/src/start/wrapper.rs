//! One CGI request answered by a program that knows nothing of sessions.

use std::collections::BTreeMap;
use std::env;
use std::error::Error as StdError;
use std::ffi::{OsStr, OsString};
use std::io;
use std::mem;
use std::path::Path;
use std::process::Command;

use cgi_session::{Config, Program, Request, Response, SessionId, Values};
use http::StatusCode;
use serde_json::Value;
use serde_json::value::RawValue;

use super::child;
use crate::head::{BODILESS, Head};
use crate::owner;
use crate::private::{self, PrivateDirectory};
use crate::report::{self, Ended};
use crate::sessions;
use crate::values_file::{self, Unfit, ValuesFile};

type BoxError = Box<dyn StdError + Send + Sync>;

/// So many entries of the temporary directory are looked at by one request.
const MAX_LOOKED_AT: usize = 1000;

/// Answers the request of this process.
pub(super) fn run(
    program: &OsStr,
    arguments: &[OsString],
    streams: bool,
    app: Option<&str>,
    file: Option<&Path>,
) -> Result<(), Ended> {
    if env::var_os("REQUEST_METHOD").is_none() {
        let shown = program.to_string_lossy();
        let line = format!(
            "start {shown} answers a request of a web server, and this is none; \
             to try it: REQUEST_METHOD=GET cgi-session start {shown}"
        );
        return Err(Ended::saying(&line, report::USAGE));
    }
    // A configuration that cannot be used is found again, and reported to the client, with the session.
    let found = Config::find_with(file, &[]);
    let refused = found.map_or(Ok(()), |config| owner::act_as_owner(&config));
    let (file, app) = (file.map(Path::to_owned), app.map(str::to_owned));
    let manager = move || {
        let mut config = Config::find_with(file.as_deref(), &[])?;
        if let Some(app) = &app {
            config = config.set("app", app)?;
        }
        sessions::refuse_to_own(&config)?;
        sessions::open(config)
    };
    Ended::with(
        Program::new()
            .manager(manager)
            .run(|request: &mut Request| {
                refused.clone()?;
                answer(request, program, arguments, streams)
            }),
    )
}

fn answer(
    request: &mut Request,
    program: &OsStr,
    arguments: &[OsString],
    streams: bool,
) -> Result<Response, BoxError> {
    if ValuesFile::of_wrapper().is_some() {
        let reason = "this request has its session already: one cgi-session start PROGRAM cannot \
                      run inside another";
        return Err(reason.into());
    }
    let parent = env::temp_dir();
    private::remove_left(&parent, private::START, MAX_LOOKED_AT);
    let directory = PrivateDirectory::create(&parent, private::START).map_err(|error| {
        let parent = parent.display();
        format!("cannot make a directory for the values in {parent}: {error}; set TMPDIR to one that exists")
    })?;
    let values = ValuesFile::create(directory.path(), request.session()?)?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env(values_file::VARIABLE, values.path());
    let shown = program.to_string_lossy().into_owned();
    let is_enough = if streams {
        begins_body
    } else {
        |_: &[u8]| false
    };
    let mut started = child::run(&mut command, directory.path(), is_enough)
        .map_err(|error| format!("cannot run {shown}: {error}; nothing was saved"))?;
    if let Some(status) = started.status.filter(|status| !status.success()) {
        let how = report::how_it_ended(status);
        return Err(format!("{shown} {how}; nothing was saved").into());
    }
    let head = take_head(&mut started.output)
        .map_err(|reason| format!("{shown} sent no response: {reason}; nothing was saved"))?;
    let response = if started.status.is_some() {
        Response::text(mem::take(&mut started.output))
    } else {
        let name = shown.clone();
        Response::stream("text/plain", move |out| {
            // Commands of the program find its values as long as it runs.
            let _directory = directory;
            let status = started.pass_on(out)?;
            let failed = || io::Error::other(format!("{name} {}", report::how_it_ended(status)));
            status.success().then_some(()).ok_or_else(failed)
        })
    };
    // The status is sent in any case: a bare `Location: /page` makes a server answer with that page itself, and
    // the cookie would be lost.
    let mut response = response.with_status(head.status);
    *response.headers_mut() = head.headers;
    let left = if streams {
        values.read_last()
    } else {
        values.read()
    };
    if response.status().is_server_error() {
        return Ok(response);
    }
    let left = left.map_err(|error| format!("cannot use the values that {shown} left: {error}"))?;
    match left {
        Ok(Some(left)) => replace(request.session()?, &left)?,
        Ok(None) => request.destroy_session()?,
        Err(unfit) => return refuse(&shown, unfit, request.session()?.id()),
    }
    Ok(response)
}

/// Whether the output of a program begins a response with a body, or never will. Without a body there is nothing
/// to pass on, and the program runs to its end.
fn begins_body(output: &[u8]) -> bool {
    match Head::parse(output) {
        Ok(Some((head, _))) => !BODILESS.contains(&head.status),
        begun => begun.is_err(),
    }
}

/// Takes the head from the beginning of what a program printed.
fn take_head(output: &mut Vec<u8>) -> Result<Head, String> {
    let parsed = Head::parse(output)?;
    let (head, length) = parsed.ok_or("there is no empty line after its header block")?;
    output.drain(..length);
    Ok(head)
}

/// A key or value that cannot be stored often comes from the request: text that is no Unicode, or too long.
fn refuse(program: &str, unfit: Unfit, session: Option<&SessionId>) -> Result<Response, BoxError> {
    let line = format!(
        "cannot use the values that {program} left: {}; nothing was saved",
        unfit.reason
    );
    let Some(key) = unfit.key else {
        return Err(line.into());
    };
    let session = session.map(|id| format!(" (session {})", id.digest()));
    log::warn!("{line}{}", session.unwrap_or_default());
    let key = html_escape::encode_text(&key).into_owned();
    let page = Response::html(format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>400 Bad Request</title>\
         <h1>400 Bad Request</h1><p>The value of <code>{key}</code> cannot be stored: it is no valid Unicode \
         text, no number, or too deep, or the key is empty or too long. Nothing was saved.</p></html>\n"
    ));
    Ok(page.with_status(StatusCode::BAD_REQUEST))
}

/// Gives the session these values and no others. What means the same stays as it is, with its end.
fn replace(values: &mut Values, left: &Values) -> cgi_session::Result<()> {
    let before: Vec<_> = values.keys().map(str::to_owned).collect();
    for key in before.iter().filter(|key| !left.contains(key)) {
        values.remove(key);
    }
    let mut reordered = Vec::new();
    for key in left.keys() {
        let text: Box<RawValue> = left.require(key)?;
        let before: Option<Box<RawValue>> = values.get(key)?;
        let before = before.as_deref().map_or("", RawValue::get);
        if canonical(before) == canonical(text.get()) {
            continue;
        }
        let parsed = |text: &str| serde_json::from_str::<Value>(text).ok();
        if parsed(before).is_some_and(|before| Some(before) == parsed(text.get())) {
            // As some languages write it each time: its end stays.
            reordered.push((key.to_owned(), text));
        } else {
            values.insert(key, &text)?;
        }
    }
    if !reordered.is_empty() {
        values.edit(|all: &mut BTreeMap<String, Box<RawValue>>| all.extend(reordered))?;
    }
    Ok(())
}

/// A JSON text as every language may write it: without blanks, and with the same escapes. The order of an object's
/// keys and the digits of numbers are left.
fn canonical(text: &str) -> String {
    let (mut canonical, mut rest) = (String::new(), text);
    while let Some(start) = rest.find('"') {
        canonical.extend(rest[..start].split_ascii_whitespace());
        let mut texts = serde_json::Deserializer::from_str(&rest[start..]).into_iter::<String>();
        let Some(Ok(text)) = texts.next() else { break };
        canonical += &Value::from(text).to_string();
        rest = &rest[start + texts.byte_offset()..];
    }
    canonical.extend(rest.split_ascii_whitespace());
    canonical
}
