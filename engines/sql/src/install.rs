//! Making the tables, bringing older ones up to date, and removing them. A program that serves requests
//! never does any of that, and needs no right to.

use cgi_session::{Error, Examination, Result, Uninstalled};
use cgi_session_kit::rows::{IS_SESSION, LAST_SWEEP};

use super::connector::Link;
use super::engine::{Answers, Schema, Script};
use super::{Address, Shared, cap};

/// The version of the tables that this release knows.
const VERSION: u64 = 1;
/// The row of the table of states that holds it.
const SCHEMA: &str = "schema";
/// Without these columns, which every version has, a table is none of ours.
const OWN_COLUMNS: [&str; 5] = ["session", "record", "expires", "used", "user"];
const MAKE: &str = "make the table of the sessions in";

/// Asks for the version of the tables.
pub(super) fn version_of(table: &str) -> String {
    format!("SELECT value FROM \"{table}_state\" WHERE name = '{SCHEMA}'")
}

/// Whether tables of the version that was found can be used.
pub(super) fn check(table: &str, address: &Address, found: Option<u64>) -> Result<()> {
    let (cause, hint) = match found {
        Some(VERSION) => return Ok(()),
        Some(later) if later > VERSION => (
            format!("a later release of cgi-session has made the table {table} (version {later})"),
            "it was left as it is; use that release here, too, or another table",
        ),
        _ => (
            format!("the table {table} is of an older version"),
            "run `cgi-session init`",
        ),
    };
    Err(Error::store(format!("cannot use the sessions in {address}"), cause).with_hint(hint))
}

/// Makes the tables, or what is missing of them.
pub(super) fn install(shared: &Shared) -> Result<()> {
    let schema = shared.engine().schema(&shared.table);
    let mut link = shared.take_unchecked()?;
    let mut made =
        begin(shared, &schema, &mut link).and_then(|()| make(shared, &schema, &mut link));
    let ended = run(shared, MAKE, &mut link, &schema.done);
    if made.is_ok() {
        made = ended.map(drop);
    }
    // What is known of the tables is of another time.
    shared.pool.reset();
    made
}

fn begin(shared: &Shared, schema: &Schema, link: &mut Link) -> Result<()> {
    let answers = run(shared, MAKE, link, schema.version)?;
    let version = answers
        .row(0)
        .and_then(|row| row.text(0))
        .unwrap_or_default();
    if let Some(reason) = (schema.is_too_old)(version) {
        let address = shared.engine().address();
        return Err(Error::store(
            format!("cannot keep sessions in {address}"),
            reason,
        ));
    }
    run(shared, MAKE, link, &schema.alone).map(drop)
}

fn make(shared: &Shared, schema: &Schema, link: &mut Link) -> Result<()> {
    let present = columns(shared, schema, link, &shared.table)?;
    let state = format!("{}_state", shared.table);
    let has_state = !columns(shared, schema, link, &state)?.is_empty();
    if !present.is_empty() {
        examine(shared, schema, link, &present)?;
    }
    if has_state {
        let answers = run(shared, MAKE, link, &version_of(&shared.table))?;
        let found = answers.row(0).map_or(0, |row| row.number(0));
        if found > VERSION {
            return check(&shared.table, shared.engine().address(), Some(found));
        }
    }
    for (name, definition) in &schema.tables {
        let is_there = if *name == shared.table {
            !present.is_empty()
        } else {
            has_state
        };
        if !is_there {
            run(shared, MAKE, link, definition)?;
        }
    }
    for (name, definition) in &schema.columns {
        if !present.is_empty() && !present.iter().any(|column| column == name) {
            let table = shared.table();
            run(
                shared,
                MAKE,
                link,
                &format!("ALTER TABLE {table} ADD COLUMN {name} {definition}"),
            )?;
        }
    }
    let indexes = names(shared, link, &(schema.indexes_of)(&shared.table))?;
    for (name, definition) in &schema.indexes {
        if !indexes.contains(name) {
            run(shared, MAKE, link, definition)?;
        }
    }
    // The version comes last: without it nobody uses the tables.
    for (name, value) in [(LAST_SWEEP, 0), (cap::COUNTING, 0), (SCHEMA, VERSION)] {
        let state = shared.state();
        let found = run(
            shared,
            MAKE,
            link,
            &format!("SELECT value FROM {state} WHERE name = '{name}'"),
        )?;
        if found.row(0).is_none() {
            let insertion = format!("INSERT INTO {state} (name, value) VALUES ('{name}', {value})");
            run(shared, MAKE, link, &insertion)?;
        }
    }
    Ok(())
}

