//! [`FileLease`]: an exclusively locked session file, and everything that may write one.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::OFlags;

use super::content::{self, Content, Current};
use super::slots::{self, SlotPosition};
use super::{FileStoreInner, cap, last_access, should_touch, space, users};
use crate::error::{Error, Result};
use crate::id::{self, SessionDigest};
use crate::record::{Record, RecordError};
use crate::store::files::directory::{self, Directory, Finding};
use crate::store::files::{calls, lock};
use crate::store::{Lease, Stored, check_size};

/// A slot more than so many times larger than its record is given back.
const SHRINK: usize = 16;
/// The default of `maxRecordBytes`: what it may have been before it was lowered.
const USUAL_MAX_RECORD: usize = 1 << 20;

/// The lock of one session, held by an open file.
pub(super) struct FileLease {
    shared: Arc<FileStoreInner>,
    digest: SessionDigest,
    name: String,
    file: File,
    cap: usize,
    /// Where the current record is; the next one goes to the other place.
    place: SlotPosition,
    generation: u64,
    seed: u64,
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
    ) -> Result<Option<(Stored, Self)>> {
        let name = shared.directory.file_name(digest);
        let started = Instant::now();
        loop {
            let Some(file) = shared.directory.open_file(&name, OFlags::RDWR)? else {
                return Ok(None);
            };
            let left = wait.saturating_sub(started.elapsed());
            lock::take(&file, left, wait, || shared.path(&name))?;
            // Deleted or replaced while we waited: whoever did it has made the name lead elsewhere.
            let refused = |_: &Error| unlock(&file);
            let finding = shared.directory.examine(&file, &name);
            let Finding::Session(stat) = finding.inspect_err(refused)? else {
                continue;
            };
            let modified = directory::modified(&stat);
            let size = directory::size(&stat);
            let loaded = load(shared, &file, size, digest, &name);
            let Some(current) = loaded.inspect_err(refused)? else {
                return Ok(None);
            };
            let parsed = parse(shared, &name, current.data);
            let Some(record) = parsed.inspect_err(refused)? else {
                set_aside(shared, &file, &name, "what it holds is no record")?;
                return Ok(None);
            };
            let lease = FileLease {
                shared: Arc::clone(shared),
                digest: *digest,
                name,
                file,
                cap: current.cap,
                place: current.place,
                generation: current.generation,
                seed: current.seed,
                modified,
                idle: shared.sliding(&record),
                is_counted: !record.is_replaced(),
                user: record.user().map(str::to_owned),
            };
            if shared.has_expired(&record, modified, now) {
                Box::new(lease).destroy()?;
                return Ok(None);
            }
            lease.repair_hint(&record)?;
            let last_access = last_access(&record, modified);
            return Ok(Some((
                Stored {
                    record,
                    last_access,
                },
                lease,
            )));
        }
    }

    /// Makes a new session; `None` when the name is taken.
    pub(super) fn create(
        shared: &Arc<FileStoreInner>,
        digest: &SessionDigest,
        record: &Record,
        now: SystemTime,
    ) -> Result<Option<Self>> {
        check_size(record, shared.max_record_bytes)?;
        let name = shared.directory.file_name(digest);
        let seed = id::seed()?;
        space::admit(shared, record)?;
        let admission = if record.predecessor().is_some() {
            cap::admit_successor(shared)?
        } else {
            cap::admit(shared, now)?
        };
        let created = shared.directory.create_file(&name);
        drop(admission);
        let file = match created {
            Ok(Some(file)) => file,
            refused => {
                cap::forget(shared, 1);
                return refused.map(|_| None);
            }
        };
        let image = slots::encode_new_file(digest, seed, 1, shared.unit(), record);
        // Locked before it is in its user's index: nobody takes out what is in use.
        let written = lock_new(shared, &file, &name)
            .and_then(|()| {
                record
                    .user()
                    .map_or(Ok(()), |user| users::add(shared, user, digest))
            })
            .and_then(|()| write_new(shared, &file, &name, &image, record))
            .and_then(|()| sync_names(shared, &name))
            .and_then(|()| shared.directory.examine(&file, &name));
        match written {
            Ok(Finding::Session(_)) => {}
            // Before it was locked, another creation evicted it, or somebody who asked for this id
            // found it empty.
            Ok(Finding::Gone) => return FileLease::create(shared, digest, record, now),
            Err(error) => {
                // Unless it is somebody else's by now.
                if shared.directory.leads_to(&name, &file).is_ok_and(|it| it) {
                    directory::discard(&shared.directory, &name);
                }
                cap::forget(shared, 1);
                return Err(error);
            }
        }
        Ok(Some(FileLease {
            shared: Arc::clone(shared),
            digest: *digest,
            name,
            file,
            cap: image.len() / 2,
            place: SlotPosition::First,
            generation: 1,
            seed,
            modified: now,
            idle: shared.sliding(record),
            is_counted: !record.is_replaced(),
            user: record.user().map(str::to_owned),
        }))
    }

    /// Writes a record of `length` bytes into the slot that is not current, or into a new file.
    fn write(&mut self, record: &Record, length: usize) -> Result<()> {
        let Some(generation) = self.generation.checked_add(1) else {
            // A new file may count from the beginning.
            self.generation = 0;
            return self.replace(record);
        };
        let wanted = slots::capacity(length, self.shared.unit());
        let is_wasteful = self.cap > wanted && self.cap > SHRINK * (length + slots::OVERHEAD);
        let slot = slots::encode(
            &self.digest,
            self.seed,
            self.place.other(),
            generation,
            self.cap,
            record,
        );
        let Some(slot) = slot else {
            return self.replace(record);
        };
        self.overwrite(&slot, record)?;
        if is_wasteful
            && generation < u64::MAX
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
        let image = slots::encode_new_file(
            &self.digest,
            seed,
            self.generation + 1,
            self.shared.unit(),
            record,
        );
        let temporary = Directory::temporary_name(&self.name, random);
        let directory = &self.shared.directory;
        let Some(file) = directory.create_file(&temporary)? else {
            let exists = std::io::ErrorKind::AlreadyExists.into();
            return Err(Error::io(
                "cannot create",
                self.shared.path(&temporary),
                exists,
            ));
        };
        // Locked before its name is the session's: whoever finds it there waits for us.
        let written = lock_new(&self.shared, &file, &temporary)
            .and_then(|()| write_new(&self.shared, &file, &temporary, &image, record));
        let renamed = written
            .and_then(|()| self.is_in_place())
            .and_then(|is_in_place| {
                if is_in_place {
                    directory.rename(&temporary, &self.name)
                } else {
                    Err(self.gone())
                }
            });
        if let Err(error) = renamed {
            directory::discard(directory, &temporary);
            return Err(error);
        }
        let old = std::mem::replace(&mut self.file, file);
        unlock(&old);
        let old_size = 2 * self.cap as u64;
        self.cap = image.len() / 2;
        self.place = SlotPosition::First;
        self.generation += 1;
        self.seed = seed;
        let synced = sync_names(&self.shared, &self.name);
        if synced.is_err() {
            self.take_back(&old, old_size);
        }
        synced
    }

    /// Saves the record once more that the old file holds: nobody may find saved what was reported as
    /// failed. Where this fails too, nothing more can be done.
    fn take_back(&mut self, old: &File, size: u64) {
        let Ok(Content::Record(before)) = content::load(old, size, &self.digest) else {
            return;
        };
        let Ok(record) = Record::from_json(before.data) else {
            return;
        };
        let Some(generation) = self.generation.checked_add(1) else {
            return;
        };
        let place = self.place.other();
        let slot = slots::encode(
            &self.digest,
            self.seed,
            place,
            generation,
            self.cap,
            &record,
        );
        let taken_back = slot.map(|slot| self.overwrite(&slot, &record));
        if let Some(Err(error)) = taken_back {
            log::warn!("{}", error.one_line());
        }
    }

    /// Writes a slot in the place that is not current. Until it is whole, the current one is.
    fn overwrite(&mut self, slot: &[u8], record: &Record) -> Result<()> {
        let place = self.place.other();
        let start = place.start(self.cap) as u64;
        let written = self.file.write_all_at(slot, start);
        let mut saved = written.map_err(|error| self.failed("cannot save the session in", error));
        if saved.is_ok() && self.shared.is_durable() {
            let synced = self.file.sync_data();
            saved = synced.map_err(|error| self.failed("cannot sync", error));
        }
        if saved.is_err() {
            // The record may be whole, with only the spaces behind it missing, and nobody may find
            // saved what was reported as failed. Where this fails too, nothing more can be done.
            let _ = self.file.write_all_at(&[b' '; slots::DATA], start);
            return saved;
        }
        self.place = place;
        self.generation += 1;
        if let Err(error) = set_hint(&self.shared, &self.file, &self.name, record) {
            // The record is saved; the next lock or clean-up mends the time.
            log::warn!("{}", error.one_line());
        }
        Ok(())
    }

    /// Puts the file's time right if a process died between its commit and setting the time.
    fn repair_hint(&self, record: &Record) -> Result<()> {
        match self.shared.mtime_for(record) {
            Some(hint) if hint != self.modified => {
                set_hint(&self.shared, &self.file, &self.name, record)
            }
            _ => Ok(()),
        }
    }

    /// Whether the session's name still leads to the file that we hold. Somebody who keeps no
    /// protocol, or has moved the whole directory away, may have ended the session.
    fn is_in_place(&self) -> Result<bool> {
        let leads = self.shared.directory.leads_to(&self.name, &self.file);
        leads.map_err(|errno| self.failed("cannot examine", errno.into()))
    }

    fn gone(&self) -> Error {
        Error::refused(
            &self.shared.path(&self.name),
            "was deleted or replaced while the session was in use",
        )
        .with_hint("the session has ended; nothing was saved")
    }

    fn failed(&self, action: &'static str, error: std::io::Error) -> Error {
        Error::io(action, self.shared.path(&self.name), error)
    }
}

