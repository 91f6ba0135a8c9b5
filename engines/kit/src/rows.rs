//! Rows of a table, in whatever database it is: listings show them some at a time, and clean-ups delete the expired.

use std::fmt::Display;
use std::time::SystemTime;

use cgi_session::store::unix_seconds;
use cgi_session::{Config, Error, Result, SessionDigest, Sweep, SweepEvent, SweepReport, Visitor};

use crate::reading::{Loaded, NEVER, time};

/// The condition that a row is a session, and not what a change of id left.
pub const IS_SESSION: &str = "used > 0";
/// The row of the table of states that holds the time of the last clean-up.
pub const LAST_SWEEP: &str = "lastSweep";
/// So many sessions are listed at a time.
pub const PAGE: u64 = 256;
/// So many expired rows go in one transaction.
pub const BATCH: u64 = 100;
/// At most so many sessions more than must go make room for new ones.
pub const MAX_SPARE: u64 = 64;

/// Shows the live sessions of a table. `page` loads the next [`PAGE`] live rows behind this name, in the order of
/// their names.
///
/// # Errors
///
/// When a page cannot be loaded.
pub fn for_each(
    visit: &mut Visitor<'_>,
    place: &dyn Display,
    page: impl Fn(&str) -> Result<Vec<(String, Loaded)>>,
) -> Result<()> {
    let mut last = String::new();
    loop {
        let rows = page(&last)?;
        let Some((name, _)) = rows.last() else {
            return Ok(());
        };
        last.clone_from(name);
        for (name, loaded) in rows {
            // A row of another program has no digest of ours.
            let Some(session) = SessionDigest::parse(name.as_bytes()) else {
                continue;
            };
            let shown = loaded.listed(&session, place);
            if shown.is_some_and(|stored| visit(&session, stored).is_break()) {
                return Ok(());
            }
        }
    }
}

/// An expired row: no more of it is read than a report needs.
#[derive(Debug)]
pub struct Candidate {
    /// The name of the session.
    pub name: String,
    /// When it ended, in seconds since 1970.
    pub end: u64,
    /// When it was last used, in seconds since 1970.
    pub used: u64,
    /// The size of its record.
    pub bytes: u64,
}

impl Candidate {
    /// Notes that it was deleted, how long ago it was used, and why it went.
    pub fn note_deleted(&self, sweep: &Sweep<'_>, now: SystemTime, report: &mut SweepReport) {
        let (used, reason) = match self.used {
            NEVER => (self.end, "left by a change of id"),
            used => (used, "expired"),
        };
        let age = now.duration_since(time(used)).unwrap_or_default();
        sweep.note_deleted(report, &self.name, age, self.bytes, reason);
    }

    /// Leaves it to the caller of the clean-up, if that has something to do with sessions that expire.
    fn is_kept(
        &self,
        session: &SessionDigest,
        sweep: &Sweep<'_>,
        report: &mut SweepReport,
    ) -> bool {
        let is_kept = sweep.keeps_sessions() && self.used != NEVER;
        if is_kept {
            report.kept += 1;
            let as_of = time(self.used.min(self.end));
            sweep.notify(SweepEvent::Kept { session, as_of });
        }
        is_kept
    }
}

/// A table as a clean-up goes through it.
pub trait Table {
    /// The next [`BATCH`] expired rows behind this one, the longest expired first.
    ///
    /// # Errors
    ///
    /// When they cannot be read.
    fn expired_after(&mut self, end: u64, name: &str) -> Result<Vec<Candidate>>;

    /// How many sessions live.
    ///
    /// # Errors
    ///
    /// When they cannot be counted.
    fn count_live(&mut self) -> Result<u64>;

    /// Deletes those of these sessions that are expired and not in use, in one transaction, and returns
    /// them. In a dry run it only returns them.
    ///
    /// # Errors
    ///
    /// When they cannot be deleted.
    fn delete(&mut self, sessions: &[SessionDigest]) -> Result<Vec<SessionDigest>>;
}

