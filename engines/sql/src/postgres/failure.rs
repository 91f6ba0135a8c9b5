//! What the server's errors mean, and what to do about them.

use cgi_session_kit::access::{self, hint_of_tls};
use tokio_postgres::Error;
use tokio_postgres::error::{DbError, SqlState};

use crate::dialect::{Failure, Kind, TOO_MANY};

const READ_ONLY: &str =
    "this server is a standby, or set to read only; database must name the primary";

/// Why one was not let in.
pub(super) fn of_login(error: &Error) -> Failure {
    if let Some(reason) = error.as_db_error() {
        let mut failure = of_server(reason);
        failure.hint = hint_of_tls(reason.message()).unwrap_or(failure.hint);
        return failure;
    }
    let text = cgi_session::one_line(error);
    let (kind, hint) = if text.contains("does not allow writes") {
        (Kind::ReadOnly, READ_ONLY)
    } else if let Some(hint) = hint_of_tls(&text) {
        (Kind::Refused, hint)
    } else if text.contains("does not support TLS") {
        (Kind::Refused, "have TLS set up there")
    } else if text.contains("password") {
        (Kind::Refused, access::HINT)
    } else {
        (Kind::Unavailable, "")
    };
    Failure::new(kind, text).with_hint(hint)
}

/// Why a statement failed, or the connection with it.
pub(super) fn of_statement(error: &Error) -> Failure {
    match error.as_db_error() {
        Some(reason) => of_server(reason),
        None => Failure::new(Kind::Broken, cgi_session::one_line(error)),
    }
}

fn of_server(reason: &DbError) -> Failure {
    let (kind, hint) = meaning(reason.code());
    let cause = format!("{} ({})", reason.message(), reason.code().code());
    Failure::new(kind, cause).with_hint(hint)
}

fn meaning(code: &SqlState) -> (Kind, &'static str) {
    let class = code.code().get(..2).unwrap_or_default();
    match code {
        // The server may limit how long a statement takes.
        &SqlState::LOCK_NOT_AVAILABLE | &SqlState::QUERY_CANCELED => (Kind::Locked, ""),
        &SqlState::UNIQUE_VIOLATION => (Kind::Duplicate, ""),
        &SqlState::UNDEFINED_TABLE | &SqlState::UNDEFINED_COLUMN => (Kind::NoTable, ""),
        &SqlState::ADMIN_SHUTDOWN
        | &SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT
        | &SqlState::CRASH_SHUTDOWN => (Kind::Ended, "it will serve again by itself"),
        &SqlState::CANNOT_CONNECT_NOW => (Kind::Unavailable, "it will serve again by itself"),
        &SqlState::READ_ONLY_SQL_TRANSACTION => (Kind::ReadOnly, READ_ONLY),
        &SqlState::TOO_MANY_CONNECTIONS => (Kind::Unavailable, TOO_MANY),
        &SqlState::DISK_FULL => (Kind::Unavailable, "make room on the server's disk"),
        &SqlState::INVALID_PASSWORD | &SqlState::INVALID_AUTHORIZATION_SPECIFICATION => {
            (Kind::Refused, access::HINT)
        }
        &SqlState::INVALID_CATALOG_NAME => {
            (Kind::Refused, "make the database, or name another one")
        }
        &SqlState::INSUFFICIENT_PRIVILEGE => (
            Kind::Refused,
            "the user needs SELECT, INSERT, UPDATE and DELETE on both tables, and to make them, CREATE",
        ),
        // transaction_timeout, which the library does not know.
        _ if code.code() == "25P04" => (Kind::Ended, "it will serve again by itself"),
        _ => match class {
            // Another change came first.
            "40" => (Kind::Conflict, ""),
            "08" => (Kind::Broken, ""),
            "53" | "58" => (Kind::Unavailable, "see the server's log"),
            "57" => (Kind::Ended, "it will serve again by itself"),
            _ => (Kind::Refused, ""),
        },
    }
}
