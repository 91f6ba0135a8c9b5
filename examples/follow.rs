//! Karrigell's second script: reads the session that `begin` filled and, asked to, closes it.
//!
//! Karrigell's `close()` discards the session, which is `destroy` here. Who comes back after
//! that reads a page that names what is missing.

use std::process::ExitCode;

use cgi_session::{Error, Request, Response, Result};
use html_escape::encode_text;
use http::StatusCode;

mod site;

fn main() -> ExitCode {
    cgi_session::run(follow)
}

pub(crate) fn follow(request: &mut Request) -> Result<Response> {
    let first_name = match request.existing_session()? {
        Some(session) => session.require::<String>("firstname"),
        None => Err(Error::MissingKey("firstname".to_owned())),
    };
    let first_name = match first_name {
        Ok(first_name) => first_name,
        Err(missing @ Error::MissingKey(_)) => return Ok(nothing_to_follow(&missing)),
        Err(error) => return Err(error),
    };

    let farewell = if request.query("close").is_some_and(|close| close == "1") {
        request.destroy_session()?;
        "The session is closed. <a href=\"follow\">Follow again</a> and see that it is gone."
    } else {
        "<a href=\"follow\">Follow again</a>, or <a href=\"follow?close=1\">close the session</a>."
    };
    let body = format!(
        "<p>Your first name is {}.</p>\n<p>{farewell}</p>",
        encode_text(&first_name)
    );
    Ok(site::page("Follow", &body))
}

fn nothing_to_follow(missing: &Error) -> Response {
    let body = format!(
        "<p>{}.</p>\n<p>Nobody has begun, or the session was closed: <a href=\"/karrigell.html\">begin again</a>.</p>",
        encode_text(&missing.to_string())
    );
    site::page("Nothing to follow", &body).with_status(StatusCode::NOT_FOUND)
}
