//! Cleaning up, and making what there is to clean up.

use testkit::prelude::*;

use super::{Step, Stop, Worker, failed};
use crate::storm::content::EXPIRED;
use crate::storm::ground::Field;
use crate::storm::ledger::Operation;
use crate::storm::violation::Kind;
use crate::subject::TIMEOUT;

/// Longer ago than any clean-up waits after a session's end.
const OVERDUE: Duration = Duration::from_secs(180);

impl Worker {
    /// Stores a session that ended long ago, for the clean-up.
    pub(super) fn create_expired(&mut self) -> Step {
        let failed = |error: Error| failed("an expired session", "to be stored", &error);
        let now = SystemTime::now();
        let created = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let expires = created.saturating_sub(OVERDUE).as_secs();
        let text = format!(
            r#"{{"v":1,"created":{},"expires":{expires},"values":{EXPIRED}}}"#,
            created.saturating_sub(TIMEOUT + 2 * OVERDUE).as_secs()
        );
        let record = Record::from_json(text.into_bytes());
        let Ok(record) = record else {
            return Ok(());
        };
        let digest = SessionId::generate().map_err(failed)?.digest();
        let lease = self.manager(Field::Lasting);
        let lease = lease.store().create(&digest, &record, now);
        if let Some(mut lease) = lease.map_err(failed)? {
            // For a store that goes by the last use alone.
            lease.touch(now - TIMEOUT - OVERDUE).map_err(failed)?;
        }
        Ok(())
    }

    /// Cleans up one store by the time that it is.
    pub(in crate::storm) fn sweep(&mut self) -> Step {
        let deleted = self.sweep_at(Field::Lasting, SystemTime::now())?;
        Ok(self.ledger.has_done(Operation::Sweep, 0, deleted)?)
    }

    /// Cleans up another by a clock so far ahead that every session there has expired which no process holds.
    pub(in crate::storm) fn sweep_ahead(&mut self) -> Step {
        let later = SystemTime::now() + TIMEOUT + OVERDUE;
        self.sweep_at(Field::Brief, later).map(drop)
    }

    fn sweep_at(&mut self, field: Field, now: SystemTime) -> Step<u64> {
        let store = self.manager(field).store();
        let swept = store.delete_expired(&Sweep::new(), now);
        let swept = swept.map_err(|error| failed("a clean-up", "to end", &error))?;
        if let Some(failure) = swept.failures.first() {
            let line = Kind::Failed.violation("a clean-up", "no failure", failure);
            return Err(Stop::Found(line));
        }
        // It must not take the processors from those that it is to disturb.
        thread::sleep(Duration::from_micros(self.rng.u64(0..4000)));
        Ok(swept.deleted)
    }
}
