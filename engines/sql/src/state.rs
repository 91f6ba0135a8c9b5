//! The table of states beside that of the sessions: the names of its rows, and the version of both tables.

use cgi_session::{Error, Result};

use super::link::Connector;

/// The version of the tables that this release knows.
pub(super) const VERSION: u64 = 1;
/// The row of the table of states that holds it.
pub(super) const SCHEMA: &str = "schema";
/// The rows with a number that is at least that of the sessions, and with the time of the last count.
pub(super) const COUNT: &str = "count";
pub(super) const COUNTED: &str = "counted";

impl Connector {
    /// Asks for the version of the tables.
    pub(super) fn selection_of_schema(&self) -> String {
        let table = self.address.config.table();
        format!("SELECT value FROM \"{table}_state\" WHERE name = '{SCHEMA}'")
    }

    /// Whether tables of the version that was found can be used.
    pub(super) fn check_schema(&self, found: Option<u64>) -> Result<()> {
        let (table, address) = (self.address.config.table(), &self.address);
        let (cause, hint) = match found {
            Some(VERSION) => return Ok(()),
            Some(later) if later > VERSION => (
                format!(
                    "a later release of cgi-session has made the table {table} (version {later})"
                ),
                "it was left as it is; use that release here, too, or another table",
            ),
            _ => (
                format!("the table {table} is not complete"),
                "run `cgi-session init`",
            ),
        };
        Err(Error::store(format!("cannot use the sessions in {address}"), cause).with_hint(hint))
    }
}
