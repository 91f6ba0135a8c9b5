//! A page from a template of askama: compiled into the program, and what a visitor wrote is escaped.

use std::error::Error;
use std::process::ExitCode;

use askama::Template;
use cgi_session::http::Method;
use cgi_session::{Request, Response};

#[derive(Template)]
#[template(
    ext = "html",
    source = r#"<!doctype html><title>Notes</title>
<ul>
{% for note in notes %}<li>{{ note }}</li>
{% endfor %}</ul>
<form method="post">{{ token|safe }}<input name="note"> <button>Add</button></form>
"#
)]
struct Page<'a> {
    notes: &'a [String],
    token: &'a str,
}

fn main() -> ExitCode {
    cgi_session::run(notes)
}

fn notes(request: &mut Request) -> Result<Response, Box<dyn Error + Send + Sync>> {
    let is_post = request.method() == Method::POST;
    if is_post {
        request.check_csrf_token()?;
    }
    let note = request.form("note")?;
    let session = request.session()?;
    let mut notes: Vec<String> = session.get("notes")?.unwrap_or_default();
    if is_post {
        notes.extend(note);
        session.insert("notes", &notes)?;
        return Ok(Response::redirect("?"));
    }
    let token = session.csrf_field()?;
    let page = Page {
        notes: &notes,
        token: &token,
    };
    Ok(Response::html(page.render()?))
}
