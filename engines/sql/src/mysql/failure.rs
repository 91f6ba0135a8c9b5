//! What the server's errors mean, and what to do about them.

use std::error::Error as StdError;

use cgi_session_kit::access::hint_of_tls;
use mysql_async::{DriverError, Error, ServerError};

use crate::dialect::{Failure, Kind, TOO_MANY};

const ACCESS: &str = "check the user and the password in database, databasePasswordFile or databasePassword, and \
     databaseCertFile if the user must have a certificate (REQUIRE X509)";

/// Why one was not let in.
pub(super) fn of_login(error: &Error) -> Failure {
    match error {
        Error::Server(reason) => of_server(reason),
        Error::Driver(DriverError::NoClientSslFlagFromServer) => {
            Failure::new(Kind::Refused, "the server does not encrypt")
                .with_hint("have TLS set up there")
        }
        error => {
            let text = told(error);
            match hint_of_tls(&text) {
                Some(hint) => Failure::new(Kind::Refused, text).with_hint(hint),
                None => Failure::new(Kind::Unavailable, text),
            }
        }
    }
}

pub(super) fn of_statement(error: &Error) -> Failure {
    match error {
        Error::Server(reason) => of_server(reason),
        error => Failure::new(Kind::Broken, told(error)),
    }
}

/// The cause alone, without the names that the library has for its errors.
fn told(error: &Error) -> String {
    let mut cause: &dyn StdError = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

fn of_server(reason: &ServerError) -> Failure {
    let (kind, hint) = meaning(reason.code);
    Failure::new(kind, format!("{} ({})", reason.message, reason.code)).with_hint(hint)
}

fn meaning(code: u16) -> (Kind, &'static str) {
    match code {
        // ER_LOCK_WAIT_TIMEOUT, ER_LOCK_NOWAIT; the server may limit how long a statement takes
        1205 | 3572 | 1969 | 3024 => (Kind::Locked, ""),
        // ER_LOCK_DEADLOCK, also of a Galera cluster; ER_CHECKREAD, ER_ERROR_DURING_COMMIT, ER_QUERY_INTERRUPTED,
        // ER_TRANSACTION_ROLLBACK_DURING_COMMIT of Group Replication, ER_USER_LOCK_DEADLOCK
        1213 | 1020 | 1180 | 1317 | 3101 | 3058 => (Kind::Conflict, ""),
        // ER_DUP_ENTRY
        1062 => (Kind::Duplicate, ""),
        // ER_NO_SUCH_TABLE, ER_BAD_FIELD_ERROR
        1146 | 1054 => (Kind::NoTable, ""),
        // ER_CONNECTION_KILLED, ER_SERVER_SHUTDOWN, ER_SESSION_WAS_KILLED, ER_CLIENT_INTERACTION_TIMEOUT
        1927 | 1053 | 3169 | 4031 => (Kind::Ended, "it will serve again by itself"),
        // ER_CON_COUNT_ERROR, ER_TOO_MANY_USER_CONNECTIONS, ER_USER_LIMIT_REACHED
        1040 | 1203 | 1226 => (Kind::Unavailable, TOO_MANY),
        // ER_OPTION_PREVENTS_STATEMENT, ER_CANT_EXECUTE_IN_READ_ONLY_TRANSACTION, ER_READ_ONLY_MODE
        1290 | 1792 | 1836 => (
            Kind::ReadOnly,
            "this server is a replica, or set to read only; database must name the primary",
        ),
        // ER_DISK_FULL, ER_RECORD_FILE_FULL
        1021 | 1114 => (Kind::Unavailable, "make room on the server's disk"),
        // ER_SERVER_OFFLINE_MODE
        3032 => (Kind::ReadOnly, "set offline_mode of the server to OFF"),
        // ER_HOST_IS_BLOCKED
        1129 => (Kind::Unavailable, "try: mariadb-admin flush-hosts"),
        // A server behind ProxySQL does not answer it in time.
        9001 => (Kind::Unavailable, ""),
        // ER_OUTOFMEMORY, ER_OUT_OF_SORTMEMORY, ER_OUT_OF_RESOURCES, ER_CANT_CREATE_THREAD, ER_LOCK_TABLE_FULL
        1037 | 1038 | 1041 | 1135 | 1206 => (
            Kind::Unavailable,
            "the server is out of memory; see its log",
        ),
        // ER_UNKNOWN_COM_ERROR, of a node that is not part of its cluster
        1047 => (Kind::ReadOnly, "it will serve again when its cluster does"),
        // ER_ACCESS_DENIED_ERROR, ER_ACCESS_DENIED_NO_PASSWORD_ERROR
        1045 | 1698 => (Kind::Refused, ACCESS),
        // ER_DBACCESS_DENIED_ERROR, ER_TABLEACCESS_DENIED_ERROR
        1044 | 1142 => (
            Kind::Refused,
            "the user needs SELECT, INSERT, UPDATE and DELETE on both tables, and to make them, CREATE, \
             ALTER, INDEX and DROP",
        ),
        // ER_BINLOG_STMT_MODE_AND_ROW_ENGINE
        1665 => (
            Kind::Refused,
            "set the server's binlog_format to ROW or MIXED",
        ),
        // ER_BAD_DB_ERROR
        1049 => (Kind::Refused, "make the database, or name another one"),
        _ => (Kind::Refused, ""),
    }
}
