//! Creating sessions where there is a cap: a new one evicts the one that was unused longest, and none that is
//! in use.

use testkit::prelude::*;

use super::{BRIEF_SIZE, Step, Worker, failed, id_of};
use crate::storm::content::Content;
use crate::storm::ground::Field;
use crate::storm::ledger::Operation;

/// One of so many new sessions stays until it has been unused longer than all others.
const STAYING: u8 = 8;
/// The longest time, in milliseconds, for which it stays.
const MAX_STAY: u64 = 60;

impl Worker {
    pub(in crate::storm) fn crowd_in(&mut self) -> Step {
        let new = |error: Error| failed("a new session", "to be stored", &error);
        let counter = self.next_counter();
        let content = Content::new(counter, BRIEF_SIZE);
        let started = self.manager(Field::Crowded).start("");
        let mut session = started.map_err(new)?;
        content.put(&mut session).map_err(new)?;
        session.save().map_err(new)?;
        let id = id_of(&session, counter)?;
        if self.rng.u8(0..STAYING) == 0 {
            thread::sleep(Duration::from_millis(self.rng.u64(0..MAX_STAY)));
        }
        self.is_in_use(Field::Crowded, &mut session, &id, content.next_alike())?;
        Ok(self.ledger.has_done(Operation::Crowd, counter, 1)?)
    }
}
