//! Making the table before the first session, and removing it.

use std::time::Duration;

use cgi_session::{Error, Result, Uninstalled};
use cgi_session_kit::rows::IS_SESSION;
use cgi_session_kit::waiting::Backoff;
use rusqlite::{Connection, ErrorCode, OptionalExtension as _};

use super::Shared;
use super::database::{self, Opened};

/// The lock under which the table is created or removed.
const SCHEMA_LOCK: &str = "schema";

/// A connection to a database that has our table; what is missing is made.
pub(super) fn prepared(shared: &Shared) -> Result<Opened> {
    if let Some(opened) = shared.database.open_existing()? {
        if has_table(shared, &opened)? {
            return Ok(opened);
        }
        shared.database.keep(opened);
    }
    make(shared)
}

fn has_table(shared: &Shared, opened: &Opened) -> Result<bool> {
    let sql = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?1 COLLATE NOCASE";
    let found = opened
        .connection
        .query_row(sql, [&shared.table], |_| Ok(()));
    let found = found.optional();
    found
        .map(|found| found.is_some())
        .map_err(|error| shared.database.explain("open", error))
}

/// The table of the sessions, and a small one for the time of the last clean-up.
fn make(shared: &Shared) -> Result<Opened> {
    let database = &shared.database;
    let failed = |error| database.explain("make the table of the sessions in", error);
    // Two that change to WAL mode at once would disturb each other in spite of the busy timeout.
    let _lock = shared
        .locks
        .take(SCHEMA_LOCK, shared.config.lock_timeout())?;
    database.make_file()?;
    let Some(mut opened) = database.open_existing()? else {
        let gone = std::io::ErrorKind::NotFound.into();
        return Err(Error::io("cannot open the database", &database.path, gone));
    };
    let mode = log_ahead(&opened.connection, shared.config.lock_timeout()).map_err(failed)?;
    if !mode.eq_ignore_ascii_case("wal") {
        let action = format!("cannot change {} to write-ahead logging", database.shown());
        return Err(
            Error::store(action, format!("its journal mode stays {mode}"))
                .with_hint("the database must lie on a local file system"),
        );
    }
    let table = &shared.table;
    let sql = format!(
        "CREATE TABLE IF NOT EXISTS \"{table}\" (\
             session TEXT NOT NULL PRIMARY KEY, record TEXT NOT NULL, \
             expires INTEGER NOT NULL, used INTEGER NOT NULL, user TEXT);\
         CREATE INDEX IF NOT EXISTS \"{table}_expires\" ON \"{table}\" (expires);\
         CREATE INDEX IF NOT EXISTS \"{table}_used\" ON \"{table}\" (used);\
         CREATE INDEX IF NOT EXISTS \"{table}_user\" ON \"{table}\" (user) WHERE user IS NOT NULL;\
         CREATE TABLE IF NOT EXISTS \"{table}_state\" (name TEXT NOT NULL PRIMARY KEY, value INTEGER NOT NULL);"
    );
    let transaction = database::begin(&mut opened).map_err(failed)?;
    let done = transaction.execute_batch(&sql);
    done.and_then(|()| transaction.commit()).map_err(failed)?;
    Ok(opened)
}

/// Changes to write-ahead logging and returns the mode that is in force.
fn log_ahead(connection: &Connection, wait: Duration) -> rusqlite::Result<String> {
    let mut backoff = Backoff::new(wait);
    loop {
        let mode =
            connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0));
        match mode {
            // Here SQLite does not wait for another program that is about to write, whatever the busy
            // timeout says.
            Err(error)
                if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
                    && backoff.pause() => {}
            mode => return mode,
        }
    }
}

/// Makes the database and its table.
pub(super) fn install(shared: &Shared) -> Vec<Error> {
    let made = make(shared).map(|opened| shared.database.keep(opened));
    made.err().into_iter().collect()
}

/// Removes the table, the locks and, if nothing else is in it, the database.
pub(super) fn uninstall(shared: &Shared) -> Uninstalled {
    let mut done = Uninstalled::default();
    let removed = remove_table(shared, &mut done);
    let locks = shared.locks.uninstall(&mut done);
    done.errors
        .extend(removed.err().into_iter().chain(locks.err()));
    done
}

fn remove_table(shared: &Shared, done: &mut Uninstalled) -> Result<()> {
    let failed = |error| {
        shared
            .database
            .explain("remove the table of the sessions from", error)
    };
    let Some(mut opened) = shared.database.open_existing()? else {
        return Ok(());
    };
    let _lock = shared
        .locks
        .take(SCHEMA_LOCK, shared.config.lock_timeout())?;
    let table = &shared.table;
    let has_table = has_table(shared, &opened)?;
    let transaction = database::begin(&mut opened).map_err(failed)?;
    if has_table {
        let count = format!("SELECT count(*) FROM \"{table}\" WHERE {IS_SESSION}");
        let count = transaction.query_row(&count, [], |row| row.get(0));
        done.sessions = count.map_err(failed)?;
    }
    let sql = format!("DROP TABLE IF EXISTS \"{table}\"; DROP TABLE IF EXISTS \"{table}_state\";");
    let done_so = transaction.execute_batch(&sql);
    done_so
        .and_then(|()| transaction.commit())
        .map_err(failed)?;
    let foreign = other_tables(&opened).map_err(failed)?;
    if foreign.is_empty() {
        drop(opened);
        return remove_files(shared);
    }
    shared.database.keep(opened);
    done.foreign
        .extend(foreign.into_iter().map(|table| format!("table {table}")));
    Ok(())
}

fn other_tables(opened: &Opened) -> rusqlite::Result<Vec<String>> {
    let sql = "SELECT name FROM sqlite_schema WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\' \
               AND type IN ('table', 'view')";
    let mut statement = opened.connection.prepare(sql)?;
    let names = statement.query_map([], |row| row.get(0))?;
    names.collect()
}

/// The database is empty. SQLite removes its own two files when the last connection is closed; a
/// process that died may have left them, or a database in the making.
fn remove_files(shared: &Shared) -> Result<()> {
    shared.database.close();
    for suffix in ["", "-wal", "-shm", database::NEW] {
        let mut path = shared.database.path.as_os_str().to_owned();
        path.push(suffix);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io("cannot delete", path, error));
            }
            _ => {}
        }
    }
    Ok(())
}
