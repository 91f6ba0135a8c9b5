//! Sessions under a transport that is not ours: the `fastcgi` crate.
//!
//! `SessionManager` needs no more of a request than its Cookie header and whether it came by HTTPS, and gives back no
//! more than a Set-Cookie header. Start this with a listening socket as descriptor 0. ARCHITECTURE.md says why
//! the crate is not what `cgi_session::run` is made of.

use std::io::Write as _;

use cgi_session::{Error, SessionManager};

fn main() -> Result<(), Error> {
    let manager = SessionManager::find()?;
    fastcgi::run(move |mut request| {
        let cookies = request.param("HTTP_COOKIE").unwrap_or_default();
        // One buffer and one write: the crate sends each write as a record of its own.
        let is_https = request.param("HTTPS").is_some_and(|https| https == "on");
        let page = match count(&manager, &cookies, is_https) {
            Ok(page) => page,
            Err(error) => {
                eprintln!("{}", error.one_line());
                format!(
                    "Status: {}\r\nContent-Type: text/plain\r\n\r\n{error}\n",
                    error.status()
                )
            }
        };
        if let Err(error) = request.stdout().write_all(page.as_bytes()) {
            eprintln!("cannot answer: {error}");
        }
    });
    Ok(())
}

fn count(manager: &SessionManager, cookies: &str, is_https: bool) -> Result<String, Error> {
    let (views, set_cookie) = manager.update(cookies, |session| {
        let views = session.get::<u64>("pageViews")?.unwrap_or(0) + 1;
        session.insert("pageViews", views)?;
        Ok(views)
    })?;
    let set_cookie = set_cookie.map(|cookie| cookie.over_https(is_https));
    let set_cookie = set_cookie.map(|cookie| format!("Set-Cookie: {cookie}\r\n"));
    let text = format!("Hello, you've been here {views} time(s)\n");
    Ok(format!(
        "Content-Type: text/plain\r\nContent-Length: {}\r\n{}\r\n{text}",
        text.len(),
        set_cookie.unwrap_or_default()
    ))
}
