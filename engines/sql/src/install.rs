//! Making the tables and removing them. A program that serves requests never does any of that, and needs no right to.

use std::time::Duration;

use cgi_session::{Error, Examination, Result, Uninstalled};
use cgi_session_kit::rows::{IS_SESSION, LAST_SWEEP};

use super::engine::{Answers, Schema, Script};
use super::link::{Database, Link};
use super::state::{self, SCHEMA, VERSION, version_of};

/// Without these columns a table is none of ours.
const OWN_COLUMNS: [&str; 6] = ["session", "record", "expires", "used", "user", "version"];
const MAKE: &str = "make the table of the sessions in";
/// One program at a time makes the tables.
const WAIT: Duration = Duration::from_secs(60);

/// Makes the tables, or what is missing of them.
pub(super) fn install(database: &Database) -> Result<()> {
    let mut link = database.take_unchecked()?;
    let version = version(database, &mut link)?;
    if let Some(reason) = database.engine().unfit(&version) {
        return Err(unfit(database, reason));
    }
    // The lock ends with the connection.
    let (mut locked, _) = database.lock(Some(link), SCHEMA, WAIT, MAKE, "SELECT 1")?;
    let schema = database.engine().schema(&database.table);
    let made = make(database, &schema, &mut locked.link);
    // What is known of the tables is of another time.
    database.pool.reset();
    made
}

/// The version of the server.
fn version(database: &Database, link: &mut Link) -> Result<String> {
    let answers = run(database, "ask for the version of", link, "SELECT version()")?;
    let version = answers.row(0).and_then(|row| row.text(0));
    Ok(version.unwrap_or_default().to_owned())
}

fn unfit(database: &Database, reason: String) -> Error {
    let address = database.engine().address();
    Error::store(format!("cannot keep sessions in {address}"), reason)
}

fn make(database: &Database, schema: &Schema, link: &mut Link) -> Result<()> {
    let present = columns(database, schema, link, &database.table)?;
    let state = format!("{}_state", database.table);
    let has_state = !columns(database, schema, link, &state)?.is_empty();
    if !present.is_empty() {
        examine(database, schema, link, &present)?;
    }
    if has_state {
        let answers = run(database, MAKE, link, &version_of(&database.table))?;
        let found = answers.row(0).map_or(0, |row| row.number(0));
        if found > VERSION {
            return state::check(&database.table, database.engine().address(), Some(found));
        }
    }
    for (name, definition) in &schema.tables {
        let is_there = if *name == database.table {
            !present.is_empty()
        } else {
            has_state
        };
        if !is_there {
            run(database, MAKE, link, definition)?;
        }
    }
    let indexes = names(database, link, &(schema.indexes_of)(&database.table))?;
    for (name, definition) in &schema.indexes {
        if !indexes.contains(name) {
            run(database, MAKE, link, definition)?;
        }
    }
    // The version comes last: without it nobody uses the tables.
    for (name, value) in [(LAST_SWEEP, 0), (SCHEMA, VERSION)] {
        let state = database.state();
        let found = run(
            database,
            MAKE,
            link,
            &format!("SELECT value FROM {state} WHERE name = '{name}'"),
        )?;
        if found.row(0).is_none() {
            let insertion = format!("INSERT INTO {state} (name, value) VALUES ('{name}', {value})");
            run(database, MAKE, link, &insertion)?;
        }
    }
    Ok(())
}

/// A table that is there already must be ours, and such that its rows can be locked.
fn examine(
    database: &Database,
    schema: &Schema,
    link: &mut Link,
    present: &[String],
) -> Result<()> {
    let refused = |reason: String| {
        unfit(database, reason).with_hint("it was left as it is; choose another table")
    };
    let table = &database.table;
    let is_missing = |column: &&&str| !present.iter().any(|name| name == **column);
    if let Some(column) = OWN_COLUMNS.iter().find(is_missing) {
        let reason =
            format!("the table {table} has no column {column}: it belongs to another program");
        return Err(refused(reason));
    }
    let Some(storage_of) = schema.storage_of else {
        return Ok(());
    };
    let answers = run(database, MAKE, link, &storage_of(table))?;
    let storage = answers
        .row(0)
        .and_then(|row| row.text(0))
        .unwrap_or_default();
    if !storage.eq_ignore_ascii_case("InnoDB") {
        let reason =
            format!("the rows of the table {table} cannot be locked: ENGINE={storage}, not InnoDB");
        return Err(refused(reason));
    }
    Ok(())
}

/// Looks whether programs can use the tables.
pub(super) fn look(database: &Database) -> Examination {
    let mut found = Examination::default();
    let engine = database.engine();
    // It is open while the second one is, so that a proxy that passes connections on is noticed.
    let first = database.take_unchecked().and_then(|mut link| {
        let version = version(database, &mut link)?;
        Ok((link, version))
    });
    let (_link, version) = match first {
        Ok(first) => first,
        Err(error) => {
            found.problems.push(error);
            return found;
        }
    };
    found.engine = Some(engine.shown(&version));
    if let Some(reason) = engine.unfit(&version) {
        found.problems.push(unfit(database, reason));
    }
    match database.take() {
        Ok(link) => database.keep(link),
        Err(error) => found.problems.push(error),
    }
    found
}

/// Removes the tables, if they are ours.
pub(super) fn uninstall(database: &Database) -> Uninstalled {
    let mut done = Uninstalled::default();
    if let Err(error) = remove(database, &mut done) {
        done.errors.push(error);
    }
    done
}

fn remove(database: &Database, done: &mut Uninstalled) -> Result<()> {
    const ACTION: &str = "remove the table of the sessions from";
    let schema = database.engine().schema(&database.table);
    let mut link = database.take_unchecked()?;
    let present = columns(database, &schema, &mut link, &database.table)?;
    if !present.is_empty() {
        examine(database, &schema, &mut link, &present)?;
        let count = format!(
            "SELECT count(*) FROM {} WHERE {IS_SESSION}",
            database.table()
        );
        let answers = run(database, ACTION, &mut link, &count)?;
        done.sessions = answers.row(0).map_or(0, |row| row.number(0));
        run(
            database,
            ACTION,
            &mut link,
            &format!("DROP TABLE {}", database.table()),
        )?;
    }
    run(
        database,
        ACTION,
        &mut link,
        &format!("DROP TABLE IF EXISTS {}", database.state()),
    )?;
    // What is kept leads to tables that are gone.
    database.pool.reset();
    Ok(())
}

fn columns(
    database: &Database,
    schema: &Schema,
    link: &mut Link,
    table: &str,
) -> Result<Vec<String>> {
    names(database, link, &(schema.columns_of)(table))
}

fn names(database: &Database, link: &mut Link, question: &str) -> Result<Vec<String>> {
    let answers = run(database, "examine the tables in", link, question)?;
    let names = answers.rows(0).iter().filter_map(|row| row.text(0));
    Ok(names.map(str::to_owned).collect())
}

fn run(database: &Database, action: &str, link: &mut Link, statement: &str) -> Result<Answers> {
    database.ask_on(link, action, &Script::of(statement))
}
