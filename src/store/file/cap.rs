//! `maxSessions`: counting sessions, and making room for a new one.
//!
//! `.count` holds how many there are, so that a creation below the cap costs one read and one
//! write. It is only as exact as the processes that died let it be; at the cap the directory itself
//! is counted, and every clean-up writes the true number. Whoever counts the directory may miss a
//! session that is created meanwhile; it stays counted, for one too many is found out at the cap.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt as _;
use std::time::SystemTime;

use rustix::fd::OwnedFd;
use rustix::fs::OFlags;

use super::scan::{self, COUNT, SWEEP_LOCK};
use super::{Shared, content, is_counted, sweep};
use crate::config::WhenFull;
use crate::error::{Error, Result};
use crate::store::calls;
use crate::store::directory::{self, Finding};
use crate::store::lock::{self, Release};
use crate::store::{RECOUNT, Sweep};

/// So far above the cap a creator does not wait for an eviction that somebody else is doing.
const SLACK: u64 = 8;

/// A session that is counted and may be created.
///
/// Below the cap nobody else reads `.count` until this is dropped, after its file is there: who counts the
/// directory later finds a session of every count that he has read.
pub(super) struct Admission(Option<File>);

impl Drop for Admission {
    fn drop(&mut self) {
        if let Some(count) = &self.0 {
            // An unlock cannot fail on an open file.
            let _ = count.unlock();
        }
    }
}

/// Counts a session that is about to be created, and makes room for it or refuses it.
pub(super) fn admit(shared: &Shared, now: SystemTime) -> Result<Admission> {
    let max = shared.max_sessions;
    if max == 0 {
        return Ok(Admission(None));
    }
    let count = shared.directory.open_or_create(COUNT)?;
    let counted = change_and_hold(shared, &count, |n| n.saturating_add(1))?;
    if counted <= max {
        return Ok(Admission(Some(count)));
    }
    // An unlock cannot fail on an open file.
    let _ = count.unlock();
    let made_room = make_room(shared, &count, now);
    if made_room.is_err() {
        forget(shared, 1);
    }
    made_room.map(|()| Admission(None))
}

/// Counts a session that takes the place of another under a new id. The count exceeds the cap until that
/// one is a marker: a login neither evicts nor is refused.
pub(super) fn admit_successor(shared: &Shared) -> Result<Admission> {
    if shared.max_sessions == 0 {
        return Ok(Admission(None));
    }
    let count = shared.directory.open_or_create(COUNT)?;
    change_and_hold(shared, &count, |n| n.saturating_add(1))?;
    Ok(Admission(Some(count)))
}

/// Takes deleted sessions off the count. It is a hint: that it failed hurts nobody.
pub(super) fn forget(shared: &Shared, sessions: u64) {
    if shared.max_sessions == 0 || sessions == 0 {
        return;
    }
    let counted = shared
        .directory
        .open_or_create(COUNT)
        .and_then(|count| change(shared, &count, |n| n.saturating_sub(sessions)));
    if let Err(error) = counted {
        log::warn!("{}", error.one_line());
    }
}

/// What `.count` says, to be given to [`recount`] when the directory has been counted.
pub(super) fn counted(shared: &Shared) -> Result<u64> {
    if shared.max_sessions == 0 {
        return Ok(0);
    }
    change(shared, &shared.directory.open_or_create(COUNT)?, |n| n)
}

/// Writes the true number of sessions. Those that were counted in since `.count` said `before` may
/// not have been seen by whoever counted the directory, and stay counted.
pub(super) fn recount(shared: &Shared, sessions: u64, before: u64) -> Result<()> {
    if shared.max_sessions == 0 {
        return Ok(());
    }
    let count = shared.directory.open_or_create(COUNT)?;
    change(shared, &count, |n| with_newcomers(sessions, n, before)).map(|_| ())
}

fn with_newcomers(sessions: u64, count: u64, before: u64) -> u64 {
    sessions.saturating_add(count.saturating_sub(before))
}

/// Changes the number in `.count` under its lock and returns the new one.
fn change(shared: &Shared, count: &File, change: impl Fn(u64) -> u64) -> Result<u64> {
    let changed = change_and_hold(shared, count, change);
    // An unlock cannot fail on an open file.
    let _ = count.unlock();
    changed
}

/// The same, and keeps the lock.
fn change_and_hold(shared: &Shared, count: &File, change: impl Fn(u64) -> u64) -> Result<u64> {
    let failed = |error| Error::io("cannot update", shared.path(COUNT), error);
    wait_for(shared, count, COUNT)?;
    let mut bytes = [0; 8];
    let before = match calls::retry(|| count.read_at(&mut bytes, 0)).map_err(failed)? {
        8 => u64::from_le_bytes(bytes),
        // New, or cut by somebody. As if at the cap: the directory is counted at once.
        _ => shared.max_sessions,
    };
    let after = change(before);
    let written = count.write_all_at(&after.to_le_bytes(), 0);
    written.map(|()| after).map_err(failed)
}

