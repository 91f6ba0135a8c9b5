//! Downloads for those who have a session: files below the directory that `DOWNLOADS` names.
//!
//! Each is counted in the session first. A client that asks for a part, or has the file already, gets
//! just that: `curl --continue-at -`, or a film in a browser.

use std::env;
use std::process::ExitCode;

use cgi_session::http::{HeaderValue, StatusCode, header};
use cgi_session::{Request, Response, Result};

fn main() -> ExitCode {
    cgi_session::run(download)
}

pub(crate) fn download(request: &mut Request) -> Result<Response> {
    let Some(session) = request.existing_session()? else {
        return Ok(Response::text("Visit the counter first\n").with_status(StatusCode::FORBIDDEN));
    };
    let downloads = session.get::<u64>("downloads")?.unwrap_or(0) + 1;
    session.insert("downloads", downloads)?;
    let root = env::var_os("DOWNLOADS").unwrap_or("/srv/downloads".into());
    // The browser keeps it, and asks each time whether it has changed.
    let cached = HeaderValue::from_static("private, no-cache");
    Ok(Response::file(root, request.path_info())
        .with_header(
            header::CONTENT_DISPOSITION,
            HeaderValue::from_static("attachment"),
        )
        .with_header(header::CACHE_CONTROL, cached))
}
