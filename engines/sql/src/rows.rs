//! The rows of the table: asked for, and deleted.

use std::fmt::Display;
use std::time::{Duration, SystemTime};

use cgi_session::{Config, Record, Result, SessionDigest};
use cgi_session_kit::reading;
use cgi_session_kit::rows::Deleter;
use cgi_session_kit::table::{Row, Table};

use super::dialect::{Kind, transaction};
use super::link::{Database, Link, ROW_WAIT};

impl Table for Database {
    fn config(&self) -> &Config {
        &self.server().address.config
    }

    fn place(&self) -> impl Display {
        &self.server().address
    }

    fn around_digits(&self) -> [&'static str; 2] {
        self.server().dialect.around_digits
    }

    fn ask(&self, action: &str, question: &str, patience: Duration) -> Result<Vec<Row>> {
        let answers = self.complete(action, &[question.to_owned()], patience);
        Ok(answers?.take_rows(0))
    }

    fn try_change(&self, action: &str, statement: &str) -> Result<()> {
        let mut script = Vec::from_iter((self.server().dialect.limit)(Duration::ZERO));
        script.push(statement.to_owned());
        self.complete(action, &script, Duration::ZERO).map(drop)
    }
}

impl Database {
    /// Asks whose write is in a row.
    pub(super) fn selection_of_version(&self, session: &SessionDigest) -> String {
        let table = self.table();
        format!("SELECT version FROM {table} WHERE session = '{session}'")
    }

    /// The values of the columns record, used and user.
    pub(super) fn values(&self, record: &Record, now: SystemTime) -> Result<[String; 3]> {
        let text = reading::text(record, &self.place())?;
        let used = reading::used(record, now).to_string();
        let owner = record.user().map(|user| self.literal(user));
        let owner = owner.unwrap_or_else(|| "NULL".to_owned());
        Ok([self.literal(&text), used, owner])
    }
}

/// The table, on one connection.
pub(super) struct Rows<'a>(pub(super) &'a Database, pub(super) &'a mut Link);

impl Deleter for Rows<'_> {
    fn database(&self) -> &impl Table {
        self.0
    }

    fn ask(&mut self, action: &str, question: &str) -> Result<Vec<Row>> {
        let answers = self.1.run(&[question.to_owned()]).whole();
        let answers = answers.map_err(|failure| self.0.explain(action, failure));
        Ok(answers?.take_rows(0))
    }

    fn delete_free(
        &mut self,
        action: &str,
        sessions: &[SessionDigest],
        condition: Option<&str>,
    ) -> Result<Vec<SessionDigest>> {
        let (database, dialect) = (self.0, self.0.server().dialect);
        let columns = |sessions: &[SessionDigest], of: fn(&str) -> String| -> Result<String> {
            let column = |session| Ok(of(&database.key(session)?));
            let columns = sessions.iter().map(column).collect::<Result<Vec<_>>>()?;
            Ok(format!("SELECT {}", columns.join(", ")))
        };
        let answered = self.ask(action, &columns(sessions, dialect.try_lock)?)?;
        let is_had = |at| answered.first().is_some_and(|row| row.number(at) == 1);
        let had = sessions.iter().enumerate().filter(|(at, _)| is_had(*at));
        let mut had: Vec<_> = had.map(|(_, session)| *session).collect();
        if had.is_empty() {
            return Ok(had);
        }
        let deletions = condition.map(|condition| {
            let one = |session| format!("{} AND {condition}", database.deletion(session));
            let limit = (dialect.limit)(ROW_WAIT);
            let first = 1 + limit.iter().len();
            let statements = limit.into_iter().chain(had.iter().map(one));
            (transaction(statements.collect()), first)
        });
        let (mut script, mut statement) = deletions.unwrap_or_default();
        let unlock = columns(&had, dialect.unlock)?;
        script.push(unlock.clone());
        let answers = self.1.run(&script);
        if let Some(Kind::Locked | Kind::Conflict) = answers.kind() {
            // Another program changes one of these rows: all of them are in use.
            self.ask(action, "ROLLBACK")?;
            return self.ask(action, &unlock).map(|_| Vec::new());
        }
        let answers = answers.whole();
        let answers = answers.map_err(|failure| database.explain(action, failure))?;
        if condition.is_some() {
            had.retain(|_| {
                statement += 1;
                answers.changed(statement - 1) == 1
            });
        }
        Ok(had)
    }
}
