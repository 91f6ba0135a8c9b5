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

impl FileStoreInner {
    /// Reads a session, which counts as use; expired and damaged ones are `None` and left to the next request
    /// that locks them.
    pub(super) fn read(&self, digest: &SessionDigest, now: SystemTime) -> Result<Option<Stored>> {
        let Found::Session(file, modified, stored) = self.find(digest, now)? else {
            return Ok(None);
        };
        let is_due = |idle| should_touch(&self.config, idle, modified, now);
        // What is too old is left to the clean-up.
        if !stored.record.is_too_old(self.config.lifetime, now)
            && self.sliding(&stored.record).is_some_and(is_due)
            && let Err(error) = calls::set_time(&file, now)
        {
            // On a read-only file system it does not count, and that is no error.
            let path = self.path(&self.directory.file_name(digest));
            log::warn!("cannot renew the time of {}: {error}", path.display());
        }
        Ok(Some(stored))
    }

    /// Reads a session without counting as use.
    pub(super) fn peek(&self, digest: &SessionDigest, now: SystemTime) -> Result<Option<Stored>> {
        match self.find(digest, now)? {
            Found::Session(_, _, stored) => Ok(Some(stored)),
            Found::Nothing | Found::Damaged(_) => Ok(None),
        }
    }

    /// As [`FileStoreInner::peek`], for a listing, which shows also what is damaged.
    pub(super) fn list(&self, digest: &SessionDigest, now: SystemTime) -> Result<Option<Stored>> {
        match self.find(digest, now)? {
            Found::Session(_, _, stored) => Ok(Some(stored)),
            Found::Nothing => Ok(None),
            Found::Damaged(reason) => Err(Error::Format {
                path: self.path(&self.directory.file_name(digest)),
                reason: reason.to_owned(),
            }),
        }
    }

    fn find(&self, digest: &SessionDigest, now: SystemTime) -> Result<Found> {
        let name = self.directory.file_name(digest);
        loop {
            let opened = self.directory.open_file_at(&name, OFlags::RDONLY, now)?;
            let Some(file) = opened else {
                return Ok(Found::Nothing);
            };
            // None, here and below: deleted or replaced since it was opened.
            let Some(stat) = self.directory.examine(&file, &name)? else {
                continue;
            };
            let content = match self.read_stable(&file, &stat, digest, &name)? {
                Some(content) => content,
                None => match self.read_locked(&file, digest, &name)? {
                    Some(content) => content,
                    None => continue,
                },
            };
            let record = match content.current(self, &name)? {
                Ok(current) => current.record,
                Err(reason) => {
                    let is_unfinished = content::is_unfinished(&file, directory::size(&stat));
                    // An unfinished creation: no client has the id.
                    return match is_unfinished {
                        Ok(true) => Ok(Found::Nothing),
                        Ok(false) => Ok(Found::Damaged(reason)),
                        Err(error) => Err(self.failed("cannot read", &name, error)),
                    };
                }
            };
            let modified = directory::modified(&stat);
            if self.has_expired(&record, modified, now) {
                return Ok(Found::Nothing);
            }
            let stored = inner::stored(record, modified);
            return Ok(Found::Session(file, modified, stored));
        }
    }

    /// Reads until the result is known to be current; `None` when it stays unstable.
    fn read_stable(
        &self,
        file: &File,
        stat: &Stat,
        digest: &SessionDigest,
        name: &str,
    ) -> Result<Option<Content>> {
        let mut before = None;
        for _ in 0..READINGS {
            let content = self.load(file, stat, digest, name)?;
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
        &self,
        file: &File,
        digest: &SessionDigest,
        name: &str,
    ) -> Result<Option<Content>> {
        let file = LockedFile::shared(file, self.config.lock_timeout, || self.path(name))?;
        // The writer may have grown it since fstat.
        let stat = self.directory.examine(&*file, name)?;
        let load = |stat| self.load(&file, &stat, digest, name);
        stat.map(load).transpose()
    }
}

enum Found {
    Session(File, SystemTime, Stored),
    /// There is none, or one that has expired.
    Nothing,
    Damaged(&'static str),
}
