//! Reading without a lock: what a process that counts sees of its own work, and what one sees that only
//! reads.

use cgi_session::Snapshot;
use testkit::prelude::*;

use super::{Step, Worker, failed, put, stop, torn};
use crate::storm::Manner;
use crate::storm::content::Content;
use crate::storm::ground::{Entry, Field, Former};
use crate::storm::ledger::Operation;
use crate::storm::violation::{Kind, shown};

/// Ends of sessions are kept in whole seconds.
const ROUNDING: Duration = Duration::from_millis(1500);

impl Worker {
    /// What was saved is what a reader sees, as long as the session is locked.
    pub(super) fn is_stored(&self, field: Field, id: &SessionId, content: Content) -> Step {
        let found = self.read(field, id)?;
        let is_older = found.is_some_and(|found| found.number < content.number);
        // A lock that ended with a server may be another process's by now.
        if found == Some(content) || (self.manner == Manner::Troubled && !is_older) {
            return Ok(());
        }
        let kind = match found {
            None => Kind::Deleted,
            Some(found) if found.number < content.number => Kind::Stale,
            Some(_) => Kind::Doubled,
        };
        let expected = format!("{content:?} while it is locked");
        let found = found.map_or("no session".to_owned(), |found| format!("{found:?}"));
        stop(kind, id, expected, found)
    }

    /// What was acknowledged is what a reader sees, or something newer.
    pub(super) fn is_not_older(&self, entry: &Entry, content: Content) -> Step {
        match self.read(Field::Lasting, &entry.id)? {
            Some(found) if found.number < content.number => {
                let expected = format!("{} or more", content.number);
                stop(Kind::Stale, &entry.id, expected, found.number)
            }
            _ => Ok(()),
        }
    }

    pub(super) fn is_gone(&self, id: &SessionId) -> Step {
        match self.read(Field::Lasting, id)? {
            None => Ok(()),
            Some(found) => risen(id, found.number),
        }
    }

    /// No request begins a session under an id that was changed a moment ago.
    pub(super) fn is_turned_away(&self, id: &SessionId) -> Step {
        match self.manager(Field::Lasting).start(self.cookie(id)) {
            Err(Error::Replaced) => Ok(()),
            Err(error) => Err(failed(shown(id), "to be turned away", &error)),
            Ok(session) if session.is_new() => {
                let expected = "the marker of a changed id";
                stop(Kind::Lost, id, expected, "nothing")
            }
            Ok(session) => {
                let number = Content::of(&session).map_or(0, |content| content.number);
                risen(id, number)
            }
        }
    }

    /// An id that was replaced shows the session as it was then, until its grace is over.
    pub(super) fn is_shown(&self, id: &SessionId, content: Content, end: Instant) -> Step {
        let found = self.read_replaced(id)?;
        let kind = match &found {
            Some(found) if *found != content => Kind::Stale,
            None if Instant::now() + ROUNDING < end => Kind::Lost,
            _ => return Ok(()),
        };
        let (expected, found) = (format!("{content:?}"), format!("{found:?}"));
        stop(kind, id, expected, found)
    }

    fn read_replaced(&self, id: &SessionId) -> Step<Option<Content>> {
        let Some(snapshot) = self.look(Field::Lasting, id)? else {
            return Ok(None);
        };
        let content = Content::of(&snapshot).ok_or_else(|| torn(id))?;
        if snapshot.is_replaced() {
            Ok(Some(content))
        } else {
            risen(id, content.number)
        }
    }

    pub(super) fn read(&self, field: Field, id: &SessionId) -> Step<Option<Content>> {
        let Some(snapshot) = self.look(field, id)? else {
            return Ok(None);
        };
        let content = Content::of(&snapshot).ok_or_else(|| torn(id))?;
        Ok(Some(content))
    }

    fn look(&self, field: Field, id: &SessionId) -> Step<Option<Snapshot>> {
        let read = self.manager(field).read(self.cookie(id));
        read.map_err(|error| failed(shown(id), "to be read", &error))
    }

    /// A session that was destroyed, or has another id, is not found by its old id either.
    pub(super) fn try_destroyed(&mut self) -> Step {
        let drawn = self.ground.draw(Former::Ended, &mut self.rng, 20)?;
        let Some(id) = drawn else {
            return Ok(());
        };
        match self.open_by_id(Field::Lasting, &id)? {
            None => Ok(()),
            Some(session) => {
                let number = Content::of(&session).map_or(0, |content| content.number);
                risen(&id, number)
            }
        }
    }

    /// A session cannot be changed under an id that was replaced.
    pub(super) fn try_replaced(&mut self) -> Step {
        let drawn = self.ground.draw(Former::Replaced, &mut self.rng, 20)?;
        let Some(id) = drawn else {
            return Ok(());
        };
        let Some(mut session) = self.open_by_id(Field::Lasting, &id)? else {
            return Ok(());
        };
        let content = Content::of(&session).ok_or_else(|| torn(&id))?;
        if !session.is_replaced() {
            return risen(&id, content.number);
        }
        put(&mut session, content.next_alike(), &id)?;
        match session.save() {
            Err(Error::Replaced) => Ok(()),
            Err(error) => Err(failed(shown(&id), "to be refused as replaced", &error)),
            Ok(()) => risen(&id, content.number + 1),
        }
    }

    /// Reads without a lock: numbers never go back, records are whole, and what was destroyed stays away.
    pub(in crate::storm) fn look_around(&mut self) -> Step {
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
        self.ledger.has_done(Operation::Read, 0, 64)?;
        let ended = self.ground.draw(Former::Ended, &mut self.rng, u64::MAX)?;
        if let Some(id) = ended {
            self.is_gone(&id)?;
        }
        let replaced = self.ground.draw(Former::Replaced, &mut self.rng, 40)?;
        if let Some(id) = replaced {
            self.read_replaced(&id)?;
        }
        Ok(())
    }

    fn read_forward(&mut self, field: Field, entry: &Entry) -> Step {
        let Some(content) = self.read(field, &entry.id)? else {
            return Ok(());
        };
        let seen = self.seen.entry(content.counter).or_default();
        // What was read before a server failed may not have been acknowledged.
        if content.number < *seen && self.manner != Manner::Troubled {
            let expected = format!("{seen} or more");
            return stop(Kind::Stale, &entry.id, expected, content.number);
        }
        *seen = content.number;
        Ok(())
    }
}

fn risen<T>(id: &SessionId, number: u64) -> Step<T> {
    let expected = "nothing that can be changed after it was destroyed or got another id";
    stop(Kind::Resurrected, id, expected, number)
}
