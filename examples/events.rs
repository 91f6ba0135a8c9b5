//! Server-sent events about a session: a page that shows the count of `hello` while other tabs count.
//!
//! The stream holds no session. It looks at the session by snapshots, which wait for no other request, and count as
//! use: an open tab keeps the session alive beyond `timeout`, up to `lifetime`.

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use cgi_session::http::{HeaderValue, header};
use cgi_session::{Request, Response, Result};

const PAGE: &str = r#"<!doctype html><title>Events</title>
<p><output id="views">0</output> time(s)</p>
<p><a href="hello" target="_blank">Count in another tab</a></p>
<script>new EventSource('events?follow=1').onmessage = event => views.value = event.data</script>"#;

fn main() -> ExitCode {
    cgi_session::run(events)
}

pub(crate) fn events(request: &mut Request) -> Result<Response> {
    if request.query("follow").is_none() {
        return Ok(Response::html(PAGE));
    }
    let cookies = request.header("cookie").unwrap_or_default();
    let cookies = cookies.as_encoded_bytes().to_owned();
    let manager = request.session_manager()?;
    let stream = Response::stream("text/event-stream", move |out| {
        let mut shown = None;
        while !out.is_stopping() {
            let snapshot = manager.read(&cookies).map_err(io::Error::other)?;
            let Some(snapshot) = snapshot else {
                return out.write_all(b"data: no session\n\n");
            };
            if snapshot.is_replaced() {
                // It has another id by now, with which the browser connects again.
                return Ok(());
            }
            let views: Option<u64> = snapshot.get("pageViews").map_err(io::Error::other)?;
            if shown == views {
                // A comment: it shows whether the client has left, and that the stream goes on.
                out.write_all(b":\n\n")?;
            } else {
                write!(out, "data: {}\n\n", views.unwrap_or_default())?;
                shown = views;
            }
            thread::sleep(Duration::from_millis(500));
        }
        Ok(())
    });
    // Even a snapshot was not read yet that would say so.
    Ok(stream.with_header(header::CACHE_CONTROL, HeaderValue::from_static("no-store")))
}
