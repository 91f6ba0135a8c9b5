//! [`MemoryStore`]: sessions in the memory of one process, kept over its end by a snapshot file.

mod entry;
mod lease;
mod snapshot;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use super::{
    Lease, RECOUNT, Store, Stored, Sweep, SweepEvent, SweepReport, Uninstalled, Visitor,
    age_of_sweep, check_size, has_expired,
};
use crate::config::{Config, WhenFull};
use crate::error::{Error, Result};
use crate::id::SessionDigest;
use crate::record::Record;
use entry::{Entry, State, StoredRecord, lock};
use lease::MemoryLease;
use snapshot::{Saved, SnapshotFile};

/// Sessions in the memory of this process, for any number of its threads (`storageType = ram`).
///
/// It is for FastCGI programs of one process, and for tests. Under plain CGI every request is a process of
/// its own and would find nothing: [`SessionManager::new`](crate::SessionManager::new) refuses there.
///
/// With `snapshotFile` set, [`Store::flush`] writes all live sessions into that file if anything has changed,
/// and a new store begins with what it finds there. A program that is killed loses what came after its last
/// snapshot. FastCGI programs write one every `snapshotDelay` and one at their end; under another
/// transport call [`SessionManager::flush`](crate::SessionManager::flush). The file names sessions by the digest of
/// their ids, belongs to one process at a time, and is 0600.
#[derive(Clone)]
pub struct MemoryStore {
    shared: Arc<MemoryStoreInner>,
}

struct MemoryStoreInner {
    idle: Duration,
    max_record_bytes: usize,
    max_sessions: u64,
    when_full: WhenFull,
    entries: Mutex<Entries>,
    /// How many of them `maxSessions` counts.
    counted: AtomicU64,
    last_sweep: Mutex<Option<SystemTime>>,
    /// Locked while a snapshot is written, which no request waits for.
    snapshot: Option<Mutex<SnapshotFile>>,
    /// Whether anything is different from the last snapshot.
    is_changed: AtomicBool,
}

type Entries = HashMap<SessionDigest, Arc<Entry>>;

impl MemoryStore {
    /// A store with the sessions of the last snapshot, or an empty one where there is none. It waits up to
    /// `lockTimeout` for a process that is about to end and has the snapshot.
    ///
    /// # Errors
    ///
    /// When `snapshotFile` cannot be used: it is damaged, not ours alone, written by a later release, or in
    /// use by another process. It stays as it is then.
    pub fn new(config: &Config) -> Result<Self> {
        let (mut saved, mut snapshot) = (Vec::new(), None);
        if let Some(path) = &config.snapshot_file {
            let opened = SnapshotFile::open(path, config.lock_timeout)?;
            saved = opened.load()?;
            snapshot = Some(Mutex::new(opened));
        }
        let shared = MemoryStoreInner {
            idle: config.timeout,
            max_record_bytes: config.max_record_bytes,
            max_sessions: config.max_sessions,
            when_full: config.when_full,
            entries: Mutex::default(),
            counted: AtomicU64::default(),
            last_sweep: Mutex::default(),
            snapshot,
            is_changed: AtomicBool::new(false),
        };
        // Not what has expired since the snapshot was written. No request is here yet whose clock could
        // tell the time.
        let now = SystemTime::now();
        let mut entries = lock(&shared.entries);
        for saved in saved {
            let kept = StoredRecord {
                record: saved.record,
                last_access: saved.last_access,
            };
            if !shared.has_expired(&kept, now) {
                shared.insert(&mut entries, saved.session, kept, false);
            }
        }
        drop(entries);
        Ok(MemoryStore {
            shared: Arc::new(shared),
        })
    }
}

impl Store for MemoryStore {
    fn create(
        &self,
        session: &SessionDigest,
        record: &Record,
        now: SystemTime,
    ) -> Result<Option<Box<dyn Lease>>> {
        check_size(record, self.shared.max_record_bytes)?;
        let mut entries = lock(&self.shared.entries);
        if entries.contains_key(session) {
            return Ok(None);
        }
        if record.predecessor().is_none() {
            self.shared.make_room(&mut entries, now)?;
        }
        let kept = StoredRecord::new(record, now);
        let entry = self.shared.insert(&mut entries, *session, kept, true);
        self.shared.change();
        Ok(Some(Box::new(MemoryLease {
            shared: Arc::clone(&self.shared),
            session: *session,
            entry,
        })))
    }

