//! [`MemoryLease`]: the right to change one session.

use std::sync::Arc;
use std::time::SystemTime;

use super::entry::{HeldEntry, StoredRecord, lock};
use super::inner::MemoryStoreInner;
use crate::error::{Error, Result};
use crate::id::SessionDigest;
use crate::record::Record;
use crate::store::{Lease, check_size};

/// The lock of one session in memory.
pub(super) struct MemoryLease {
    pub(super) shared: Arc<MemoryStoreInner>,
    pub(super) session: SessionDigest,
    pub(super) entry: HeldEntry,
}

impl Lease for MemoryLease {
    fn commit(&mut self, record: &Record, now: SystemTime) -> Result<()> {
        check_size(record, self.shared.config.max_record_bytes)?;
        let stored = StoredRecord::new(record, now);
        self.shared
            .put(&mut lock(&self.entry.0.state), Some(stored));
        self.shared.change();
        Ok(())
    }

    fn touch(&mut self, now: SystemTime) -> Result<()> {
        if let Some(stored) = &mut lock(&self.entry.0.state).stored {
            stored.last_access = now;
        }
        self.shared.change();
        Ok(())
    }

    fn check(&mut self) -> Result<()> {
        let stored = lock(&self.entry.0.state).stored.is_some();
        stored.then_some(()).ok_or(Error::LeaseLost)
    }

    fn destroy(self: Box<Self>) -> Result<()> {
        lock(&self.shared.entries).remove(&self.session);
        self.shared.put(&mut lock(&self.entry.0.state), None);
        self.shared.change();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::config::Config;
    use crate::id::SessionId;
    use crate::store::{MemoryStore, Store as _};

    #[test]
    fn all_who_wait_for_a_session_hear_at_once_that_it_is_gone() {
        const WAIT: Duration = Duration::from_secs(20);
        let store = MemoryStore::new(Config::new()).unwrap();
        let now = SystemTime::now();
        let session = SessionId::generate().unwrap().digest();
        let lease = store.create(&session, &Record::new(now), now).unwrap();
        let entry = store.shared.find(&session).unwrap();
        let started = Instant::now();
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| assert!(store.lock(&session, WAIT, now).unwrap().is_none()));
            }
            // The map, the lease, this test and each of them.
            while Arc::strong_count(&entry) < 6 {
                thread::yield_now();
            }
            lease.unwrap().destroy().unwrap();
        });
        assert!(started.elapsed() < WAIT, "a waiting request was not woken");
    }
}
