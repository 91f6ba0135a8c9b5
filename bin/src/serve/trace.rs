//! [`Trace`]: what is printed of a request.

use std::time::Instant;

use cgi_session::{SessionDigest, SessionManager, printable};
use http::header::{COOKIE, HeaderValue, SET_COOKIE};
use http::request::Parts;
use http::{Method, Uri};
use serde_json::{Map, Value};

use super::reply::{Failure, Reply};
use crate::report;
use crate::screen::cut;

/// How much of a session's digest is printed.
const DIGITS: usize = 12;
/// What fits behind it.
const VALUES: usize = 50;

/// A request under way.
pub(super) struct Trace<'a> {
    manager: &'a SessionManager,
    begun: Instant,
    method: Method,
    uri: Uri,
    asked: Option<SessionDigest>,
    stored: Option<String>,
}

impl<'a> Trace<'a> {
    pub(super) fn begin(manager: &'a SessionManager, parts: &Parts) -> Self {
        let asked = digest(manager, parts.headers.get(COOKIE));
        Trace {
            manager,
            method: parts.method.clone(),
            uri: parts.uri.clone(),
            asked,
            stored: values(manager, asked.as_ref()),
            begun: Instant::now(),
        }
    }

    /// Prints the request, and what its session holds if that is something else than before.
    pub(super) fn end(self, answered: &Result<Reply, Failure>) {
        let time = self.begun.elapsed().as_secs_f64() * 1e3;
        let (status, session) = match answered {
            Ok(reply) => {
                let mut cookies = reply.headers().get_all(SET_COOKIE).iter();
                let new = cookies.find_map(|cookie| digest(self.manager, Some(cookie)));
                (reply.status(), new.or(self.asked))
            }
            Err(failure) => (failure.status, self.asked),
        };
        let (status, method, path) = (status.as_u16(), self.method, printable(self.uri.path()));
        let shown = session.as_ref().map_or("-", |digest| digest.as_str());
        let line = format!("{status} {time:7.1} ms  {shown:DIGITS$.DIGITS$}  {method} {path}\n");
        let stored = values(self.manager, session.as_ref());
        let change = match &stored {
            _ if stored == self.stored => String::new(),
            Some(values) => format!("{:16}{:14}{}\n", "", "stored", cut(values, VALUES)),
            None => format!("{:16}ended\n", ""),
        };
        report::output(&(line + &change));
    }
}

/// The session that a field with cookies names.
fn digest(manager: &SessionManager, cookies: Option<&HeaderValue>) -> Option<SessionDigest> {
    Some(manager.session_id(cookies?.as_bytes())?.digest())
}

/// The values of a session, without those that are the library's own.
fn values(manager: &SessionManager, session: Option<&SessionDigest>) -> Option<String> {
    let stored = manager.peek(session?).ok().flatten();
    let record = stored.filter(|it| !it.record.is_marker())?.record;
    let mut values: Map<String, Value> = serde_json::from_slice(record.values()).ok()?;
    values.retain(|application, _| !application.starts_with('@'));
    Some(printable(&Value::from(values).to_string()))
}
