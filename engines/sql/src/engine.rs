//! [`Engine`] and [`Connection`]: what the store asks of a database server, and how a script for one is
//! written and answered.

use std::error::Error as StdError;
use std::time::Duration;

use cgi_session::SessionDigest;
use cgi_session_kit::rows::digests;

use super::address::Address;

/// A database server, and what its SQL says in its own way.
///
/// Identifiers stand in double quotes in all engines. A value is a number, a digest (which is nothing but
/// digits), or a text as hexadecimal digits.
pub(super) trait Engine: Send + Sync {
    fn address(&self) -> &Address;

    /// A new connection that has been asked nothing. No answer on it may take longer than `patience`.
    fn connect(&self, patience: Duration) -> Result<Box<dyn Connection>, Failure>;

    /// What is said first: settings of the connection. The first answer is 1 where another client had the connection
    /// before and its settings were not reset. The server ends a connection that is silent for longer than `lease`.
    fn settings(&self, lease: Duration) -> Script;

    /// Adds statements that are carried out together or not at all, and each of which sees what was committed before.
    /// Their waiting for rows and locks ends after about `wait`. Returns the number of the first one's answer.
    fn transaction(&self, script: &mut Script, wait: Duration, statements: &[String]) -> usize;

    /// A statement that waits for a lock, and answers 1 when it is had. An engine that waits for a time of its own
    /// returns when that is over, and is asked again.
    fn lock(&self, key: &str, wait: Duration) -> String;

    /// Adds the waiting for a lock and what is asked under it. Returns the number of the lock's answer.
    fn lock_and_ask(
        &self,
        script: &mut Script,
        key: &str,
        wait: Duration,
        question: &str,
    ) -> usize {
        let statements = [self.lock(key, wait), question.to_owned()];
        self.transaction(script, wait, &statements)
    }

    fn dialect(&self) -> &'static Dialect;
}

/// What a server says in its own way, and how the two tables are made and examined.
pub(super) struct Dialect {
    /// The key of the lock of this name, in statements.
    pub(super) key: fn(&str) -> String,
    /// The value 1 when the lock of a key is had at once; and when the connection had it, which ends.
    pub(super) try_lock: fn(&str) -> String,
    pub(super) unlock: fn(&str) -> String,
    /// The value ends all locks of the connection.
    pub(super) unlock_all: &'static str,
    /// Asks which process or connection has the lock of a key.
    pub(super) holder: fn(&str) -> String,
    /// What stands before and behind hexadecimal digits, so that they are a text, whatever the server's settings are.
    pub(super) around_digits: [&'static str; 2],
    /// The server and its version, for people, from what `SELECT version()` answers.
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

/// One connection to a server.
pub(super) trait Connection: Send {
    /// Runs a script to its end, or to the first statement that fails. `patience` is how long its
    /// answers may take.
    fn run(&mut self, script: &Script, patience: Duration) -> Answers;

    /// Whether the server answers.
    fn is_alive(&mut self) -> bool;

    /// So long may the text of a script be.
    fn longest_script(&self) -> usize;
}

/// Statements that travel together.
#[derive(Default)]
pub(super) struct Script {
    pub(super) statements: Vec<String>,
}

impl Script {
    pub(super) fn of(statement: &str) -> Self {
        let mut script = Script::default();
        script.push(statement);
        script
    }

    /// Adds a statement and returns the number of its answer.
    pub(super) fn push(&mut self, statement: &str) -> usize {
        self.statements.push(statement.to_owned());
        self.last()
    }

    /// The number of the last statement's answer.
    pub(super) fn last(&self) -> usize {
        self.statements.len().saturating_sub(1)
    }

    /// The length of [`Script::text`].
    pub(super) fn length(&self) -> usize {
        let lengths: usize = self.statements.iter().map(String::len).sum();
        lengths + 2 * self.last()
    }

    /// All in one message.
    pub(super) fn text(&self) -> String {
        self.statements.join("; ")
    }
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
    /// Whether this statement was carried out.
    pub(super) fn has(&self, statement: usize) -> bool {
        self.done.len() > statement
    }

    pub(super) fn changed(&self, statement: usize) -> u64 {
        self.done.get(statement).map_or(0, |answer| answer.changed)
    }

    pub(super) fn rows(&self, statement: usize) -> &[Row] {
        self.done
            .get(statement)
            .map_or(&[], |answer| answer.rows.as_slice())
    }

    pub(super) fn take_rows(&mut self, statement: usize) -> Vec<Row> {
        let answer = self.done.get_mut(statement);
        answer.map_or_else(Vec::new, |answer| std::mem::take(&mut answer.rows))
    }

    /// The digests in the first column that the first statement was answered. What another program has put there is
    /// left alone.
    pub(super) fn sessions(&self) -> Vec<SessionDigest> {
        digests(self.rows(0).iter().filter_map(|row| row.text(0))).collect()
    }

    pub(super) fn row(&self, statement: usize) -> Option<&Row> {
        self.rows(statement).first()
    }
}

/// A row, column by column, as text.
pub(super) struct Row(pub(super) Vec<Option<Vec<u8>>>);

impl Row {
    pub(super) fn take(&mut self, column: usize) -> Option<Vec<u8>> {
        self.0.get_mut(column)?.take()
    }

    pub(super) fn text(&self, column: usize) -> Option<&str> {
        std::str::from_utf8(self.0.get(column)?.as_deref()?).ok()
    }

    /// A number; a negative one, or none, is 0.
    pub(super) fn number(&self, column: usize) -> u64 {
        let number = self.text(column).and_then(|text| text.parse().ok());
        number.unwrap_or_default()
    }

    #[cfg(feature = "mysql")]
    pub(super) fn size(&self, column: usize) -> usize {
        usize::try_from(self.number(column)).unwrap_or(usize::MAX)
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
