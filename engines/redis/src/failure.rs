//! What an error of a server means, and what is to be done about it.

use cgi_session::Error;
use cgi_session_kit::access::hint_of_tls;
use redis::{ErrorKind, RedisError, ServerErrorKind};

use super::node::Node;

const ADVICE: &str = "is the server running, and does this program reach it? try: redis-cli ping";
const AGAIN: &str = "it will serve again by itself";

impl Node {
    /// An error of the server's or of the way there, with what to do about it.
    pub(super) fn explain(&self, action: &str, error: &RedisError) -> Error {
        explain(&format!("{action} {}", self.shown()), &self.name(), error)
    }
}

/// An error of the server of this name, if it is one of several, with what to do about it.
pub(super) fn explain(action: &str, name: &str, error: &RedisError) -> Error {
    let cause = cause(error);
    let of_member = of_member(error).filter(|_| !name.is_empty());
    let (is_passing, hint) = of_member.unwrap_or_else(|| meaning(error, &cause));
    let cause = match name {
        "" => cause,
        name => format!("{name}: {cause}"),
    };
    let action = format!("cannot {action}");
    let explained = if is_passing {
        Error::unavailable(action, cause)
    } else {
        Error::store(action, cause)
    };
    explained.with_hint(hint)
}

/// What went wrong, in words and without what the client adds of its own.
fn cause(error: &RedisError) -> String {
    match (error.code(), error.detail()) {
        _ if error.is_timeout() => "no answer in time".to_owned(),
        // Behind it stands in which line of which script.
        (Some(code), Some(detail)) => {
            let detail = detail.split(" script: ").next().unwrap_or_default();
            format!("{code} {detail}")
        }
        _ => error.to_string(),
    }
}

/// The same error of a connection that was to be made, as that of what it was to be made for.
pub(super) fn in_place_of(mut error: Error, action: &str, shown: &str) -> Error {
    if let Error::Unavailable { action: told, .. } | Error::Store { action: told, .. } = &mut error
    {
        *told = format!("cannot {action} {shown}");
    }
    error
}

/// What it means when one of several servers says that another one has its place.
fn of_member(error: &RedisError) -> Option<(bool, &'static str)> {
    use ServerErrorKind::{Ask, Moved, ReadOnly};
    let is_elsewhere = matches!(error.kind(), ErrorKind::Server(Ask | Moved | ReadOnly));
    is_elsewhere.then_some((
        true,
        "another server is taking over; it will serve again by itself",
    ))
}

/// Whether it may pass by itself, and what to do about it.
fn meaning(error: &RedisError, cause: &str) -> (bool, &'static str) {
    match (error.kind(), error.code()) {
        (ErrorKind::Io, _) => hint_of_tls(cause).map_or((true, ADVICE), |hint| (false, hint)),
        (ErrorKind::Server(ServerErrorKind::ReadOnly), _) => (
            true,
            "this server is a replica; database must name the primary",
        ),
        (ErrorKind::Server(ServerErrorKind::Moved | ServerErrorKind::Ask), _) => (
            false,
            "this server is part of a cluster; write redis+cluster:// in database",
        ),
        (
            ErrorKind::Server(
                ServerErrorKind::BusyLoading
                | ServerErrorKind::MasterDown
                | ServerErrorKind::TryAgain
                | ServerErrorKind::ClusterDown,
            ),
            _,
        ) => (true, AGAIN),
        (_, Some("OOM")) => (
            true,
            "the server's memory is full and nothing was saved; raise maxmemory in its configuration",
        ),
        (_, Some("MISCONF" | "NOREPLICAS")) => (
            true,
            "the server cannot keep what it is given and nothing was saved; see its log",
        ),
        (_, Some("BUSY")) => (true, "another program's script keeps the server busy"),
        (_, Some("ERR")) if cause.contains("max number of clients") => {
            (true, "raise maxclients in the server's configuration")
        }
        (_, Some("ERR")) if cause.contains("cluster support disabled") => (
            false,
            "this server is no cluster; write redis:// in database",
        ),
        (ErrorKind::AuthenticationFailed, _) | (_, Some("NOAUTH" | "WRONGPASS" | "NOPERM")) => (
            false,
            "check the user and the password in database, databasePassword or databasePasswordFile, and \
             what the user may do (ACL)",
        ),
        (_, Some("WRONGTYPE")) => (
            false,
            "another program uses a key of this name; choose another table",
        ),
        _ => (false, ""),
    }
}
