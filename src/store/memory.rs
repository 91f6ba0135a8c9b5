//! [`MemoryStore`]: sessions in the memory of one process, gone when it ends.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use super::{Lease, Store, Stored, Sweep, SweepEvent, SweepReport, Uninstalled, Visitor};
use crate::config::{Config, WhenFull};
use crate::error::{Error, Result};
use crate::id::SessionDigest;
use crate::record::Record;

/// Sessions in the memory of this process, for any number of its threads (`storageType = ram`).
///
/// It is for FastCGI programs of one process, and for tests. Under plain CGI every request is a process of
/// its own and would find nothing: [`SessionManager::new`](crate::SessionManager::new) refuses there.
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
}

/// One session. Who has looked it up may still hold it when it is gone from the map.
struct Entry {
    state: Mutex<State>,
    released: Condvar,
}

struct State {
    /// None once the session is destroyed: it never comes back.
    stored: Option<Stored>,
    is_locked: bool,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let shared = Shared {
            idle: config.timeout,
            max_record_bytes: config.max_record_bytes,
            max_sessions: config.max_sessions,
            when_full: config.when_full,
            entries: Mutex::default(),
            last_sweep: Mutex::default(),
        };
        MemoryStore {
            shared: Arc::new(shared),
        }
    }
}

impl Store for MemoryStore {
    fn create(
        &self,
        session: &SessionDigest,
        record: &Record,
        now: SystemTime,
    ) -> Result<Option<Box<dyn Lease>>> {
        self.shared.check_size(record)?;
        let mut entries = lock(&self.shared.entries);
        if entries.contains_key(session) {
            return Ok(None);
        }
        self.shared.make_room(&mut entries, now)?;
        let stored = Some(Stored {
            record: record.clone(),
            last_access: now,
        });
        let entry = Arc::new(Entry {
            state: Mutex::new(State {
                stored,
                is_locked: true,
            }),
            released: Condvar::new(),
        });
        entries.insert(*session, Arc::clone(&entry));
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
        let Some(stored) = state.stored.clone() else {
            return Ok(None);
        };
        state.is_locked = true;
        drop(state);
        let lease = Box::new(MemoryLease {
            shared: Arc::clone(&self.shared),
            session: *session,
            entry,
        });
        if self.shared.has_expired(&stored, now) {
            lease.destroy()?;
            return Ok(None);
        }
        Ok(Some((stored, lease)))
    }

    fn read(&self, session: &SessionDigest, now: SystemTime) -> Result<Option<Stored>> {
        let Some(entry) = self.shared.find(session) else {
            return Ok(None);
        };
        let mut state = lock(&entry.state);
        let live = state
            .stored
            .as_mut()
            .filter(|stored| !self.shared.has_expired(stored, now));
        Ok(live.map(|stored| {
            let found = stored.clone();
            stored.last_access = now;
            found
        }))
    }

    fn delete_expired(&self, sweep: &Sweep<'_>, now: SystemTime) -> Result<SweepReport> {
        let mut report = SweepReport::default();
        let mut entries = lock(&self.shared.entries);
        entries.retain(|digest, entry| {
            report.examined += 1;
            let mut state = lock(&entry.state);
            let Some(stored) = &state.stored else {
                return false;
            };
            if !self.shared.has_expired(stored, now) {
                report.live += 1;
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
            let bytes = stored.record.json_len() as u64;
            let age = now.duration_since(stored.last_access).unwrap_or_default();
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
            let stored = lock(&entry.state).stored.clone();
            let Some(stored) = stored.filter(|stored| !self.shared.has_expired(stored, now)) else {
                continue;
            };
            if visit(&session, Ok(stored)).is_break() {
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
        Uninstalled {
            sessions,
            ..Uninstalled::default()
        }
    }
}

impl Shared {
    fn find(&self, digest: &SessionDigest) -> Option<Arc<Entry>> {
        lock(&self.entries).get(digest).cloned()
    }

    fn has_expired(&self, stored: &Stored, now: SystemTime) -> bool {
        match stored.record.expires() {
            Some(expires) => expires < now,
            None => now
                .duration_since(stored.last_access)
                .is_ok_and(|unused| unused > self.idle),
        }
    }

    fn check_size(&self, record: &Record) -> Result<()> {
        let (size, limit) = (record.json_len(), self.max_record_bytes);
        if size > limit {
            Err(Error::TooLarge { size, limit })
        } else {
            Ok(())
        }
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
                .is_none_or(|stored| self.has_expired(stored, now));
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
                let stored = state.stored.as_ref().filter(|_| !state.is_locked)?;
                Some((stored.last_access, *digest))
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

/// The lock of one session in memory.
struct MemoryLease {
    shared: Arc<Shared>,
    session: SessionDigest,
    entry: Arc<Entry>,
}

impl Lease for MemoryLease {
    fn commit(&mut self, record: &Record, now: SystemTime) -> Result<()> {
        self.shared.check_size(record)?;
        lock(&self.entry.state).stored = Some(Stored {
            record: record.clone(),
            last_access: now,
        });
        Ok(())
    }

    fn touch(&mut self, now: SystemTime) -> Result<()> {
        if let Some(stored) = &mut lock(&self.entry.state).stored {
            stored.last_access = now;
        }
        Ok(())
    }

    fn destroy(self: Box<Self>) -> Result<()> {
        lock(&self.shared.entries).remove(&self.session);
        lock(&self.entry.state).stored = None;
        Ok(())
    }
}

impl Drop for MemoryLease {
    fn drop(&mut self) {
        lock(&self.entry.state).is_locked = false;
        self.entry.released.notify_one();
    }
}

/// A panic elsewhere leaves no half-made change behind: every one is a single assignment.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
