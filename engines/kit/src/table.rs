//! [`Table`]: the table of the sessions in a database, whatever that is, and what it is asked in SQL that all of them
//! understand.

use std::fmt::Display;
use std::time::{Duration, SystemTime};

use cgi_session::store::{Expiry, age_of_sweep, unix_seconds};
use cgi_session::{Config, Record, Result, SessionDigest, Stored, Visitor};

use crate::push_hex;
use crate::reading::{Loaded, NEVER, renewing, tell, time};

/// The row of the table of states that holds the time of the last clean-up.
pub const LAST_SWEEP: &str = "lastSweep";
/// The row with about the number of the sessions, as of [`COUNTED`].
pub const COUNT: &str = "count";
/// The row with the time at which they were counted.
pub const COUNTED: &str = "counted";
/// The condition that a row is a session, and not what a change of id left.
pub const IS_SESSION: &str = "used > 0";
/// What looks after all sessions may take longer than a request.
pub const ADMINISTRATOR: Duration = Duration::from_secs(120);
/// So many sessions are listed at a time.
const PAGE: u64 = 256;

/// A row that a database answers, column by column, as text.
#[derive(Debug)]
pub struct Row(pub Vec<Option<Vec<u8>>>);

impl Row {
    /// A text, which another program may have put there.
    #[must_use]
    pub fn bytes(&self, column: usize) -> Option<&[u8]> {
        self.0.get(column)?.as_deref()
    }

    /// A text that is UTF-8.
    #[must_use]
    pub fn text(&self, column: usize) -> Option<&str> {
        str::from_utf8(self.bytes(column)?).ok()
    }

    /// A number; a negative one, or none, is 0: as a time, long ago.
    #[must_use]
    pub fn number(&self, column: usize) -> u64 {
        self.known_number(column).unwrap_or_default()
    }

    /// The same, and `None` for what is no number.
    fn known_number(&self, column: usize) -> Option<u64> {
        let number: i64 = self.text(column)?.parse().ok()?;
        Some(u64::try_from(number).unwrap_or_default())
    }

    /// What the columns record, expires and used hold, which are the first three.
    pub fn take_loaded(&mut self) -> Loaded {
        let times = self.known_number(1).zip(self.known_number(2));
        let data = self.0.first_mut().and_then(Option::take);
        // Without them it is no record, as its reader will say. It is left alone.
        let data = data.filter(|_| times.is_some()).unwrap_or_default();
        let (end, used) = times.unwrap_or((u64::MAX, NEVER));
        Loaded { data, end, used }
    }
}

/// The table of the sessions, and the table of states beside it. Names stand in double quotes in every database.
///
/// # Errors
///
/// All functions fail when there is no answer, and those that load one session when a later release wrote it.
#[expect(clippy::missing_errors_doc, reason = "it is said for all of them")]
pub trait Table {
    /// The configuration that names the table.
    fn config(&self) -> &Config;

    /// Where the database is.
    fn place(&self) -> impl Display;

