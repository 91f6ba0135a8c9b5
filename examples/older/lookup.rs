//! WebStack's `get_session(create=0)`: looks for a session without making one.
//!
//! Nothing is created unless asked with `?create=1`; `?expire=1` is WebStack's `expire_session()`.

use std::process::ExitCode;

use cgi_session::{Request, Response, Result, Session};
use html_escape::encode_text;

#[path = "../site/mod.rs"]
mod site;

const NOTHING: &str = r#"<p class="answer">no session</p>
<p class="actions"><a class="button" href="lookup?create=1">Create one</a></p>
<p class="note">This is WebStack's <code>get_session(create=0)</code>. However often you look, there is
no file and no cookie before something is stored.</p>"#;

fn main() -> ExitCode {
    cgi_session::run(lookup)
}

pub(crate) fn lookup(request: &mut Request) -> Result<Response> {
    let is_asked = |request: &Request, name| request.query(name).is_some_and(|value| value == "1");
    if is_asked(request, "expire") {
        request.destroy_session()?;
    }
    if is_asked(request, "create") {
        request.session()?.insert("my_data", "some data")?;
    }
    let body = match request.existing_session()? {
        Some(session) => describe(session)?,
        None => NOTHING.to_owned(),
    };
    Ok(site::page("Lookup", &body))
}

fn describe(session: &Session) -> Result<String> {
    let mut items = Vec::new();
    for key in session.keys() {
        let value: serde_json::Value = session.require(key)?;
        items.push(format!(
            "<li>{} = {}</li>",
            encode_text(key),
            encode_text(&value.to_string())
        ));
    }
    let items = items.join("\n");
    Ok(format!(
        r#"<div class="answer">There is a session. It holds:
<ul>{items}</ul></div>
<p class="actions"><a class="button" href="lookup?expire=1">Expire it</a></p>
<p class="note">WebStack's <code>expire_session()</code> needs no name: a visitor has one session here.
You see what other examples have stored in it, too.</p>"#
    ))
}