fn wait_for(shared: &Shared, file: &File, name: &str) -> Result<()> {
    let wait = shared.lock_timeout;
    lock::take(file, wait, wait, || shared.path(name))
}

fn make_room(shared: &Shared, count: &File, now: SystemTime) -> Result<()> {
    let max = shared.max_sessions;
    // Before .gc is made, which would look like a clean-up of this moment.
    let last_sweep = sweep::last(shared, now);
    let sweep_lock = shared.directory.open_or_create(SWEEP_LOCK)?;
    let counted = change(shared, count, |n| n)?;
    if counted <= max.saturating_add(SLACK) && shared.when_full == WhenFull::EvictOldest {
        match lock::try_exclusive(&sweep_lock) {
            Ok(true) => {}
            // Somebody is making room already.
            Ok(false) => return Ok(()),
            Err(error) => return Err(Error::io("cannot lock", shared.path(SWEEP_LOCK), error)),
        }
    } else {
        wait_for(shared, &sweep_lock, SWEEP_LOCK)?;
    }
    let _release = Release(&sweep_lock);
    let counted = change(shared, count, |n| n)?;
    if counted <= max {
        return Ok(());
    }
    match shared.when_full {
        WhenFull::EvictOldest => evict(shared, count, counted),
        WhenFull::Refuse if last_sweep.is_some_and(|age| age < RECOUNT) => Err(full(shared)),
        WhenFull::Refuse => refuse(shared, count, &sweep_lock, now),
    }
}

/// One session that could go, the least recently used first.
type Candidate = Reverse<(SystemTime, String)>;

fn evict(shared: &Shared, count: &File, counted: u64) -> Result<()> {
    let max = shared.max_sessions;
    let batch = counted.saturating_sub(max).saturating_add(max / 16);
    // Some of the oldest may be in use; the ones after them go instead.
    let spare = usize::try_from(batch.saturating_add(64)).unwrap_or(usize::MAX);
    let mut total = 0;
    let mut oldest: BinaryHeap<(SystemTime, String)> = BinaryHeap::new();
    scan::each_session(shared, |folder, session| {
        let name = [session.as_str(), ".json"].concat();
        let Some(modified) = modified_at(&folder.handle, &name) else {
            return ControlFlow::Continue(());
        };
        if !is_counted(modified) {
            return ControlFlow::Continue(());
        }
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
    // The one that is about to be created is counted, but not there yet.
    let excess = (total + 1u64).saturating_sub(max);
    let wanted = if excess == 0 { 0 } else { excess + max / 16 };
    let mut queue: BinaryHeap<Candidate> = oldest.into_iter().map(Reverse).collect();
    let mut evicted = 0;
    while evicted < wanted
        && let Some(Reverse((modified, name))) = queue.pop()
    {
        if evict_one(shared, &name, modified)? {
            evicted += 1;
        }
    }
    let left = (total + 1).saturating_sub(evicted);
    change(shared, count, |n| with_newcomers(left, n, counted)).map(|_| ())
}

/// Deletes a session unless somebody uses it, or since it was chosen has used it or given it another id.
fn evict_one(shared: &Shared, name: &str, modified: SystemTime) -> Result<bool> {
    let Ok(Some(file)) = shared.directory.open_file(name, OFlags::RDWR) else {
        return Ok(false);
    };
    if !matches!(lock::try_exclusive(&file), Ok(true)) {
        return Ok(false);
    }
    let _release = Release(&file);
    let Ok(Finding::Session(stat)) = shared.directory.examine(&file, name) else {
        return Ok(false);
    };
    let is_unseeded = || content::is_unseeded(&file, directory::size(&stat)).unwrap_or(false);
    if directory::modified(&stat) != modified || is_unseeded() {
        return Ok(false);
    }
    shared.directory.unlink(name)?;
    Ok(true)
}

/// Deletes what has expired, and refuses if nothing had.
fn refuse(shared: &Shared, count: &File, sweep_lock: &File, now: SystemTime) -> Result<()> {
    let report = sweep::locked(shared, sweep_lock, &Sweep::new(), now)?;
    // The one that is about to be created is not there yet.
    change(shared, count, |n| n.saturating_add(1))?;
    if report.live + report.busy < shared.max_sessions {
        Ok(())
    } else {
        Err(full(shared))
    }
}

fn full(shared: &Shared) -> Error {
    Error::Full {
        limit: shared.max_sessions,
    }
}

fn modified_at(directory: &OwnedFd, name: &str) -> Option<SystemTime> {
    let stat = calls::stat_at(directory, name).ok()?;
    Some(directory::modified(&stat))
}
