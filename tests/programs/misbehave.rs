//! A CGI program that does what no program should. `?mode=` says what.

use std::error::Error;
use std::io::Read as _;
use std::process::ExitCode;

use cgi_session::{Request, Response, SessionManager};
use http::StatusCode;

fn main() -> ExitCode {
    cgi_session::run(misbehave)
}

pub(crate) fn misbehave(request: &mut Request) -> Result<Response, Box<dyn Error + Send + Sync>> {
    let mode = request.query("mode").unwrap_or_default();
    let cookie = request.param("HTTP_COOKIE").unwrap_or_default().to_owned();
    request.session()?.insert("pageViews", 1000)?;
    let page = Response::html("<html>unharmed</html>");
    match mode.as_str() {
        "panic" => panic!("on\npurpose"),
        "error" => return Err("an error\nof two lines".into()),
        "5xx" => return Ok(page.with_status(StatusCode::BAD_GATEWAY)),
        "commit and panic" => {
            request.commit_session()?;
            panic!("after the commit");
        }
        "twice" => {
            let manager = SessionManager::find()?;
            drop(manager.start(cookie.as_encoded_bytes())?);
        }
        // Holds the session until whoever writes the body has finished.
        "hold" => {
            eprintln!("holding");
            request.body(1000).read_to_end(&mut Vec::new())?;
        }
        "redirect" => return Ok(Response::redirect("/elsewhere?a=b c")),
        "large" => return Ok(Response::text(vec![b'x'; 4 << 20])),
        _ => {}
    }
    Ok(page)
}