impl Lease for FileLease {
    fn commit(&mut self, record: &Record, now: SystemTime) -> Result<()> {
        let length = check_size(record, self.shared.max_record_bytes)?;
        let changes_user = record.user() != self.user.as_deref();
        if changes_user && let Some(user) = record.user() {
            // First, so that a death leaves no session out of its user's index.
            users::add(&self.shared, user, &self.digest)?;
        }
        self.write(record, length)?;
        self.modified = now;
        self.idle = self.shared.sliding(record);
        let was_counted = std::mem::replace(&mut self.is_counted, !record.is_replaced());
        if was_counted && !self.is_counted {
            cap::forget(&self.shared, 1);
        }
        if changes_user {
            let user = record.user().map(str::to_owned);
            if let Some(before) = std::mem::replace(&mut self.user, user) {
                users::remove(&self.shared, &before, &self.digest);
            }
        }
        Ok(())
    }

    fn touch(&mut self, now: SystemTime) -> Result<()> {
        let is_due = |idle| should_touch(idle, self.modified, now);
        if self.idle.is_some_and(is_due) {
            let touched = calls::set_time(&self.file, now);
            touched.map_err(|error| self.failed("cannot renew the time of", error))?;
            self.modified = now;
        }
        Ok(())
    }

    fn check(&mut self) -> Result<()> {
        if self.is_in_place()? {
            Ok(())
        } else {
            Err(self.gone())
        }
    }

