//! [`Pass`]: one pass over the live sessions of a store, which copies them into another.
//!
//! A session is locked in both stores while it is copied, first in the old one. Its copy has a mark, white space
//! in its values that fits its head: a program that saves values writes none, and one that saves anything else
//! changes the head. What has a mark may be overwritten, and is deleted where the session has ended in the old
//! store, unless the mark says that it was to end there; all else was saved in the new store, and is left.

use std::collections::{BTreeMap, HashSet};
use std::ops::ControlFlow;
use std::time::{Duration, SystemTime};

use cgi_session::{Config, Error, Record, Result, SessionDigest, SessionManager, Stored};
use sha2::{Digest as _, Sha256};

use crate::report;
use crate::signals::Signals;

/// How many times a session is looked for that another process creates and destroys meanwhile.
const TRIES: usize = 4;
/// After this many failures in a row a store is out of order.
const MAX_FAILURES: u64 = 20;
/// What a stored time may lose by rounding.
const ROUNDING: Duration = Duration::from_secs(2);
/// How the values of a copy begin, before the bits of a hash of its head.
const MARK: &[u8] = b"{\t";
const MARK_BITS: usize = 16;

/// What a pass does besides copying, by its JSON key, in words.
pub(super) const DONE: [(&str, &str); 7] = [
    ("updated", "updated"),
    ("renewed", "used since"),
    ("unchanged", "as before"),
    ("newerThere", "newer there"),
    ("expired", "too old for it"),
    ("moved", "ended here"),
    ("goneDeleted", "deleted there"),
];
/// Why sessions are left out, with the JSON key of their number and in words.
pub(super) const LEFT: [(&str, &str, &str); 4] = [
    ("busy", "busy", "busy"),
    ("unreadable", "unreadable", "unreadable"),
    ("conflict", "conflicts", "in conflict"),
    ("failed", "failed", "failed"),
];

/// What a pass did or, in a dry run, would do.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// How many sessions were examined, copied, gone from the old store, and what else [`DONE`] names.
    numbers: BTreeMap<&'static str, u64>,
    /// What was left out.
    pub(super) problems: Vec<Problem>,
    /// What ended the pass early.
    pub(super) stopped: Option<Error>,
    /// The signal that interrupted it, or zero.
    pub(super) signal: usize,
    failures_in_a_row: u64,
}

/// A session that was left out: why, for programs and in a line.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) session: SessionDigest,
    pub(super) reason: &'static str,
    pub(super) text: String,
}

impl Outcome {
    pub(super) fn number(&self, key: &str) -> u64 {
        self.numbers.get(key).copied().unwrap_or_default()
    }

    /// How many sessions were left out for this reason.
    pub(super) fn problems_of(&self, reason: &str) -> u64 {
        let same = self.problems.iter().filter(|it| it.reason == reason);
        same.fold(0, |count, _| count + 1)
    }

    fn note(&mut self, session: &SessionDigest, reason: &'static str, text: String) {
        self.problems.push(Problem {
            session: *session,
            reason,
            text,
        });
    }

    fn add(&mut self, key: &'static str) {
        *self.numbers.entry(key).or_default() += 1;
    }

    fn count(&mut self, session: &SessionDigest, decision: Decision, to: &Config) {
        self.add(match decision {
            Decision::Create => "copied",
            Decision::Update => "updated",
            Decision::Renew => "renewed",
            Decision::Keep => "unchanged",
            Decision::KeepNewer => "newerThere",
            Decision::Conflict => {
                let end = report::command_for(to, "destroy");
                let text = format!(
                    "was saved in the new store and used in the old one as late or later; if that in the new one is \
                     the wrong one: {end} {session}"
                );
                return self.note(session, "conflict", text);
            }
        });
    }
}

/// What becomes of a session in the new store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Decision {
    Create,
    Update,
    Renew,
    Keep,
    KeepNewer,
    /// It may have been changed in both stores.
    Conflict,
}

/// What is to be copied, and how.
pub(super) struct Pass<'a> {
    pub(super) from: &'a SessionManager,
    pub(super) to: &'a SessionManager,
    pub(super) is_move: bool,
    pub(super) deletes_gone: bool,
    pub(super) is_dry: bool,
    pub(super) signals: &'a Signals,
    pub(super) outcome: Outcome,
}

