//! [`SqlLease`]: the lock of one session, and the changes of its row.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use cgi_session::store::{check_size, unix_seconds};
use cgi_session::{Error, Lease, Record, Result, SessionDigest};
use cgi_session_kit::reading::{self, head};

use super::MARK;
use super::engine::{Answers, Failure, Kind, Script};
use super::link::{Database, Link};

/// The version of a record: how often the session was written, and a random number, which tells the
/// write of one from that of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Version(pub(super) u64);

impl Version {
    pub(super) fn first() -> Self {
        Version(u64::from(rand::random::<u32>()))
    }

    fn next(self) -> Self {
        // What the column holds is not negative.
        let count = (self.count() + 1) & 0x7fff_ffff;
        Version(count << 32 | u64::from(rand::random::<u32>()))
    }

    fn count(self) -> u64 {
        self.0 >> 32
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The lock of one session: a transaction that has locked its row.
pub(super) struct SqlLease {
    database: Arc<Database>,
    /// None when the lock was lost, or given up.
    link: Option<Link>,
    session: SessionDigest,
    /// The times of the record, without its values.
    head: Record,
    end: u64,
    /// That of the record which we loaded or wrote last.
    version: Version,
    /// Whether our mark is in the row.
    is_marked: bool,
}

impl SqlLease {
    pub(super) fn new(
        database: &Arc<Database>,
        link: Link,
        session: &SessionDigest,
        record: &Record,
        end: u64,
        version: Version,
    ) -> Self {
        SqlLease {
            database: Arc::clone(database),
            link: Some(link),
            session: *session,
            head: head(record),
            end,
            version,
            is_marked: false,
        }
    }

    /// The row, as long as nobody else has written it.
    fn own_row(&self) -> String {
        format!(
            "session = '{}' AND version = {}",
            self.session, self.version
        )
    }

    fn update(&self, columns: &str) -> String {
        let (table, row) = (self.database.table(), self.own_row());
        format!("UPDATE {table} SET {columns} WHERE {row}")
    }

    fn record_columns(&self, record: &Record, version: Version, now: SystemTime) -> Result<String> {
        let database = &self.database;
        check_size(record, database.max_record_bytes)?;
        Ok(format!(
            "record = {}, expires = {}, used = {}, \"user\" = {}, version = {version}",
            database.text(record)?,
            database.expiry.end(record, now),
            reading::used(record, now),
            database.user(record.user()),
        ))
    }

    /// Commits a change of the row, and takes its lock again.
    fn publish(&mut self, action: &str, columns: &str, version: Version) -> Result<()> {
        let engine = self.database.engine();
        // Those who waited for the row find the mark, and let it go at once, however many they are.
        let wait = MARK;
        let until = format!("{} + {}", engine.clock(), MARK.as_millis());
        let mark = engine.mark(&self.database.name);
        let mut script = Script::of(&self.update(&format!(
            "{columns}, held_by = {mark}, held_until = {until}"
        )));
        let commit = script.push("COMMIT");
        engine.begin(&mut script, wait);
        let select = script.push(&self.database.selection_of_version(&self.session, wait));
        let answers = self.write(action, &script, commit, wait, Some(version))?;
        (self.version, self.is_marked) = (version, true);
        self.check_lock(answers, select);
        Ok(())
    }

    /// Runs a script whose first statement changes the row and whose `commit` publishes that. The
    /// connection is still ours only if it was carried out.
    fn write(
        &mut self,
        action: &str,
        script: &Script,
        commit: usize,
        wait: Duration,
        next: Option<Version>,
    ) -> Result<Answers> {
        let mut link = self.link.take().ok_or(Error::LeaseLost)?;
        if link.is_too_long(script) {
            // Nothing was sent, and the lock is as it was.
            let refused = link.too_long();
            self.link = Some(link);
            return Err(self.database.explain(action, refused));
        }
        let patience = link.patience.saturating_add(wait);
        let mut answers = link.run_within(script, patience);
        let is_read_only = |failure: &Failure| failure.kind == Kind::ReadOnly;
        if !answers.has(commit) && answers.failure.as_ref().is_some_and(is_read_only) {
            // Nothing was done. On the server that has its place by now the version is the lock.
            link = self.database.reconnect()?;
            let begun = link.run(&self.database.transaction(MARK));
            answers = match begun.failure {
                None => link.run_within(script, patience),
                Some(_) => begun,
            };
        }
        if answers.has(commit) && answers.changed(0) == 1 {
            self.link = Some(link);
            return Ok(answers);
        }
        let Some(failure) = answers.failure.take() else {
            self.database.roll_back(link);
            return Err(Error::LeaseLost);
        };
        self.database.recover(link, &failure);
        match failure.kind {
            // Ended while it committed, it may have done so.
            Kind::Ended if !answers.has(0) => Err(Error::LeaseLost),
            Kind::Conflict | Kind::Locked => Err(Error::LeaseLost),
            Kind::Broken | Kind::Ended => match self.was_written(next) {
                Some(true) => Ok(Answers::default()),
                Some(false) => Err(Error::LeaseLost),
                None => Err(self.unknown(action, failure)),
            },
            Kind::Late => Err(self.unknown(action, failure)),
            _ => Err(self.database.explain(action, failure)),
        }
    }

    fn unknown(&self, action: &str, failure: Failure) -> Error {
        let error = self.database.explain(action, failure);
        error.with_hint("whether it was carried out is not known")
    }

    /// Whether a write was carried out whose answer did not come: what is in the row says so, if no more
    /// than one other was written since. Under the row's lock, so that it cannot be carried out later.
    fn was_written(&self, next: Option<Version>) -> Option<bool> {
        let database = &self.database;
        let mut script = database.transaction(Duration::ZERO);
        let select = script.push(&database.selection_of_version(&self.session, Duration::ZERO));
        let (link, answers) = database.run(&script, Duration::ZERO).ok()?;
        let (link, answers) = database
            .checked("look at a session in", link, answers)
            .ok()?;
        let found = answers.row(select).map(|row| Version(row.number(0)));
        database.roll_back(link);
        match (found, next) {
            (None, None) => Some(true),
            (Some(found), None) => (found.count() >= self.version.count()).then_some(false),
            (Some(found), Some(next)) if found == next => Some(true),
            (Some(found), Some(next)) => (found.count() <= next.count()).then_some(false),
            (None, Some(_)) => None,
        }
    }

    /// Takes note of whether our lock was had again, on the record that we know.
    pub(super) fn check_lock(&mut self, mut answers: Answers, select: usize) {
        let Some(link) = self.link.take() else {
            return;
        };
        let found = answers.row(select).map(|row| Version(row.number(0)));
        match answers.failure.take() {
            None if found == Some(self.version) => self.link = Some(link),
            None if answers.has(select) => self.database.roll_back(link),
            // It is not in step with us.
            None => {}
            Some(failure) => self.database.recover(link, &failure),
        }
    }
}

impl Lease for SqlLease {
    fn commit(&mut self, record: &Record, now: SystemTime) -> Result<()> {
        let version = self.version.next();
        let columns = self.record_columns(record, version, now)?;
        self.publish("save a session in", &columns, version)?;
        (self.end, self.head) = (self.database.expiry.end(record, now), head(record));
        Ok(())
    }

    fn finish(&mut self, record: &Record, now: SystemTime) -> Result<()> {
        let version = self.version.next();
        let columns = self.record_columns(record, version, now)?;
        let mut script = Script::of(&self.update(&format!("{columns}, {UNMARKED}")));
        let commit = script.push("COMMIT");
        let action = "save a session in";
        self.write(action, &script, commit, Duration::ZERO, Some(version))?;
        self.give_back();
        Ok(())
    }

    fn touch(&mut self, now: SystemTime) -> Result<()> {
        let Some(end) = self.database.expiry.renewed(&self.head, self.end, now) else {
            return Ok(());
        };
        let columns = format!("expires = {end}, used = {}", unix_seconds(now));
        // Without its lock nothing of it can be saved, and nothing was to be: it is noted as a reader's.
        let _ = self.publish("renew the time of a session in", &columns, self.version);
        if self.link.is_none() {
            self.database.renew(&self.session, self.end, end, now);
        }
        self.end = end;
        Ok(())
    }

    fn check(&mut self) -> Result<()> {
        let link = self.link.as_mut().ok_or(Error::LeaseLost)?;
        let mut script = Script::new();
        let select = script.push(
            &self
                .database
                .selection_of_version(&self.session, Duration::ZERO),
        );
        let answers = link.run(&script);
        self.check_lock(answers, select);
        self.link.is_some().then_some(()).ok_or(Error::LeaseLost)
    }

    fn destroy(mut self: Box<Self>) -> Result<()> {
        let (table, row) = (self.database.table(), self.own_row());
        let mut script = Script::of(&format!("DELETE FROM {table} WHERE {row}"));
        let commit = script.push("COMMIT");
        self.write("delete a session in", &script, commit, Duration::ZERO, None)?;
        self.give_back();
        Ok(())
    }
}

/// What takes our mark out of the row.
const UNMARKED: &str = "held_by = NULL, held_until = NULL";

impl SqlLease {
    fn give_back(&mut self) {
        if let Some(link) = self.link.take() {
            self.database.keep(link);
        }
    }
}

impl Drop for SqlLease {
    fn drop(&mut self) {
        let Some(mut link) = self.link.take() else {
            return;
        };
        if !self.is_marked {
            self.database.roll_back(link);
            return;
        }
        let mut script = Script::of(&self.update(UNMARKED));
        script.push("COMMIT");
        let answers = link.run(&script);
        match answers.failure {
            None => self.database.keep(link),
            // The mark runs out by itself.
            Some(failure) => self.database.recover(link, &failure),
        }
    }
}
