//! [`SessionLocks`]: one lock for each session of a store that has none of its own.
//!
//! A lock is an empty file, `NAME.lock`, and flock(2) on it. It is made when the session is locked
//! and deleted by its holder while it still holds the lock; so a process that waited for it wakes up on a
//! file without a name, and looks the name up again. Two can never hold locks of one session: both
//! would hold the lock of the file that the name leads to, and that is one file.
//!
//! | a process dies | left behind, removed by |
//! |---|---|
//! | after the file is made, or holding its lock | an unlocked file, the next holder or the clean-up |
//! | after the file is deleted | – |

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::calls;
use super::directory::Directory;
use super::lock::LockedFile;
use crate::error::{Error, Result};
use crate::store::{SweepClock, Uninstalled};

/// The lock of the clean-up; its time is that of the last one.
const SWEEP_LOCK: &str = ".sweep";
const SUFFIX: &str = ".lock";
/// The longest name of a lock: a session's digest.
const MAX_NAME: usize = 64;

/// The locks of a store's sessions, in a directory of their own: for a store on one machine that has no locks of
/// its own that could be held for as long as a request runs.
#[derive(Debug)]
pub struct SessionLocks {
    directory: Arc<Directory>,
}

/// The lock of one session. Dropped, it is unlocked, and nothing of it is left.
#[derive(Debug)]
pub struct SessionLock {
    directory: Arc<Directory>,
    name: String,
    file: LockedFile,
}

/// The lock of the clean-up. Dropped, it is unlocked.
#[derive(Debug)]
pub struct SweepLock {
    path: PathBuf,
    file: LockedFile,
}

