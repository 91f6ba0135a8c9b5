//! [`Place`]: a directory of sessions, who waits there for whom, and who has to go.

use std::os::unix::fs::OpenOptionsExt as _;
use std::process;

use crate::prelude::*;
use cgi_session::Stored;

use super::fault::Fault;
use super::files::{forget, found, is_named, load, load_named, open, open_or_make};

const SUFFIX: &str = ".json";
const IDLE: Duration = Duration::from_secs(3600);
/// A temporary file of a process that still runs is never so old.
const TEMPORARY_AGE: Duration = Duration::from_secs(60);

static TEMPORARY: AtomicU64 = AtomicU64::new(0);

pub(super) struct Place {
    pub(super) fault: Fault,
    pub(super) directory: PathBuf,
    pub(super) cap: Option<u64>,
}

impl Place {
    pub(super) fn path(&self, session: &SessionDigest) -> PathBuf {
        self.directory.join(format!("{session}{SUFFIX}"))
    }

    /// A new file under a name of its own, locked before anybody else can see the record's name.
    pub(super) fn write_temporary(&self, record: &Record) -> io::Result<(PathBuf, File)> {
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

    pub(super) fn sync_directory(&self) -> io::Result<()> {
        let synced = self.sync(&File::open(&self.directory)?);
        match self.fault {
            Fault::UncheckedWrite => Ok(()),
            _ => synced,
        }
    }

    /// The lock of a session that is there, or of one about to be made.
    pub(super) fn lock(&self, path: &Path, wait: Duration) -> io::Result<Option<File>> {
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

    pub(super) fn load_locked(&self, path: &Path, locked: &File) -> io::Result<Option<Stored>> {
        match self.fault {
            Fault::LockFileRemoved => load_named(path),
            _ => load(locked).map(Some),
        }
    }

    /// Makes room for one more session.
    pub(super) fn make_room(&self) -> io::Result<()> {
        let Some(cap) = self.cap.filter(|_| self.fault != Fault::NoCap) else {
            return Ok(());
        };
        let mut sessions = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let entry = entry?;
            let is_session = entry.path().extension().is_some_and(|end| end == "json");
            // Another one may be making room.
            let stored = if is_session {
                load_named(&entry.path())?
            } else {
                None
            };
            if let Some(stored) = stored.filter(|stored| !stored.record.is_marker()) {
                sessions.push((stored.last_access, entry.path()));
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

    pub(super) fn sweep_file(&self, path: &Path, now: SystemTime) -> io::Result<bool> {
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
            // Between the look and the deletion, another process may use the session again.
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
        // Its writer holds its lock, unless the file has only just been created.
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

    pub(super) fn unlock(&self, path: &Path, locked: &File) -> io::Result<()> {
        if self.fault == Fault::LockFileRemoved {
            found(fs::remove_file(path.with_extension("lock")))?;
        }
        locked.unlock()
    }
}

/// The session whose file has this name.
pub(super) fn session(name: &OsStr) -> Option<SessionDigest> {
    let digest = name.to_str()?.strip_suffix(SUFFIX)?;
    SessionDigest::parse(digest.as_bytes())
}

pub(super) fn has_expired(stored: &Stored, now: SystemTime) -> bool {
    if let Some(end) = stored.record.expires() {
        return end < now;
    }
    let unused = now.duration_since(stored.last_access);
    unused.is_ok_and(|unused| unused > IDLE)
}