    fn destroy(self: Box<Self>) -> Result<()> {
        if !self.is_in_place()? {
            return Ok(());
        }
        self.shared.directory.unlink(&self.name)?;
        if self.is_counted {
            cap::forget(&self.shared, 1);
        }
        sync_names(&self.shared, &self.name)?;
        // Last: what power loss brings back is still in the index.
        if let Some(user) = &self.user {
            users::forget(&self.shared, user, &self.digest);
        }
        Ok(())
    }
}

impl Drop for FileLease {
    fn drop(&mut self) {
        unlock(&self.file);
    }
}

/// Closing would unlock too, but not while a child that the program forked has the file open.
fn unlock(file: &File) {
    // An unlock cannot fail on an open file, and closing follows.
    let _ = file.unlock();
}

/// Loads a locked file; a damaged one is set aside.
fn load(
    shared: &FileStoreInner,
    file: &File,
    size: u64,
    digest: &SessionDigest,
    name: &str,
) -> Result<Option<Current>> {
    check_file_size(shared, size, name)?;
    let content = content::load(file, size, digest)
        .map_err(|error| Error::io("cannot read", shared.path(name), error))?;
    match content {
        Content::Record(current) => Ok(Some(current)),
        Content::Damaged(reason) => {
            set_aside(shared, file, name, reason)?;
            Ok(None)
        }
        Content::Unseeded => Err(unseeded(shared, name)),
    }
}

