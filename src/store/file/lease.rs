//! [`FileLease`]: an exclusively locked session file, and everything that may write one.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::content::{self, Content, Current};
use super::inner::{self, FileStoreInner};
use super::slots::{self, Draft, Place};
use super::{count, space, users};
use crate::error::{Error, Result};
use crate::id::{self, SessionDigest};
use crate::record::Record;
use crate::store::expiry::should_touch;
use crate::store::files::directory::Directory;
use crate::store::files::lock::{LockedFile, NotLocked};
use crate::store::files::{calls, directory};
use crate::store::{Lease, Stored, check_length, check_size};

/// A slot more than so many times larger than its record is given back.
const SHRINK: usize = 16;

/// The lock of one session, held by an open file.
pub(super) struct FileLease {
    shared: Arc<FileStoreInner>,
    digest: SessionDigest,
    name: String,
    file: LockedFile,
    /// Where the current record is.
    place: Place,
    modified: SystemTime,
    /// How long it lives unused, unless it has an end of its own.
    idle: Option<Duration>,
    /// Whether `maxSessions` counts it.
    is_counted: bool,
    /// Whose session it is, as the stored record says.
    user: Option<String>,
}

impl FileLease {
    /// Locks an existing session. Expired ones are deleted, damaged ones are set aside: both are
    /// `None`.
    pub(super) fn lock(
        shared: &Arc<FileStoreInner>,
        digest: &SessionDigest,
        wait: Duration,
        now: SystemTime,
    ) -> Result<Option<(Stored, Box<dyn Lease>)>> {
        let name = shared.directory.file_name(digest);
        let Some((file, stat)) = shared.directory.lock(&name, wait)? else {
            return Ok(None);
        };
        let content = shared.load(&file, &stat, digest, &name)?;
        let modified = directory::modified(&stat);
        let Current { record, place, .. } = match content.current(shared, &name)? {
            Ok(current) => current,
            Err(reason) => {
                shared.set_aside(&file, modified, &name, reason)?;
                return Ok(None);
            }
        };
        let lease = FileLease::new(shared, digest, name, file, place, &record, modified);
        if shared.has_expired(&record, modified, now) {
            if !shared.config.keeps_expired() {
                lease.destroy()?;
            }
            return Ok(None);
        }
        // A process may have died between its commit and setting the time.
        if shared
            .mtime_for(&record)
            .is_some_and(|time| time != modified)
        {
            shared.set_time(&lease.file, &lease.name, &record)?;
        }
        Ok(Some((inner::stored(record, modified), lease)))
    }

    /// Creates a session; `None` when the name is taken.
    pub(super) fn create(
        shared: &Arc<FileStoreInner>,
        digest: &SessionDigest,
        record: &Record,
        now: SystemTime,
    ) -> Result<Option<Box<dyn Lease>>> {
        check_size(record, shared.config.max_record_bytes)?;
        let name = shared.directory.file_name(digest);
        let seed = id::seed()?;
        space::admit(shared, record)?;
        let admission = shared.admit(record, now)?;
        let created = shared.directory.create_file(&name);
        let counted = admission.map(|(_lock, counted)| counted);
        let withdraw = || {
            if let Some(counted) = counted {
                count::withdraw(shared, counted);
            }
        };
        let file = match created {
            Ok(Some(file)) => file,
            refused => {
                withdraw();
                return refused.map(|_| None);
            }
        };
        let file = shared.lock_new(file, &name).inspect_err(|_| withdraw())?;
        let (image, place) = slots::encode_new_file(digest, seed, 1, shared.unit(), record);
        let written = shared.directory.examine(&*file, &name).and_then(|stat| {
            if stat.is_none() {
                return Ok(false);
            }
            // While it is locked: no other process takes out of the index what is in use.
            if let Some(user) = record.user() {
                users::add(shared, user, digest)?;
            }
            shared.write_new(&file, &name, &image, record)?;
            shared.sync_name(&name)?;
            Ok(true)
        });
        match written {
            Ok(true) => {}
            // Before it was locked, another creation evicted it, or another request for this id
            // found it empty.
            Ok(false) => return FileLease::create(shared, digest, record, now),
            Err(error) => {
                shared.discard(&file, &name);
                withdraw();
                return Err(error);
            }
        }
        let lease = FileLease::new(shared, digest, name, file, place, record, now);
        Ok(Some(lease))
    }

    fn new(
        shared: &Arc<FileStoreInner>,
        digest: &SessionDigest,
        name: String,
        file: LockedFile,
        place: Place,
        record: &Record,
        modified: SystemTime,
    ) -> Box<Self> {
        Box::new(FileLease {
            shared: Arc::clone(shared),
            digest: *digest,
            name,
            file,
            place,
            modified,
            idle: shared.sliding(record),
            is_counted: !record.is_replaced(),
            user: record.user().map(str::to_owned),
        })
    }

