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

use rustix::fs::OFlags;

use super::content::{self, Content, Current};
use super::lease::{check_file_size, parse, unseeded};
use super::{FileStoreInner, last_access, should_touch};
use crate::error::{Error, Result};
use crate::id::SessionDigest;
use crate::store::Stored;
use crate::store::files::calls;
use crate::store::files::directory::{self, Finding};
use crate::store::files::lock::{self, Release};

/// After so many readings that did not settle, the shared lock keeps writers away.
const READINGS: usize = 4;

/// Reads a session, which counts as use; expired and damaged ones are `None` and left for whoever
/// locks them.
pub(super) fn read(
    shared: &FileStoreInner,
    digest: &SessionDigest,
    now: SystemTime,
) -> Result<Option<Stored>> {
    let Found::Session(file, modified, stored) = find(shared, digest, now)? else {
        return Ok(None);
    };
    let is_due = |idle| should_touch(idle, modified, now);
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

#[expect(
    clippy::large_enum_variant,
    reason = "it is taken apart where it is returned"
)]
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
        let Finding::Session(stat) = shared.directory.examine(&file, &name)? else {
            // Deleted or replaced since it was opened.
            continue;
        };
        let size = directory::size(&stat);
        check_file_size(shared, size, &name)?;
        let failed = |error| Error::io("cannot read", shared.path(&name), error);
        let current = match read_stable(&file, size, digest) {
            Ok(Reading::Current(current)) => current,
            Ok(Reading::Unstable) => match settled_by_lock(shared, &file, digest, &name)? {
                Some(Content::Record(current)) => current,
                Some(Content::Damaged(reason)) => {
                    // It is about to be made, or whoever made it was killed; nobody has its id.
                    let is_unfinished = content::is_unfinished(&file, size);
                    if is_unfinished.map_err(failed)? {
                        return Ok(Found::Nothing);
                    }
                    return Ok(Found::Damaged(reason));
                }
                Some(Content::Unseeded) => return Err(unseeded(shared, &name)),
                None => continue,
            },
            Err(error) => return Err(failed(error)),
        };
        let Some(record) = parse(shared, &name, current.data)? else {
            return Ok(Found::Damaged("what it holds is no record"));
        };
        let modified = directory::modified(&stat);
        if shared.has_expired(&record, modified, now) {
            return Ok(Found::Nothing);
        }
        let last_access = last_access(&record, modified);
        let stored = Stored {
            record,
            last_access,
        };
        return Ok(Found::Session(file, modified, stored));
    }
}

enum Reading {
    Current(Current),
    Unstable,
}

fn read_stable(file: &File, size: u64, digest: &SessionDigest) -> std::io::Result<Reading> {
    let mut before = None;
    for _ in 0..READINGS {
        match content::load(file, size, digest)? {
            Content::Record(current) => {
                let found = Some((current.generation, current.place));
                if current.is_settled || found == before {
                    return Ok(Reading::Current(current));
                }
                before = found;
            }
            // Or two commits overlapped this reading; under the lock it is seen which.
            Content::Damaged(_) | Content::Unseeded => before = None,
        }
    }
    Ok(Reading::Unstable)
}

/// Reads under the shared lock; `None` when the file was deleted or replaced meanwhile.
fn settled_by_lock(
    shared: &FileStoreInner,
    file: &File,
    digest: &SessionDigest,
    name: &str,
) -> Result<Option<Content>> {
    match lock::shared(file, shared.lock_timeout) {
        Ok(true) => {}
        Ok(false) => {
            return Err(Error::Busy {
                waited: shared.lock_timeout,
                holder: lock::holder(file),
            });
        }
        Err(error) => return Err(Error::io("cannot lock", shared.path(name), error)),
    }
    let _release = Release(file);
    // Its maker may have written it since its size was looked at.
    let Finding::Session(stat) = shared.directory.examine(file, name)? else {
        return Ok(None);
    };
    let content = content::load(file, directory::size(&stat), digest);
    content
        .map(Some)
        .map_err(|error| Error::io("cannot read", shared.path(name), error))
}
