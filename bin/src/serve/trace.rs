//! [`Trace`]: what is printed of a request.

use std::time::Instant;

use cgi_session::{SessionDigest, SessionManager, printable};
use http::header::SET_COOKIE;
use http::request::Parts;
use http::{Method, Uri};
use serde_json::{Map, Value};
use tokio::task::spawn_blocking;

use super::reply::{Failure, Reply};
use super::variables;
use crate::report;
use crate::screen::cut;
use crate::sessions;

/// How much of a session's digest is printed.
const DIGITS: usize = 12;
/// What fits behind it.
const VALUES: usize = 50;

/// A request under way.
pub(super) struct Trace {
    manager: SessionManager,
    begun: Instant,
    method: Method,
    uri: Uri,
    asked: Option<SessionDigest>,
    stored: Option<String>,
}

impl Trace {
    pub(super) async fn begin(manager: &SessionManager, parts: &Parts) -> Self {
        let cookies = variables::cookies(&parts.headers);
        let finder = manager.clone();
        let asked = spawn_blocking(move || sessions::of_cookies(&finder, &cookies)).await;
        let asked = asked.ok().flatten();
        Trace {
            manager: manager.clone(),
            method: parts.method.clone(),
            uri: parts.uri.clone(),
            asked,
            stored: values(manager, asked).await,
            begun: Instant::now(),
        }
    }

    /// Prints the request, and what its session holds if that is something else than before.
    pub(super) async fn end(self, answered: &Result<Reply, Failure>) {
        let time = self.begun.elapsed().as_secs_f64() * 1e3;
        let (status, session) = match answered {
            Ok(reply) => {
                let mut cookies = reply.headers().get_all(SET_COOKIE).iter();
                let new = cookies.find_map(|cookie| self.manager.session_id(cookie.as_bytes()));
                (reply.status(), new.map(|id| id.digest()).or(self.asked))
            }
            Err(failure) => (failure.status, self.asked),
        };
        let (status, method, path) = (status.as_u16(), self.method, printable(self.uri.path()));
        let shown = session.as_ref().map_or("-", |digest| digest.as_str());
        let line = format!("{status} {time:7.1} ms  {shown:DIGITS$.DIGITS$}  {method} {path}\n");
        let stored = values(&self.manager, session).await;
        let change = match &stored {
            _ if stored == self.stored => String::new(),
            Some(values) => format!("{:16}{:14}{}\n", "", "stored", cut(values, VALUES)),
            None => format!("{:16}ended\n", ""),
        };
        report::output(&(line + &change));
    }
}

/// The values of a session, without those that are the library's own. A store may take its time: it is read in
/// another thread than that of the server.
async fn values(manager: &SessionManager, session: Option<SessionDigest>) -> Option<String> {
    let (manager, session) = (manager.clone(), session?);
    let stored = spawn_blocking(move || manager.peek(&session)).await;
    let stored = stored.ok()?.ok().flatten();
    let record = stored.filter(|it| !it.record.is_marker())?.record;
    let mut values: Map<String, Value> = serde_json::from_slice(record.values()).ok()?;
    values.retain(|application, _| !application.starts_with('@'));
    Some(printable(&Value::from(values).to_string()))
}
