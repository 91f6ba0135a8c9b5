//! The pages that never change, and the frame of those that the server makes itself.

use cgi_session_tools::serve::{Failure, Reply, whole};
use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue};

#[expect(
    clippy::duplicate_mod,
    reason = "the server's own pages look like those of the examples"
)]
#[path = "../../../examples/site/mod.rs"]
mod frame;

/// A file of the site: the path that a browser asks for, its media type, its bytes.
type File = (&'static str, &'static str, &'static str);

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

const FILES: [File; 7] = [
    ("/", HTML, include_str!("../../../www/index.html")),
    (
        "/karrigell.html",
        HTML,
        include_str!("../../../www/karrigell.html"),
    ),
    (
        "/custom-store.html",
        HTML,
        include_str!("../../../www/custom-store.html"),
    ),
    ("/burst.js", SCRIPT, include_str!("../../../www/burst.js")),
    (
        "/inspect.js",
        SCRIPT,
        include_str!("../../../www/inspect.js"),
    ),
    (
        "/style.css",
        "text/css; charset=utf-8",
        include_str!("../../../www/style.css"),
    ),
    (
        "/icon.svg",
        "image/svg+xml",
        include_str!("../../../www/icon.svg"),
    ),
];

/// What the pages may load: nothing but what this server serves.
const POLICY: (HeaderName, HeaderValue) = (
    http::header::CONTENT_SECURITY_POLICY,
    HeaderValue::from_static("default-src 'self'"),
);

pub(crate) fn not_found() -> Failure {
    let reason = "There is no page here. The link at the top leads home.";
    Failure::new(StatusCode::NOT_FOUND, reason)
}

/// The file at a path, if there is one.
pub(crate) fn find(path: &str) -> Option<Reply> {
    let path = if path == "/index.html" { "/" } else { path };
    let (_, media_type, text) = FILES.iter().find(|(known, ..)| *known == path)?;
    // What only this server has is no part of the page where a web server serves it.
    let text = text.replace("<!--serve\n", "").replace("serve-->\n", "");
    let mut reply = whole(StatusCode::OK, text);
    let headers = reply.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(POLICY.0, POLICY.1);
    Some(reply)
}

/// A page in the frame of the examples. `body` is HTML.
pub(crate) fn framed(status: StatusCode, title: &str, body: &str) -> Reply {
    let page = frame::page(title, body);
    let mut reply = whole(status, page.body().to_vec());
    let headers = reply.headers_mut();
    headers.extend(page.headers().clone());
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(POLICY.0, POLICY.1);
    reply
}

/// A part of a page, for a script that puts it in its place.
pub(crate) fn part(html: String) -> Reply {
    let mut reply = whole(StatusCode::OK, html);
    let headers = reply.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(HTML));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    reply
}
