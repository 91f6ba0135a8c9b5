//! lemon.session's example: a first visit, a visit again, and an end.
//!
//! lemon destroyed the session by a link, `?destroy=True`. That still works, but the page offers a
//! form that posts: a link is followed by whatever prefetches pages, and anybody can put it on
//! a page of their own.

use std::process::ExitCode;

use cgi_session::{Request, Response, Result};
use html_escape::encode_text;

mod site;

fn main() -> ExitCode {
    cgi_session::run(visit)
}

pub(crate) fn visit(request: &mut Request) -> Result<Response> {
    if request
        .field("destroy")?
        .is_some_and(|destroy| destroy == "True")
    {
        request.destroy_session()?;
        let body = "<p>The session is deleted. <a href=\"visit\">Visit again</a>.</p>";
        return Ok(site::page("Deleted", body));
    }

    let session = request.session()?;
    if session.is_new() {
        session.insert("variable1", "a text that was stored at your first visit")?;
        let body = "<p>This is your first visit. <a href=\"visit\">Reload</a> this page.</p>";
        return Ok(site::page("First visit", body));
    }
    let body = format!(
        "<p>Welcome back. variable1 is: {}</p>\n\
         <form method=\"post\" action=\"visit\">\
         <button name=\"destroy\" value=\"True\">Destroy the session</button></form>",
        encode_text(&session.require::<String>("variable1")?)
    );
    Ok(site::page("Welcome back", &body))
}
