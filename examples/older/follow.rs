//! Karrigell's second script: reads the session that `begin` filled and, asked to, closes it.
//!
//! Karrigell's `close()` discards the session, which is `destroy` here. Who comes back after
//! that reads a page that names what is missing.

use std::process::ExitCode;

use cgi_session::{Error, Request, Response, Result};
use html_escape::encode_text;
use http::StatusCode;

#[path = "../site/mod.rs"]
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
        r#"<p>The session is closed: what it held is deleted. Follow again and see that it is gone.</p>
<p class="actions"><a class="button" href="follow">Follow again</a></p>"#
    } else {
        r#"<p class="actions"><a class="button" href="follow">Follow again</a>
<a class="button second" href="follow?close=1">Close the session</a></p>"#
    };
    let body = format!(
        r#"<p class="answer">Your first name is {}.</p>
{farewell}
<p class="note">This is Karrigell's second script. The link says no name: the page reads the session.</p>"#,
        encode_text(&first_name)
    );
    Ok(site::page("Follow", &body))
}

fn nothing_to_follow(missing: &Error) -> Response {
    let body = format!(
        r#"<p class="answer">Your first name is not known: {}.</p>
<p>The first page was not sent, or the session is closed. In Karrigell this was a traceback.</p>
<p class="actions"><a class="button" href="/karrigell.html">Begin again</a></p>"#,
        encode_text(&missing.to_string())
    );
    site::page("Nothing to follow", &body).with_status(StatusCode::NOT_FOUND)
}
