//! `maxSessions`: room for a new session, or its refusal.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::ControlFlow;
use std::time::{Duration, SystemTime};

use super::content;
use super::count::{self, Count};
use super::inner::{FileStoreInner, is_counted};
use super::scan::{Folder, SWEEP_LOCK};
use crate::config::WhenFull;
use crate::error::{Error, Result};
use crate::id::SessionDigest;
use crate::record::Record;
use crate::store::files::lock::LockedFile;
use crate::store::files::{calls, directory};
use crate::store::{RECOUNT, Sweep};

/// So far above the cap a creator does not wait for an eviction that another process is doing.
const SLACK: u64 = 8;
/// Further above the cap, a creator waits at most this time, and then exceeds it by one.
const PAUSE: Duration = Duration::from_millis(100);

impl FileStoreInner {
    /// Counts a session that is about to be created, and makes room for it or refuses it. The lock that is returned is
    /// dropped once its file exists.
    ///
    /// For one that takes the place of another under a new id, the count exceeds the cap until that one is a
    /// marker: a login neither evicts nor is refused.
    pub(super) fn admit(
        &self,
        record: &Record,
        now: SystemTime,
    ) -> Result<Option<(LockedFile, Count)>> {
        let max = self.config.max_sessions;
        if max == 0 {
            return Ok(None);
        }
        let is_here = |before| self.directory.has(&self.directory.file_name(&before));
        let has_place = record.predecessor().is_some_and(is_here);
        if self.config.when_full == WhenFull::Refuse && !has_place {
            return self.admit_or_refuse(now).map(Some);
        }
        let (locked, added) = count::add(self)?;
        if added.sessions <= max || has_place {
            return Ok(Some((locked, added)));
        }
        drop(locked);
        let made_room = self.make_room(added);
        if made_room.is_err() {
            count::withdraw(self, added);
        }
        made_room.map(Some)
    }

    /// A session that is refused is never counted, also while another process counts.
    fn admit_or_refuse(&self, now: SystemTime) -> Result<(LockedFile, Count)> {
        let limit = self.config.max_sessions;
        if let Some(added) = count::add_below(self, limit)? {
            return Ok(added);
        }
        // Before .gc is created, which would look like a clean-up of this moment.
        let last_sweep = self.last_sweep(now);
        // Who knows no number has to wait for one.
        let is_known = !count::read(self)?.is_unknown();
        let wait = if is_known {
            Duration::ZERO
        } else {
            self.config.lock_timeout
        };
        let sweep_lock = match self.directory.lock_or_create(SWEEP_LOCK, wait) {
            Err(Error::Busy { .. }) if is_known => None,
            locked => Some(locked?.0),
        };
        if let Some(sweep_lock) = sweep_lock
            && self.counted()?.sessions >= limit
            && !self.config.keeps_expired()
            && last_sweep.is_none_or(|age| age >= RECOUNT)
        {
            self.sweep_locked(&sweep_lock, &Sweep::new(), now)?;
        }
        count::add_below(self, limit)?.ok_or(Error::Full { limit })
    }

    /// Makes room for a session that was `added`, which a recount meanwhile may have left out.
    fn make_room(&self, added: Count) -> Result<(LockedFile, Count)> {
        let max = self.config.max_sessions;
        let is_near = count::read(self)?.sessions <= max.saturating_add(SLACK);
        let wait = if is_near { Duration::ZERO } else { PAUSE };
        let locked = directory::if_free(self.directory.lock_or_create(SWEEP_LOCK, wait))?;
        // Else another process is making room already, or cleans up.
        if locked.is_some() {
            let counted = self.counted()?;
            if counted.with(added) > max {
                self.evict(counted)?;
            }
        }
        // While `.gc` is locked: the next process that takes it sees this session.
        count::add_again(self, added)
    }

    /// What `.count` says or, if it is unknown, the directory, under the lock of `.gc`.
    fn counted(&self) -> Result<Count> {
        let counted = count::read(self)?;
        if !counted.is_unknown() {
            return Ok(counted);
        }
        let mut total = 0;
        self.each_session(|folder, session| {
            total += u64::from(modified(folder, session).is_some());
            ControlFlow::Continue(())
        })?;
        count::recount(self, total, counted)?;
        count::read(self)
    }

    /// Deletes the least recently used sessions.
    fn evict(&self, counted: Count) -> Result<()> {
        let max = self.config.max_sessions;
        let excess = counted.sessions.saturating_sub(max);
        let batch = excess.saturating_add(max / 16);
        // Some of the oldest may be in use; the ones after them go instead.
        let spare = usize::try_from(batch.saturating_add(64)).unwrap_or(usize::MAX);
        let mut total = 0u64;
        let mut oldest: BinaryHeap<(SystemTime, String)> = BinaryHeap::new();
        self.each_session(|folder, session| {
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
            evicted += u64::from(self.evict_one(&name, modified)?);
        }
        count::recount(self, total.saturating_sub(evicted), counted)
    }

    /// Deletes a session unless it is in use, or since it was chosen was used or got another id.
    fn evict_one(&self, name: &str, modified: SystemTime) -> Result<bool> {
        let Ok(Some((file, stat))) = self.directory.try_lock(name) else {
            return Ok(false);
        };
        let is_unseeded = || content::is_unseeded(&file, directory::size(&stat)).unwrap_or(false);
        if directory::modified(&stat) != modified || is_unseeded() {
            return Ok(false);
        }
        self.directory.unlink(name)?;
        Ok(true)
    }
}

/// The file of a session that counts, and when it was modified.
fn modified(folder: &Folder, session: &SessionDigest) -> Option<(String, SystemTime)> {
    let name = [session.as_str(), ".json"].concat();
    let stat = calls::stat_at(&folder.handle, &name).ok()?;
    let modified = directory::modified(&stat);
    is_counted(modified).then_some((name, modified))
}
