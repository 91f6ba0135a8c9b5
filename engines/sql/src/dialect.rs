//! [`Dialect`] and [`Connection`]: what the store asks of a database server, and how a script for one is
//! written and answered.

use std::error::Error as StdError;
use std::time::Duration;

use cgi_session_kit::table::Row;

use super::address::Address;

/// Makes a new connection that has been asked nothing, before the time is over.
pub(super) type Connect =
    dyn Fn(&Address, Duration) -> Result<Box<dyn Connection>, Failure> + Send + Sync;

/// What to do when the server has no connection left.
pub(super) const TOO_MANY: &str =
    "raise max_connections of the server, or lower the number of workers";

/// Statements that travel together. Each has a number, which is that of its answer.
pub(super) type Script = Vec<String>;

/// What a server says in its own way, and how the two tables are made and examined.
///
/// Identifiers stand in double quotes in all engines. A value is a number, a digest (which is nothing but
/// digits), or a text as hexadecimal digits.
pub(super) struct Dialect {
    /// What to do when the server does not answer.
    pub(super) advice: &'static str,
    /// What is said first: settings of the connection. The first answer is 1 where another client had the connection
    /// before and its settings were not reset; then the schema. For how long it may be silent, and a statement take.
    pub(super) settings: fn(Duration, Duration) -> Script,
    /// Has what travels behind it wait for rows and locks for no longer than this. None where that is a setting.
    pub(super) limit: fn(Duration) -> Option<String>,
    /// A statement that waits for the lock of a key, and answers 1 when it is had. An engine that waits for a time of its
    /// own returns when that is over, and is asked again.
    pub(super) lock: fn(&str, Duration) -> String,
    /// A change, in a transaction of its own, and the end of the lock of a key when others can see it. The last
    /// statement answers 1 when the connection had the lock, or nothing.
    pub(super) finish: fn(&str, &str) -> Script,
    /// The key of the lock of this number, in statements.
    pub(super) key: fn(i64) -> String,
    /// The value 1 when the lock of a key is had at once; and when the connection had it, which ends.
    pub(super) try_lock: fn(&str) -> String,
    pub(super) unlock: fn(&str) -> String,
    /// Asks which process or connection has the lock of a key.
    pub(super) holder: fn(&str) -> String,
    /// What stands before and behind hexadecimal digits, so that they are a text, whatever the server's settings are.
    pub(super) around_digits: [&'static str; 2],
    /// Asks what the server is; and says it for people.
    pub(super) version: &'static str,
    pub(super) shown: fn(&str) -> String,
    /// Why no sessions can be kept in a server of this version.
    pub(super) unfit: fn(&str) -> Option<String>,
    /// The columns of the table of the sessions, and of the table of states.
    pub(super) sessions: &'static str,
    pub(super) states: &'static str,
    /// What stands behind the index of the users.
    pub(super) users: &'static str,
    /// Asks for the columns of a table; for its indexes; and for its storage engine.
    pub(super) columns_of: fn(&str) -> String,
    pub(super) indexes_of: fn(&str) -> String,
    pub(super) storage_of: Option<fn(&str) -> String>,
    /// Asks how many connections the server allows.
    pub(super) connections: &'static str,
}

/// Statements that are carried out together or not at all, and each of which sees what was committed before. The first
/// has the number 1.
pub(super) fn transaction(statements: Script) -> Script {
    let mut script = vec!["START TRANSACTION".to_owned()];
    script.extend(statements);
    script.push("COMMIT".to_owned());
    script
}

/// One connection to a server.
pub(super) trait Connection: Send {
    /// Runs a script to its end, or to the first statement that fails. `patience` is how long its
    /// answers may take.
    fn run(&mut self, script: &[String], patience: Duration) -> Answers;

    /// Whether it still works, as a round trip tells that waits for no other server.
    fn is_alive(&mut self, patience: Duration) -> bool {
        let answers = self.run(&["SELECT 1".to_owned()], patience);
        answers.failure.is_none()
    }

    /// So long may the text of a script be.
    fn longest_script(&self) -> usize;
}

/// What a script was answered: statement by statement, up to the one that failed.
#[derive(Default)]
pub(super) struct Answers {
    pub(super) done: Vec<Answer>,
    pub(super) failure: Option<Failure>,
}

/// What one statement was answered.
#[derive(Default)]
pub(super) struct Answer {
    pub(super) rows: Vec<Row>,
    /// How many rows it changed.
    pub(super) changed: u64,
}

impl Answers {
    /// The answers of a script that came to its end.
    pub(super) fn whole(self) -> Result<Self, Failure> {
        match self.failure {
            None => Ok(self),
            Some(failure) => Err(failure),
        }
    }

    pub(super) fn kind(&self) -> Option<Kind> {
        self.failure.as_ref().map(|failure| failure.kind)
    }

    /// Whether this statement was carried out.
    pub(super) fn has(&self, statement: usize) -> bool {
        self.done.len() > statement
    }

    pub(super) fn changed(&self, statement: usize) -> u64 {
        self.done.get(statement).map_or(0, |answer| answer.changed)
    }

    pub(super) fn row(&self, statement: usize) -> Option<&Row> {
        self.done.get(statement)?.rows.first()
    }

    /// The first number that this statement was answered; 0 when there is none.
    pub(super) fn number(&self, statement: usize) -> u64 {
        self.row(statement).map_or(0, |row| row.number(0))
    }

    pub(super) fn take_rows(&mut self, statement: usize) -> Vec<Row> {
        let answer = self.done.get_mut(statement);
        answer.map_or_else(Vec::new, |answer| std::mem::take(&mut answer.rows))
    }
}

/// Why a script came to no end.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) kind: Kind,
    pub(super) cause: Box<dyn StdError + Send + Sync>,
    pub(super) hint: &'static str,
}

/// What a failure means for the session and the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Another connection has the row or the lock, or had it for too long.
    Locked,
    /// Another change came first, and the transaction was rolled back.
    Conflict,
    /// There is such a row already.
    Duplicate,
    /// The server ended the connection, and with it the transaction, before it did anything.
    Ended,
    /// The connection broke: what was done is not known.
    Broken,
    /// No answer came in time: what is still done is not known.
    Late,
    /// The server cannot do it at present.
    Unavailable,
    /// The server may only read, and did nothing: another may have its place.
    ReadOnly,
    /// A table or a column is missing.
    NoTable,
    /// Anything that an administrator has to mend.
    Refused,
}

impl Failure {
    pub(super) fn new(kind: Kind, cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Failure {
            kind,
            cause: cause.into(),
            hint: "",
        }
    }

    pub(super) fn with_hint(mut self, hint: &'static str) -> Self {
        self.hint = hint;
        self
    }
}
