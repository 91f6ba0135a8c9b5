//! A store that is broken on purpose. Whoever claims to find faults must find each of these, and
//! nothing in [`Fault::Nothing`].
#![allow(dead_code, reason = "every test program uses a part of it")]

use std::error::Error as StdError;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::ops::ControlFlow;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, SystemTime};

use cgi_session::{
    Error, Lease, Record, Result, SessionDigest, Store, Stored, Sweep, SweepReport, Uninstalled,
    Visitor,
};

/// What is wrong with a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing: record locked, link checked, temporary file, sync, rename.
    Nothing,
    /// Nobody locks.
    NoLock,
    /// A shared lock for reading, an exclusive one for writing.
    SharedLock,
    /// The record is locked, but whether the locked file still has the name is not looked at.
    NoLinkCheck,
    /// The record is written in place, in many small steps.
    TruncateAndWrite,
    /// Errors of writing and syncing are not looked at.
    UncheckedWrite,
    /// Who waited for a session that was destroyed goes on with it, and a commit makes it again.
    Resurrect,
    /// Clean-up looks and then deletes, without the lock.
    SweepWithoutLock,
    /// The lock is a file of its own that is deleted after use.
    LockFileRemoved,
    /// Nothing is synced.
    RenameWithoutSync,
    /// Clean-up does not know of temporary files.
    LeaveTemporary,
    /// The sessions of a user are not found.
    ForgetUsers,
    /// What a request leaves at its end is acknowledged and not written.
    ForgetEnd,
    /// What a request leaves at its end is deleted instead.
    DestroyAtEnd,
    /// The cap is not looked at.
    NoCap,
    /// Whoever makes room for a newcomer does it without the lock.
    EvictWithoutLock,
}

impl Fault {
    pub(crate) const ALL: [Fault; 16] = [
        Fault::Nothing,
        Fault::NoLock,
        Fault::SharedLock,
        Fault::NoLinkCheck,
        Fault::TruncateAndWrite,
        Fault::UncheckedWrite,
        Fault::Resurrect,
        Fault::SweepWithoutLock,
        Fault::LockFileRemoved,
        Fault::RenameWithoutSync,
        Fault::LeaveTemporary,
        Fault::ForgetUsers,
        Fault::ForgetEnd,
        Fault::DestroyAtEnd,
        Fault::NoCap,
        Fault::EvictWithoutLock,
    ];

    /// The fault of this name, as `Debug` writes it: for processes that are told which to have.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let mut all = Fault::ALL.into_iter();
        all.find(|fault| format!("{fault:?}") == name)
    }
}

const SUFFIX: &str = ".json";
const IDLE: Duration = Duration::from_secs(3600);
/// A temporary file of a process that still runs is never so old.
const TEMPORARY_AGE: Duration = Duration::from_secs(60);

static TEMPORARY: AtomicU64 = AtomicU64::new(0);

/// One file `<digest>.json` for each session, which expires an hour after its last change.
pub(crate) struct BrokenStore(Arc<Place>);

struct Place {
    fault: Fault,
    directory: PathBuf,
    cap: Option<u64>,
}

struct BrokenLease {
    place: Arc<Place>,
    path: PathBuf,
    /// What is locked: the record, or the file that stands for it.
    locked: File,
}

impl BrokenStore {
    pub(crate) fn open(fault: Fault, directory: &Path) -> Self {
        fs::create_dir_all(directory).unwrap();
        BrokenStore(Arc::new(Place {
            fault,
            directory: directory.to_owned(),
            cap: None,
        }))
    }

    /// The same with room for so many sessions: a newcomer sends away the least recently used.
    pub(crate) fn with_cap(self, cap: Option<u64>) -> Self {
        BrokenStore(Arc::new(Place {
            fault: self.0.fault,
            directory: self.0.directory.clone(),
            cap,
        }))
    }

    pub(crate) fn path(&self, session: &SessionDigest) -> PathBuf {
        self.0.path(session)
    }
}

impl Place {
    fn path(&self, session: &SessionDigest) -> PathBuf {
        self.directory.join(format!("{session}{SUFFIX}"))
    }

    /// A new file under a name of its own, locked before anybody else can see the record's name.
    fn write_temporary(&self, record: &Record) -> io::Result<(PathBuf, File)> {
        let (path, mut file) = self.make_temporary()?;
        let written = file.write_all(&record.to_json());
        let written = written.and_then(|()| self.sync(&file));
        if self.fault != Fault::UncheckedWrite {
            written.inspect_err(|_| forget(&path))?;
        }
        Ok((path, file))
    }

