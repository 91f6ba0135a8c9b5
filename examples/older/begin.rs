//! Karrigell's first script: takes a form and puts what it says into the session.
//!
//! `begin` takes `myname` and `firstname`, by GET or POST, stores `name` and `firstname`, and
//! links to `follow`, which gets no query string and still knows them.

use std::process::ExitCode;

use cgi_session::{Request, Response, Result};
use html_escape::encode_text;

#[path = "../site/mod.rs"]
mod site;

fn main() -> ExitCode {
    cgi_session::run(begin)
}

pub(crate) fn begin(request: &mut Request) -> Result<Response> {
    let name = request.field("myname")?.unwrap_or_default();
    let first_name = request.field("firstname")?.unwrap_or_default();

    let session = request.session()?;
    session.insert("name", &name)?;
    session.insert("firstname", &first_name)?;

    let name = session.require::<String>("name")?;
    let body = format!(
        r#"<p class="answer">Your name is {}. The session knows your first name too.</p>
<p class="actions"><a class="button" href="follow">Follow</a>
<a class="button second" href="follow?close=1">Follow and close the session</a></p>
<p class="note">This is Karrigell's first script. It stored both fields of the form; the links to the
second one carry neither.</p>"#,
        encode_text(&name)
    );
    Ok(site::page("Begin", &body))
}