/// A file that no record can have made so large is somebody's mistake, and not read.
pub(super) fn check_file_size(shared: &FileStoreInner, size: u64, name: &str) -> Result<()> {
    // Four times as large as needed, so that a lowered maxRecordBytes locks nobody out.
    let largest = shared.max_record_bytes.max(USUAL_MAX_RECORD);
    let limit = 4 * 2 * slots::capacity(largest, 4096);
    if size > limit as u64 {
        return Err(
            Error::refused(&shared.path(name), format!("has {size} bytes"))
                .with_hint("no session can be so large; it was left alone"),
        );
    }
    Ok(())
}

/// A file of a development version, which nobody but an administrator may remove.
pub(super) fn unseeded(shared: &FileStoreInner, name: &str) -> Error {
    Error::Format {
        path: shared.path(name),
        reason: "a version from before release 0.1.0 wrote it, and its checksum has no seed; stop \
                 all programs of that version, then remove such sessions: cgi-session uninstall"
            .to_owned(),
    }
}

/// Reads the record of a whole slot; what is no record at all is `None`.
pub(super) fn parse(shared: &FileStoreInner, name: &str, data: Vec<u8>) -> Result<Option<Record>> {
    match Record::from_json(data) {
        Ok(record) => Ok(Some(record)),
        Err(RecordError::Malformed(_)) => Ok(None),
        Err(RecordError::LaterVersion(version)) => Err(Error::Format {
            path: shared.path(name),
            reason: format!(
                "a later release of cgi-session wrote it (version {version} of the format)"
            ),
        }),
    }
}

/// Copies a damaged file to `NAME.corrupt` and deletes it. A copy, not a rename: a renamed file
/// keeps its link, and whoever waits for its lock would go on to use it.
fn set_aside(shared: &FileStoreInner, file: &File, name: &str, reason: &str) -> Result<()> {
    let aside = format!("{}.corrupt", name.trim_end_matches(".json"));
    // One that is there was left by a process that died here before.
    shared.directory.unlink(&aside)?;
    let failed = |error| {
        let tried = "cannot set a damaged session aside in";
        Error::io(tried, shared.path(&aside), error)
    };
    let Some(mut copy) = shared.directory.create_file(&aside)? else {
        return Err(failed(io::ErrorKind::AlreadyExists.into()));
    };
    copy_all(file, &mut copy, shared.is_durable()).map_err(failed)?;
    sync_names(shared, &aside)?;
    shared.directory.unlink(name)?;
    cap::forget(shared, 1);
    log::warn!(
        "{} was damaged ({reason}) and is kept as {aside}",
        shared.path(name).display()
    );
    Ok(())
}

fn copy_all(mut from: &File, to: &mut File, is_durable: bool) -> io::Result<()> {
    while let Err(error) = io::copy(&mut from, to) {
        // After a signal both files are where it stopped.
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
    if is_durable {
        to.sync_data()?;
    }
    Ok(())
}

/// Locks a file that nobody else knows yet.
fn lock_new(shared: &FileStoreInner, file: &File, name: &str) -> Result<()> {
    let wait = shared.lock_timeout;
    lock::take(file, wait, wait, || shared.path(name))
}

/// Fills a new file that is locked.
fn write_new(
    shared: &FileStoreInner,
    file: &File,
    name: &str,
    image: &[u8],
    record: &Record,
) -> Result<()> {
    let failed = |error| Error::io("cannot write the session file", shared.path(name), error);
    file.write_all_at(image, 0).map_err(failed)?;
    if shared.is_durable() {
        file.sync_data().map_err(failed)?;
    }
    set_hint(shared, file, name, record)
}

fn set_hint(shared: &FileStoreInner, file: &File, name: &str, record: &Record) -> Result<()> {
    let Some(hint) = shared.mtime_for(record) else {
        return Ok(());
    };
    calls::set_time(file, hint)
        .map_err(|error| Error::io("cannot set the time of", shared.path(name), error))
}

fn sync_names(shared: &FileStoreInner, name: &str) -> Result<()> {
    if shared.is_durable() {
        shared.directory.sync(name)
    } else {
        Ok(())
    }
}
