//! Reading without a lock: what a process that counts sees of its own work, and what one sees that only
//! reads.

use std::time::Instant;

use cgi_session::SessionId;

use super::{Step, Worker, failed, torn};
use crate::storm::content::Content;
use crate::storm::ground::{Entry, Field, shown};
use crate::storm::ledger::Deed;
use crate::storm::violation::{Kind, Violation};

impl Worker {
    /// What was saved is what a reader sees, as long as the session is locked.
    pub(super) fn is_stored(&self, field: Field, id: &SessionId, content: Content) -> Step {
        let found = self.read(field, id)?;
        if found == Some(content) {
            return Ok(());
        }
        let kind = match found {
            None => Kind::Deleted,
            Some(found) if found.number < content.number => Kind::Stale,
            Some(_) => Kind::Doubled,
        };
        let expected = format!("{content:?} while it is locked");
        let found = found.map_or("no session".to_owned(), |found| format!("{found:?}"));
        Err(Violation::new(kind, shown(id), expected, found).into())
    }

    /// What was acknowledged is what a reader sees, or something newer.
    pub(super) fn is_not_older(&self, entry: &Entry, content: Content) -> Step {
        match self.read(Field::Lasting, &entry.id)? {
            Some(found) if found.number < content.number => {
                let expected = format!("{} or more", content.number);
                Err(Violation::new(Kind::Stale, shown(&entry.id), expected, found.number).into())
            }
            _ => Ok(()),
        }
    }

    pub(super) fn is_gone(&self, id: &SessionId) -> Step {
        match self.read(Field::Lasting, id)? {
            None => Ok(()),
            Some(found) => Err(risen(id, found.number).into()),
        }
    }

    fn read(&self, field: Field, id: &SessionId) -> Step<Option<Content>> {
        let read = self.manager(field).read(self.cookie(id));
        let read = read.map_err(|error| failed(shown(id), "to be read", &error))?;
        let Some(snapshot) = read else {
            return Ok(None);
        };
        let content = Content::of(&snapshot).ok_or_else(|| torn(id))?;
        Ok(Some(content))
    }

    /// A session that was destroyed, or has another id, is not found by its old id either.
    pub(super) fn visit_grave(&mut self) -> Step {
        let Some(id) = self.ground.grave(&mut self.rng, 20)? else {
            return Ok(());
        };
        match self.open_by_id(Field::Lasting, &id)? {
            None => Ok(()),
            Some(session) => {
                let number = Content::of(&session).map_or(0, |content| content.number);
                Err(risen(&id, number).into())
            }
        }
    }

    /// Reads without a lock: numbers never go back, records are whole, and the dead stay away.
    pub(in crate::storm) fn read_on(&mut self) -> Step {
        while Instant::now() < self.deadline {
            for _ in 0..64 {
                let field = if self.rng.bool() {
                    Field::Lasting
                } else {
                    Field::Brief
                };
                let slot = self.rng.usize(0..field.slots());
                if let Some(entry) = self.ground.entry(field, slot)? {
                    self.read_forward(field, &entry)?;
                }
            }
            self.ledger.has_done(Deed::Read, 0, 64)?;
            if let Some(id) = self.ground.grave(&mut self.rng, u64::MAX)? {
                self.is_gone(&id)?;
            }
        }
        Ok(())
    }

    fn read_forward(&mut self, field: Field, entry: &Entry) -> Step {
        let Some(content) = self.read(field, &entry.id)? else {
            return Ok(());
        };
        let seen = self.seen.entry(content.counter).or_default();
        if content.number < *seen {
            let expected = format!("{seen} or more");
            return Err(
                Violation::new(Kind::Stale, shown(&entry.id), expected, content.number).into(),
            );
        }
        *seen = content.number;
        Ok(())
    }
}

fn risen(id: &SessionId, number: u64) -> Violation {
    let expected = "none after it was destroyed or got another id";
    Violation::new(Kind::Resurrected, shown(id), expected, number)
}
