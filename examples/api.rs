//! A JSON API for apps that keep no cookies: the id comes and goes in the header field `X-Session-Id`.
//!
//! ```text
//! POST   {"text": "buy milk"}   adds a note; the answer has the id
//! GET                           all notes
//! DELETE                        forgets them, and the session
//! ```

use std::io::Read as _;
use std::process::ExitCode;

use cgi_session::http::{HeaderValue, StatusCode, header};
use cgi_session::{Config, Program, Request, Response, Result, SessionManager};
use serde::{Deserialize, Serialize};

/// The largest note, in bytes.
const MAX_NOTE: u64 = 10_000;

#[derive(Deserialize, Serialize)]
struct Note {
    text: String,
}

fn main() -> ExitCode {
    let manager = || SessionManager::new(Config::find()?.set("idFrom", "header:X-Session-Id")?);
    Program::new().manager(manager).run(api)
}

pub(crate) fn api(request: &mut Request) -> Result<Response> {
    match request.method().as_str() {
        "GET" => {
            let notes = match request.read_session()? {
                Some(session) => session.get::<Vec<Note>>("notes")?.unwrap_or_default(),
                None => Vec::new(),
            };
            Ok(json(StatusCode::OK, &notes))
        }
        "POST" => {
            let mut body = String::new();
            if let Err(error) = request.body(MAX_NOTE).read_to_string(&mut body) {
                return Ok(json(StatusCode::BAD_REQUEST, &error.to_string()));
            }
            let Ok(note) = serde_json::from_str::<Note>(&body) else {
                return Ok(json(StatusCode::BAD_REQUEST, &"send {\"text\": …}"));
            };
            let session = request.session()?;
            let mut notes: Vec<Note> = session.get("notes")?.unwrap_or_default();
            notes.push(note);
            session.insert("notes", &notes)?;
            Ok(json(StatusCode::CREATED, &notes))
        }
        "DELETE" => {
            request.destroy_session()?;
            Ok(json(StatusCode::OK, &Vec::<Note>::new()))
        }
        _ => {
            let allowed = HeaderValue::from_static("GET, POST, DELETE");
            let page = json(StatusCode::METHOD_NOT_ALLOWED, &"GET, POST or DELETE");
            Ok(page.with_header(header::ALLOW, allowed))
        }
    }
}

fn json(status: StatusCode, value: &impl Serialize) -> Response {
    let json = HeaderValue::from_static("application/json");
    match serde_json::to_vec(value) {
        Ok(body) => Response::new(json, body).with_status(status),
        Err(_) => Response::new(json, "null").with_status(StatusCode::INTERNAL_SERVER_ERROR),
    }
}