    /// What stands before and behind hexadecimal digits, so that they are a text.
    fn around_digits(&self) -> [&'static str; 2];

    /// Asks a question that may be asked twice. A server may take `patience` longer than for a request.
    fn ask(&self, action: &str, question: &str, patience: Duration) -> Result<Vec<Row>>;

    /// Changes a row unless another program is about to: it is not waited for.
    fn try_change(&self, action: &str, statement: &str) -> Result<()>;

    /// The name of the table.
    fn name(&self) -> &str {
        self.config().table()
    }

    /// When sessions end.
    fn expiry(&self) -> Expiry {
        Expiry::new(self.config())
    }

    /// The table in a statement.
    fn table(&self) -> String {
        format!("\"{}\"", self.name())
    }

    /// The table of states in a statement.
    fn state(&self) -> String {
        format!("\"{}_state\"", self.name())
    }

    /// A text as a literal that it cannot break out of.
    fn literal(&self, text: impl AsRef<[u8]>) -> String {
        let (text, [before, behind]) = (text.as_ref(), self.around_digits());
        let mut literal = String::with_capacity(2 * text.len() + before.len() + behind.len());
        literal.push_str(before);
        push_hex(&mut literal, text);
        literal.push_str(behind);
        literal
    }

    /// The statement that deletes a session.
    fn deletion(&self, session: &SessionDigest) -> String {
        format!("DELETE FROM {} WHERE session = '{session}'", self.table())
    }

    /// What is stored for a session.
    fn load(&self, session: &SessionDigest) -> Result<Option<Loaded>> {
        let (table, action) = (self.table(), "read a session in");
        let question =
            format!("SELECT record, expires, used FROM {table} WHERE session = '{session}'");
        let rows = self.ask(action, &question, Duration::ZERO)?;
        Ok(rows.into_iter().next().map(|mut row| row.take_loaded()))
    }

    /// Whether room must be made for this record (`maxSessions`). One that takes the place of another that is here
    /// needs none: the other one is a marker soon.
    fn needs_room(&self, record: &Record) -> Result<bool> {
        let is_new = |before| self.load(&before).map(|found| found.is_none());
        Ok(self.config().max_sessions() > 0 && record.predecessor().map_or(Ok(true), is_new)?)
    }

    /// Asks what [`make_room`](crate::rows::make_room) must know.
    fn selection_of_count(&self) -> String {
        let state = self.state();
        format!("SELECT value FROM {state} WHERE name IN ('{COUNT}', '{COUNTED}') ORDER BY name")
    }

    /// Counts a session no longer that is about to be deleted (`maxSessions`). If either fails, the next count finds it
    /// out.
    fn free_place(&self, session: &SessionDigest) {
        if self.config().max_sessions() > 0 {
            let (state, table) = (self.state(), self.table());
            let lowering = format!(
                "UPDATE {state} SET value = value - 1 WHERE name = '{COUNT}' \
                 AND EXISTS (SELECT 1 FROM {table} WHERE session = '{session}' AND {IS_SESSION})"
            );
            tell((self.ask("count the sessions in", &lowering, Duration::ZERO)).map(drop));
        }
    }

    /// A live session and its end.
    fn find(&self, session: &SessionDigest, now: SystemTime) -> Result<Option<(Stored, u64)>> {
        let loaded = self.load(session)?;
        loaded.map_or(Ok(None), |loaded| loaded.live(session, &self.place(), now))
    }

    /// A live session, of which is noted that it was read.
    fn read(&self, session: &SessionDigest, now: SystemTime) -> Result<Option<Stored>> {
        let found = self.find(session, now)?;
        Ok(renewing(found, &self.expiry(), now, |end, new_end| {
            self.renew(session, [end, new_end], now)
        }))
    }

    /// Notes that a session was read, from one end to a new one, unless another request has noted or written something
    /// meanwhile, or is about to.
    fn renew(&self, session: &SessionDigest, ends: [u64; 2], now: SystemTime) -> Result<()> {
        let (table, used, [end, new_end]) = (self.table(), unix_seconds(now), ends);
        let update = format!(
            "UPDATE {table} SET expires = {new_end}, used = {used} \
             WHERE session = '{session}' AND expires = {end}"
        );
        self.try_change("renew the time of a session in", &update)
    }

    /// Shows the live sessions in the order of their names.
    fn for_each(&self, visit: &mut Visitor<'_>, now: SystemTime) -> Result<()> {
        let mut last = Vec::new();
        loop {
            let question = format!(
                "SELECT record, expires, used, session FROM {} WHERE session > {} AND expires >= {} \
                 ORDER BY session LIMIT {PAGE}",
                self.table(),
                key_literal(self, &last),
                unix_seconds(now)
            );
            let rows = self.ask("list the sessions in", &question, ADMINISTRATOR)?;
            let next = rows.last().and_then(|row| row.bytes(3)).map(<[u8]>::to_vec);
            for mut row in rows {
                // A row of another program has no digest of ours.
                let Some(session) = row.bytes(3).and_then(SessionDigest::parse) else {
                    continue;
                };
                let shown = row.take_loaded().listed(&session, &self.place());
                if shown.is_some_and(|stored| visit(&session, stored).is_break()) {
                    return Ok(());
                }
            }
            match next {
                Some(next) if next != last => last = next,
                // At the end, or at names that are no text, which come behind all that are.
                _ => return Ok(()),
            }
        }
    }

    /// The live sessions of a user.
    fn sessions_of(&self, user: &str, now: SystemTime) -> Result<Vec<SessionDigest>> {
        let question = format!(
            "SELECT session FROM {} WHERE \"user\" = {} AND expires >= {}",
            self.table(),
            self.literal(user),
            unix_seconds(now)
        );
        let rows = self.ask("list the sessions in", &question, Duration::ZERO)?;
        Ok(sessions(&rows))
    }

    /// Asks when the last clean-up ended.
    fn selection_of_last_sweep(&self) -> String {
        let state = self.state();
        format!("SELECT value FROM {state} WHERE name = '{LAST_SWEEP}'")
    }

    /// How long ago the last clean-up ended.
    fn last_sweep(&self, now: SystemTime) -> Option<Duration> {
        let rows = self.ask("read", &self.selection_of_last_sweep(), Duration::ZERO);
        let ended = rows.ok()?.first()?.number(0);
        (ended > 0).then(|| age_of_sweep(time(ended), now))?
    }
}

/// A value of the primary key as a literal: a digest, or what another program has put there.
pub(crate) fn key_literal(table: &(impl Table + ?Sized), name: &[u8]) -> String {
    match str::from_utf8(name) {
        Ok(name) if name.bytes().all(|byte| byte.is_ascii_alphanumeric()) => format!("'{name}'"),
        _ => format!("CAST({} AS char(64))", table.literal(name)),
    }
}

/// The sessions in the first column. What another program has put there is none.
pub(crate) fn sessions(rows: &[Row]) -> Vec<SessionDigest> {
    let names = rows.iter().filter_map(|row| row.bytes(0));
    names.filter_map(SessionDigest::parse).collect()
}
