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

/// What `.count` holds: three numbers of 8 bytes, little endian.
#[derive(Clone, Copy)]
pub(super) struct Count {
    /// How many sessions there are, or more.
    pub(super) sessions: u64,
    /// How many were created since the file was created.
    created: u64,
    /// How often the sessions were counted anew since then.
    recounts: u64,
}

/// What `.count` says that is new or cut: more than there are, until the directory is counted.
const UNKNOWN: u64 = 1 << 63;

impl Count {
    /// Whether nobody has counted yet.
    pub(super) fn is_unknown(self) -> bool {
        self.sessions > UNKNOWN / 2
    }
}

/// Counts a session that is about to be created. Below the cap the lock is kept until its file exists, so that
/// a later recount finds every session whose increment it has read.
pub(super) fn add(shared: &FileStoreInner) -> Result<(LockedFile, Count)> {
    change(shared, |count| {
        count.sessions = count.sessions.saturating_add(1);
        count.created = count.created.wrapping_add(1);
    })
}

/// Counts a session once more whose file a recount since [`add`] may have missed. The lock is kept as there.
pub(super) fn add_again(shared: &FileStoreInner, added: Count) -> Result<(LockedFile, Count)> {
    let add = |count: &mut Count| {
        let is_missed = count.recounts != added.recounts;
        count.sessions = count.sessions.saturating_add(u64::from(is_missed));
        // For a recount under way.
        count.created = count.created.wrapping_add(1);
    };
    change(shared, add)
}

/// Takes deleted sessions off, unless a recount since `.count` said `before` may have left them out. That it
/// failed does no harm.
pub(super) fn forget(shared: &FileStoreInner, sessions: u64, before: Option<Count>) {
    let Some(before) = before.filter(|_| sessions > 0) else {
        return;
    };
    let remove = |count: &mut Count| {
        if count.recounts == before.recounts {
            count.sessions = count.sessions.saturating_sub(sessions);
        }
    };
    if let Err(error) = change(shared, remove) {
        log::warn!("{}", error.one_line());
    }
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

/// What `.count` says.
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
    };
    change(shared, found).map(drop)
}

/// Changes `.count` under its lock, which is returned with what it says then.
fn change(shared: &FileStoreInner, change: impl Fn(&mut Count)) -> Result<(LockedFile, Count)> {
    let (file, mut count) = open(shared)?;
    change(&mut count);
    let numbers = [count.sessions, count.created, count.recounts].map(u64::to_le_bytes);
    let written = calls::write_all_at(&file, numbers.as_flattened(), 0);
    let failed = |error| shared.directory.failed("cannot update", COUNT, error);
    written.map(|()| (file, count)).map_err(failed)
}

/// Locks and reads `.count`.
fn open(shared: &FileStoreInner) -> Result<(LockedFile, Count)> {
    let directory = &shared.directory;
    let (file, _) = directory.lock_or_create(COUNT, shared.config.lock_timeout)?;
    let mut numbers = [[0; 8]; 3];
    let read = calls::retry(|| file.read_at(numbers.as_flattened_mut(), 0))
        .map_err(|error| directory.failed("cannot read", COUNT, error))?;
    let [sessions, created, recounts] = numbers.map(u64::from_le_bytes);
    let is_whole = read == size_of_val(&numbers);
    let count = Count {
        sessions: if is_whole { sessions } else { UNKNOWN },
        created,
        recounts,
    };
    Ok((file, count))
}
