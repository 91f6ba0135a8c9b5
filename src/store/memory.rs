//! [`MemoryStore`]: sessions in the memory of one process, kept over its end by a snapshot file.

mod entry;
mod lease;
mod snapshot;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use super::{
    Lease, Store, Stored, Sweep, SweepEvent, SweepReport, Uninstalled, Visitor, check_size,
    has_expired,
};
use crate::config::{Config, WhenFull};
use crate::error::{Error, Result};
use crate::id::SessionDigest;
use crate::record::Record;
use entry::{Entry, Kept, lock};
use lease::MemoryLease;
use snapshot::{Saved, Snapshot};

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
    shared: Arc<Shared>,
}

struct Shared {
    idle: Duration,
    max_record_bytes: usize,
    max_sessions: u64,
    when_full: WhenFull,
    entries: Mutex<HashMap<SessionDigest, Arc<Entry>>>,
    last_sweep: Mutex<Option<SystemTime>>,
    /// Locked while a snapshot is written, which no request waits for.
    snapshot: Option<Mutex<Snapshot>>,
    /// Whether anything is different from the last snapshot.
    is_changed: AtomicBool,
}

impl MemoryStore {
    /// A store with the sessions of the last snapshot, or an empty one where there is none. It waits up to
    /// `lockTimeout` for a process that is about to end and has the snapshot.
    ///
    /// # Errors
    ///
    /// When `snapshotFile` cannot be used: it is damaged, not ours alone, written by a later release, or in
    /// use by another process. It stays as it is then.
    pub fn new(config: &Config) -> Result<Self> {
        let mut entries = HashMap::new();
        let mut snapshot = None;
        if let Some(path) = &config.snapshot_file {
            let opened = Snapshot::open(path, config.lock_timeout)?;
            for saved in opened.load()? {
                let kept = Kept {
                    record: saved.record,
                    last_access: saved.last_access,
                };
                entries.insert(saved.session, Arc::new(Entry::new(kept, false)));
            }
            snapshot = Some(Mutex::new(opened));
        }
        let shared = Shared {
            idle: config.timeout,
            max_record_bytes: config.max_record_bytes,
            max_sessions: config.max_sessions,
            when_full: config.when_full,
            entries: Mutex::default(),
            last_sweep: Mutex::default(),
            snapshot,
            is_changed: AtomicBool::new(false),
        };
        // What has expired since the snapshot was written. Nobody has asked for a session yet whose
        // clock could tell.
        let now = SystemTime::now();
        entries.retain(|_, entry: &mut Arc<Entry>| {
            let state = lock(&entry.state);
            let kept = state.stored.as_ref();
            kept.is_some_and(|kept| !shared.has_expired(kept, now))
        });
        *lock(&shared.entries) = entries;
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
        let entry = Arc::new(Entry::new(Kept::new(record, now), true));
        entries.insert(*session, Arc::clone(&entry));
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

    fn delete_expired(&self, sweep: &Sweep<'_>, now: SystemTime) -> Result<SweepReport> {
        let mut report = SweepReport::default();
        let mut entries = lock(&self.shared.entries);
        entries.retain(|digest, entry| {
            report.examined += 1;
            let mut state = lock(&entry.state);
            let Some(kept) = &state.stored else {
                return false;
            };
            if !self.shared.has_expired(kept, now) {
                report.live += u64::from(!kept.record.is_marker());
                return true;
            }
            if state.is_locked {
                report.busy += 1;
                return true;
            }
            if sweep.max_files.is_some_and(|max| report.deleted >= max) {
                report.stopped_early = true;
                return true;
            }
            let bytes = kept.record.json_len() as u64;
            let age = now.duration_since(kept.last_access).unwrap_or_default();
            report.deleted += 1;
            report.deleted_bytes += bytes;
            if let Some(observer) = sweep.observer {
                observer(SweepEvent::Deleted {
                    name: digest.as_str(),
                    age,
                    bytes,
                    reason: "expired",
                });
            }
            if !sweep.dry_run {
                state.stored = None;
            }
            sweep.dry_run
        });
        if !sweep.dry_run {
            *lock(&self.shared.last_sweep) = Some(now);
        }
        Ok(report)
    }

    fn last_sweep(&self, now: SystemTime) -> Option<Duration> {
        let last = *lock(&self.shared.last_sweep);
        last.map(|last| now.duration_since(last).unwrap_or_default())
    }

    fn for_each(&self, visit: &mut Visitor<'_>, now: SystemTime) -> Result<()> {
        // A visitor may take its time, or ask for a session itself.
        let entries: Vec<_> = lock(&self.shared.entries)
            .iter()
            .map(|(session, entry)| (*session, Arc::clone(entry)))
            .collect();
        for (session, entry) in entries {
            let kept = lock(&entry.state).stored.clone();
            let is_session =
                |kept: &Kept| !kept.record.is_marker() && !self.shared.has_expired(kept, now);
            let Some(kept) = kept.filter(is_session) else {
                continue;
            };
            if visit(&session, Ok(kept.to_stored())).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn uninstall(&self) -> Uninstalled {
        let mut entries = lock(&self.shared.entries);
        let sessions = entries.len() as u64;
        for entry in entries.values() {
            lock(&entry.state).stored = None;
        }
        entries.clear();
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

impl Shared {
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

    fn has_expired(&self, kept: &Kept, now: SystemTime) -> bool {
        has_expired(&kept.record, kept.last_access, self.idle, now)
    }

    /// Makes room for one more session: the expired go first, then the least recently used.
    fn make_room(
        &self,
        entries: &mut HashMap<SessionDigest, Arc<Entry>>,
        now: SystemTime,
    ) -> Result<()> {
        let is_full = |entries: &HashMap<_, _>| {
            self.max_sessions > 0 && entries.len() as u64 >= self.max_sessions
        };
        if !is_full(entries) {
            return Ok(());
        }
        entries.retain(|_, entry| {
            let mut state = lock(&entry.state);
            let is_over = state
                .stored
                .as_ref()
                .is_none_or(|kept| self.has_expired(kept, now));
            if is_over && !state.is_locked {
                state.stored = None;
                return false;
            }
            true
        });
        while is_full(entries) {
            if self.when_full == WhenFull::Refuse {
                return Err(Error::Full {
                    limit: self.max_sessions,
                });
            }
            let unlocked = entries.iter().filter_map(|(digest, entry)| {
                let state = lock(&entry.state);
                let kept = state.stored.as_ref().filter(|_| !state.is_locked)?;
                Some((kept.last_access, *digest))
            });
            // With every session in use, one more than the cap is the lesser evil.
            let Some((_, oldest)) = unlocked.min_by_key(|(last_access, _)| *last_access) else {
                return Ok(());
            };
            if let Some(entry) = entries.remove(&oldest) {
                lock(&entry.state).stored = None;
            }
        }
        Ok(())
    }
}
