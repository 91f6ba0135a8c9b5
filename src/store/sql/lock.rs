//! Taking the lock of a session.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use super::connector::Link;
use super::engine::{Kind, Row, Script};
use super::lease::{SqlLease, Version};
use super::rows::Loaded;
use super::{Shared, has_passed};
use crate::error::{Error, Result};
use crate::id::SessionDigest;
use crate::store::Stored;

/// Between two tries for a lock that the server did not wait for.
const PAUSES: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(20)];

/// What one try for a lock came to.
enum Attempt {
    Locked(Box<(Stored, SqlLease)>),
    Absent,
    /// Somebody else has it, who may be known.
    Busy(Option<String>),
}

/// Waits for a session's lock and loads what is stored.
pub(super) fn lock(
    shared: &Arc<Shared>,
    session: &SessionDigest,
    wait: Duration,
    now: SystemTime,
) -> Result<Option<(Stored, SqlLease)>> {
    let started = Instant::now();
    let left = || wait.saturating_sub(started.elapsed());
    let [mut pause, longest] = PAUSES;
    loop {
        let holder = match attempt(shared, session, left(), now)? {
            Attempt::Locked(found) => return Ok(Some(*found)),
            Attempt::Absent => return Ok(None),
            Attempt::Busy(holder) => holder,
        };
        let left = left();
        if left.is_zero() {
            // Who does not wait at all asks again soon, and has no use for a name.
            let is_known = holder.is_some() || wait.is_zero();
            let holder = if is_known {
                holder
            } else {
                shared.holder(session)
            };
            return Err(Error::Busy {
                waited: wait,
                holder,
            });
        }
        thread::sleep(pause.min(left));
        pause = (pause * 2).min(longest);
    }
}

impl Shared {
    fn holder(&self, session: &SessionDigest) -> Option<String> {
        let question = self.engine().holder(&self.table, session)?;
        let answers = self.ask("ask who has a session in", &Script::of(&question));
        Some(answers.ok()?.row(0)?.text(0)?.to_owned())
    }
}

fn attempt(
    shared: &Arc<Shared>,
    session: &SessionDigest,
    wait: Duration,
    now: SystemTime,
) -> Result<Attempt> {
    let action = "open a session in";
    let mut script = shared.transaction(wait);
    let select = script.push(&format!(
        "SELECT record, expires, used, version, CASE WHEN {} THEN held_by END FROM {} \
         WHERE session = '{session}' {}",
        shared.engine().is_marked(),
        shared.table(),
        shared.engine().for_update(wait),
    ));
    let (link, mut answers) = shared.run(&script, wait)?;
    if let Some(failure) = answers.failure.take() {
        shared.recover(link, &failure);
        return match failure.kind {
            Kind::Locked | Kind::Conflict => Ok(Attempt::Busy(None)),
            _ => Err(shared.explain(action, failure)),
        };
    }
    let Some(row) = answers.take_rows(select).pop() else {
        shared.roll_back(link);
        return Ok(Attempt::Absent);
    };
    if let Some(holder) = row.text(4) {
        let holder = holder.to_owned();
        shared.roll_back(link);
        return Ok(Attempt::Busy(Some(holder)));
    }
    open(shared, session, link, row, now)
}

/// What is in a row whose lock we have.
fn open(
    shared: &Arc<Shared>,
    session: &SessionDigest,
    mut link: Link,
    row: Row,
    now: SystemTime,
) -> Result<Attempt> {
    let version = Version(row.number(3));
    let loaded = Loaded::from(row, 0);
    let end = loaded.end;
    if has_passed(end, now) {
        let mut script = Script::of(&shared.deletion(session));
        script.push("COMMIT");
        let answers = link.run(&script);
        let (link, _) = shared.checked("delete a session in", link, answers)?;
        shared.keep(link);
        return Ok(Attempt::Absent);
    }
    match shared.stored(session, loaded) {
        Ok(Some(stored)) => {
            let lease = SqlLease::new(shared, link, session, &stored.record, end, version);
            Ok(Attempt::Locked(Box::new((stored, lease))))
        }
        unusable => {
            shared.roll_back(link);
            unusable.map(|_| Attempt::Absent)
        }
    }
}
