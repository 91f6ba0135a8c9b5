//! [`Engine`] and [`Connection`]: what the store asks of a database server, and how a script for one is
//! written and answered.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use cgi_session::SessionDigest;

use super::address::Address;

/// A database server, and what its SQL says in its own way.
///
/// Identifiers stand in double quotes in all engines. A value is a number, a digest (which is nothing but
/// digits), or [`Engine::text`].
pub(super) trait Engine: Send + Sync + fmt::Debug {
    fn address(&self) -> &Address;

    /// A new connection that has been asked nothing. No answer on it may take longer than `patience`.
    fn connect(&self, patience: Duration) -> Result<Box<dyn Connection>, Failure>;

    /// What is said first: settings of the connection. The server ends one that is silent for longer than
    /// `lease` and has something locked.
    fn settings(&self, lease: Duration) -> Script;

    /// Begins a transaction whose waiting for locks ends after about `wait`.
    fn begin(&self, script: &mut Script, wait: Duration);

    /// What makes a SELECT lock its rows, at once or after about `wait`. An engine that waits for a time
    /// of its own returns when that is over, and is asked again.
    fn for_update(&self, wait: Duration) -> &'static str;

    /// The table in a statement that locks what it finds by an index, and looks at nothing else: a scan would
    /// lock, or wait for, rows that it does not want. None is the primary key.
    fn by_index(&self, table: &str, _index: Option<&str>) -> String {
        format!("\"{table}\"")
    }

    /// A text as a literal that it cannot break out of, whatever the server's settings are.
    fn text(&self, text: &str) -> String;

    /// The clock in milliseconds since 1970, as it is when a lock has been had.
    fn clock(&self) -> &'static str;

    /// What a mark says of whoever makes it: the name of the process, and of its connection.
    fn mark(&self, name: &str) -> String;

    /// The condition that a row has a mark which has not run out, of somebody who is still connected as far as
    /// this server can know.
    fn is_marked(&self) -> String;

    /// Asks who has locked a row, if the server tells.
    fn holder(&self, _table: &str, _session: &SessionDigest) -> Option<String> {
        None
    }

    fn schema(&self, table: &str) -> Schema;
}

/// What `Store::install` makes, in this order.
pub(super) struct Schema {
    /// Begins a step that one program does at a time, and ends it.
    pub(super) alone: String,
    pub(super) done: String,
    /// The server's version, and which is too old.
    pub(super) version: &'static str,
    pub(super) is_too_old: fn(&str) -> Option<String>,
    /// The server and its version, for people.
    pub(super) shown: fn(&str) -> String,
    pub(super) tables: [(String, String); 2],
    /// Columns that a table of an older version lacks.
    pub(super) columns: Vec<(&'static str, &'static str)>,
    pub(super) indexes: Vec<(String, String)>,
    /// Asks for the columns of a table; for its indexes; and whether its rows can be locked.
    pub(super) columns_of: fn(&str) -> String,
    pub(super) indexes_of: fn(&str) -> String,
    pub(super) storage_of: Option<fn(&str) -> String>,
}

/// One connection to a server.
pub(super) trait Connection: Send {
    /// Runs a script to its end, or to the first statement that fails. `patience` is how long its
    /// answers may take.
    fn run(&mut self, script: &Script, patience: Duration) -> Answers;

    /// Whether the server is known to have ended the connection, as far as that can be known without
    /// asking it.
    fn has_ended(&mut self) -> bool {
        false
    }

    /// Whether the server answers.
    fn is_alive(&mut self) -> bool;

    /// So long may the text of a script be.
    fn longest_script(&self) -> usize;
}

/// Statements that travel together.
#[derive(Default)]
pub(super) struct Script {
    text: String,
    /// Where each statement begins.
    beginnings: Vec<usize>,
}

const BETWEEN: &str = "; ";

impl Script {
    pub(super) fn new() -> Self {
        Script::default()
    }

    pub(super) fn of(statement: &str) -> Self {
        let mut script = Script::new();
        script.push(statement);
        script
    }

    /// Adds a statement and returns the number of its answer.
    pub(super) fn push(&mut self, statement: &str) -> usize {
        if !self.beginnings.is_empty() {
            self.text.push_str(BETWEEN);
        }
        self.beginnings.push(self.text.len());
        self.text.push_str(statement);
        self.beginnings.len() - 1
    }

    /// The statements one by one.
    #[cfg(feature = "mysql")]
    pub(super) fn statements(&self) -> impl Iterator<Item = &str> {
        let ends = self.beginnings.iter().skip(1);
        let ends = ends.map(|next| next - BETWEEN.len());
        let ends = ends.chain([self.text.len()]);
        let parts = self.beginnings.iter().zip(ends);
        parts.map(|(beginning, end)| &self.text[*beginning..end])
    }

    pub(super) fn text(&self) -> &str {
        &self.text
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
    /// Nothing was done.
    pub(super) fn failed(failure: Failure) -> Self {
        Answers {
            done: Vec::new(),
            failure: Some(failure),
        }
    }

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
    /// Somebody else has the row, or had it for too long.
    Locked,
    /// Somebody else's change came first, and the transaction was rolled back.
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