    fn make_temporary(&self) -> io::Result<(PathBuf, File)> {
        loop {
            let number = TEMPORARY.fetch_add(1, Ordering::Relaxed);
            let name = format!("{}-{number}.new", process::id());
            let path = self.directory.join(name);
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&path)?;
            file.lock()?;
            // Else a clean-up has deleted it before it was locked.
            if is_named(&file, &path)? {
                return Ok((path, file));
            }
        }
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        match self.fault {
            Fault::RenameWithoutSync => Ok(()),
            _ => file.sync_all(),
        }
    }

    fn sync_directory(&self) -> io::Result<()> {
        let synced = self.sync(&File::open(&self.directory)?);
        match self.fault {
            Fault::UncheckedWrite => Ok(()),
            _ => synced,
        }
    }

    /// The lock of a session that is there, or of one about to be made.
    fn lock(&self, path: &Path, wait: Duration) -> io::Result<Option<File>> {
        loop {
            let file = match self.fault {
                Fault::LockFileRemoved => open_or_make(&path.with_extension("lock")),
                _ => open(path),
            };
            let Some(file) = found(file)? else {
                return Ok(None);
            };
            match self.fault {
                Fault::NoLock => {}
                Fault::SharedLock => file.lock_shared()?,
                _ if wait.is_zero() => file.try_lock().map_err(io::Error::from)?,
                _ => file.lock()?,
            }
            let is_taken = match self.fault {
                Fault::NoLock | Fault::NoLinkCheck | Fault::LockFileRemoved => true,
                Fault::Resurrect => !path.exists() || is_named(&file, path)?,
                _ => is_named(&file, path)?,
            };
            if is_taken {
                return Ok(Some(file));
            }
        }
    }

    fn load_locked(&self, path: &Path, locked: &File) -> io::Result<Option<Stored>> {
        match self.fault {
            Fault::LockFileRemoved => load_named(path),
            _ => load(locked).map(Some),
        }
    }

    /// Makes room for one more session.
    fn make_room(&self) -> io::Result<()> {
        let Some(cap) = self.cap.filter(|_| self.fault != Fault::NoCap) else {
            return Ok(());
        };
        let mut sessions = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let entry = entry?;
            let is_session = entry.path().extension().is_some_and(|end| end == "json");
            // Another one may be making room.
            if let Some(found) = found(entry.metadata())?.filter(|_| is_session) {
                sessions.push((found.modified()?, entry.path()));
            }
        }
        sessions.sort();
        let mut excess = (sessions.len() as u64 + 1).saturating_sub(cap);
        for (_, path) in sessions {
            if excess == 0 {
                break;
            }
            excess -= u64::from(self.evict(&path)?);
        }
        Ok(())
    }

    fn evict(&self, path: &Path) -> io::Result<bool> {
        if self.fault == Fault::EvictWithoutLock {
            return found(fs::remove_file(path)).map(|gone| gone.is_some());
        }
        let locked = match self.lock(path, Duration::ZERO) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            locked => locked?,
        };
        let Some(locked) = locked else {
            return Ok(false);
        };
        let gone = found(fs::remove_file(path));
        self.unlock(path, &locked)?;
        gone.map(|gone| gone.is_some())
    }

    fn sweep_file(&self, path: &Path, now: SystemTime) -> io::Result<bool> {
        match path.extension().and_then(OsStr::to_str) {
            Some("json") => {}
            Some("new") => return self.sweep_temporary(path, now),
            _ => return Ok(false),
        }
        let is_expired = || -> io::Result<bool> {
            let stored = load_named(path)?;
            Ok(stored.is_some_and(|stored| has_expired(&stored, now)))
        };
        if !is_expired()? {
            return Ok(false);
        }
        if self.fault == Fault::SweepWithoutLock {
            // Between the look and the deletion, somebody may use the session again.
            (0..3).for_each(|_| thread::yield_now());
            fs::remove_file(path)?;
            return Ok(true);
        }
        let Some(locked) = self.lock(path, Duration::ZERO)? else {
            return Ok(false);
        };
        let is_gone = is_expired()?;
        if is_gone {
            fs::remove_file(path)?;
        }
        self.unlock(path, &locked)?;
        Ok(is_gone)
    }

    fn sweep_temporary(&self, path: &Path, now: SystemTime) -> io::Result<bool> {
        let Some(file) = found(open(path))? else {
            return Ok(false);
        };
        // Whoever writes it holds its lock, unless he has only just made it.
        let age = now.duration_since(file.metadata()?.modified()?);
        if !age.is_ok_and(|age| age > TEMPORARY_AGE) {
            return Ok(false);
        }
        if self.fault == Fault::LeaveTemporary || file.try_lock().is_err() {
            return Ok(false);
        }
        if is_named(&file, path)? {
            fs::remove_file(path)?;
        }
        Ok(true)
    }

    fn unlock(&self, path: &Path, locked: &File) -> io::Result<()> {
        if self.fault == Fault::LockFileRemoved {
            found(fs::remove_file(path.with_extension("lock")))?;
        }
        locked.unlock()
    }
}