    /// Writes a record into the slot that is not current, or into a new file.
    fn write(&mut self, record: &Record, draft: Draft) -> Result<()> {
        let length = draft.length();
        let Some(next) = self.place.next() else {
            // A new file may count from the beginning.
            self.place.generation = 0;
            return self.replace(record);
        };
        let Some(slot) = draft.slot(&self.digest, next) else {
            return self.replace(record);
        };
        self.overwrite(next, &slot, record)?;
        let cap = next.cap;
        let is_wasteful = cap > slots::capacity(length, self.shared.unit())
            && cap > SHRINK * (length + slots::OVERHEAD);
        if is_wasteful
            && next.generation < u64::MAX
            && let Err(error) = self.replace(record)
        {
            // It is saved all the same, if in too large a file.
            log::warn!("{}", error.one_line());
        }
        Ok(())
    }

    /// Puts the record into a file of another size, which takes this one's place.
    fn replace(&mut self, record: &Record) -> Result<()> {
        let [random, seed] = id::random()?;
        let shared = Arc::clone(&self.shared);
        let generation = self.place.generation + 1;
        let (image, place) =
            slots::encode_new_file(&self.digest, seed, generation, shared.unit(), record);
        let temporary = Directory::temporary_name(&self.name, random);
        let Some(file) = shared.directory.create_file(&temporary)? else {
            let exists = io::ErrorKind::AlreadyExists;
            return Err(shared.failed("cannot create", &temporary, exists));
        };
        // Locked before its name is the session's: another process that finds it there waits for us.
        let file = shared.lock_new(file, &temporary)?;
        let renamed = shared
            .write_new(&file, &temporary, &image, record)
            .and_then(|()| self.check())
            .and_then(|()| shared.directory.rename(&temporary, &self.name));
        if renamed.is_err() {
            shared.directory.discard(&temporary);
            return renamed;
        }
        let old = std::mem::replace(&mut self.file, file);
        let old_size = 2 * self.place.cap as u64;
        self.place = place;
        let synced = shared.sync_name(&self.name);
        if synced.is_err() {
            self.take_back(&old, old_size);
        }
        synced
    }

    /// Saves the record once more that the old file holds: what was reported as failed must not be found
    /// saved. Where this fails too, nothing more can be done.
    fn take_back(&mut self, old: &File, size: u64) {
        if let Ok(Content::Record(before)) = content::read_slots(old, size, &self.digest)
            && let Some(next) = self.place.next()
            && let Some(slot) = Draft::new(&before.record, next.cap).slot(&self.digest, next)
            && let Err(error) = self.overwrite(next, &slot, &before.record)
        {
            log::warn!("{}", error.one_line());
        }
    }

    /// Writes a slot in the place that is not current. Until it is whole, the current one is.
    fn overwrite(&mut self, next: Place, slot: &[u8], record: &Record) -> Result<()> {
        let written = calls::write_all_at(&self.file, slot, next.start());
        let mut saved = written.map_err(|error| self.failed("cannot save the session in", error));
        if saved.is_ok() && self.shared.config.is_durable() {
            let synced = self.file.sync_data();
            saved = synced.map_err(|error| self.failed("cannot sync", error));
        }
        if saved.is_err() {
            // The record may be whole, with only the spaces behind it missing, and what was reported as failed
            // must not be found saved. Where this fails too, nothing more can be done.
            let _ = calls::write_all_at(&self.file, &[b' '; slots::DATA], next.start());
            return saved;
        }
        self.place = next;
        if let Err(error) = self.shared.set_time(&self.file, &self.name, record) {
            // The record is saved; the next lock or clean-up corrects the time.
            log::warn!("{}", error.one_line());
        }
        Ok(())
    }

    fn is_in_place(&self) -> Result<bool> {
        self.shared.directory.leads_to(&self.name, &*self.file)
    }

    fn failed(&self, action: &'static str, cause: impl Into<io::Error>) -> Error {
        self.shared.failed(action, &self.name, cause)
    }
}

impl Lease for FileLease {
    fn commit(&mut self, record: &Record, now: SystemTime) -> Result<()> {
        let draft = Draft::new(record, self.place.cap);
        check_length(record, draft.length(), self.shared.config.max_record_bytes)?;
        let changes_user = record.user() != self.user.as_deref();
        if changes_user && let Some(user) = record.user() {
            // First, so that a death leaves no session out of its user's index.
            users::add(&self.shared, user, &self.digest)?;
        }
        let is_counted = !record.is_replaced();
        if self.is_counted && !is_counted {
            let shared = Arc::clone(&self.shared);
            count::end_one(&shared, || self.write(record, draft))?;
        } else {
            self.write(record, draft)?;
        }
        self.is_counted = is_counted;
        if record.tries() > 0 {
            // It has expired, and was last used when it was.
            let set = calls::set_time(&self.file, self.modified);
            set.map_err(|error| self.failed("cannot set the time of", error))?;
        }
        self.modified = now;
        self.idle = self.shared.sliding(record);
        if changes_user {
            let user = record.user().map(str::to_owned);
            if let Some(before) = std::mem::replace(&mut self.user, user) {
                users::remove(&self.shared, &before, &self.digest);
            }
        }
        Ok(())
    }

