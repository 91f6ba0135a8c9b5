//! Locks of the server. Each belongs to a connection: it survives the connection's transactions and ends with it.

use std::fmt::Display;
use std::time::Duration;

use cgi_session::Result;
use cgi_session_kit::table::{Row, Table as _};
use cgi_session_kit::waiting::Backoff;
use sha2::{Digest as _, Sha256};

use super::dialect::{Answers, Kind};
use super::link::{Database, Link};

/// A connection that has a lock. Dropped, it is closed, which ends the lock.
pub(super) struct Locked {
    pub(super) link: Link,
    pub(super) key: String,
}

impl Locked {
    /// The statement that gives up the lock. It must not be in one transaction with a change: the lock would end
    /// before the change is to be seen.
    pub(super) fn unlock(&self, database: &Database) -> String {
        format!("SELECT {}", (database.server().dialect.unlock)(&self.key))
    }

    /// Gives the connection back after a script whose statement `unlock` has given up the lock.
    pub(super) fn unlocked(self, database: &Database, answers: &Answers, unlock: usize) {
        if answers.failure.is_some() {
            return;
        }
        if answers.row(unlock).is_none_or(|row| row.number(0) == 1) {
            database.keep(self.link);
        } else {
            log::error!(
                "a lock in {} has ended before its connection: does a proxy pass connections on?",
                database.place()
            );
        }
    }

    /// Gives up the lock, and the connection back.
    pub(super) fn release(mut self, database: &Database) {
        let answers = self.link.run(&[self.unlock(database)]);
        database.give_up(answers.kind());
        self.unlocked(database, &answers, 0);
    }
}

impl Database {
    /// The lock of a session or of something else among those of all tables of the server: the first connection says
    /// where ours is. Capital letters in a name may make no difference.
    pub(super) fn key(&self, name: impl Display) -> Result<String> {
        let server = self.server();
        if server.schema.get().is_none() {
            let (link, generation) = self.pool.take()?;
            self.pool.keep(link, generation);
        }
        let schema = server.schema.get().map_or("", String::as_str);
        let digest = Sha256::digest(format!("{schema}/{}/{name}", self.name()).to_lowercase());
        let number = digest.first_chunk().map(|first| i64::from_be_bytes(*first));
        Ok((server.dialect.key)(number.unwrap_or_default()))
    }

    /// Waits for a lock, on this connection if one is given, and asks a question once it is had.
    pub(super) fn lock(
        &self,
        mut link: Option<Link>,
        name: impl Display,
        wait: Duration,
        action: &str,
        question: &str,
    ) -> Result<(Locked, Vec<Row>)> {
        let (key, dialect) = (self.key(name)?, self.server().dialect);
        let mut backoff = Backoff::new(wait);
        loop {
            let left = backoff.left();
            let limit = (dialect.limit)(left).filter(|_| !left.is_zero());
            let lock = limit.iter().len();
            let mut script = Vec::from_iter(limit);
            script.extend([(dialect.lock)(&key, left), question.to_owned()]);
            let (used, mut answers) = match link.take() {
                Some(mut link) => {
                    let answers = link.run_within(&script, left);
                    (link, answers)
                }
                None => self.run(&script, left)?,
            };
            match answers.failure.take() {
                None if answers.number(lock) == 1 => {
                    let locked = Locked { link: used, key };
                    return Ok((locked, answers.take_rows(lock + 1)));
                }
                None => link = Some(used),
                // It may have the lock all the same: PostgreSQL tells of the end of the wait also when the lock is
                // given at that moment. Taken once more, the lock would outlast its release.
                Some(failure) if matches!(failure.kind, Kind::Locked | Kind::Conflict) => {
                    drop(used);
                }
                Some(failure) => return Err(self.explain(action, failure)),
            }
            if !backoff.pause() {
                if let Some(link) = link {
                    self.keep(link);
                }
                // Without waiting, the next try comes soon and a name is of no use.
                let holder = (!wait.is_zero()).then(|| self.holder(&key)).flatten();
                return Err(backoff.busy(holder));
            }
        }
    }

    fn holder(&self, key: &str) -> Option<String> {
        let question = (self.server().dialect.holder)(key);
        let rows = self.ask("ask who has a session in", &question, Duration::ZERO);
        Some(rows.ok()?.first()?.text(0)?.to_owned())
    }
}
