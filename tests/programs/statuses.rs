//! A program that answers with the `?status=` that it is asked for, and with a body, whether or not
//! the status may have one. With `?etag` it answers 304 to a client that has the page already.
//! `?session` opens a session and changes it, `?cookie` sets a cookie of its own, and `?cache` is the
//! value of `Cache-Control`. `?named` shows the cookie of that name.

use std::error::Error;

use cgi_session::{Request, Response};
use http::header::{CACHE_CONTROL, ETAG, SET_COOKIE};
use http::{HeaderValue, StatusCode};

pub(crate) fn statuses(request: &mut Request) -> Result<Response, Box<dyn Error + Send + Sync>> {
    let status = request.query("status").unwrap_or("200".to_owned());
    let mut page = Response::text("a page\n").with_status(status.parse()?);
    if let Some(name) = request.query("named") {
        return Ok(Response::text(
            request.cookie(&name).unwrap_or("none".to_owned()),
        ));
    }
    if request.query("session").is_some() {
        request.session()?.insert("seen", true)?;
    }
    if request.query("cookie").is_some() {
        let cookie = HeaderValue::from_static("own=1");
        page.headers_mut().append(SET_COOKIE, cookie);
    }
    if let Some(etag) = request.query("etag") {
        let etag = format!("\"{etag}\"");
        if request
            .header("if-none-match")
            .is_some_and(|had| had == etag.as_str())
        {
            page = page.with_status(StatusCode::NOT_MODIFIED);
        }
        page = page.with_header(ETAG, etag.parse()?);
    }
    if let Some(cache) = request.query("cache") {
        page = page.with_header(CACHE_CONTROL, cache.parse()?);
    }
    Ok(page)
}
