//! Making the table before the first session, and removing it.

use std::fs;
use std::io::ErrorKind;

use cgi_session::{Error, Result, Uninstalled};
use cgi_session_kit::rows::Deleter as _;
use cgi_session_kit::table::{COUNT, COUNTED, IS_SESSION};
use cgi_session_kit::waiting::Backoff;
use rusqlite::{Connection, ErrorCode};

use super::database::{self, Database, Opened};
use super::rows::{Rows, answer};

/// The lock under which the table is created or removed.
const SCHEMA_LOCK: &str = "schema";

/// A connection to a database that has our table; what is missing is made.
pub(super) fn prepared(database: &Database) -> Result<Opened> {
    if let Some(opened) = database.open_existing()? {
        let table = database.config.table();
        let question = format!(
            "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = '{table}' COLLATE NOCASE"
        );
        let found = Rows(database, &opened.connection).ask("open", &question)?;
        if !found.is_empty() {
            return Ok(opened);
        }
        database.keep(opened);
    }
    make(database)
}

/// The table of the sessions, and a small one for the time of the last clean-up.
pub(super) fn make(database: &Database) -> Result<Opened> {
    let failed = |error| database.explain("make the table of the sessions in", error);
    let (table, wait) = (database.config.table(), database.config.lock_timeout());
    database.make_file()?;
    // Two that change to WAL mode at once would disturb each other in spite of the busy timeout.
    let _lock = database.locks.take(SCHEMA_LOCK, wait)?;
    let gone = || Error::io("cannot open", &database.path, ErrorKind::NotFound.into());
    let opened = database.open_existing()?.ok_or_else(gone)?;
    let mode = log_ahead(&opened.connection, Backoff::new(wait)).map_err(failed)?;
    if !mode.eq_ignore_ascii_case("wal") {
        let path = database.path.display();
        let action = format!("cannot change {path} to write-ahead logging");
        let error = Error::store(action, format!("its journal mode stays {mode}"));
        return Err(error.with_hint("the database must lie on a local file system"));
    }
    let sql = format!(
        "CREATE TABLE IF NOT EXISTS \"{table}\" (\
             session TEXT NOT NULL PRIMARY KEY, record TEXT NOT NULL, \
             expires INTEGER NOT NULL, used INTEGER NOT NULL, user TEXT);\
         CREATE INDEX IF NOT EXISTS \"{table}_expires\" ON \"{table}\" (expires);\
         CREATE INDEX IF NOT EXISTS \"{table}_used\" ON \"{table}\" (used);\
         CREATE INDEX IF NOT EXISTS \"{table}_user\" ON \"{table}\" (user) WHERE user IS NOT NULL;\
         CREATE TABLE IF NOT EXISTS \"{table}_state\" (name TEXT NOT NULL PRIMARY KEY, value INTEGER NOT NULL);\
         INSERT OR IGNORE INTO \"{table}_state\" VALUES ('{COUNT}', 0), ('{COUNTED}', 0);"
    );
    let transaction = database::begin(&opened.connection).map_err(failed)?;
    let done = transaction.execute_batch(&sql);
    done.and_then(|()| transaction.commit()).map_err(failed)?;
    Ok(opened)
}

/// Changes to write-ahead logging and returns the mode that is in force.
fn log_ahead(connection: &Connection, mut backoff: Backoff) -> rusqlite::Result<String> {
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

/// Removes the table and, if nothing else is in it, the database.
pub(super) fn remove_table(database: &Database, done: &mut Uninstalled) -> Result<()> {
    let failed = |error| database.explain("remove the table of the sessions from", error);
    let Some(opened) = database.open_existing()? else {
        return Ok(());
    };
    let (table, wait) = (database.config.table(), database.config.lock_timeout());
    let _lock = database.locks.take(SCHEMA_LOCK, wait)?;
    let transaction = database::begin(&opened.connection).map_err(failed)?;
    done.sessions = Rows(database, &transaction).count(IS_SESSION)?;
    let sql = format!("DROP TABLE IF EXISTS \"{table}\"; DROP TABLE IF EXISTS \"{table}_state\";");
    let dropped = transaction.execute_batch(&sql);
    (dropped.and_then(|()| transaction.commit())).map_err(failed)?;
    let others = "SELECT name FROM sqlite_schema WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\' \
                  AND type IN ('table', 'view')";
    let others = answer(&opened.connection, others).map_err(failed)?;
    if others.is_empty() {
        drop(opened);
        return remove_files(database);
    }
    database.keep(opened);
    let names = others.iter().filter_map(|row| row.text(0));
    done.foreign
        .extend(names.map(|name| format!("table {name}")));
    Ok(())
}

/// The database is empty. SQLite removes its own two files when the last connection is closed; a
/// process that died may have left them.
fn remove_files(database: &Database) -> Result<()> {
    database.close();
    for suffix in ["", "-wal", "-shm"] {
        let path = format!("{}{suffix}", database.path.display());
        if let Err(error) = fs::remove_file(&path)
            && error.kind() != ErrorKind::NotFound
        {
            return Err(Error::io("cannot delete", path, error));
        }
    }
    Ok(())
}
