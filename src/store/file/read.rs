//! Reading without a lock: a reader waits for no writer and disturbs none.
//!
//! Only the slot that is not current is ever written. Two headers one generation apart, or one
//! record in a file that holds no second, were current at one instant of the reading.
//! Anything else means that a commit overlapped or was interrupted by a death, and is read
//! again. Two readings in a row that find the same newest whole record beside a torn slot settle
//! it too: had the torn slot been a later commit than the next one, the whole record would have
//! been overwritten before the second reading began.

use std::fs::File;
use std::time::SystemTime;

use rustix::fs::{OFlags, Stat};

use super::content::{self, Content};
use super::inner::{self, FileStoreInner};
use crate::error::{Error, Result};
use crate::id::SessionDigest;
use crate::store::Stored;
use crate::store::expiry::should_touch;
use crate::store::files::lock::LockedFile;
use crate::store::files::{calls, directory};

/// After so many readings that did not settle, the shared lock keeps writers away.
const READINGS: usize = 4;

/// Reads a session, which counts as use; expired and damaged ones are `None` and left to the next request
/// that locks them.
pub(super) fn read(
    shared: &FileStoreInner,
    digest: &SessionDigest,
    now: SystemTime,
) -> Result<Option<Stored>> {
    let Found::Session(file, modified, stored) = find(shared, digest, now)? else {
        return Ok(None);
    };
    let is_due = |idle| should_touch(&shared.config, idle, modified, now);
    if shared.sliding(&stored.record).is_some_and(is_due)
        && let Err(error) = calls::set_time(&file, now)
    {
        // On a read-only file system it does not count, and that is no error.
        let path = shared.path(&shared.directory.file_name(digest));
        log::warn!("cannot renew the time of {}: {error}", path.display());
    }
    Ok(Some(stored))
}

/// Reads a session without counting as use.
pub(super) fn peek(
    shared: &FileStoreInner,
    digest: &SessionDigest,
    now: SystemTime,
) -> Result<Option<Stored>> {
    match find(shared, digest, now)? {
        Found::Session(_, _, stored) => Ok(Some(stored)),
        Found::Nothing | Found::Damaged(_) => Ok(None),
    }
}

/// As [`peek`], for a listing, which shows also what is damaged.
pub(super) fn list(
    shared: &FileStoreInner,
    digest: &SessionDigest,
    now: SystemTime,
) -> Result<Option<Stored>> {
    match find(shared, digest, now)? {
        Found::Session(_, _, stored) => Ok(Some(stored)),
        Found::Nothing => Ok(None),
        Found::Damaged(reason) => Err(Error::Format {
            path: shared.path(&shared.directory.file_name(digest)),
            reason: reason.to_owned(),
        }),
    }
}

enum Found {
    Session(File, SystemTime, Stored),
    /// There is none, or one that has expired.
    Nothing,
    Damaged(&'static str),
}

fn find(shared: &FileStoreInner, digest: &SessionDigest, now: SystemTime) -> Result<Found> {
    let name = shared.directory.file_name(digest);
    loop {
        let Some(file) = shared.directory.open_file(&name, OFlags::RDONLY)? else {
            return Ok(Found::Nothing);
        };
        // None, here and below: deleted or replaced since it was opened.
        let Some(stat) = shared.directory.examine(&file, &name)? else {
            continue;
        };
        let content = match read_stable(shared, &file, &stat, digest, &name)? {
            Some(content) => content,
            None => match read_locked(shared, &file, digest, &name)? {
                Some(content) => content,
                None => continue,
            },
        };
        let record = match content.current(shared, &name)? {
            Ok(current) => current.record,
            Err(reason) => {
                let is_unfinished = content::is_unfinished(&file, directory::size(&stat));
                // An unfinished creation: no client has the id.
                return match is_unfinished {
                    Ok(true) => Ok(Found::Nothing),
                    Ok(false) => Ok(Found::Damaged(reason)),
                    Err(error) => Err(shared.failed("cannot read", &name, error)),
                };
            }
        };
        let modified = directory::modified(&stat);
        if shared.has_expired(&record, modified, now) {
            return Ok(Found::Nothing);
        }
        return Ok(Found::Session(
            file,
            modified,
            inner::stored(record, modified),
        ));
    }
}

/// Reads until the result is known to be current; `None` when it stays unstable.
fn read_stable(
    shared: &FileStoreInner,
    file: &File,
    stat: &Stat,
    digest: &SessionDigest,
    name: &str,
) -> Result<Option<Content>> {
    let mut before = None;
    for _ in 0..READINGS {
        let content = content::load(shared, file, stat, digest, name)?;
        before = match &content {
            Content::Record(current) => {
                let found = Some((current.place.generation, current.place.slot));
                if current.is_settled || found == before {
                    return Ok(Some(content));
                }
                found
            }
            // Or two commits overlapped this reading; under the lock it is seen which.
            _ => None,
        }
    }
    Ok(None)
}

/// Reads under the shared lock; `None` when the file was deleted or replaced meanwhile.
fn read_locked(
    shared: &FileStoreInner,
    file: &File,
    digest: &SessionDigest,
    name: &str,
) -> Result<Option<Content>> {
    let file = LockedFile::shared(file, shared.config.lock_timeout, || shared.path(name))?;
    // The writer may have grown it since fstat.
    let stat = shared.directory.examine(&*file, name)?;
    let load = |stat| content::load(shared, &file, &stat, digest, name);
    stat.map(load).transpose()
}
