//! The rows of the table: found, understood, listed and renewed.

use std::time::{Duration, SystemTime};

use cgi_session::store::{has_passed, unix_seconds};
use cgi_session::{Record, Result, SessionDigest, Stored};
use cgi_session_kit::reading;
use cgi_session_kit::reading::Loaded;
use cgi_session_kit::rows::PAGE;

use super::engine::{Answers, Kind, Row, Script};
use super::link::{ADMINISTRATOR, Database};

/// What was loaded from the columns record, expires and used, the first of which is number `first`.
pub(super) fn loaded(mut row: Row, first: usize) -> Loaded {
    Loaded {
        end: row.number(first + 1),
        used: row.number(first + 2),
        data: row.take(first).unwrap_or_default(),
    }
}

impl Database {
    /// A live session and its end.
    pub(super) fn find(
        &self,
        session: &SessionDigest,
        now: SystemTime,
    ) -> Result<Option<(Stored, u64)>> {
        let script = Script::of(&format!(
            "SELECT record, expires, used FROM {} WHERE session = '{session}'",
            self.table()
        ));
        let mut answers = self.ask("read a session in", &script)?;
        let Some(row) = answers.take_rows(0).pop() else {
            return Ok(None);
        };
        let loaded = loaded(row, 0);
        let end = loaded.end;
        if has_passed(end, now) {
            return Ok(None);
        }
        let stored = loaded.stored(session, self.engine().address())?;
        Ok(stored.map(|stored| (stored, end)))
    }

    /// The next live rows in the order of their names.
    pub(super) fn page(&self, after: &str, now: SystemTime) -> Result<Vec<(String, Loaded)>> {
        let script = Script::of(&format!(
            "SELECT session, record, expires, used FROM {} WHERE session > {} AND expires >= {} \
             ORDER BY session LIMIT {PAGE}",
            self.table(),
            self.key(after),
            unix_seconds(now)
        ));
        let action = "list the sessions in";
        let (link, answers) = self.run(&script, ADMINISTRATOR)?;
        let (link, mut answers) = self.checked(action, link, answers)?;
        self.keep(link);
        let named = |row: Row| (row.text(0).unwrap_or_default().to_owned(), loaded(row, 1));
        Ok(answers.take_rows(0).into_iter().map(named).collect())
    }

    pub(super) fn sessions_of(&self, user: &str, now: SystemTime) -> Result<Vec<SessionDigest>> {
        let script = Script::of(&format!(
            "SELECT session FROM {} WHERE \"user\" = {} AND expires >= {}",
            self.table(),
            self.engine().text(user),
            unix_seconds(now)
        ));
        let answers = self.ask("list the sessions in", &script)?;
        let names = answers.rows(0).iter().filter_map(|row| row.text(0));
        let sessions = names.map(|name| SessionDigest::parse(name.as_bytes()));
        Ok(sessions.flatten().collect())
    }

    /// Notes that a session was read, unless somebody has noted or written something meanwhile, or
    /// is about to: a reader waits for nobody.
    pub(super) fn renew(&self, session: &SessionDigest, end: u64, new_end: u64, now: SystemTime) {
        let table = self.table();
        let mut script = self.transaction(Duration::ZERO);
        script.push(&self.selection_of_version(session, Duration::ZERO));
        script.push(&format!(
            "UPDATE {table} SET expires = {new_end}, used = {} \
             WHERE session = '{session}' AND expires = {end}",
            unix_seconds(now)
        ));
        script.push("COMMIT");
        // What was read is right all the same.
        let (link, mut answers) = match self.run(&script, Duration::ZERO) {
            Ok(ran) => ran,
            Err(error) => return log::warn!("{}", error.one_line()),
        };
        let Some(failure) = answers.failure.take() else {
            return self.keep(link);
        };
        self.recover(link, &failure);
        if !matches!(failure.kind, Kind::Locked | Kind::Conflict) {
            let error = self.explain("renew the time of a session in", failure);
            log::warn!("{}", error.one_line());
        }
    }

    /// Locks a row and shows whose write is in it.
    pub(super) fn selection_of_version(&self, session: &SessionDigest, wait: Duration) -> String {
        let (table, for_update) = (self.table(), self.engine().for_update(wait));
        format!("SELECT version FROM {table} WHERE session = '{session}' {for_update}")
    }

    pub(super) fn deletion(&self, session: &SessionDigest) -> String {
        format!("DELETE FROM {} WHERE session = '{session}'", self.table())
    }

    /// A value of the primary key as a literal: a digest, or what somebody else has put there.
    pub(super) fn key(&self, name: &str) -> String {
        if name.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return format!("'{name}'");
        }
        format!("CAST({} AS char(64))", self.engine().text(name))
    }

    /// A record as a literal.
    pub(super) fn text(&self, record: &Record) -> Result<String> {
        let text = reading::text(record, self.engine().address())?;
        Ok(self.engine().text(&text))
    }

    /// A user, or nobody, as a literal.
    pub(super) fn user(&self, user: Option<&str>) -> String {
        user.map_or_else(|| "NULL".to_owned(), |user| self.engine().text(user))
    }

    /// The condition that no mark holds a row.
    pub(super) fn unmarked(&self) -> String {
        let is_marked = self.engine().is_marked();
        format!("CASE WHEN {is_marked} THEN 1 ELSE 0 END = 0")
    }

    /// Deletes the sessions that a statement has found and locked, one by one: what deletes many may look
    /// at the whole table, and wait for locks. Returns their number.
    pub(super) fn delete_found(
        &self,
        script: &mut Script,
        answers: &Answers,
        statement: usize,
    ) -> u64 {
        let names = answers.rows(statement).iter().filter_map(|row| row.text(0));
        // What somebody else has put there is left alone.
        let sessions = names.filter_map(|name| SessionDigest::parse(name.as_bytes()));
        let mut number = 0;
        for session in sessions {
            script.push(&self.deletion(&session));
            number += 1;
        }
        number
    }
}
