//! `.count`: how many sessions there are, so that a creation below the cap costs one read and one write.
//!
//! It is only as exact as the processes that died let it be, and may then say one too many, never one too few: at
//! the cap the directory itself is counted, and every clean-up writes what it has counted. That misses a session
//! that is created meanwhile, and has left out one that ends and is not taken off yet. So `.count` also holds how
//! many were ever created and how often it was written anew.

use std::os::unix::fs::FileExt as _;

use super::inner::FileStoreInner;
use super::scan::COUNT;
use crate::error::Result;
use crate::store::files::calls;
use crate::store::files::lock::LockedFile;

/// What `.count` holds: four numbers of 8 bytes, little endian.
#[derive(Clone, Copy)]
pub(super) struct Count {
    /// How many sessions there are, or more.
    pub(super) sessions: u64,
    /// How many were created since the file was created.
    created: u64,
    /// How often the sessions were counted anew since then.
    recounts: u64,
    /// How many had been created when that began the last time.
    seen: u64,
}

/// What `.count` says that is new or cut: more than there are, until the directory is counted.
const UNKNOWN: u64 = 1 << 63;

impl Count {
    fn add(&mut self) {
        self.sessions = self.sessions.saturating_add(1);
        self.created = self.created.wrapping_add(1);
    }

    /// Whether a recount has left out a session that was `added` before it and does not exist yet.
    fn misses(self, added: Count) -> bool {
        self.recounts != added.recounts && added.created <= self.seen
    }

    /// How many sessions there are with one that was `added`.
    pub(super) fn with(self, added: Count) -> u64 {
        self.sessions.saturating_add(u64::from(self.misses(added)))
    }

    /// Whether no process has counted yet.
    pub(super) fn is_unknown(self) -> bool {
        self.sessions > UNKNOWN / 2
    }
}

/// Counts a session that is about to be created. Below the cap the lock is kept until its file exists, so that
/// a later recount finds every session whose increment it has read.
pub(super) fn add(shared: &FileStoreInner) -> Result<(LockedFile, Count)> {
    change(shared, open(shared)?, Count::add)
}

/// As `add`, unless the limit is reached.
pub(super) fn add_below(
    shared: &FileStoreInner,
    limit: u64,
) -> Result<Option<(LockedFile, Count)>> {
    let opened = open(shared)?;
    if opened.1.sessions >= limit {
        return Ok(None);
    }
    change(shared, opened, Count::add).map(Some)
}

/// Counts a session once more whose file a recount since [`add`] may have missed. The lock is kept as there.
pub(super) fn add_again(shared: &FileStoreInner, added: Count) -> Result<(LockedFile, Count)> {
    let add = |count: &mut Count| {
        count.sessions = count.with(added);
        // For a recount under way.
        count.created = count.created.wrapping_add(1);
    };
    change(shared, open(shared)?, add)
}

/// Takes deleted sessions off, unless a recount since `.count` said `before` may have left them out. That it
/// failed does no harm.
pub(super) fn forget(shared: &FileStoreInner, sessions: u64, before: Option<Count>) {
    let Some(before) = before.filter(|_| sessions > 0) else {
        return;
    };
    take_off(shared, |count| {
        let is_left_out = count.recounts != before.recounts;
        if is_left_out { 0 } else { sessions }
    });
}

/// Takes off a session that was `added`, and not created after all.
pub(super) fn withdraw(shared: &FileStoreInner, added: Count) {
    take_off(shared, |count| u64::from(!count.misses(added)));
}

/// Does what ends a counted session, and takes it off.
pub(super) fn end_one<T>(shared: &FileStoreInner, end: impl FnOnce() -> Result<T>) -> Result<T> {
    let has_cap = shared.config.max_sessions > 0;
    let before =
        has_cap.then(|| read(shared).inspect_err(|error| log::warn!("{}", error.one_line())));
    let ended = end()?;
    forget(shared, 1, before.and_then(Result::ok));
    Ok(ended)
}

/// A count that stays too high does no harm.
fn take_off(shared: &FileStoreInner, sessions: impl Fn(Count) -> u64) {
    let remove = |count: &mut Count| {
        count.sessions = count.sessions.saturating_sub(sessions(*count));
    };
    let removed = open(shared).and_then(|opened| change(shared, opened, remove));
    if let Err(error) = removed {
        log::warn!("{}", error.one_line());
    }
}

pub(super) fn read(shared: &FileStoreInner) -> Result<Count> {
    Ok(open(shared)?.1)
}

/// Writes the true number of sessions. Those that were created since `.count` said `before` may
/// not have been seen when the directory was counted, and stay counted.
pub(super) fn recount(shared: &FileStoreInner, sessions: u64, before: Count) -> Result<()> {
    let found = |count: &mut Count| {
        let created = count.created.wrapping_sub(before.created);
        count.sessions = sessions.saturating_add(created);
        count.recounts = count.recounts.wrapping_add(1);
        count.seen = before.created;
    };
    change(shared, open(shared)?, found).map(drop)
}

/// Changes the opened `.count`, whose lock is returned with what it says then.
fn change(
    shared: &FileStoreInner,
    (file, mut count): (LockedFile, Count),
    change: impl Fn(&mut Count),
) -> Result<(LockedFile, Count)> {
    change(&mut count);
    let numbers = [count.sessions, count.created, count.recounts, count.seen];
    let numbers = numbers.map(u64::to_le_bytes);
    let written = calls::write_all_at(&file, numbers.as_flattened(), 0);
    let failed = |error| shared.directory.failed("cannot update", COUNT, error);
    written.map(|()| (file, count)).map_err(failed)
}

fn open(shared: &FileStoreInner) -> Result<(LockedFile, Count)> {
    let directory = &shared.directory;
    let (file, _) = directory.lock_or_create(COUNT, shared.config.lock_timeout)?;
    let mut numbers = [[0; 8]; 4];
    let read = calls::retry(|| file.read_at(numbers.as_flattened_mut(), 0))
        .map_err(|error| directory.failed("cannot read", COUNT, error))?;
    let [sessions, created, recounts, seen] = numbers.map(u64::from_le_bytes);
    let is_whole = read == size_of_val(&numbers);
    let count = Count {
        sessions: if is_whole { sessions } else { UNKNOWN },
        created,
        recounts,
        seen,
    };
    Ok((file, count))
}
