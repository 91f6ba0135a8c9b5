//! [`Reply`] and [`Failure`]: how a request is answered.

use std::io;
use std::net::SocketAddr;

use http::{Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;

use crate::report;

/// An answer whose body may still be on its way.
pub type Reply = Response<BoxBody<Bytes, io::Error>>;

/// The two ends of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Connection {
    /// The address of the server.
    pub local: SocketAddr,
    /// The address of the client.
    pub remote: SocketAddr,
}

/// Why a request has no other answer than a page that says so.
#[derive(Debug)]
pub struct Failure {
    /// The status of the page.
    pub status: StatusCode,
    /// The reason, for the client and for the log.
    pub reason: String,
    /// What a program wrote to stderr, for the page: the log has it already.
    pub(super) errors: String,
}

impl Failure {
    /// A failure with this status, for this reason.
    pub fn new(status: StatusCode, reason: impl Into<String>) -> Self {
        Failure {
            status,
            reason: reason.into(),
            errors: String::new(),
        }
    }

    /// The program gave no answer that could be sent (502).
    pub fn bad_gateway(reason: impl Into<String>) -> Self {
        Failure::new(StatusCode::BAD_GATEWAY, reason)
    }

    /// The same for the client of a program, whose log has it, too.
    #[must_use]
    pub fn of_program(mut self, script: &str) -> Self {
        report::error(&format!("{script}: {}", self.reason));
        let name = script.rsplit('/').next().unwrap_or(script);
        self.reason = format!("The program {name} gave no answer: {}.", self.reason);
        self
    }

    /// The title and the text of the page, as HTML.
    #[must_use]
    pub fn page(&self) -> (&'static str, String) {
        let title = self.status.canonical_reason().unwrap_or("Error");
        let [text, errors] = [&self.reason, &self.errors].map(html_escape::encode_text);
        let errors = match self.errors.as_str() {
            "" => String::new(),
            _ => format!("\n<pre>{errors}</pre>"),
        };
        (title, format!("<p>{text}</p>{errors}"))
    }
}

/// A reply whose body is at hand.
pub fn whole(status: StatusCode, body: impl Into<Bytes>) -> Reply {
    let body = Full::new(body.into()).map_err(|never| match never {});
    let mut reply = Response::new(body.boxed());
    *reply.status_mut() = status;
    reply
}
