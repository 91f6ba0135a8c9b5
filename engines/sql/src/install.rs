//! Making the tables and removing them. A program that serves requests never does any of that, and needs no right to.

use std::thread;
use std::time::Duration;

use cgi_session::{Error, Examination, Result, Uninstalled};
use cgi_session_kit::rows::Deleter as _;
use cgi_session_kit::table::{
    ADMINISTRATOR, COUNT, COUNTED, IS_SESSION, LAST_SWEEP, Row, Table as _,
};

use super::link::{Database, Link, SCHEMA, VERSION};
use super::rows::Rows;

/// Without these columns a table is none of ours.
const OWN_COLUMNS: [&str; 6] = ["session", "record", "expires", "used", "user", "version"];
/// One program at a time makes the tables.
const WAIT: Duration = Duration::from_secs(60);

/// Makes the tables, or what is missing of them.
pub(super) fn install(database: &Database) -> Result<()> {
    let (mut tables, version) = Tables::open(database, "make the table of the sessions in")?;
    if let Some(reason) = (database.server().dialect.unfit)(&version) {
        return Err(unfit(database, reason));
    }
    let (link, action) = (Some(tables.link), tables.action);
    let (locked, _) = database.lock(link, SCHEMA, WAIT, action, "SELECT 1")?;
    // The lock ends with the connection.
    tables.link = locked.link;
    let made = tables.make();
    // What is known of the tables is of another time.
    database.pool.reset();
    made
}

/// Looks whether programs can use the tables.
pub(super) fn examine(database: &Database, found: &mut Examination) -> Result<()> {
    let (mut tables, version) = Tables::open(database, "examine")?;
    let dialect = database.server().dialect;
    found.engine = Some((dialect.shown)(&version));
    if let Some(reason) = (dialect.unfit)(&version) {
        found.problems.push(unfit(database, reason));
    }
    let connections = tables.number(dialect.connections)?.unwrap_or_default();
    // As many workers as a FastCGI program has by itself.
    let workers = 4 * thread::available_parallelism().map_or(1, usize::from);
    let workers = u64::try_from(workers.max(16)).unwrap_or(u64::MAX);
    // When a request gives its session another id: those of both sessions, and of the lock of its user.
    let limit = database.config().get("maxSessionsPerUser");
    let times = 2 + u64::from(limit.is_some_and(|limit| limit != "0"));
    if connections < times * workers {
        found.warnings.push(format!(
            "the server allows {connections} connections: let max_connections be at least {times} times the number \
             of workers"
        ));
    }
    // The first connection is still open, so that a proxy is noticed that passes it on.
    database.keep(database.take()?);
    Ok(())
}

/// Removes the tables, if they are ours.
pub(super) fn uninstall(database: &Database, done: &mut Uninstalled) -> Result<()> {
    let (mut tables, _) = Tables::open(database, "remove the table of the sessions from")?;
    let (table, state) = (database.table(), database.state());
    if tables.is_ours()? {
        done.sessions = Rows(database, &mut tables.link).count(IS_SESSION)?;
        tables.ask(&format!("DROP TABLE {table}"))?;
    }
    tables.ask(&format!("DROP TABLE IF EXISTS {state}"))?;
    // What is kept leads to tables that are gone.
    database.pool.reset();
    Ok(())
}

fn unfit(database: &Database, reason: String) -> Error {
    let place = database.place();
    Error::store(format!("cannot keep sessions in {place}"), reason)
}

/// The tables, which may be missing.
struct Tables<'a> {
    database: &'a Database,
    link: Link,
    action: &'static str,
}

impl<'a> Tables<'a> {
    /// With the version of the server.
    fn open(database: &'a Database, action: &'static str) -> Result<(Self, String)> {
        let server = database.server();
        let question = server.dialect.version.to_owned();
        let (link, rows) = server.open(ADMINISTRATOR, ADMINISTRATOR, action, question)?;
        let version = rows.first().and_then(|row| row.text(0));
        let tables = Tables {
            database,
            link,
            action,
        };
        Ok((tables, version.unwrap_or_default().to_owned()))
    }

    fn ask(&mut self, statement: &str) -> Result<Vec<Row>> {
        Rows(self.database, &mut self.link).ask(self.action, statement)
    }

    fn number(&mut self, question: &str) -> Result<Option<u64>> {
        let rows = self.ask(question)?;
        Ok(rows.first().map(|row| row.number(0)))
    }

    /// The first column of what is answered.
    fn names(&mut self, question: &str) -> Result<Vec<String>> {
        let rows = self.ask(question)?;
        let names = rows.iter().filter_map(|row| row.text(0));
        Ok(names.map(str::to_owned).collect())
    }

    /// The names of a table's columns; of one that is missing, none.
    fn columns(&mut self, table: &str) -> Result<Vec<String>> {
        self.names(&(self.database.server().dialect.columns_of)(table))
    }

    fn make(&mut self) -> Result<()> {
        let database = self.database;
        let (table, dialect) = (database.name(), database.server().dialect);
        let (quoted, state) = (database.table(), database.state());
        if !self.is_ours()? {
            self.ask(&format!("CREATE TABLE {quoted} {}", dialect.sessions))?;
        }
        if self.columns(&format!("{table}_state"))?.is_empty() {
            self.ask(&format!("CREATE TABLE {state} {}", dialect.states))?;
        }
        let found = self.number(&database.server().selection_of_schema())?;
        if found.is_some_and(|found| found > VERSION) {
            return database.server().check_schema(found);
        }
        let present = self.names(&(dialect.indexes_of)(table))?;
        for (column, rows) in [("expires", ""), ("used", ""), ("user", dialect.users)] {
            let name = format!("{table}_{column}");
            if !present.contains(&name) {
                let index = format!("CREATE INDEX \"{name}\" ON {quoted} (\"{column}\"){rows}");
                self.ask(&index)?;
            }
        }
        let present = self.names(&format!("SELECT name FROM {state}"))?;
        // The version comes last: without it no program uses the tables.
        let rows = [(LAST_SWEEP, 0), (COUNT, 0), (COUNTED, 0), (SCHEMA, VERSION)];
        for (name, value) in rows {
            if !present.iter().any(|present| present == name) {
                let row = format!("INSERT INTO {state} (name, value) VALUES ('{name}', {value})");
                self.ask(&row)?;
            }
        }
        Ok(())
    }

    /// Whether there is a table of sessions. It must have our columns, and rows that are whole after a crash.
    fn is_ours(&mut self) -> Result<bool> {
        let (database, table) = (self.database, self.database.name());
        let refused = |reason: String| {
            let error = unfit(database, reason);
            Err(error.with_hint("it was left as it is; choose another table"))
        };
        let present = self.columns(table)?;
        if present.is_empty() {
            return Ok(false);
        }
        let is_missing = |column: &&&str| !present.iter().any(|name| name == **column);
        if let Some(column) = OWN_COLUMNS.iter().find(is_missing) {
            return refused(format!(
                "the table {table} has no column {column}: it belongs to another program"
            ));
        }
        if let Some(storage_of) = database.server().dialect.storage_of {
            let storage = self.names(&storage_of(table))?.pop().unwrap_or_default();
            if !storage.eq_ignore_ascii_case("InnoDB") {
                return refused(format!(
                    "the table {table} has no transactions: ENGINE={storage}, not InnoDB"
                ));
            }
        }
        Ok(true)
    }
}
