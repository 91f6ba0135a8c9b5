//! [`MemoryStoreInner`]: all sessions in memory, their clean-up, and room for new ones.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use super::entry::{Entry, State, StoredRecord};
use super::snapshot::SnapshotFile;
use crate::config::{Config, WhenFull};
use crate::error::{Error, Result};
use crate::id::SessionDigest;
use crate::mutex::lock;
use crate::store::{RECOUNT, Sweep, SweepReport, age_of_sweep, has_expired};

pub(super) struct MemoryStoreInner {
    pub(super) config: Arc<Config>,
    pub(super) entries: Mutex<Entries>,
    /// Those of each user. It is locked last.
    pub(super) users: Mutex<HashMap<String, HashSet<SessionDigest>>>,
    /// How many of them `maxSessions` counts.
    pub(super) counted: AtomicU64,
    pub(super) last_sweep: Mutex<Option<SystemTime>>,
    /// Locked while a snapshot is written, which no request waits for.
    pub(super) snapshot: Option<Mutex<SnapshotFile>>,
    /// Held while a session becomes a user's.
    pub(super) user_lock: Arc<Entry>,
    /// Whether anything is different from the last snapshot.
    pub(super) is_changed: AtomicBool,
}

pub(super) type Entries = HashMap<SessionDigest, Arc<Entry>>;

impl MemoryStoreInner {
    pub(super) fn find(&self, digest: &SessionDigest) -> Option<Arc<Entry>> {
        lock(&self.entries).get(digest).cloned()
    }

    /// Notes that the last snapshot is out of date, after what was changed.
    pub(super) fn change(&self) {
        self.is_changed.store(true, Ordering::Release);
    }

    /// All live sessions as they are at one moment: one whose id changes is in it under the old id
    /// or the new one. Requests wait for the copying of pointers, and not for the disk.
    pub(super) fn copy(&self, now: SystemTime) -> Vec<(SessionDigest, StoredRecord)> {
        let entries = lock(&self.entries);
        let live = entries.iter().filter_map(|(session, entry)| {
            let live = lock(&entry.state).stored.clone();
            let live = live.filter(|stored| !self.has_expired(stored, now))?;
            Some((*session, live))
        });
        live.collect()
    }

    pub(super) fn has_expired(&self, stored: &StoredRecord, now: SystemTime) -> bool {
        let timeout = self.config.timeout;
        has_expired(&stored.record, stored.last_access, timeout, now)
    }

    pub(super) fn insert(
        &self,
        entries: &mut Entries,
        session: SessionDigest,
        stored: StoredRecord,
        is_locked: bool,
    ) -> Arc<Entry> {
        let entry = Arc::new(Entry::new(is_locked));
        self.put(&session, &mut lock(&entry.state), Some(stored));
        entries.insert(session, Arc::clone(&entry));
        entry
    }

    /// Puts a record, or none, in the place of the present one.
    pub(super) fn put(
        &self,
        session: &SessionDigest,
        state: &mut State,
        stored: Option<StoredRecord>,
    ) {
        let counts = |stored: &Option<_>| stored.as_ref().map_or(0, StoredRecord::counts);
        let (before, after) = (counts(&state.stored), counts(&stored));
        let both = [&state.stored, &stored];
        let [had, has] = both.map(|it| it.as_ref().and_then(|it| it.record.user()));
        if had != has {
            let mut users = lock(&self.users);
            if let Some(user) = had
                && let Some(sessions) = users.get_mut(user)
            {
                sessions.remove(session);
                if sessions.is_empty() {
                    users.remove(user);
                }
            }
            if let Some(user) = has {
                users.entry(user.to_owned()).or_default().insert(*session);
            }
        }
        state.stored = stored;
        self.counted.fetch_add(after, Ordering::Relaxed);
        self.counted.fetch_sub(before, Ordering::Relaxed);
    }

    /// How long ago the last clean-up ended.
    pub(super) fn age_of_sweep(&self, now: SystemTime) -> Option<Duration> {
        let last = *lock(&self.last_sweep);
        last.and_then(|ended| age_of_sweep(ended, now))
    }

    /// The clean-up, for which requests that begin meanwhile wait. What it deletes is noted without their locks: each
    /// session's digest, age and size.
    pub(super) fn sweep(
        &self,
        entries: &mut Entries,
        sweep: &Sweep<'_>,
        now: SystemTime,
    ) -> (SweepReport, Vec<(SessionDigest, Duration, u64)>) {
        let (mut report, clock) = (SweepReport::default(), sweep.clock());
        let mut deleted = Vec::new();
        entries.retain(|digest, entry| {
            let mut state = lock(&entry.state);
            let is_locked = state.is_locked;
            let Some(stored) = &mut state.stored else {
                return false;
            };
            report.examined += stored.counts();
            if !self.has_expired(stored, now) {
                report.live += stored.counts();
                if !sweep.dry_run {
                    // A later time was noted by a clock that was wrong.
                    stored.last_access = stored.last_access.min(now);
                }
                return true;
            }
            if is_locked {
                report.busy += stored.counts();
                return true;
            }
            if clock.is_over() || sweep.is_enough(deleted.len() as u64) {
                report.stopped_early = true;
                return true;
            }
            let bytes = stored.record.json_len() as u64;
            let age = now.duration_since(stored.last_access).unwrap_or_default();
            deleted.push((*digest, age, bytes));
            if !sweep.dry_run {
                self.put(digest, &mut state, None);
            }
            sweep.dry_run
        });
        if !sweep.dry_run {
            *lock(&self.last_sweep) = Some(now);
        }
        (report, deleted)
    }

    /// Makes room for one more session and for some that come after it, or refuses it.
    pub(super) fn make_room(&self, entries: &mut Entries, now: SystemTime) -> Result<()> {
        let max = self.config.max_sessions;
        let is_full = || max > 0 && self.counted.load(Ordering::Relaxed) >= max;
        if !is_full() {
            return Ok(());
        }
        if self.config.when_full == WhenFull::EvictOldest {
            // All sessions may be in use: exceed the cap by one.
            self.evict(entries, now);
            return Ok(());
        }
        if self.age_of_sweep(now).is_none_or(|age| age >= RECOUNT) {
            self.sweep(entries, &Sweep::new(), now);
        }
        if is_full() {
            return Err(Error::Full { limit: max });
        }
        Ok(())
    }

    /// Removes the expired, then the least recently used, until a sixteenth of the places is free.
    fn evict(&self, entries: &mut Entries, now: SystemTime) {
        let mut oldest = Vec::new();
        entries.retain(|digest, entry| {
            let mut state = lock(&entry.state);
            let Some(stored) = &state.stored else {
                return false;
            };
            if state.is_locked {
                return true;
            }
            if self.has_expired(stored, now) {
                self.put(digest, &mut state, None);
                return false;
            }
            if stored.counts() > 0 {
                oldest.push((stored.last_access, *digest));
            }
            true
        });
        let max = self.config.max_sessions;
        let counted = self.counted.load(Ordering::Relaxed);
        let excess = counted.saturating_sub(max - 1 - max / 16);
        let excess = usize::try_from(excess).unwrap_or(usize::MAX);
        if excess < oldest.len() {
            oldest.select_nth_unstable_by_key(excess, |(last_access, _)| *last_access);
            oldest.truncate(excess);
        }
        for (_, digest) in oldest {
            if let Some(entry) = entries.remove(&digest) {
                self.put(&digest, &mut lock(&entry.state), None);
            }
        }
    }
}
