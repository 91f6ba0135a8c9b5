//! `.count`: how many sessions there are, so that a creation below the cap costs one read and one write.
//!
//! It is only as exact as the processes that died let it be; at the cap the directory itself is counted, and
//! every clean-up writes the true number. A count of the directory may miss a session that is created
//! meanwhile, so all of these stay counted: one too many is found out at the cap. That is why `.count` also
//! holds how many were ever created.

use std::os::unix::fs::FileExt as _;

use super::inner::FileStoreInner;
use super::scan::COUNT;
use crate::error::Result;
use crate::store::files::calls;
use crate::store::files::lock::LockedFile;

/// What `.count` holds: two numbers of 8 bytes, little endian.
#[derive(Clone, Copy)]
pub(super) struct Count {
    /// How many sessions there are, or more.
    pub(super) sessions: u64,
    /// How many were created since the file was created.
    created: u64,
}

/// Counts a session that is about to be created. Below the cap the lock is kept until its file exists, so that
/// a later recount finds every session whose increment it has read.
pub(super) fn add(shared: &FileStoreInner) -> Result<(LockedFile, Count)> {
    change(shared, |count| {
        count.sessions = count.sessions.saturating_add(1);
        count.created = count.created.wrapping_add(1);
    })
}

/// Takes deleted sessions off the count. It is a hint: that it failed does no harm.
pub(super) fn forget(shared: &FileStoreInner, sessions: u64) {
    if shared.config.max_sessions == 0 || sessions == 0 {
        return;
    }
    let remove = |count: &mut Count| count.sessions = count.sessions.saturating_sub(sessions);
    if let Err(error) = change(shared, remove) {
        log::warn!("{}", error.one_line());
    }
}

/// What `.count` says.
pub(super) fn read(shared: &FileStoreInner) -> Result<Count> {
    Ok(change(shared, |_| {})?.1)
}

/// Writes the true number of sessions. Those that were created since `.count` said `before` may
/// not have been seen when the directory was counted, and stay counted.
pub(super) fn recount(shared: &FileStoreInner, sessions: u64, before: Count) -> Result<()> {
    let found = |count: &mut Count| {
        let created = count.created.wrapping_sub(before.created);
        count.sessions = sessions.saturating_add(created);
    };
    change(shared, found).map(drop)
}

/// Changes `.count` under its lock, which is returned with what it says then.
fn change(shared: &FileStoreInner, change: impl Fn(&mut Count)) -> Result<(LockedFile, Count)> {
    let (directory, config) = (&shared.directory, &shared.config);
    let failed = |error| directory.failed("cannot update", COUNT, error);
    let (file, _) = directory.lock_or_create(COUNT, config.lock_timeout)?;
    let mut numbers = [[0; 8]; 2];
    let read = calls::retry(|| file.read_at(numbers.as_flattened_mut(), 0)).map_err(failed)?;
    let [sessions, created] = numbers.map(u64::from_le_bytes);
    // New, or cut: as if at the cap, so that the directory is counted at once.
    let is_whole = read == size_of_val(&numbers);
    let mut count = Count {
        sessions: if is_whole {
            sessions
        } else {
            config.max_sessions
        },
        created,
    };
    change(&mut count);
    let numbers = [count.sessions, count.created].map(u64::to_le_bytes);
    let written = calls::write_all_at(&file, numbers.as_flattened(), 0);
    written.map(|()| (file, count)).map_err(failed)
}
