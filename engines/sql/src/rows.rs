//! The rows of the table: found, understood, listed and renewed.

use std::time::{Duration, SystemTime};

use cgi_session::store::unix_seconds;
use cgi_session::{Record, Result, SessionDigest, Stored};
use cgi_session_kit::push_hex;
use cgi_session_kit::reading::{self, Loaded};
use cgi_session_kit::rows::PAGE;

use super::engine::{Kind, Row, Script};
use super::link::{ADMINISTRATOR, Database, Link, ROW_WAIT};

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
        let mut answers = self.ask("read a session in", &script, Duration::ZERO)?;
        match answers.take_rows(0).pop() {
            Some(row) => loaded(row, 0).live(session, self.engine().address(), now),
            None => Ok(None),
        }
    }

    /// The next live rows in the order of their names.
    pub(super) fn page(&self, after: &str, now: SystemTime) -> Result<Vec<(String, Loaded)>> {
        let script = Script::of(&format!(
            "SELECT session, record, expires, used FROM {} WHERE session > {} AND expires >= {} \
             ORDER BY session LIMIT {PAGE}",
            self.table(),
            self.key_literal(after),
            unix_seconds(now)
        ));
        let mut answers = self.ask("list the sessions in", &script, ADMINISTRATOR)?;
        let named = |row: Row| (row.text(0).unwrap_or_default().to_owned(), loaded(row, 1));
        Ok(answers.take_rows(0).into_iter().map(named).collect())
    }

    pub(super) fn sessions_of(&self, user: &str, now: SystemTime) -> Result<Vec<SessionDigest>> {
        let script = Script::of(&format!(
            "SELECT session FROM {} WHERE \"user\" = {} AND expires >= {}",
            self.table(),
            self.literal(user),
            unix_seconds(now)
        ));
        let answers = self.ask("list the sessions in", &script, Duration::ZERO)?;
        Ok(answers.sessions())
    }

    /// Notes that a session was read, unless another request has noted or written something meanwhile, or
    /// is about to: a reader waits for nothing.
    pub(super) fn renew(
        &self,
        session: &SessionDigest,
        end: u64,
        new_end: u64,
        now: SystemTime,
    ) -> Result<()> {
        let update = format!(
            "UPDATE {} SET expires = {new_end}, used = {} \
             WHERE session = '{session}' AND expires = {end}",
            self.table(),
            unix_seconds(now)
        );
        let mut script = Script::default();
        (self.engine()).transaction(&mut script, Duration::ZERO, &[update]);
        let action = "renew the time of a session in";
        self.ask(action, &script, Duration::ZERO).map(drop)
    }

    /// Shows whose write is in a row.
    pub(super) fn selection_of_version(&self, session: &SessionDigest) -> String {
        let table = self.table();
        format!("SELECT version FROM {table} WHERE session = '{session}'")
    }

    pub(super) fn deletion(&self, session: &SessionDigest) -> String {
        format!("DELETE FROM {} WHERE session = '{session}'", self.table())
    }

    /// A value of the primary key as a literal: a digest, or what another program has put there.
    pub(super) fn key_literal(&self, name: &str) -> String {
        if name.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return format!("'{name}'");
        }
        format!("CAST({} AS char(64))", self.literal(name))
    }

    /// A text as a literal that it cannot break out of.
    fn literal(&self, text: &str) -> String {
        let [before, behind] = self.dialect().around_digits;
        let mut literal = String::with_capacity(2 * text.len() + before.len() + behind.len());
        literal.push_str(before);
        push_hex(&mut literal, text.as_bytes());
        literal.push_str(behind);
        literal
    }

    /// A record as a literal.
    pub(super) fn text(&self, record: &Record) -> Result<String> {
        let text = reading::text(record, self.engine().address())?;
        Ok(self.literal(&text))
    }

    /// A user, or none, as a literal.
    pub(super) fn user(&self, user: Option<&str>) -> String {
        user.map_or_else(|| "NULL".to_owned(), |user| self.literal(user))
    }

    /// Deletes those of these sessions that no request holds and for which a condition holds, and returns them. Without
    /// a condition nothing is deleted.
    pub(super) fn delete_free(
        &self,
        link: &mut Link,
        action: &str,
        sessions: &[SessionDigest],
        condition: Option<&str>,
    ) -> Result<Vec<SessionDigest>> {
        let dialect = self.dialect();
        let columns = |sessions: &[SessionDigest], of: &dyn Fn(&str) -> String| {
            let columns = sessions.iter().map(|session| of(&self.key(session)));
            format!("SELECT {}", columns.collect::<Vec<_>>().join(", "))
        };
        let tries = columns(sessions, &|key| (dialect.try_lock)(key));
        let answers = self.ask_on(link, action, &Script::of(&tries))?;
        let is_had = |at| answers.row(0).is_some_and(|row| row.number(at) == 1);
        let had = sessions.iter().enumerate().filter(|(at, _)| is_had(*at));
        let mut had: Vec<_> = had.map(|(_, session)| *session).collect();
        if had.is_empty() {
            return Ok(had);
        }
        let deletion = |condition: &str| {
            let one = |session| format!("{} AND {condition}", self.deletion(session));
            had.iter().map(one).collect::<Vec<_>>()
        };
        let mut script = Script::default();
        let first = condition.map(|condition| {
            (self.engine()).transaction(&mut script, ROW_WAIT, &deletion(condition))
        });
        let unlock = columns(&had, &|key| (dialect.unlock)(key));
        script.push(&unlock);
        let mut answers = link.run(&script);
        match answers.failure.take() {
            None => {}
            // Another program changes one of these rows: all of them are in use.
            Some(failure) if matches!(failure.kind, Kind::Locked | Kind::Conflict) => {
                let mut clear = Script::of("ROLLBACK");
                clear.push(&unlock);
                return self.ask_on(link, action, &clear).map(|_| Vec::new());
            }
            Some(failure) => return Err(self.explain(action, failure)),
        }
        if let Some(mut statement) = first {
            had.retain(|_| {
                statement += 1;
                answers.changed(statement - 1) == 1
            });
        }
        Ok(had)
    }
}
