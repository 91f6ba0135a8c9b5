//! `maxSessions`: room for a new session, or its refusal.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::ControlFlow;
use std::time::SystemTime;

use super::count::{self, Count};
use super::inner::{FileStoreInner, is_counted};
use super::scan::{self, Folder, SWEEP_LOCK};
use super::{content, sweep};
use crate::config::WhenFull;
use crate::error::{Error, Result};
use crate::id::SessionDigest;
use crate::record::Record;
use crate::store::files::lock::LockedFile;
use crate::store::files::{calls, directory};
use crate::store::{RECOUNT, Sweep};

/// So far above the cap a creator does not wait for an eviction that another process is doing.
const SLACK: u64 = 8;

/// Counts a session that is about to be created, and makes room for it or refuses it. The lock that is returned is
/// dropped once its file exists.
///
/// For one that takes the place of another under a new id, the count exceeds the cap until that one is a
/// marker: a login neither evicts nor is refused.
pub(super) fn admit(
    shared: &FileStoreInner,
    record: &Record,
    now: SystemTime,
) -> Result<Option<(LockedFile, Count)>> {
    let max = shared.config.max_sessions;
    if max == 0 {
        return Ok(None);
    }
    let (locked, added) = count::add(shared)?;
    if added.sessions <= max || record.predecessor().is_some() {
        return Ok(Some((locked, added)));
    }
    drop(locked);
    let made_room = make_room(shared, added, now);
    if made_room.is_err() {
        count::withdraw(shared, added);
    }
    made_room.map(Some)
}

/// Makes room for a session that was `added`, which a recount meanwhile may have left out.
fn make_room(
    shared: &FileStoreInner,
    added: Count,
    now: SystemTime,
) -> Result<(LockedFile, Count)> {
    let config = &shared.config;
    let max = config.max_sessions;
    // Before .gc is created, which would look like a clean-up of this moment.
    let last_sweep = sweep::last(shared, now);
    let is_near = count::read(shared)?.sessions <= max.saturating_add(SLACK);
    let sweep_lock = if is_near && config.when_full == WhenFull::EvictOldest {
        match shared.directory.try_lock_or_create(SWEEP_LOCK)? {
            Some(sweep_lock) => sweep_lock,
            // Another process is making room already.
            None => return count::add_again(shared, added),
        }
    } else {
        let locked = shared
            .directory
            .lock_or_create(SWEEP_LOCK, config.lock_timeout);
        locked?.0
    };
    let full = || Err(Error::Full { limit: max });
    let mut counted = count::read(shared)?;
    let is_recounted = counted.recounts != added.recounts;
    if counted.is_unknown() {
        let mut total = 0;
        scan::each_session(shared, |folder, session| {
            total += u64::from(modified(folder, session).is_some());
            ControlFlow::Continue(())
        })?;
        count::recount(shared, total, counted)?;
        counted = count::read(shared)?;
    }
    if counted.with(added) > max {
        match config.when_full {
            WhenFull::EvictOldest => evict(shared, counted)?,
            WhenFull::Refuse
                if config.keeps_expired()
                    || is_recounted
                    || last_sweep.is_some_and(|age| age < RECOUNT) =>
            {
                return full();
            }
            WhenFull::Refuse => {
                // Deletes what has expired, and refuses if nothing had.
                let report = sweep::locked(shared, &sweep_lock, &Sweep::new(), now)?;
                if report.live + report.busy >= max {
                    return full();
                }
            }
        }
    }
    // While `.gc` is locked: who waits for it sees this session.
    let (locked, again) = count::add_again(shared, added)?;
    if config.when_full == WhenFull::Refuse && again.sessions > max {
        drop(locked);
        if again.misses(added) {
            count::withdraw(shared, again);
        }
        return full();
    }
    Ok((locked, again))
}

/// Deletes the least recently used sessions.
fn evict(shared: &FileStoreInner, counted: Count) -> Result<()> {
    let max = shared.config.max_sessions;
    let excess = counted.sessions.saturating_sub(max);
    let batch = excess.saturating_add(max / 16);
    // Some of the oldest may be in use; the ones after them go instead.
    let spare = usize::try_from(batch.saturating_add(64)).unwrap_or(usize::MAX);
    let mut total = 0u64;
    let mut oldest: BinaryHeap<(SystemTime, String)> = BinaryHeap::new();
    scan::each_session(shared, |folder, session| {
        let Some((name, modified)) = modified(folder, session) else {
            return ControlFlow::Continue(());
        };
        total += 1;
        if oldest.len() == spare {
            if oldest.peek().is_some_and(|(newest, _)| *newest <= modified) {
                return ControlFlow::Continue(());
            }
            oldest.pop();
        }
        oldest.push((modified, format!("{}{name}", folder.prefix)));
        ControlFlow::Continue(())
    })?;
    // The one that is about to be created is counted, but does not exist yet.
    let excess = (total + 1).saturating_sub(max);
    let wanted = if excess == 0 { 0 } else { excess + max / 16 };
    // The least recently used first.
    let mut queue: BinaryHeap<_> = oldest.into_iter().map(Reverse).collect();
    let mut evicted = 0;
    while evicted < wanted
        && let Some(Reverse((modified, name))) = queue.pop()
    {
        evicted += u64::from(evict_one(shared, &name, modified)?);
    }
    count::recount(shared, total.saturating_sub(evicted), counted)
}

/// The file of a session that counts, and when it was modified.
fn modified(folder: &Folder, session: &SessionDigest) -> Option<(String, SystemTime)> {
    let name = [session.as_str(), ".json"].concat();
    let stat = calls::stat_at(&folder.handle, &name).ok()?;
    let modified = directory::modified(&stat);
    is_counted(modified).then_some((name, modified))
}

/// Deletes a session unless it is in use, or since it was chosen was used or got another id.
fn evict_one(shared: &FileStoreInner, name: &str, modified: SystemTime) -> Result<bool> {
    let Ok(Some((file, stat))) = shared.directory.try_lock(name) else {
        return Ok(false);
    };
    let is_unseeded = || content::is_unseeded(&file, directory::size(&stat)).unwrap_or(false);
    if directory::modified(&stat) != modified || is_unseeded() {
        return Ok(false);
    }
    shared.directory.unlink(name)?;
    Ok(true)
}
