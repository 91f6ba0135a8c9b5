//! A CGI program that does what no program should. `?mode=` says what.

use std::error::Error;
use std::io::Read as _;
use std::process::ExitCode;

use cgi_session::{Request, Response, SessionManager};
use http::StatusCode;
use serde::{Deserialize, Serialize};

/// What a later build expects in the session.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    page_views: String,
}

/// Text of a client that would set a terminal's title, clear it, turn it red, and forge a line.
const HOSTILE: &str =
    "\u{1b}]0;x\u{7}\u{1b}[2J\u{9b}31m\u{7f}\u{85}\u{2028}\u{202e}\r\nforged: \tline";

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
        "escape and panic" => panic!("{HOSTILE}"),
        "escape" => {
            request.session()?.insert("name", HOSTILE)?;
            let name: String = request.session()?.require("name")?;
            return Err(format!("nobody is called {name}").into());
        }
        "5xx" => return Ok(page.with_status(StatusCode::BAD_GATEWAY)),
        "commit and panic" => {
            request.commit_session()?;
            panic!("after the commit");
        }
        "new id and panic" => {
            request.session()?.regenerate_id();
            request.commit_session()?;
            panic!("after the commit");
        }
        "new id and error" => {
            request.session()?.regenerate_id();
            request.session()?.save()?;
            return Err("after the save".into());
        }
        "new id in an update" => {
            request.commit_session()?;
            request.update_session(|session| {
                session.regenerate_id();
                session.save()?;
                session.require::<u64>("never stored")
            })?;
        }
        "commit and 5xx" => {
            request.commit_session()?;
            return Ok(page.with_status(StatusCode::BAD_GATEWAY));
        }
        "leave a note and come back" => {
            request.session()?.flash("notice", "for the next")?;
            request.commit_session()?;
            let own: Option<String> = request.session()?.flashed("notice")?;
            request.session()?.csrf_token()?;
            return Ok(Response::text(format!("{own:?}")));
        }
        "another type" => drop(request.session()?.require::<String>("pageViews")?),
        "another struct" => request.session()?.edit(|_: &mut Page| ())?,
        "note" => {
            let note: Option<String> = request.session()?.flashed("notice")?;
            return Ok(Response::text(format!("{note:?}")));
        }
        "log out elsewhere" => {
            request.session()?.remove("pageViews");
            request.destroy_other_sessions()?;
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
        "redirect" => return Ok(Response::redirect("/elsewhere?a=b c\r\nX: y")),
        "large" => return Ok(Response::text(vec![b'x'; 4 << 20])),
        _ => {}
    }
    Ok(page)
}