impl Store for BrokenStore {
    fn create(
        &self,
        session: &SessionDigest,
        record: &Record,
        _now: SystemTime,
    ) -> Result<Option<Box<dyn Lease>>> {
        let path = self.path(session);
        let made = || -> io::Result<Option<File>> {
            self.0.make_room()?;
            let (temporary, file) = self.0.write_temporary(record)?;
            let linked = fs::hard_link(&temporary, &path);
            forget(&temporary);
            match linked {
                Ok(()) => self.0.sync_directory().map(|()| Some(file)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(None),
                Err(error) => Err(error),
            }
        };
        let made = made().map_err(|error| failed("create", &path, error))?;
        Ok(made.map(|locked| BrokenLease::boxed(&self.0, path, locked)))
    }

    fn lock(
        &self,
        session: &SessionDigest,
        wait: Duration,
        now: SystemTime,
    ) -> Result<Option<(Stored, Box<dyn Lease>)>> {
        let path = self.path(session);
        let locked = match self.0.lock(&path, wait) {
            Ok(locked) => locked,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(Error::Busy {
                    waited: wait,
                    holder: None,
                });
            }
            Err(error) => return Err(failed("lock", &path, error)),
        };
        let Some(locked) = locked else {
            return Ok(None);
        };
        let stored = self.0.load_locked(&path, &locked);
        let lease = BrokenLease::boxed(&self.0, path.clone(), locked);
        match stored.map_err(|error| failed("load", &path, error))? {
            Some(stored) if has_expired(&stored, now) => {
                lease.destroy()?;
                Ok(None)
            }
            found => Ok(found.map(|stored| (stored, lease))),
        }
    }

    fn read(&self, session: &SessionDigest, now: SystemTime) -> Result<Option<Stored>> {
        let path = self.path(session);
        let stored = load_named(&path);
        let stored = stored.map_err(|error| failed("load", &path, error))?;
        Ok(stored.filter(|stored| !has_expired(stored, now)))
    }

    fn delete_expired(&self, _sweep: &Sweep<'_>, now: SystemTime) -> Result<SweepReport> {
        let mut report = SweepReport::default();
        let entries = fs::read_dir(&self.0.directory);
        for entry in entries.map_err(|error| failed("list", &self.0.directory, error))? {
            let path = entry
                .map_err(|error| failed("list", &self.0.directory, error))?
                .path();
            match self.0.sweep_file(&path, now) {
                Ok(true) => report.deleted += 1,
                Ok(false) => report.live += 1,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => report.busy += 1,
                Err(error) => report.failures.push(error.to_string()),
            }
        }
        Ok(report)
    }

    fn last_sweep(&self, _now: SystemTime) -> Option<Duration> {
        None
    }

    fn for_each(&self, visit: &mut Visitor<'_>, now: SystemTime) -> Result<()> {
        let entries = fs::read_dir(&self.0.directory);
        for entry in entries.map_err(|error| failed("list", &self.0.directory, error))? {
            let name = entry
                .map_err(|error| failed("list", &self.0.directory, error))?
                .file_name();
            let name = name.to_string_lossy();
            let digest = name.strip_suffix(SUFFIX).map(str::as_bytes);
            let Some(digest) = digest.and_then(SessionDigest::parse) else {
                continue;
            };
            if let Some(stored) = self.read(&digest, now)?
                && visit(&digest, Ok(stored)) == ControlFlow::Break(())
            {
                break;
            }
        }
        Ok(())
    }

