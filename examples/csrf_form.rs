//! A form that no other site can send in a visitor's name: the session's token is in it.

use std::process::ExitCode;

use cgi_session::http::Method;
use cgi_session::{Request, Response, Result};
use html_escape::encode_double_quoted_attribute;

fn main() -> ExitCode {
    cgi_session::run(form)
}

fn form(request: &mut Request) -> Result<Response> {
    if request.method() == Method::POST {
        request.check_csrf_token()?; // or 403, and nothing is stored
        let town = request.form("town")?.unwrap_or_default();
        request.session()?.insert("town", town)?;
        return Ok(Response::redirect("?"));
    }
    let session = request.session()?;
    let town = session.get::<String>("town")?.unwrap_or_default();
    let token = session.csrf_field()?;
    Ok(Response::html(format!(
        r#"<!doctype html><title>Form</title>
<form method="post">{token}
<label>Town <input name="town" value="{}"></label> <button>Save</button>
</form>"#,
        encode_double_quoted_attribute(&town)
    )))
}
