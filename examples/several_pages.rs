//! Several pages in one program: the path after the program's name says which.
//!
//! Installed as `/cgi-bin/notes` it answers `/cgi-bin/notes`, `/cgi-bin/notes/new` and `/cgi-bin/notes/clear`.

use std::fmt::Write as _;
use std::process::ExitCode;

use cgi_session::http::StatusCode;
use cgi_session::{Request, Response, Result};
use html_escape::encode_text;

fn main() -> ExitCode {
    cgi_session::run(site)
}

fn site(request: &mut Request) -> Result<Response> {
    let path = request.path_info().to_string_lossy().into_owned();
    match (request.method().as_str(), path.as_str()) {
        ("GET" | "HEAD", "" | "/") => list(request),
        ("GET" | "HEAD", "/new") => new(request),
        ("POST", "/new") => add(request),
        ("POST", "/clear") => clear(request),
        _ => Ok(Response::text("There is no such page.\n").with_status(StatusCode::NOT_FOUND)),
    }
}

fn list(request: &mut Request) -> Result<Response> {
    let base = base(request);
    let session = request.session()?;
    let token = session.csrf_field()?;
    let mut items = String::new();
    for note in session.get::<Vec<String>>("notes")?.unwrap_or_default() {
        let _ = write!(items, "<li>{}</li>", encode_text(&note)); // a String takes everything
    }
    Ok(page(&format!(
        r#"<ul>{items}</ul> <a href="{base}/new">New note</a>
<form method="post" action="{base}/clear">{token}<button>Delete all</button></form>"#
    )))
}

fn new(request: &mut Request) -> Result<Response> {
    let base = base(request);
    let token = request.session()?.csrf_field()?;
    Ok(page(&format!(
        r#"<form method="post" action="{base}/new">{token}<input name="note"> <button>Add</button></form>"#
    )))
}

fn add(request: &mut Request) -> Result<Response> {
    request.check_csrf_token()?;
    let note = request.form("note")?.unwrap_or_default();
    let session = request.session()?;
    let mut notes: Vec<String> = session.get("notes")?.unwrap_or_default();
    notes.push(note);
    session.insert("notes", notes)?;
    Ok(Response::redirect(&base(request)))
}

fn clear(request: &mut Request) -> Result<Response> {
    request.check_csrf_token()?;
    request.session()?.remove("notes");
    Ok(Response::redirect(&base(request)))
}

/// The program's own address, which links begin with.
fn base(request: &Request) -> String {
    request.script_name().to_string_lossy().into_owned()
}

fn page(body: &str) -> Response {
    Response::html(format!("<!doctype html><title>Notes</title>\n{body}"))
}