impl Pass<'_> {
    /// Runs to the end, or as far as it comes. `progress` hears how many sessions of how many are done.
    pub(super) fn run(mut self, progress: &dyn Fn(u64, Option<u64>)) -> Outcome {
        self.outcome.stopped = self.all(progress).err();
        self.outcome.signal = self.signals.last();
        self.outcome
    }

    fn all(&mut self, progress: &dyn Fn(u64, Option<u64>)) -> Result<()> {
        let (mut listed, mut here) = (Vec::new(), HashSet::new());
        let (signals, outcome) = (self.signals, &mut self.outcome);
        let (from, now) = (self.from, SystemTime::now());
        // With what a change of id has left to be read.
        let mut visit = |session: &SessionDigest, stored: Result<Stored>| {
            match stored {
                Ok(stored) if from.end_of(&stored) < now => return end_if(signals.any()),
                Ok(_) => listed.push(*session),
                Err(error) => outcome.note(session, "unreadable", error.one_line()),
            }
            here.insert(*session);
            progress(listed.len() as u64, None);
            end_if(signals.any())
        };
        from.store().for_each(&mut visit, now)?;
        let total = Some(listed.len() as u64);
        let mut busy = Vec::new();
        for session in &listed {
            if signals.any() {
                return Ok(());
            }
            if self.bring(session, Duration::ZERO)? {
                busy.push(*session);
            }
            self.outcome.add("examined");
            progress(self.outcome.number("examined"), total);
        }
        // By now most of them are free.
        let wait = self.from.config().lock_timeout();
        for session in busy {
            if signals.any() {
                return Ok(());
            }
            self.outcome.problems.retain(|it| it.session != session);
            self.bring(&session, wait)?;
        }
        // A store that is empty was moved or is the wrong one: it shows nothing about what has ended.
        if self.is_move || here.is_empty() {
            return Ok(());
        }
        self.find_gone(&here)
    }

    /// Brings a session and notes what has hindered it; `true` when it is in use.
    fn bring(&mut self, session: &SessionDigest, wait: Duration) -> Result<bool> {
        let brought = self.try_to_bring(session, wait);
        self.hindered(session, brought)
    }

    /// Notes what has hindered a session; `true` when it is in use. An error of a whole store ends the pass.
    fn hindered(&mut self, session: &SessionDigest, tried: Result<()>) -> Result<bool> {
        let Err(error) = tried else {
            self.outcome.failures_in_a_row = 0;
            return Ok(false);
        };
        match error {
            Error::Busy { .. } | Error::LeaseLost => {
                self.outcome.note(session, "busy", error.one_line());
                return Ok(true);
            }
            Error::Unavailable { .. }
            | Error::Full { .. }
            | Error::LowSpace { .. }
            | Error::Config(_)
            | Error::Unsupported(_) => return Err(error),
            _ => {}
        }
        self.outcome.failures_in_a_row += 1;
        if self.outcome.failures_in_a_row == MAX_FAILURES {
            return Err(error);
        }
        self.outcome.note(session, "failed", error.one_line());
        Ok(false)
    }

    fn try_to_bring(&mut self, session: &SessionDigest, wait: Duration) -> Result<()> {
        let now = SystemTime::now();
        let (from, to) = (self.from.store(), self.to.store());
        let is_live = |stored: &Stored| !stored.record.is_marker();
        // Most sessions are as they were at the last pass, and need no lock.
        let Some(here) = from.peek(session, now)?.filter(is_live) else {
            return Ok(());
        };
        if self.to.end_of(&here) < now {
            self.outcome.add("expired");
            return Ok(());
        }
        let decision = self.decide(&here, to.peek(session, now)?.as_ref());
        let is_left = match decision {
            Decision::Conflict => true,
            Decision::Keep | Decision::KeepNewer => !self.is_move,
            Decision::Create | Decision::Update | Decision::Renew => false,
        };
        if self.is_dry || is_left {
            self.outcome.count(session, decision, self.to.config());
            if self.is_move && decision != Decision::Conflict {
                self.outcome.add("moved");
            }
            return Ok(());
        }
        let Some((here, lease)) = from.lock(session, wait, now)?.filter(|it| is_live(&it.0)) else {
            return Ok(());
        };
        let copy = self.copy_of(&here.record);
        for _ in 0..TRIES {
            let found = to.lock(session, wait, now)?;
            let decision = self.decide(&here, found.as_ref().map(|(there, _)| there));
            let (last_use, mut there) = match found {
                Some((there, lease)) => (here.last_access.max(there.last_access), lease),
                None => match to.create(session, &copy, now)? {
                    Some(lease) => (here.last_access, lease),
                    None => continue,
                },
            };
            let is_same = !matches!(decision, Decision::KeepNewer | Decision::Conflict);
            // Before it ends here: from then on what is there is the session.
            if decision == Decision::Update
                || (self.is_move && is_same && decision != Decision::Create)
            {
                there.commit(&copy, now)?;
            }
            if is_same && (self.is_move || decision != Decision::Keep) {
                there.touch(last_use)?;
            }
            if self.is_move && decision != Decision::Conflict {
                lease.destroy()?;
                self.outcome.add("moved");
            }
            self.outcome.count(session, decision, self.to.config());
            return Ok(());
        }
        Err(Error::Busy {
            waited: wait,
            holder: None,
        })
    }

    /// What is stored there: with a mark that later runs know, unless that makes it too large.
    fn copy_of(&self, record: &Record) -> Record {
        let copy = marked(record, self.is_move);
        if copy.to_json().len() <= self.to.config().max_record_bytes() {
            copy
        } else {
            plain(record)
        }
    }

    fn decide(&self, here: &Stored, there: Option<&Stored>) -> Decision {
        let Some(there) = there else {
            return Decision::Create;
        };
        let later = here.last_access.duration_since(there.last_access);
        if plain(&here.record).to_json() == plain(&there.record).to_json() {
            let is_fixed = here.record.expires().is_some();
            return match later {
                Ok(later) if !is_fixed && later > self.unnoted(here) => Decision::Renew,
                _ => Decision::Keep,
            };
        }
        match later {
            _ if has_mark(&there.record, COPIED) || has_mark(&there.record, MOVED) => {
                Decision::Update
            }
            // Its id was changed there.
            _ if there.record.is_replaced() => Decision::KeepNewer,
            Err(earlier) if earlier.duration() > ROUNDING => Decision::KeepNewer,
            _ => Decision::Conflict,
        }
    }

    /// A use that is later by less than this may not be noted by a store.
    fn unnoted(&self, stored: &Stored) -> Duration {
        let idle = stored.record.idle();
        idle.unwrap_or_else(|| self.to.config().timeout()) / 60 + 2 * ROUNDING
    }

    /// Finds the copies whose session has ended in the old store.
    fn find_gone(&mut self, here: &HashSet<SessionDigest>) -> Result<()> {
        let (mut gone, signals) = (Vec::new(), self.signals);
        let mut visit = |session: &SessionDigest, stored: Result<Stored>| {
            if !here.contains(session) && stored.is_ok_and(|it| has_mark(&it.record, COPIED)) {
                gone.push(*session);
            }
            end_if(signals.any())
        };
        self.to.store().for_each(&mut visit, SystemTime::now())?;
        for session in gone {
            if signals.any() {
                break;
            }
            let ended = self.end_gone(&session);
            self.hindered(&session, ended)?;
        }
        Ok(())
    }

    fn end_gone(&mut self, session: &SessionDigest) -> Result<()> {
        let here = self.from.peek(session)?;
        if here.is_some_and(|it| !it.record.is_marker()) {
            return Ok(());
        }
        if self.is_dry || !self.deletes_gone {
            self.outcome.add("gone");
            return Ok(());
        }
        let wait = self.to.config().lock_timeout();
        let found = self.to.store().lock(session, wait, SystemTime::now())?;
        if let Some((_, lease)) = found.filter(|(stored, _)| has_mark(&stored.record, COPIED)) {
            lease.destroy()?;
            self.outcome.add("gone");
            self.outcome.add("goneDeleted");
        }
        Ok(())
    }
}