impl SessionLocks {
    /// Locks in this directory, which is made when the first one is taken.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        SessionLocks {
            directory: Arc::new(Directory::new(path, false)),
        }
    }

    /// Waits up to `wait` for the lock of this name: letters and digits, not more than 64.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] when it was not had in that time, and when its file cannot be made or locked.
    pub fn take(&self, name: &str, wait: Duration) -> Result<SessionLock> {
        let name = [name, SUFFIX].concat();
        let (file, _) = self.directory.lock_or_create(&name, wait)?;
        Ok(self.held(name, file))
    }

    /// Takes the lock of this name if it is free.
    ///
    /// # Errors
    ///
    /// When its file cannot be made or locked.
    pub fn try_take(&self, name: &str) -> Result<Option<SessionLock>> {
        let name = [name, SUFFIX].concat();
        let file = self.directory.try_lock_or_create(&name)?;
        Ok(file.map(|file| self.held(name, file)))
    }

    /// Whether the lock of this name is taken. Creates nothing.
    ///
    /// # Errors
    ///
    /// When its file cannot be looked at.
    pub fn is_taken(&self, name: &str) -> Result<bool> {
        let tried = self
            .directory
            .lock(&[name, SUFFIX].concat(), Duration::ZERO);
        match tried {
            Err(Error::Busy { .. }) => Ok(true),
            tried => tried.map(|_| false),
        }
    }

    fn held(&self, name: String, file: LockedFile) -> SessionLock {
        SessionLock {
            directory: Arc::clone(&self.directory),
            name,
            file,
        }
    }

    /// Takes the lock of the clean-up; `None` when another one is running.
    ///
    /// # Errors
    ///
    /// When its file cannot be made or locked.
    pub fn sweep(&self) -> Result<Option<SweepLock>> {
        let file = self.directory.try_lock_or_create(SWEEP_LOCK)?;
        let path = || self.directory.path().join(SWEEP_LOCK);
        Ok(file.map(|file| SweepLock { path: path(), file }))
    }

    /// How long ago a clean-up last noted its end.
    #[must_use]
    pub fn last_sweep(&self, now: SystemTime) -> Option<Duration> {
        self.directory.age_of_sweep(SWEEP_LOCK, now)
    }

    /// Deletes what holders that died have left behind, as long as there is time, and returns how many.
    ///
    /// # Errors
    ///
    /// When the directory cannot be read, or one of the files not be deleted.
    pub fn remove_abandoned(&self, clock: SweepClock<'_>) -> Result<u64> {
        let mut removed = 0;
        let names = self.names()?.into_iter().filter(|name| is_lock(name));
        for name in names.take_while(|_| !clock.is_over()) {
            if let Some((file, _)) = self.directory.try_lock(&name)? {
                drop(self.held(name, file));
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// Makes the directory.
    ///
    /// # Errors
    ///
    /// When it cannot be made, or is not ours alone.
    pub fn install(&self) -> Result<()> {
        self.directory.create().map(drop)
    }

    /// Removes the locks and, if nothing else is in it, their directory.
    ///
    /// # Errors
    ///
    /// When one of them cannot be removed.
    pub fn uninstall(&self, done: &mut Uninstalled) -> Result<()> {
        let before = done.foreign.len();
        for name in self.names()? {
            if is_lock(&name) || name == SWEEP_LOCK {
                self.directory.unlink(&name)?;
            } else {
                done.foreign.push(name);
            }
        }
        if done.foreign.len() > before || self.directory.handle()?.is_none() {
            return Ok(());
        }
        self.directory.remove()
    }

    /// Every name in the directory but its own two; none when there is no directory.
    fn names(&self) -> Result<Vec<String>> {
        let mut names = Vec::new();
        if let Some(root) = self.directory.handle()? {
            let listed = calls::each_name(&root, |name| {
                names.push(String::from_utf8_lossy(name).into_owned());
                ControlFlow::Continue(())
            });
            listed.map_err(|errno| self.directory.failed("cannot list", "", errno))?;
        }
        names.retain(|name| name != "." && name != "..");
        Ok(names)
    }
}

impl Drop for SessionLock {
    fn drop(&mut self) {
        // A program that keeps no protocol may have deleted the file, and the name is another file's now.
        match self.directory.leads_to(&self.name, &*self.file) {
            Ok(true) => self.directory.discard(&self.name),
            Ok(false) => {}
            Err(error) => log::warn!("{}", error.one_line()),
        }
    }
}

impl SweepLock {
    /// Notes that a clean-up has ended.
    ///
    /// # Errors
    ///
    /// When the time of its file cannot be set.
    pub fn note(&self, now: SystemTime) -> Result<()> {
        let noted = calls::set_time(&self.file, now);
        noted.map_err(|error| Error::io("cannot set the time of", &self.path, error))
    }
}

/// Whether a name is that of a lock: a file of another program is not ours to delete.
fn is_lock(name: &str) -> bool {
    name.strip_suffix(SUFFIX).is_some_and(|name| {
        let allowed = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
        !name.is_empty() && name.len() <= MAX_NAME && name.bytes().all(allowed)
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::store::Sweep;

    const WAIT: Duration = Duration::from_secs(60);

    fn locks() -> (tempfile::TempDir, SessionLocks) {
        let place = tempfile::tempdir().unwrap();
        let locks = SessionLocks::new(&place.path().join("locks"));
        (place, locks)
    }

    fn names(locks: &SessionLocks) -> Vec<String> {
        let entries = fs::read_dir(locks.directory.path()).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    #[test]
    fn locks_of_different_sessions_do_not_wait_for_each_other() {
        let (_place, locks) = locks();
        let _one = locks.take("a", Duration::ZERO).unwrap();
        let _two = locks.take("b", Duration::ZERO).unwrap();
        let busy = locks.take("a", Duration::from_millis(10)).unwrap_err();
        let Error::Busy { holder, .. } = busy else {
            panic!("{busy}");
        };
        #[cfg(target_os = "linux")]
        assert_eq!(holder.as_deref(), Some("another thread of this process"));
        assert!(locks.is_taken("a").unwrap() && !locks.is_taken("c").unwrap());
        assert!(locks.try_take("b").unwrap().is_none());
    }

    #[test]
    fn what_a_dead_holder_left_is_removed_and_what_is_held_or_foreign_is_not() {
        let (_place, locks) = locks();
        let held = locks.take("a", WAIT).unwrap();
        for name in ["b.lock", "c.lock", "notes.txt", "B.lock", ".lock"] {
            fs::write(locks.directory.path().join(name), "").unwrap();
        }
        let removed = |sweep: Sweep<'_>| locks.remove_abandoned(sweep.clock()).unwrap();
        assert_eq!(removed(Sweep::new().max_time(Duration::ZERO)), 0);
        assert_eq!(removed(Sweep::new()), 2);
        let mut left = names(&locks);
        left.sort();
        assert_eq!(left, [".lock", "B.lock", "a.lock", "notes.txt"]);
        drop(held);
        let mut done = Uninstalled::default();
        locks.uninstall(&mut done).unwrap();
        done.foreign.sort();
        assert_eq!(done.foreign, [".lock", "B.lock", "notes.txt"]);
    }

    #[test]
    fn a_lock_whose_file_was_deleted_by_hand_takes_no_other_with_it() {
        let (_place, locks) = locks();
        let orphaned = locks.take("a", WAIT).unwrap();
        fs::remove_file(locks.directory.path().join("a.lock")).unwrap();
        let other = locks.take("a", WAIT).unwrap();
        drop(orphaned);
        assert!(locks.try_take("a").unwrap().is_none());
        drop(other);
        assert_eq!(names(&locks), [""; 0]);
    }
}