    fn touch(&mut self, now: SystemTime) -> Result<()> {
        let is_due = |idle| should_touch(&self.shared.config, idle, self.modified, now);
        if self.idle.is_some_and(is_due) {
            let touched = calls::set_time(&self.file, now);
            touched.map_err(|error| self.failed("cannot renew the time of", error))?;
            self.modified = now;
        }
        Ok(())
    }

    fn check(&mut self) -> Result<()> {
        if self.is_in_place()? {
            return Ok(());
        }
        let reason = "was deleted or replaced while the session was in use";
        let error = Error::refused(&self.shared.path(&self.name), reason);
        Err(error.with_hint("the session has ended; nothing was saved"))
    }

    fn destroy(self: Box<Self>) -> Result<()> {
        if !self.is_in_place()? {
            return Ok(());
        }
        let unlink = || self.shared.directory.unlink(&self.name);
        if self.is_counted {
            count::end_one(&self.shared, unlink)?;
        } else {
            unlink()?;
        }
        self.shared.sync_name(&self.name)?;
        // Last: what power loss brings back is still in the index.
        if let Some(user) = &self.user {
            users::forget(&self.shared, user, &self.digest);
        }
        Ok(())
    }
}

impl FileStoreInner {
    /// Copies a damaged file to `NAME.corrupt` and deletes it. A copy, not a rename: a renamed file
    /// keeps its link, and a process that waits for its lock would go on to use it.
    fn set_aside(&self, file: &File, modified: SystemTime, name: &str, reason: &str) -> Result<()> {
        self.copy_aside(file, name, reason)?;
        let unlink = || self.directory.unlink(name);
        if inner::is_counted(modified) {
            count::end_one(self, unlink)
        } else {
            unlink()
        }
    }

    /// Copies a damaged file to `NAME.corrupt`; the caller deletes it.
    #[cold]
    #[inline(never)] // Its buffer is two pages of stack.
    pub(super) fn copy_aside(&self, file: &File, name: &str, reason: &str) -> Result<()> {
        let directory = &self.directory;
        let aside = format!("{}.corrupt", name.trim_end_matches(".json"));
        // One that exists was left by a process that died here before.
        directory.unlink(&aside)?;
        let failed = |error| {
            let action = "cannot set a damaged session aside in";
            directory.failed(action, &aside, error)
        };
        let Some(mut copy) = directory.create_file(&aside)? else {
            return Err(failed(io::ErrorKind::AlreadyExists.into()));
        };
        copy_all(file, &mut copy, self.config.is_durable()).map_err(failed)?;
        self.sync_name(&aside)?;
        let path = self.path(name);
        log::warn!(
            "{} was damaged ({reason}) and is kept as {aside}",
            path.display()
        );
        Ok(())
    }

    /// Locks a file that was created under this name, or deletes it.
    fn lock_new(&self, file: File, name: &str) -> Result<LockedFile> {
        let wait = self.config.lock_timeout;
        let locked = LockedFile::exclusive(file, wait, wait, || self.path(name));
        locked.map_err(|NotLocked { file, error }| {
            self.discard(&file, name);
            error
        })
    }

    /// Deletes a file that was created under this name, unless that is another file's by now.
    fn discard(&self, file: &File, name: &str) {
        if self.directory.leads_to(name, file).is_ok_and(|it| it) {
            self.directory.discard(name);
        }
    }

    fn write_new(&self, file: &File, name: &str, image: &[u8], record: &Record) -> Result<()> {
        let action = "cannot write the session file";
        let failed = |error| self.failed(action, name, error);
        calls::write_all_at(file, image, 0).map_err(failed)?;
        if self.config.is_durable() {
            file.sync_data().map_err(failed)?;
        }
        self.set_time(file, name, record)
    }

    /// Gives the file of a record with an end of its own the time that a clean-up looks for.
    fn set_time(&self, file: &File, name: &str, record: &Record) -> Result<()> {
        let Some(time) = self.mtime_for(record) else {
            return Ok(());
        };
        let set = calls::set_time(file, time);
        set.map_err(|error| self.directory.failed("cannot set the time of", name, error))
    }
}

fn copy_all(mut from: &File, to: &mut File, is_durable: bool) -> io::Result<()> {
    let length = calls::retry(|| from.metadata())?.len();
    calls::check_end(length)?;
    // After a signal both files are where it stopped.
    calls::retry(|| io::copy(&mut from, to))?;
    if is_durable { to.sync_data() } else { Ok(()) }
}
