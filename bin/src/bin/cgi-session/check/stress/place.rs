//! [`Place`]: a directory for a storm beside the sessions, gone when the storm is over.
//!
//! Once it is made it is known by its descriptor: what lies under its name later may be another's.

use std::ffi::CStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process;
use std::thread;
use std::time::Duration;

use cgi_session_tools::owner::{Account, is_roots_alone};
use cgi_session_tools::report;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, Dir, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

const PREFIX: &str = ".cgi-session-stress-";

/// Whoever has made it holds the lock of the directory, which says that a storm is under way.
pub(super) struct Place {
    path: PathBuf,
    made: Option<Made>,
}

struct Made {
    home: OwnedFd,
    directory: File,
}

/// The directory that a store beside this one would lie in: on the same file system.
pub(super) fn beside(directory: &Path) -> PathBuf {
    let parent = directory.parent().unwrap_or(directory);
    let device = |path: &Path| fs::metadata(path).ok().map(|found| found.dev());
    match device(directory) {
        // A file system of its own is mounted there.
        Some(own) if Some(own) != device(parent) => directory.to_owned(),
        _ => parent.to_owned(),
    }
}

impl Place {
    /// Makes a directory in `home` for this user, and removes what killed runs have left there. As root
    /// it does so only where no other user can put something in the place of what it makes.
    pub(super) fn make(home: &Path, owner: &Account) -> io::Result<Self> {
        let current = Account::current();
        let home = fs::canonicalize(home)?;
        if current.is_root() && !is_roots_alone(&home) {
            let reason = "as root nothing is made where other users could replace it";
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, reason));
        }
        let opened = open(rustix::fs::CWD, &home, OFlags::NOFOLLOW)?;
        remove_left(&opened, owner)?;
        let name = format!("{PREFIX}{}-{:08x}", process::id(), fastrand::u32(..));
        rustix::fs::mkdirat(&opened, name.as_str(), Mode::RWXU)?;
        let directory = File::from(open(&opened, name.as_str(), OFlags::NOFOLLOW)?);
        // Where there are no locks, the storm itself will tell.
        let _ = directory.try_lock();
        let place = Place {
            path: home.join(name),
            made: Some(Made {
                home: opened,
                directory,
            }),
        };
        if let Some(made) = place.made.as_ref().filter(|_| current.uid != owner.uid) {
            std::os::unix::fs::fchown(&made.directory, Some(owner.uid), Some(owner.gid))?;
        }
        Ok(place)
    }

    /// A directory that another process has made, and will remove.
    pub(super) fn lent(path: PathBuf) -> Self {
        Place { path, made: None }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(Made { home, directory }) = &self.made else {
            return;
        };
        if let Some(name) = self.path.file_name()
            && let Err(error) = remove(home, name, directory)
        {
            let shown = self.path.display();
            report::error(&format!(
                "cannot remove {shown}: {error}; try: rm -r {shown}"
            ));
        }
    }
}

fn open(
    base: impl AsFd,
    path: impl rustix::path::Arg,
    flags: OFlags,
) -> rustix::io::Result<OwnedFd> {
    let flags = flags | OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(base, path, flags, Mode::empty())
}

/// Removes the directories of runs that were killed before they could.
fn remove_left(home: &OwnedFd, owner: &Account) -> io::Result<()> {
    let ours = [owner.uid, Account::current().uid];
    for entry in Dir::read_from(home)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(process) = name.to_str().ok().and_then(process_of) else {
            continue;
        };
        // What is no directory, or is not for us, is none of a storm that could be over.
        let Ok(directory) = open(home, name, OFlags::NOFOLLOW).map(File::from) else {
            continue;
        };
        // Its process is gone, and the lock with it: where locks do not work, the one must not be
        // taken for the other.
        let is_over = ours.contains(&directory.metadata()?.uid())
            && directory.try_lock().is_ok()
            && test_kill_process(process) == Err(Errno::SRCH);
        if is_over && let Err(error) = remove(home, name, &directory) {
            let name = name.to_string_lossy();
            report::error(&format!(
                "cannot remove {name}, which a run has left: {error}"
            ));
        }
    }
    Ok(())
}

/// The process that has made a directory of this name.
fn process_of(name: &str) -> Option<Pid> {
    let (process, random) = name.strip_prefix(PREFIX)?.split_once('-')?;
    let is_random = random.len() == 8 && random.bytes().all(|byte| byte.is_ascii_hexdigit());
    Pid::from_raw(process.parse().ok().filter(|_| is_random)?)
}

/// Removes a directory that is open, if it still has this name, with all that is in it.
fn remove(home: &OwnedFd, name: impl rustix::path::Arg + Copy, directory: &File) -> io::Result<()> {
    let mut tries = 0;
    loop {
        empty(directory)?;
        let (found, own) = (
            rustix::fs::statat(home, name, AtFlags::SYMLINK_NOFOLLOW)?,
            directory.metadata()?,
        );
        if (found.st_dev, found.st_ino) != (own.dev(), own.ino()) {
            return Err(io::Error::other("another file has its name now"));
        }
        match rustix::fs::unlinkat(home, name, AtFlags::REMOVEDIR) {
            // A process of a killed run, about to end, may still have written there.
            Err(Errno::NOTEMPTY) if tries < 100 => {
                tries += 1;
                thread::sleep(Duration::from_millis(10));
            }
            removed => return Ok(removed?),
        }
    }
}

/// Removes what is in a directory, and follows no link.
fn empty(directory: impl AsFd) -> io::Result<()> {
    let directory = directory.as_fd();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name: &CStr = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let removed = match open(directory, name, OFlags::NOFOLLOW) {
            Ok(inner) => {
                empty(&inner)?;
                rustix::fs::unlinkat(directory, name, AtFlags::REMOVEDIR)
            }
            _ => rustix::fs::unlinkat(directory, name, AtFlags::empty()),
        };
        if !matches!(removed, Ok(()) | Err(Errno::NOENT | Errno::NOTEMPTY)) {
            removed?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_directories_of_storms_are_known_by_name() {
        let known = |name: &str| process_of(name).map(Pid::as_raw_pid);
        assert_eq!(known(".cgi-session-stress-12-0123abcd"), Some(12));
        for name in [
            "cgi-session",
            ".cgi-session-stress-12",
            ".cgi-session-stress-0-0123abcd",
            ".cgi-session-stress-12-0123",
            ".cgi-session-stress-x-0123abcd",
        ] {
            assert_eq!(known(name), None, "{name}");
        }
    }
}