/// What a mark says of the session in the old store: it went on, or was to end at once.
const COPIED: bool = false;
const MOVED: bool = true;

fn has_mark(record: &Record, is_moved: bool) -> bool {
    record.values().starts_with(&marking(record, is_moved))
}

/// How the values of a record with this head and mark begin.
fn marking(record: &Record, is_moved: bool) -> Vec<u8> {
    let hash = Sha256::digest(record.with_values(b"{}".to_vec()).to_json());
    let bits = hash
        .iter()
        .flat_map(|byte| (0..8).map(move |bit| byte >> bit & 1 == 1));
    let bits = bits.map(|bit| if bit == is_moved { b' ' } else { b'\t' });
    MARK.iter().copied().chain(bits.take(MARK_BITS)).collect()
}

/// The record with a mark.
fn marked(record: &Record, is_moved: bool) -> Record {
    let record = plain(record);
    match record.values().strip_prefix(b"{") {
        Some(values) => record.with_values([&marking(&record, is_moved), values].concat()),
        None => record,
    }
}

/// The record as its session has it.
fn plain(record: &Record) -> Record {
    let is_mark = |begin: &[u8]| {
        let bits = begin.strip_prefix(MARK);
        bits.is_some_and(|bits| bits.iter().all(|bit| matches!(bit, b' ' | b'\t')))
    };
    match record.values().split_at_checked(MARK.len() + MARK_BITS) {
        Some((begin, values)) if is_mark(begin) => record.with_values([b"{", values].concat()),
        _ => record.clone(),
    }
}

fn end_if(is_over: bool) -> ControlFlow<()> {
    if is_over {
        ControlFlow::Break(())
    } else {
        ControlFlow::Continue(())
    }
}
