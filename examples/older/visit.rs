//! lemon.session's example: a first visit, a visit again, and an end.
//!
//! lemon destroyed the session by a link, `?destroy=True`. That still works, but the page offers a
//! form that posts: a link is followed by programs that prefetch pages, and any other site can
//! have it, too.

use std::process::ExitCode;

use cgi_session::{Request, Response, Result};
use html_escape::encode_text;

#[path = "../site/mod.rs"]
mod site;

fn main() -> ExitCode {
    cgi_session::run(visit)
}

pub(crate) fn visit(request: &mut Request) -> Result<Response> {
    if request
        .field("destroy")?
        .is_some_and(|destroy| destroy == "True")
    {
        request.destroy_session()?;
        let body = r#"<p class="answer">The session is deleted.</p>
<p class="actions"><a class="button" href="visit">Visit again</a></p>"#;
        return Ok(site::page("Deleted", body));
    }

    let session = request.session()?;
    // Not is_new(): another page of the site may have begun the session that all of them share.
    let Some(text) = session.get::<String>("variable1")? else {
        session.insert("variable1", "a text that was stored at your first visit")?;
        let body = r#"<p class="answer">This is your first visit.</p>
<p class="actions"><a class="button" href="visit">Reload</a></p>
<p class="note">This is lemon.session's example. The page has just put a text into your session
and will find it when you reload.</p>"#;
        return Ok(site::page("First visit", body));
    };
    let body = format!(
        r#"<p class="answer">Welcome back. variable1 is: {}</p>
<form method="post" action="visit">
<button name="destroy" value="True">Destroy the session</button></form>
<p class="note">In lemon.session's example a link destroyed the session. This button posts a form:
a link is followed by programs that prefetch pages.</p>"#,
        encode_text(&text)
    );
    Ok(site::page("Welcome back", &body))
}

#[cfg(test)]
mod tests {
    use cgi_session::Client;

    use super::visit;

    #[test]
    fn a_visitor_is_known_until_the_session_is_destroyed() {
        let client = Client::default();
        for text in ["first visit", "Welcome back"] {
            assert!(client.get("/visit").send(visit).body_text().contains(text));
        }
        let destroyed = client
            .post("/visit")
            .form([("destroy", "True")])
            .send(visit);
        assert!(destroyed.body_text().contains("is deleted"));
        assert_eq!(client.cookie("sessionId"), None);
        let again = client.get("/visit").send(visit);
        assert!(again.body_text().contains("first visit"));
    }
}
