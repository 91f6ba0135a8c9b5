//! What an error of a server means, and what is to be done about it.

use std::error::Error as StdError;
use std::io;
use std::sync::Arc;

use cgi_session::Error;
use cgi_session_kit::access::hint_of_tls;
use redis::{ErrorKind, RedisError, ServerErrorKind};

use super::node::Node;

impl Node {
    /// An error of the server's or of the way there, with what to do about it.
    pub(super) fn explain(&self, action: &str, error: &RedisError) -> Error {
        let action = format!("{action} {}", self.place.shown);
        explain(&action, &self.name(), error)
    }
}

/// An error of the server of this name, if it is one of several, with what to do about it.
pub(super) fn explain(action: &str, name: &str, error: &RedisError) -> Error {
    let mut cause = cause(error);
    let (is_passing, hint) = meaning(error, &cause, !name.is_empty());
    if !name.is_empty() {
        cause = format!("{name}: {cause}");
    }
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

/// Whether it may pass by itself, and what to do about it.
fn meaning(error: &RedisError, cause: &str, is_one_of_several: bool) -> (bool, &'static str) {
    use ServerErrorKind::{Ask, BusyLoading, ClusterDown, MasterDown, Moved, ReadOnly, TryAgain};
    let passing = |hint| (true, hint);
    let lasting = |hint| (false, hint);
    match (error.kind(), error.code()) {
        (ErrorKind::Io, _) => hint_of_tls(cause).map_or(
            passing("is the server running, and does this program reach it? try: redis-cli ping"),
            lasting,
        ),
        (ErrorKind::Server(Ask | Moved | ReadOnly), _) if is_one_of_several => {
            passing("another server is taking over; it will serve again by itself")
        }
        (ErrorKind::Server(ReadOnly), _) => {
            passing("this server is a replica; database must name the primary")
        }
        (ErrorKind::Server(Moved | Ask), _) => {
            lasting("this server is part of a cluster; write redis+cluster:// in database")
        }
        (ErrorKind::Server(BusyLoading | MasterDown | TryAgain | ClusterDown), _) => {
            passing("it will serve again by itself")
        }
        (_, Some("OOM")) => passing(
            "the server's memory is full and nothing was saved; raise maxmemory in its configuration",
        ),
        (_, Some("MISCONF" | "NOREPLICAS")) => {
            passing("the server cannot keep what it is given and nothing was saved; see its log")
        }
        (_, Some("BUSY")) => passing("another program's script keeps the server busy"),
        (_, Some("ERR")) if cause.contains("max number of clients") => {
            passing("raise maxclients in the server's configuration")
        }
        (_, Some("ERR")) if cause.contains("cluster support disabled") => {
            lasting("this server is no cluster; write redis:// in database")
        }
        (ErrorKind::AuthenticationFailed, _) | (_, Some("NOAUTH" | "WRONGPASS" | "NOPERM")) => {
            lasting(
                "check the user and the password in database, databasePassword or databasePasswordFile, and \
                 what the user may do (ACL)",
            )
        }
        (_, Some("WRONGTYPE")) => {
            lasting("another program uses a key of this name; choose another table")
        }
        _ => lasting(""),
    }
}

/// The error that ended a script. Before version 7 the server tells it behind that of the script.
pub(super) fn of_script(error: RedisError) -> RedisError {
    if let Some((at, inner)) = error.detail().and_then(|it| it.split_once(": -"))
        && at.starts_with("Error running script")
        && let Ok(answer) = redis::parse_redis_value(format!("-{inner}\r\n").as_bytes())
    {
        return answer.extract_error().err().unwrap_or(error);
    }
    error
}

/// Whether the server has closed the connection, may only read by now, has lost its replicas, or cannot be
/// reached, so that whatever was to be done there can be done again elsewhere.
pub(super) fn is_stale(error: &RedisError) -> bool {
    error.is_connection_dropped()
        || error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly)
        || matches!(error.code(), Some("NOREPLICAS" | "UNBLOCKED"))
}

/// Whether a signal has ended the wait for an answer: with a limit of time it does, whatever was said of
/// signals.
pub(super) fn is_interrupted(error: &RedisError) -> bool {
    kind(error) == Some(io::ErrorKind::Interrupted)
}

/// Whether the server may have done what was asked, or may still do it. It has not got the whole of
/// what it would not take.
pub(super) fn may_be_done(error: &RedisError) -> bool {
    matches!(error.kind(), ErrorKind::Io | ErrorKind::Parse)
        && kind(error) != Some(io::ErrorKind::BrokenPipe)
}

/// What the system said of the connection.
fn kind(error: &RedisError) -> Option<io::ErrorKind> {
    type Cause = Arc<dyn StdError + Send + Sync>;
    let cause = error.source()?.downcast_ref::<Cause>()?;
    Some(cause.downcast_ref::<io::Error>()?.kind())
}

/// Whether the next answer on this connection will be that of the next question. To a server that may
/// only read, one connects anew: another may have its place by then.
pub(super) fn leaves_in_step(error: &RedisError) -> bool {
    !matches!(
        error.kind(),
        ErrorKind::Io
            | ErrorKind::Parse
            | ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::BusyLoading)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_not_be_sent_was_not_done() {
        let error = |kind| RedisError::from(io::Error::from(kind));
        assert!(!may_be_done(&error(io::ErrorKind::BrokenPipe)));
        assert!(may_be_done(&error(io::ErrorKind::ConnectionReset)));
        assert!(may_be_done(&error(io::ErrorKind::WouldBlock)));
    }

    #[test]
    fn an_error_of_a_script_is_that_of_its_command_before_version_7_too() {
        let told = |text| {
            let at = "-ERR Error running script (call to f_0a): @user_script:9: @user_script: 9";
            let answer = redis::parse_redis_value(format!("{at}: {text}\r\n").as_bytes());
            of_script(answer.and_then(redis::Value::extract_error).unwrap_err())
        };
        let replica = told("-READONLY You can't write against a read only replica.");
        assert!(is_stale(&replica) && !leaves_in_step(&replica));
        let full = told("-OOM command not allowed when used memory > 'maxmemory'.");
        assert_eq!(explain("save", "", &full).status(), 503);
    }
}