    fn lock(
        &self,
        session: &SessionDigest,
        wait: Duration,
        now: SystemTime,
    ) -> Result<Option<(Stored, Box<dyn Lease>)>> {
        let Some(entry) = self.shared.find(session) else {
            return Ok(None);
        };
        let deadline = Instant::now() + wait;
        let mut state = lock(&entry.state);
        while state.is_locked {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::Busy {
                    waited: wait,
                    holder: Some("this process".to_owned()),
                });
            }
            state = entry
                .released
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        let Some(kept) = state.stored.clone() else {
            return Ok(None);
        };
        state.is_locked = true;
        drop(state);
        let lease = Box::new(MemoryLease {
            shared: Arc::clone(&self.shared),
            session: *session,
            entry,
        });
        if self.shared.has_expired(&kept, now) {
            lease.destroy()?;
            return Ok(None);
        }
        Ok(Some((kept.to_stored(), lease)))
    }

    fn read(&self, session: &SessionDigest, now: SystemTime) -> Result<Option<Stored>> {
        let Some(entry) = self.shared.find(session) else {
            return Ok(None);
        };
        let mut state = lock(&entry.state);
        let live = state
            .stored
            .as_mut()
            .filter(|kept| !self.shared.has_expired(kept, now));
        Ok(live.map(|kept| {
            let found = kept.to_stored();
            kept.last_access = now;
            self.shared.change();
            found
        }))
    }

    fn peek(&self, session: &SessionDigest, now: SystemTime) -> Result<Option<Stored>> {
        let entry = self.shared.find(session);
        Ok(entry.and_then(|entry| {
            let state = lock(&entry.state);
            let kept = state.stored.as_ref();
            let live = kept.filter(|kept| !self.shared.has_expired(kept, now));
            live.map(StoredRecord::to_stored)
        }))
    }

    fn delete_expired(&self, sweep: &Sweep<'_>, now: SystemTime) -> Result<SweepReport> {
        Ok(self
            .shared
            .sweep(&mut lock(&self.shared.entries), sweep, now))
    }

    fn last_sweep(&self, now: SystemTime) -> Option<Duration> {
        let last = *lock(&self.shared.last_sweep);
        last.and_then(|ended| age_of_sweep(ended, now))
    }

    fn for_each(&self, visit: &mut Visitor<'_>, now: SystemTime) -> Result<()> {
        // A visitor may take its time, or ask for a session itself.
        let entries: Vec<_> = lock(&self.shared.entries)
            .iter()
            .map(|(session, entry)| (*session, Arc::clone(entry)))
            .collect();
        for (session, entry) in entries {
            let kept = lock(&entry.state).stored.clone();
            let is_session = |kept: &StoredRecord| {
                !kept.record.is_marker() && !self.shared.has_expired(kept, now)
            };
            let Some(kept) = kept.filter(is_session) else {
                continue;
            };
            if visit(&session, Ok(kept.to_stored())).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn sessions_of(&self, user: &str, now: SystemTime) -> Result<Vec<SessionDigest>> {
        let mut saved = self.shared.copy(now);
        saved.retain(|saved| saved.record.user() == Some(user));
        Ok(saved.into_iter().map(|saved| saved.session).collect())
    }

    fn uninstall(&self) -> Uninstalled {
        let mut entries = lock(&self.shared.entries);
        let sessions = entries.len() as u64;
        for (_, entry) in entries.drain() {
            self.shared.put(&mut lock(&entry.state), None);
        }
        drop(entries);
        let mut errors = Vec::new();
        if let Some(snapshot) = &self.shared.snapshot {
            let snapshot = lock(snapshot);
            self.shared.is_changed.store(false, Ordering::Release);
            errors.extend(snapshot.remove().err());
        }
        Uninstalled {
            sessions,
            errors,
            ..Uninstalled::default()
        }
    }

    fn flush(&self) -> Result<()> {
        let Some(snapshot) = &self.shared.snapshot else {
            return Ok(());
        };
        let snapshot = lock(snapshot);
        // Before the copy: what changes meanwhile is for the next one.
        if !self.shared.is_changed.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        // No request is here either whose clock could tell the time.
        let written = snapshot.write(self.shared.copy(SystemTime::now()).into_iter());
        if written.is_err() {
            self.shared.change();
        }
        written
    }
}

impl MemoryStoreInner {
    fn find(&self, digest: &SessionDigest) -> Option<Arc<Entry>> {
        lock(&self.entries).get(digest).cloned()
    }

    /// Notes that the last snapshot is out of date, after what was changed.
    fn change(&self) {
        self.is_changed.store(true, Ordering::Release);
    }

    /// All live sessions as they are at one moment: one whose id changes is in it under the old id
    /// or the new one. Requests wait for the copying of pointers, and not for the disk.
    fn copy(&self, now: SystemTime) -> Vec<Saved> {
        let entries = lock(&self.entries);
        let live = entries.iter().filter_map(|(session, entry)| {
            let state = lock(&entry.state);
            let kept = state.stored.as_ref();
            let kept = kept.filter(|kept| !self.has_expired(kept, now))?;
            Some(Saved {
                session: *session,
                last_access: kept.last_access,
                record: Arc::clone(&kept.record),
            })
        });
        live.collect()
    }

    fn has_expired(&self, kept: &StoredRecord, now: SystemTime) -> bool {
        has_expired(&kept.record, kept.last_access, self.idle, now)
    }

    fn insert(
        &self,
        entries: &mut Entries,
        session: SessionDigest,
        kept: StoredRecord,
        is_locked: bool,
    ) -> Arc<Entry> {
        self.counted
            .fetch_add(u64::from(kept.is_counted()), Ordering::Relaxed);
        let entry = Arc::new(Entry::new(kept, is_locked));
        entries.insert(session, Arc::clone(&entry));
        entry
    }

    /// Puts a record, or none, in the place of the one that is there.
    fn put(&self, state: &mut State, kept: Option<StoredRecord>) {
        let counts = |kept: &Option<StoredRecord>| {
            u64::from(kept.as_ref().is_some_and(StoredRecord::is_counted))
        };
        let (before, after) = (counts(&state.stored), counts(&kept));
        state.stored = kept;
        self.counted.fetch_add(after, Ordering::Relaxed);
        self.counted.fetch_sub(before, Ordering::Relaxed);
    }

    /// The clean-up, for which requests that begin meanwhile wait.
    fn sweep(&self, entries: &mut Entries, sweep: &Sweep<'_>, now: SystemTime) -> SweepReport {
        let (mut report, clock) = (SweepReport::default(), sweep.clock());
        entries.retain(|digest, entry| {
            let mut state = lock(&entry.state);
            let is_locked = state.is_locked;
            let Some(kept) = &mut state.stored else {
                return false;
            };
            let counts = u64::from(kept.is_counted());
            report.examined += counts;
            if !self.has_expired(kept, now) {
                report.live += counts;
                if !sweep.dry_run {
                    // A later time was noted by a clock that was wrong.
                    kept.last_access = kept.last_access.min(now);
                }
                return true;
            }
            if is_locked {
                report.busy += counts;
                return true;
            }
            if clock.is_over() || sweep.max_files.is_some_and(|max| report.deleted >= max) {
                report.stopped_early = true;
                return true;
            }
            let bytes = kept.record.json_len() as u64;
            report.deleted += 1;
            report.deleted_bytes += bytes;
            if let Some(observer) = sweep.observer {
                observer(SweepEvent::Deleted {
                    name: digest.as_str(),
                    age: now.duration_since(kept.last_access).unwrap_or_default(),
                    bytes,
                    reason: "expired",
                });
            }
            if !sweep.dry_run {
                self.put(&mut state, None);
            }
            sweep.dry_run
        });
        if !sweep.dry_run {
            *lock(&self.last_sweep) = Some(now);
        }
        report
    }

    /// Makes room for one more session and for some that come after it, or refuses it.
    fn make_room(&self, entries: &mut Entries, now: SystemTime) -> Result<()> {
        let is_full =
            || self.max_sessions > 0 && self.counted.load(Ordering::Relaxed) >= self.max_sessions;
        if !is_full() {
            return Ok(());
        }
        let last_sweep = *lock(&self.last_sweep);
        let age = last_sweep.and_then(|ended| age_of_sweep(ended, now));
        if self.when_full == WhenFull::EvictOldest {
            self.evict(entries, now);
        } else if age.is_none_or(|age| age >= RECOUNT) {
            self.sweep(entries, &Sweep::new(), now);
        }
        if self.when_full == WhenFull::Refuse && is_full() {
            return Err(Error::Full {
                limit: self.max_sessions,
            });
        }
        // With every session in use, one more than the cap is the lesser evil.
        Ok(())
    }

    /// Takes the expired away, then the least recently used, until a sixteenth of the places is free.
    fn evict(&self, entries: &mut Entries, now: SystemTime) {
        let mut oldest = Vec::new();
        entries.retain(|digest, entry| {
            let mut state = lock(&entry.state);
            let Some(kept) = &state.stored else {
                return false;
            };
            if state.is_locked {
                return true;
            }
            if self.has_expired(kept, now) {
                self.put(&mut state, None);
                return false;
            }
            if kept.is_counted() {
                oldest.push((kept.last_access, *digest));
            }
            true
        });
        let left = self.max_sessions - 1 - self.max_sessions / 16;
        let excess = self.counted.load(Ordering::Relaxed).saturating_sub(left);
        let excess = usize::try_from(excess).unwrap_or(usize::MAX);
        if excess < oldest.len() {
            oldest.select_nth_unstable_by_key(excess, |(last_access, _)| *last_access);
            oldest.truncate(excess);
        }
        for (_, digest) in oldest {
            if let Some(entry) = entries.remove(&digest) {
                self.put(&mut lock(&entry.state), None);
            }
        }
    }
}
