//! The end of a request: saving what changed, first or again, under the same id or a new one.

use std::mem;
use std::time::{Duration, Instant, SystemTime};

use super::notes::digest_of_token;
use super::{MAX_GRACE, NewId, Ownership, Renewal, Rights, Session};
use crate::cookies::{self, By, SetCookie};
use crate::error::{Error, Result};
use crate::id::{SessionDigest, SessionId};
use crate::record::{Namespaces, Record};
use crate::session::contents::Contents;
use crate::session::held::SessionGuard;
use crate::store::{Lease, Stored};

/// What becomes of the lock once the changes are stored.
#[derive(Clone, Copy)]
enum AfterSave {
    Keep,
    Release,
}

impl Session {
    /// Stores the changes now and keeps the session open and locked.
    ///
    /// A session that did not change is not written; that it was used is noted, at most once in a
    /// sixtieth of its timeout.
    ///
    /// # Errors
    ///
    /// When the changes could not be stored. What was stored before is untouched.
    pub fn save(&mut self) -> Result<()> {
        self.store(AfterSave::Keep)
    }

    fn store(&mut self, then: AfterSave) -> Result<()> {
        let ended = if self.ends_copies {
            self.contents.record.predecessors().collect()
        } else {
            Vec::new()
        };
        if let Ownership::Changed { had_user } = self.ownership {
            let _admission = self.admit_to_user(had_user)?;
            self.store_changes(then)?;
            self.ownership = Ownership::Kept;
        } else {
            self.store_changes(then)?;
        }
        self.ends_copies = false;
        if let Err(error) = self.manager.end_copies(ended) {
            let line = error.one_line();
            log::warn!("what an id before leads to can be read for the rest of its grace: {line}");
        }
        Ok(())
    }

    fn store_changes(&mut self, then: AfterSave) -> Result<()> {
        self.note_use();
        let now = SystemTime::now();
        if self.lease.is_some() {
            self.save_stored(then, now)
        } else if self.guard.is_some() || !self.is_new() {
            Err(Error::Ended)
        } else if self.is_worth_storing() {
            self.note_device();
            let values = self.values_to_store()?;
            let mut record = self.contents.record.with_values(values);
            self.note_sent(&mut record, now);
            self.store_first(self.id.clone(), record, now)
        } else {
            Ok(())
        }
    }

    /// Notes the browser that uses the session, in a session that is stored.
    fn note_device(&mut self) {
        if let Some(device) = self.device.take() {
            self.contents.namespaces.note_device(*device);
        } else if !self.manager.config.record_client {
            // It goes with the next change.
            self.contents.namespaces.notes.devices = None;
        }
    }

    /// The values as they are to be stored, without the flash values that were used up.
    fn values_to_store(&mut self) -> Result<Vec<u8>> {
        let notes = &mut self.contents.namespaces.notes;
        let left = self.flashes.beside(&notes.flash);
        let own = mem::replace(&mut notes.flash, left);
        let json = self.contents.to_json();
        self.contents.namespaces.notes.flash = own;
        json
    }

    /// The values as they are to be stored, if they are not what is stored.
    fn changed_values(&mut self) -> Result<Option<Vec<u8>>> {
        let namespaces = &self.contents.namespaces;
        let has_own_flash = !namespaces.notes.flash.is_empty();
        if !namespaces.changed && !has_own_flash && self.flashes.used.get_mut().is_empty() {
            return Ok(None);
        }
        let json = self.values_to_store()?;
        Ok(Some(json).filter(|json| *json != self.contents.record.values()))
    }

    fn is_worth_storing(&self) -> bool {
        let Contents {
            record, namespaces, ..
        } = &*self.contents;
        self.is_kept_empty || record.user().is_some() || !namespaces.is_empty()
    }

    /// Stores the changes, gives up the lock, and returns the cookie to send, if the client needs one. Send it at once:
    /// a later request may replace the id that it holds.
    ///
    /// # Errors
    ///
    /// As [`Session::save`].
    pub fn commit(mut self) -> Result<Option<SetCookie>> {
        self.store(AfterSave::Release)?;
        Ok(self.cookie())
        // The lease ends here, once the new record is in place.
    }

    /// As [`Session::commit`], for a caller that closes the session itself.
    pub(super) fn finish(&mut self) -> Result<()> {
        self.store(AfterSave::Release)
    }

    /// Gives up the lock without storing what changed since the last [`Session::save`], nor that the session was used:
    /// that does not keep it from expiring.
    #[must_use = "a session that was saved before may need this cookie"]
    pub fn release(self) -> Option<SetCookie> {
        self.cookie()
    }

    fn save_stored(&mut self, then: AfterSave, now: SystemTime) -> Result<()> {
        if !self.is_replaced() {
            self.note_device();
        }
        let values = self.changed_values()?;
        let has_changed = values.is_some() || self.metadata_changed;
        if self.is_replaced() {
            let is_read_only = !has_changed && self.new_id.is_none();
            return is_read_only.then_some(()).ok_or(Error::Replaced);
        }
        let (max_age, idle) = (self.max_age(), self.timeout());
        let is_due = |record: &Record| cookies::is_due_again(max_age, idle, record.sent(), now);
        let must_renew = self.presented.by == By::Cookie
            && match self.renewal {
                Renewal::Asked => true,
                Renewal::Allowed => is_due(&self.contents.record),
                Renewal::Refused | Renewal::Done => false,
            };
        if !has_changed && !must_renew && self.new_id.is_none() {
            return self.lease.as_mut().map_or(Ok(()), |lease| lease.touch(now));
        }
        let record = &self.contents.record;
        let mut record = values.map_or_else(|| record.clone(), |values| record.with_values(values));
        record.note_saved_by(&self.manager.config);
        record.forget_predecessors(MAX_GRACE, now);
        if must_renew || self.new_id.is_some() {
            self.note_sent(&mut record, now);
        }
        if let Some(new_id) = self.new_id.as_deref().cloned() {
            return self.move_to_new_id(record, new_id, now);
        }
        let lease = self.lease.as_mut().ok_or(Error::Ended)?;
        match then {
            AfterSave::Keep => lease.commit(&record, now),
            AfterSave::Release => lease.finish(&record, now),
        }?;
        self.note_saved(record);
        if must_renew {
            self.renewal = Renewal::Done;
        }
        Ok(())
    }

