//! [`FileStoreInner`]: what the store, its leases and its clean-up have in common, and when a session ends.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::config::Config;
use crate::error::{Error, Result};
use crate::record::{Record, unix_seconds};
use crate::store::Stored;
use crate::store::files::directory::Directory;

/// The time of a file that is none of the sessions that `maxSessions` counts: what a change of id leaves.
const UNCOUNTED: SystemTime = SystemTime::UNIX_EPOCH;

#[derive(Debug)]
pub(super) struct FileStoreInner {
    pub(super) directory: Directory,
    pub(super) config: Arc<Config>,
}

impl FileStoreInner {
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(super) fn failed(
        &self,
        action: &'static str,
        name: &str,
        cause: impl Into<io::Error>,
    ) -> Error {
        self.directory.failed(action, name, cause)
    }

    /// Under `durability = data`, waits until the disk has the name of a file.
    pub(super) fn sync_name(&self, name: &str) -> Result<()> {
        if self.config.is_durable() {
            self.directory.sync(name)
        } else {
            Ok(())
        }
    }

    /// The unit of a slot's capacity. Under `durability = data` no disk sector holds parts of both.
    pub(super) fn unit(&self) -> usize {
        if self.config.is_durable() { 4096 } else { 512 }
    }

    pub(super) fn has_expired(
        &self,
        record: &Record,
        modified: SystemTime,
        now: SystemTime,
    ) -> bool {
        match record.end(modified, self.config.timeout) {
            Some(end) if record.expires().is_some() => unix_seconds(end) < unix_seconds(now),
            end => end.is_some_and(|end| end < now),
        }
    }

    /// The time of the file of a record with an end of its own, so that a clean-up looks into it at that
    /// end. What a change of id leaves, every clean-up looks into, whatever its `timeout`. That of an expired session
    /// stays as it is.
    pub(super) fn mtime_for(&self, record: &Record) -> Option<SystemTime> {
        let expires = record.expires().filter(|_| record.tries() == 0)?;
        if record.is_replaced() {
            return Some(UNCOUNTED);
        }
        let time = expires.checked_sub(record.idle_or(self.config.timeout))?;
        Some(time.max(UNCOUNTED + Duration::from_secs(1)))
    }

    /// The idle time of a record whose end each use moves; `None` for an end of its own.
    pub(super) fn sliding(&self, record: &Record) -> Option<Duration> {
        let is_sliding = record.expires().is_none();
        is_sliding.then(|| record.idle_or(self.config.timeout))
    }
}

/// Whether `maxSessions` counts a session, by the time of its file.
pub(super) fn is_counted(modified: SystemTime) -> bool {
    modified != UNCOUNTED
}

pub(super) fn stored(record: Record, modified: SystemTime) -> Stored {
    // The file of what a change of id leaves tells nothing else.
    let changed = record.changed().filter(|_| !is_counted(modified));
    Stored {
        last_access: changed.unwrap_or(modified),
        record,
    }
}
