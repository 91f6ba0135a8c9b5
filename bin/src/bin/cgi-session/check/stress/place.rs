//! [`Place`]: a directory for a storm beside the sessions, gone when the storm is over.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process;
use std::thread;
use std::time::Duration;

use cgi_session_tools::owner::Account;
use cgi_session_tools::report;
use rustix::fs::{Gid, Mode, OFlags, Uid};
use rustix::process::{Pid, test_kill_process};

const PREFIX: &str = ".cgi-session-stress-";
/// The file whose lock says that a storm is under way.
const MARK: &str = "running";

pub(super) struct Place {
    path: PathBuf,
    /// Held as long as the directory is needed, by whoever has made it.
    mark: Option<File>,
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
    /// Makes a directory in `home` for this user, and removes what killed runs have left there.
    pub(super) fn make(home: &Path, owner: &Account) -> io::Result<Self> {
        remove_left(home, owner)?;
        let path = home.join(format!(
            "{PREFIX}{}-{:08x}",
            process::id(),
            fastrand::u32(..)
        ));
        DirBuilder::new().mode(0o700).create(&path)?;
        match mark(&path, owner) {
            Ok(mark) => Ok(Place {
                path,
                mark: Some(mark),
            }),
            Err(error) => {
                remove(&path);
                Err(error)
            }
        }
    }

    /// A directory that another process has made, and will remove.
    pub(super) fn lent(path: PathBuf) -> Self {
        Place { path, mark: None }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.mark.is_some() {
            remove(&self.path);
        }
    }
}

fn mark(path: &Path, owner: &Account) -> io::Result<File> {
    let mark = File::create_new(path.join(MARK))?;
    // Where there are no locks, the storm itself will tell.
    let _ = mark.try_lock();
    if Account::current().uid != owner.uid {
        // By its descriptor: whoever may write in `home` could put a link in its place.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = rustix::fs::open(path, flags, Mode::empty())?;
        let (uid, gid) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
        rustix::fs::fchown(&directory, Some(uid), Some(gid))?;
    }
    Ok(mark)
}

/// Removes the directories of runs that were killed before they could.
fn remove_left(home: &Path, owner: &Account) -> io::Result<()> {
    let ours = [owner.uid, Account::current().uid];
    for entry in fs::read_dir(home)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(process) = name.to_str().and_then(process_of) else {
            continue;
        };
        let found = entry.metadata()?;
        if found.is_dir() && ours.contains(&found.uid()) && is_over(&entry.path(), process) {
            remove(&entry.path());
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

/// Whether nobody needs the directory: its process is gone, and the lock with it. Where locks do
/// not work, the one must not be taken for the other.
fn is_over(path: &Path, process: Pid) -> bool {
    let mark = File::open(path.join(MARK));
    let is_free = mark.is_ok_and(|mark| mark.try_lock().is_ok());
    is_free && test_kill_process(process) == Err(rustix::io::Errno::SRCH)
}

fn remove(path: &Path) {
    let mut removed = fs::remove_dir_all(path);
    for _ in 0..100 {
        // A process of a killed run, about to end, may still have written there.
        match &removed {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {
                thread::sleep(Duration::from_millis(10));
                removed = fs::remove_dir_all(path);
            }
            _ => break,
        }
    }
    if let Err(error) = removed {
        let shown = path.display();
        report::error(&format!(
            "cannot remove {shown}: {error}; try: rm -r {shown}"
        ));
    }
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
