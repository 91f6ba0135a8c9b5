//! [`MemoryLease`]: the right to change one session.

use std::sync::Arc;
use std::time::SystemTime;

use super::Shared;
use super::entry::{Entry, Kept, lock};
use crate::error::Result;
use crate::id::SessionDigest;
use crate::record::Record;
use crate::store::{Lease, check_size};

/// The lock of one session in memory.
pub(super) struct MemoryLease {
    pub(super) shared: Arc<Shared>,
    pub(super) session: SessionDigest,
    pub(super) entry: Arc<Entry>,
}

impl Lease for MemoryLease {
    fn commit(&mut self, record: &Record, now: SystemTime) -> Result<()> {
        check_size(record, self.shared.max_record_bytes)?;
        lock(&self.entry.state).stored = Some(Kept::new(record, now));
        self.shared.change();
        Ok(())
    }

    fn touch(&mut self, now: SystemTime) -> Result<()> {
        if let Some(kept) = &mut lock(&self.entry.state).stored {
            kept.last_access = now;
        }
        self.shared.change();
        Ok(())
    }

    fn destroy(self: Box<Self>) -> Result<()> {
        lock(&self.shared.entries).remove(&self.session);
        lock(&self.entry.state).stored = None;
        self.shared.change();
        Ok(())
    }
}

impl Drop for MemoryLease {
    fn drop(&mut self) {
        lock(&self.entry.state).is_locked = false;
        self.entry.released.notify_one();
    }
}
