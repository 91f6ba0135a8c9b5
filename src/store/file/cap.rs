//! `maxSessions`: counting sessions, and making room for a new one.
//!
//! `.count` holds how many there are, so that a creation below the cap costs one read and one
//! write. It is only as exact as the processes that died let it be; at the cap the directory itself
//! is counted, and every clean-up writes the true number. A count of the directory may miss a session
//! that is created meanwhile, so all of these stay counted: one too many is found out at the cap. That is
//! why `.count` also holds how many were ever created.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt as _;
use std::time::SystemTime;

use rustix::fd::OwnedFd;
use rustix::fs::OFlags;

use super::scan::{self, COUNT, SWEEP_LOCK};
use super::{FileStoreInner, content, is_counted, sweep};
use crate::config::WhenFull;
use crate::error::{Error, Result};
use crate::store::files::calls;
use crate::store::files::directory::{self, Finding};
use crate::store::files::lock::{self, Release};
use crate::store::{RECOUNT, Sweep};

/// So far above the cap a creator does not wait for an eviction that somebody else is doing.
const SLACK: u64 = 8;

/// What `.count` holds: two numbers of 8 bytes, little endian.
#[derive(Clone, Copy)]
pub(super) struct Count {
    /// How many sessions there are, or more.
    sessions: u64,
    /// How many were created since the file was made.
    created: u64,
}

impl Count {
    fn add(&mut self) {
        self.sessions = self.sessions.saturating_add(1);
        self.created = self.created.wrapping_add(1);
    }

    fn remove(&mut self, sessions: u64) {
        self.sessions = self.sessions.saturating_sub(sessions);
    }

    /// So many sessions were found since the count was `before`, and perhaps not those created since.
    fn found(&mut self, sessions: u64, before: Count) {
        let created = self.created.wrapping_sub(before.created);
        self.sessions = sessions.saturating_add(created);
    }
}

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
pub(super) fn admit(shared: &FileStoreInner, now: SystemTime) -> Result<Admission> {
    let max = shared.max_sessions;
    if max == 0 {
        return Ok(Admission(None));
    }
    let count = shared.directory.open_or_create(COUNT)?;
    let counted = change_and_hold(shared, &count, Count::add)?;
    if counted.sessions <= max {
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
pub(super) fn admit_successor(shared: &FileStoreInner) -> Result<Admission> {
    if shared.max_sessions == 0 {
        return Ok(Admission(None));
    }
    let count = shared.directory.open_or_create(COUNT)?;
    change_and_hold(shared, &count, Count::add)?;
    Ok(Admission(Some(count)))
}

/// Takes deleted sessions off the count. It is a hint: that it failed hurts nobody.
pub(super) fn forget(shared: &FileStoreInner, sessions: u64) {
    if shared.max_sessions == 0 || sessions == 0 {
        return;
    }
    let counted = shared
        .directory
        .open_or_create(COUNT)
        .and_then(|count| change(shared, &count, |count| count.remove(sessions)));
    if let Err(error) = counted {
        log::warn!("{}", error.one_line());
    }
}

/// What `.count` says, to be given to [`recount`] when the directory has been counted; `None` without a cap.
pub(super) fn counted(shared: &FileStoreInner) -> Result<Option<Count>> {
    if shared.max_sessions == 0 {
        return Ok(None);
    }
    let count = shared.directory.open_or_create(COUNT)?;
    change(shared, &count, |_| {}).map(Some)
}

/// Writes the true number of sessions. Those that were created since `.count` said `before` may
/// not have been seen when the directory was counted, and stay counted.
pub(super) fn recount(shared: &FileStoreInner, sessions: u64, before: Count) -> Result<()> {
    let count = shared.directory.open_or_create(COUNT)?;
    change(shared, &count, |count| count.found(sessions, before)).map(|_| ())
}

/// Changes `.count` under its lock and returns what it says then.
fn change(shared: &FileStoreInner, count: &File, change: impl Fn(&mut Count)) -> Result<Count> {
    let changed = change_and_hold(shared, count, change);
    // An unlock cannot fail on an open file.
    let _ = count.unlock();
    changed
}

/// The same, and keeps the lock.
fn change_and_hold(
    shared: &FileStoreInner,
    file: &File,
    change: impl Fn(&mut Count),
) -> Result<Count> {
    let failed = |error| Error::io("cannot update", shared.path(COUNT), error);
    wait_for(shared, file, COUNT)?;
    let mut bytes = [0; 16];
    let read = calls::retry(|| file.read_at(&mut bytes, 0)).map_err(failed)?;
    let [sessions, created] = [0, 8].map(|start| {
        let mut number = [0; 8];
        number.copy_from_slice(&bytes[start..start + 8]);
        u64::from_le_bytes(number)
    });
    let is_whole = read == bytes.len();
    let mut count = Count {
        // New, or cut by somebody. As if at the cap: the directory is counted at once.
        sessions: if is_whole {
            sessions
        } else {
            shared.max_sessions
        },
        created,
    };
    change(&mut count);
    let bytes = [count.sessions.to_le_bytes(), count.created.to_le_bytes()].concat();
    let written = file.write_all_at(&bytes, 0);
    written.map(|()| count).map_err(failed)
}

fn wait_for(shared: &FileStoreInner, file: &File, name: &str) -> Result<()> {
    let wait = shared.lock_timeout;
    lock::take(file, wait, wait, || shared.path(name))
}

fn make_room(shared: &FileStoreInner, count: &File, now: SystemTime) -> Result<()> {
    let max = shared.max_sessions;
    // Before .gc is made, which would look like a clean-up of this moment.
    let last_sweep = sweep::last(shared, now);
    let sweep_lock = shared.directory.open_or_create(SWEEP_LOCK)?;
    let counted = change(shared, count, |_| {})?;
    if counted.sessions <= max.saturating_add(SLACK) && shared.when_full == WhenFull::EvictOldest {
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
    let counted = change(shared, count, |_| {})?;
    if counted.sessions <= max {
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

fn evict(shared: &FileStoreInner, count: &File, counted: Count) -> Result<()> {
    let max = shared.max_sessions;
    let excess = counted.sessions.saturating_sub(max);
    let batch = excess.saturating_add(max / 16);
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
    change(shared, count, |count| count.found(left, counted)).map(|_| ())
}

/// Deletes a session unless somebody uses it, or since it was chosen has used it or given it another id.
fn evict_one(shared: &FileStoreInner, name: &str, modified: SystemTime) -> Result<bool> {
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
fn refuse(shared: &FileStoreInner, count: &File, sweep_lock: &File, now: SystemTime) -> Result<()> {
    let report = sweep::locked(shared, sweep_lock, &Sweep::new(), now)?;
    // The one that is about to be created is not there yet.
    change(shared, count, Count::add)?;
    if report.live + report.busy < shared.max_sessions {
        Ok(())
    } else {
        Err(full(shared))
    }
}

fn full(shared: &FileStoreInner) -> Error {
    Error::Full {
        limit: shared.max_sessions,
    }
}

fn modified_at(directory: &OwnedFd, name: &str) -> Option<SystemTime> {
    let stat = calls::stat_at(directory, name).ok()?;
    Some(directory::modified(&stat))
}