/// Deletes what has expired, within the limits of a clean-up.
///
/// # Errors
///
/// As the functions of the table.
pub fn delete_expired(
    table: &mut impl Table,
    sweep: &Sweep<'_>,
    now: SystemTime,
    report: &mut SweepReport,
) -> Result<()> {
    let clock = sweep.clock();
    let (mut end, mut name) = (0, String::new());
    loop {
        let batch = table.expired_after(end, &name)?;
        let Some(last) = batch.last() else {
            report.live = table.count_live()?;
            report.examined += report.live;
            return Ok(());
        };
        (end, name) = (last.end, last.name.clone());
        let mut batch = batch.into_iter().peekable();
        while batch.peek().is_some() {
            report.stopped_early = clock.is_over() || sweep.is_enough(report.deleted);
            if report.stopped_early {
                return Ok(());
            }
            let examined = report.examined;
            let mut chosen = Vec::new();
            let is_enough = |chosen: &[_], deleted| sweep.is_enough(deleted + length(chosen));
            while let Some(candidate) = batch.next_if(|_| !is_enough(&chosen, report.deleted)) {
                report.examined += 1;
                // A name that another program has made is none of ours.
                match SessionDigest::parse(candidate.name.as_bytes()) {
                    Some(session) if candidate.is_kept(&session, sweep, report) => {}
                    Some(session) => chosen.push((session, candidate)),
                    None => report.foreign += 1,
                }
            }
            let sessions: Vec<_> = chosen.iter().map(|(session, _)| *session).collect();
            let deleted = match &*sessions {
                [] => Vec::new(),
                sessions => table.delete(sessions)?,
            };
            report.busy += length(&sessions) - length(&deleted);
            for (session, candidate) in chosen {
                if deleted.contains(&session) {
                    candidate.note_deleted(sweep, now, report);
                }
            }
            sweep.notify(SweepEvent::Examined(report.examined - examined));
        }
    }
}

/// Makes room for one session beside those that there are (`maxSessions`), and returns how many went. `delete` deletes up
/// to so many sessions that are not in use, of those for which a condition holds, the least of a column first. With all
/// in use there is one too many.
///
/// # Errors
///
/// [`Error::Full`] when none may go for it, and as `delete`.
pub fn make_room(
    config: &Config,
    count: u64,
    now: SystemTime,
    mut delete: impl FnMut(&str, &str, u64) -> Result<u64>,
) -> Result<u64> {
    let limit = config.max_sessions();
    let excess = count.saturating_add(1).saturating_sub(limit);
    let mut delete = |which: &str, column: &str, wanted: u64| match wanted {
        0 => Ok(0),
        _ => delete(which, column, wanted.min(2 * MAX_SPARE)),
    };
    let expired = format!("expires < {} AND {IS_SESSION}", unix_seconds(now));
    let of_expired = if config.keeps_expired() { 0 } else { excess };
    let deleted = delete(&expired, "expires", of_expired)?;
    match excess.saturating_sub(deleted) {
        0 => Ok(deleted),
        _ if config.refuses_when_full() => Err(Error::Full { limit }),
        // Some more, so that not every creation has to look for one.
        left => Ok(deleted + delete(IS_SESSION, "used", left + (limit / 16).min(MAX_SPARE))?),
    }
}

/// The sessions of these names; what another program has put there is none.
pub fn digests<T: AsRef<[u8]>>(
    names: impl IntoIterator<Item = T>,
) -> impl Iterator<Item = SessionDigest> {
    let digests = names.into_iter();
    digests.filter_map(|name| SessionDigest::parse(name.as_ref()))
}

/// Their number.
#[must_use]
pub fn length<T>(rows: &[T]) -> u64 {
    u64::try_from(rows.len()).unwrap_or(u64::MAX)
}