/// A table that is there already must be ours, and such that its rows can be locked.
fn examine(shared: &Shared, schema: &Schema, link: &mut Link, present: &[String]) -> Result<()> {
    let refused = |reason: String| {
        let address = shared.engine().address();
        let error = Error::store(format!("cannot keep sessions in {address}"), reason);
        error.with_hint("it was left as it is; choose another table")
    };
    let table = &shared.table;
    let is_missing = |column: &&&str| !present.iter().any(|name| name == **column);
    if let Some(column) = OWN_COLUMNS.iter().find(is_missing) {
        let reason = format!("the table {table} has no column {column}: it is somebody else's");
        return Err(refused(reason));
    }
    let Some(storage_of) = schema.storage_of else {
        return Ok(());
    };
    let answers = run(shared, MAKE, link, &storage_of(table))?;
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
pub(super) fn look(shared: &Shared) -> Examination {
    let mut found = Examination::default();
    let schema = shared.engine().schema(&shared.table);
    let asked = shared.take_unchecked().and_then(|mut link| {
        let answers = run(shared, "ask for the version of", &mut link, schema.version)?;
        let version = answers.row(0).and_then(|row| row.text(0));
        Ok(version.unwrap_or_default().to_owned())
    });
    let version = match asked {
        Ok(version) => version,
        Err(error) => {
            found.problems.push(error);
            return found;
        }
    };
    found.engine = Some((schema.shown)(&version));
    if let Some(reason) = (schema.is_too_old)(&version) {
        let address = shared.engine().address();
        let action = format!("cannot keep sessions in {address}");
        found.problems.push(Error::store(action, reason));
    }
    match shared.take() {
        Ok(link) => shared.keep(link),
        Err(error) => found.problems.push(error),
    }
    found
}

/// Removes the tables, if they are ours.
pub(super) fn uninstall(shared: &Shared) -> Uninstalled {
    let mut done = Uninstalled::default();
    if let Err(error) = remove(shared, &mut done) {
        done.errors.push(error);
    }
    done
}

fn remove(shared: &Shared, done: &mut Uninstalled) -> Result<()> {
    const ACTION: &str = "remove the table of the sessions from";
    let schema = shared.engine().schema(&shared.table);
    let mut link = shared.take_unchecked()?;
    let present = columns(shared, &schema, &mut link, &shared.table)?;
    if !present.is_empty() {
        examine(shared, &schema, &mut link, &present)?;
        let count = format!("SELECT count(*) FROM {} WHERE {IS_SESSION}", shared.table());
        let answers = run(shared, ACTION, &mut link, &count)?;
        done.sessions = answers.row(0).map_or(0, |row| row.number(0));
        run(
            shared,
            ACTION,
            &mut link,
            &format!("DROP TABLE {}", shared.table()),
        )?;
    }
    run(
        shared,
        ACTION,
        &mut link,
        &format!("DROP TABLE IF EXISTS {}", shared.state()),
    )?;
    // What is kept leads to tables that are gone.
    shared.pool.reset();
    Ok(())
}

fn columns(shared: &Shared, schema: &Schema, link: &mut Link, table: &str) -> Result<Vec<String>> {
    names(shared, link, &(schema.columns_of)(table))
}

fn names(shared: &Shared, link: &mut Link, question: &str) -> Result<Vec<String>> {
    let answers = run(shared, "examine the tables in", link, question)?;
    let names = answers.rows(0).iter().filter_map(|row| row.text(0));
    Ok(names.map(str::to_owned).collect())
}

fn run(shared: &Shared, action: &str, link: &mut Link, statement: &str) -> Result<Answers> {
    let mut answers = link.run(&Script::of(statement));
    match answers.failure.take() {
        None => Ok(answers),
        Some(failure) => Err(shared.explain(action, failure)),
    }
}
