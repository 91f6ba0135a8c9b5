//! [`PrivateDirectory`]: a directory that a process keeps while it runs; and files in whose place others may have put
//! something else.

use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use tempfile::TempDir;

/// The prefix of the directories of `cgi-session start`, in the directory for temporary files.
pub(crate) const START: &str = "cgi-session-start-";
/// The prefix of the directories of `check --stress`, beside the sessions.
pub(crate) const STRESS: &str = ".cgi-session-stress-";

/// A directory that no other user can look into, removed with this value. It is locked while its process
/// lives; without the lock [`remove_left`] removes it.
#[derive(Debug)]
pub(crate) struct PrivateDirectory {
    directory: TempDir,
    _lock: File,
}

impl PrivateDirectory {
    /// Creates a directory with this prefix in `parent`.
    pub(crate) fn create(parent: &Path, prefix: &str) -> io::Result<Self> {
        loop {
            let directory = tempfile::Builder::new()
                .prefix(prefix)
                .permissions(Permissions::from_mode(0o700))
                .tempdir_in(parent)?;
            let lock = match File::open(directory.path()) {
                // Before it was locked, it was taken for what a killed process had left.
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                opened => opened?,
            };
            // Where there are no locks, nothing is removed.
            let _ = lock.lock();
            if fs::symlink_metadata(directory.path())
                .is_ok_and(|found| lock.metadata().is_ok_and(|own| own.ino() == found.ino()))
            {
                return Ok(PrivateDirectory {
                    directory,
                    _lock: lock,
                });
            }
        }
    }

    /// The directory.
    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }
}

/// Removes what killed processes of this user have left under this prefix, as far as it is among the first
/// `limit` entries of `parent`.
pub(crate) fn remove_left(parent: &Path, prefix: &str, limit: usize) {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    for entry in entries.take(limit) {
        let name = entry.file_name();
        if name.as_encoded_bytes().starts_with(prefix.as_bytes())
            && let Ok(Some(_lock)) = locked(&entry.path())
        {
            // Another process may have been faster, and the next one tries again.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// The lock of a directory of this user that no process has.
fn locked(path: &Path) -> io::Result<Option<File>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    let is_own = directory.metadata()?.uid() == rustix::process::geteuid().as_raw();
    Ok(Some(directory).filter(|directory| is_own && directory.try_lock().is_ok()))
}

/// Opens a regular file. To open a named pipe in its place would wait for ever.
pub(crate) fn open_regular(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::other("it is no regular file"))
    }
}