    /// Notes in a record that the cookie is sent now, if that has a Max-Age to be renewed one day.
    fn note_sent(&self, record: &mut Record, now: SystemTime) {
        if self.presented.by == By::Cookie {
            record.set_sent(self.max_age().map(|_| now));
        }
    }

    /// Makes the record, under the id that the program gave or a new one.
    #[cold]
    fn store_first(
        &mut self,
        given: Option<SessionId>,
        mut record: Record,
        now: SystemTime,
    ) -> Result<()> {
        record.note_saved_by(&self.manager.config);
        let id = self.reserved_id.take().map(|id| *id).or(given);
        let id = id.map_or_else(SessionId::generate, Ok)?;
        let session = id.digest();
        // Before it can be found, so that a thread that finds it waits here.
        let (guard, _) = SessionGuard::acquire(&self.manager.held, &session, Instant::now())?;
        let lease = self.manager.store.create(&session, &record, now)?;
        let lease = lease.ok_or_else(|| self.taken(&session, now))?;
        self.guard = Some(guard);
        self.lease = Some(lease);
        self.id = Some(id);
        self.note_saved(record);
        self.new_id = None;
        Ok(())
    }

    /// Why no session could be made under an id: one that was drawn is never taken.
    fn taken(&self, session: &SessionDigest, now: SystemTime) -> Error {
        let (manager, action) = (&self.manager, "cannot store a session under its id");
        let is_expired = |stored: Option<Stored>| {
            stored.is_none_or(|stored| manager.is_too_old(&stored.record, now))
        };
        if manager.config.keeps_expired() && manager.store.peek(session, now).is_ok_and(is_expired)
        {
            let cause =
                "an expired one has it until the clean-up deletes that (expiredBy = cleanup)";
            return Error::unavailable(action, cause);
        }
        // Another process made it since this one looked: tried again, it is found.
        Error::Busy {
            waited: Duration::ZERO,
            holder: Some("another request, which has just begun it".to_owned()),
        }
    }

    fn note_saved(&mut self, record: Record) {
        self.contents.record = record;
        self.contents.namespaces.changed = false;
        self.metadata_changed = false;
    }

    /// First the new record, then the end of the old one: a death in between leaves the old id valid.
    #[cold]
    fn move_to_new_id(&mut self, record: Record, new_id: NewId, now: SystemTime) -> Result<()> {
        let mut old = self.lease.take().ok_or(Error::Ended)?;
        let old_id = self.id.clone();
        let left = old.check();
        let left = left.and_then(|()| self.left_behind(&record, new_id, now));
        let stored = left.and_then(|left| {
            let record = match &old_id {
                Some(before) => record.succeeding(&before.digest(), now),
                None => record,
            };
            self.store_first(None, record, now)?;
            Ok(left)
        });
        let left = match stored {
            Ok(left) => left,
            Err(error) => {
                self.lease = Some(old);
                return Err(error);
            }
        };
        // Again: what was destroyed since must not come back under the new id.
        let ended = old.check().and_then(|()| old.finish(&left, now));
        if let (Err(error), Some(id)) = (&ended, &old_id)
            // The request that had it since has ended it, and not for a new id.
            && !matches!(error, Error::LeaseLost)
            // The old id leads to what was to be left there alone, as far as that can be seen.
            && self.manager.store.peek(&id.digest(), now).map_or(true, |found| {
                found.is_some_and(|found| found.record.has_head_of(&left))
            })
        {
            // Gone for every request: without the new one the session would be lost.
            log::warn!(
                "a replaced id may lead to its session still, or after a power failure: {}",
                error.one_line()
            );
            return Ok(());
        }
        if ended.is_err() {
            // The old id stays the session's; no client has the new one.
            if let Some(Err(error)) = self.lease.take().map(Lease::destroy) {
                log::warn!("{}", error.one_line());
            }
            self.id = old_id;
        }
        ended
    }

    /// What the old id still leads to for requests under way, never the new id and its token: a marker,
    /// or with a grace all that can be read.
    fn left_behind(&self, record: &Record, new_id: NewId, now: SystemTime) -> Result<Record> {
        let grace = new_id.grace.filter(|_| self.rights == Rights::Kept);
        let Some(grace) = grace else {
            let mut left = Namespaces::new("", 0);
            left.notes.csrf_digest = new_id.csrf_token.as_deref().map(digest_of_token);
            return Ok(record.marker(left.to_json(0)?, now));
        };
        let mut left = self.contents.namespaces.clone();
        left.notes.flash.clear();
        left.notes.csrf_token = new_id.csrf_token;
        Ok(record.copy_for(grace, left.to_json(record.values().len())?, now))
    }
}
