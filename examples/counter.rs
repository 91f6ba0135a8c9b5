//! Counts a visitor's page views: the first example of CherryPy's chapter on sessions.

use std::process::ExitCode;

use cgi_session::{Request, Response, Result};

mod site;

fn main() -> ExitCode {
    cgi_session::run(counter)
}

pub(crate) fn counter(request: &mut Request) -> Result<Response> {
    let session = request.session()?;
    let views = session.get::<u64>("pageViews")?.unwrap_or(0) + 1;
    session.insert("pageViews", views)?;

    let body = format!("<p>Hello, you've been here {views} time(s)</p>");
    Ok(site::page("Counter", &body))
}