    fn sessions_of(&self, user: &str, now: SystemTime) -> Result<Vec<SessionDigest>> {
        let mut found = Vec::new();
        let mut visit = |session: &SessionDigest, stored: Result<Stored>| {
            if stored.is_ok_and(|stored| stored.record.user() == Some(user)) {
                found.push(*session);
            }
            ControlFlow::Continue(())
        };
        if self.0.fault != Fault::ForgetUsers {
            self.for_each(&mut visit, now)?;
        }
        Ok(found)
    }

    fn uninstall(&self) -> Uninstalled {
        let mut done = Uninstalled::default();
        if let Err(error) = fs::remove_dir_all(&self.0.directory) {
            done.errors.push(failed("remove", &self.0.directory, error));
        }
        done
    }
}

impl BrokenLease {
    fn boxed(place: &Arc<Place>, path: PathBuf, locked: File) -> Box<dyn Lease> {
        Box::new(BrokenLease {
            place: Arc::clone(place),
            path,
            locked,
        })
    }

    fn write(&mut self, record: &Record) -> io::Result<()> {
        if self.place.fault == Fault::TruncateAndWrite {
            return write_in_steps(&self.locked, &record.to_json());
        }
        if self.place.fault == Fault::SharedLock {
            self.locked.lock()?;
        }
        let (temporary, file) = self.place.write_temporary(record)?;
        if self.place.fault != Fault::Resurrect && !self.path.exists() {
            forget(&temporary);
            return Err(io::ErrorKind::NotFound.into());
        }
        fs::rename(&temporary, &self.path).inspect_err(|_| forget(&temporary))?;
        if self.place.fault != Fault::LockFileRemoved {
            self.locked = file;
        }
        self.place.sync_directory()
    }
}

impl Lease for BrokenLease {
    fn commit(&mut self, record: &Record, _now: SystemTime) -> Result<()> {
        let written = self.write(record);
        written.map_err(|error| failed("save", &self.path, error))
    }

    fn finish(&mut self, record: &Record, now: SystemTime) -> Result<()> {
        match self.place.fault {
            Fault::ForgetEnd => Ok(()),
            Fault::DestroyAtEnd => {
                let deleted = found(fs::remove_file(&self.path));
                let deleted = deleted.map(drop);
                deleted.map_err(|error| failed("destroy", &self.path, error))
            }
            _ => self.commit(record, now),
        }
    }

    fn touch(&mut self, now: SystemTime) -> Result<()> {
        let file = OpenOptions::new().write(true).open(&self.path);
        let touched = file.and_then(|file| file.set_modified(now));
        touched.map_err(|error| failed("touch", &self.path, error))
    }

    fn destroy(self: Box<Self>) -> Result<()> {
        let deleted = found(fs::remove_file(&self.path));
        let deleted = deleted.and_then(|_| self.place.sync_directory());
        deleted.map_err(|error| failed("destroy", &self.path, error))
    }
}

impl Drop for BrokenLease {
    fn drop(&mut self) {
        // A lock that cannot be given back here ends with the descriptor.
        let _ = self.place.unlock(&self.path, &self.locked);
    }
}

fn write_in_steps(mut file: &File, text: &[u8]) -> io::Result<()> {
    file.rewind()?;
    file.set_len(0)?;
    for part in text.chunks(64) {
        file.write_all(part)?;
    }
    file.sync_all()
}

/// After an error: what cannot be deleted is left to the clean-up.
fn forget(temporary: &Path) {
    let _ = fs::remove_file(temporary);
}

fn load_named(path: &Path) -> io::Result<Option<Stored>> {
    found(open(path))?.map(|file| load(&file)).transpose()
}

fn load(mut file: &File) -> io::Result<Stored> {
    let mut text = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut text)?;
    let record = Record::from_json(text);
    let record = record.map_err(|error| io::Error::other(format!("{error:?}")))?;
    Ok(Stored {
        record,
        last_access: file.metadata()?.modified()?,
    })
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(path)
}

fn open_or_make(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
}

/// `None` for what is not there.
fn found<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_named(file: &File, path: &Path) -> io::Result<bool> {
    let opened = file.metadata()?;
    let named = found(fs::metadata(path))?;
    Ok(named.is_some_and(|named| (named.dev(), named.ino()) == (opened.dev(), opened.ino())))
}

fn has_expired(stored: &Stored, now: SystemTime) -> bool {
    let unused = now.duration_since(stored.last_access);
    unused.is_ok_and(|unused| unused > IDLE)
}

fn failed(action: &str, path: &Path, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Error {
    Error::store(format!("cannot {action} {}", path.display()), source)
}
