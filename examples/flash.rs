//! A message for the next page: it is shown once, and a reload does not show it again.
//!
//! A form that changes more than this one needs a token, too: `csrf_form.rs`.

use std::process::ExitCode;

use cgi_session::http::Method;
use cgi_session::{Request, Response, Result};

fn main() -> ExitCode {
    cgi_session::run(flash)
}

fn flash(request: &mut Request) -> Result<Response> {
    let is_post = request.method() == Method::POST;
    let session = request.session()?;
    if is_post {
        session.flash("notice", "The article is in your basket.")?;
        return Ok(Response::redirect("?")); // this page by GET: a reload sends nothing again
    }
    let notice = session.flashed::<String>("notice")?.unwrap_or_default();
    Ok(Response::html(format!(
        r#"<!doctype html><title>Flash</title>
<p role="status">{notice}</p>
<form method="post"><button>Buy</button></form>"#
    )))
}
