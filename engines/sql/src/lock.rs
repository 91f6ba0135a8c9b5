//! Locks of the server. Each belongs to a connection: it survives the connection's transactions and ends with it.

use std::fmt::Display;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use cgi_session::store::has_passed;
use cgi_session::{Result, SessionDigest, Stored};
use cgi_session_kit::push_hex;
use cgi_session_kit::waiting::Backoff;
use scopeguard::guard;

use super::engine::{Answers, Kind, Row, Script};
use super::lease::{SqlLease, Version};
use super::link::{Database, Link, ROW_WAIT};
use super::rows::loaded;

/// A connection that has a lock. Dropped, it is closed, which ends the lock.
pub(super) struct Locked {
    pub(super) link: Link,
    pub(super) key: String,
}

impl Locked {
    /// The statement that gives up the lock. It must not be in one transaction with a change: the lock would end
    /// before the change is to be seen.
    pub(super) fn unlock(&self, database: &Database) -> String {
        format!("SELECT {}", (database.dialect().unlock)(&self.key))
    }

    /// Gives the connection back after a script whose statement `unlock` has given up the lock.
    pub(super) fn unlocked(self, database: &Database, answers: &Answers, unlock: usize) {
        if answers.row(unlock).is_some_and(|row| row.number(0) == 1) {
            database.keep(self.link);
        } else if answers.failure.is_none() {
            log::error!(
                "a lock in {} has ended before its connection: does a proxy pass connections on?",
                database.engine().address()
            );
        }
    }

    /// Gives up the lock, and the connection back.
    pub(super) fn release(mut self, database: &Database) {
        let answers = self.link.run(&Script::of(&self.unlock(database)));
        if let Some(failure) = &answers.failure {
            database.give_up(failure);
        }
        self.unlocked(database, &answers, 0);
    }
}

impl Database {
    /// The lock of a session or of something else, as the server knows it.
    pub(super) fn key(&self, name: impl Display) -> String {
        (self.dialect().key)(&format!("{}/{name}", self.table))
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
        let key = self.key(name);
        let mut backoff = Backoff::new(wait);
        loop {
            let left = backoff.left();
            let mut script = Script::default();
            let lock = self
                .engine()
                .lock_and_ask(&mut script, &key, left, question);
            let (mut used, mut answers) = match link.take() {
                Some(mut link) => {
                    let answers = link.run_within(&script, link.patience.saturating_add(left));
                    (link, answers)
                }
                None => self.run(&script, left)?,
            };
            match answers.failure.take() {
                None if answers.row(lock).is_some_and(|row| row.number(0) == 1) => {
                    let locked = Locked { link: used, key };
                    return Ok((locked, answers.take_rows(lock + 1)));
                }
                None => link = Some(used),
                Some(failure) if matches!(failure.kind, Kind::Locked | Kind::Conflict) => {
                    // It may have the lock all the same: PostgreSQL tells of the end of the wait also when the lock is
                    // given at that moment. Taken once more, the lock would outlast its release.
                    let mut clear = Script::of("ROLLBACK");
                    clear.push(&format!("SELECT {}", self.dialect().unlock_all));
                    let cleared = used.run(&clear);
                    link = cleared.failure.is_none().then_some(used);
                }
                Some(failure) => {
                    self.give_up(&failure);
                    return Err(self.explain(action, failure));
                }
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
        let question = Script::of(&(self.dialect().holder)(key));
        let answers = self.ask("ask who has a session in", &question, Duration::ZERO);
        Some(answers.ok()?.row(0)?.text(0)?.to_owned())
    }
}

/// Waits for the lock of a user, which has a connection of its own. What is taken while it is held is had without
/// waiting, or is itself held for the time of a creation alone, so that two that wait never wait for each other.
pub(super) fn lock_user(
    database: &Arc<Database>,
    user: &str,
    wait: Duration,
) -> Result<Box<dyn Send>> {
    let mut name = "user:".to_owned();
    push_hex(&mut name, user.as_bytes());
    let action = "count the sessions of a user in";
    let (locked, _) = database.lock(None, name, wait, action, "SELECT 1")?;
    let database = Arc::clone(database);
    let lock = guard(locked, move |locked| locked.release(&database));
    Ok(Box::new(lock))
}

/// Waits for a session's lock and loads what is stored.
pub(super) fn lock(
    database: &Arc<Database>,
    session: &SessionDigest,
    wait: Duration,
    now: SystemTime,
) -> Result<Option<(Stored, SqlLease)>> {
    let question = format!(
        "SELECT record, expires, used, version FROM {} WHERE session = '{session}'",
        database.table()
    );
    let action = "open a session in";
    let (mut locked, mut rows) = database.lock(None, session, wait, action, &question)?;
    let Some(row) = rows.pop() else {
        locked.release(database);
        return Ok(None);
    };
    let version = Version(row.number(3));
    let loaded = loaded(row, 0);
    let end = loaded.end;
    if has_passed(end, now) && database.config.keeps_expired() {
        locked.release(database);
        return Ok(None);
    }
    if has_passed(end, now) {
        let mut script = Script::default();
        let deletion = database.deletion(session);
        (database.engine()).transaction(&mut script, ROW_WAIT, &[deletion]);
        let unlock = script.push(&locked.unlock(database));
        let mut answers = locked.link.run(&script);
        if let Some(failure) = answers.failure.take() {
            database.give_up(&failure);
            return Err(database.explain("delete a session in", failure));
        }
        locked.unlocked(database, &answers, unlock);
        return Ok(None);
    }
    match loaded.stored(session, database.engine().address()) {
        Ok(Some(stored)) => {
            let locked = Some(locked);
            let lease = SqlLease::new(database, locked, session, &stored.record, end, version);
            Ok(Some((stored, lease)))
        }
        unusable => {
            locked.release(database);
            unusable.map(|_| None)
        }
    }
}
