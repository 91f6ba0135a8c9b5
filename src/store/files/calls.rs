//! System calls on files below a directory: no link in the last place is followed, no pipe is waited
//! for, and what a signal interrupts is tried again.

use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use rlimit::{Resource, getrlimit};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, Dir, Mode, OFlags, Stat, Timespec, Timestamps, UTIME_OMIT};
use rustix::io::{Errno, retry_on_intr};
use rustix::path::Arg;

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

pub(in crate::store) fn open_directory(path: impl Arg + Copy) -> rustix::io::Result<OwnedFd> {
    retry_on_intr(|| rustix::fs::open(path, DIRECTORY, Mode::empty()))
}

pub(in crate::store) fn open_directory_at(
    directory: impl AsFd,
    name: impl Arg + Copy,
) -> rustix::io::Result<OwnedFd> {
    retry_on_intr(|| rustix::fs::openat(&directory, name, DIRECTORY, Mode::empty()))
}

pub(in crate::store) fn open_at(
    directory: impl AsFd,
    name: &str,
    access: OFlags,
) -> rustix::io::Result<File> {
    let flags = access | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    retry_on_intr(|| {
        // Without O_NOATIME the first read after each write would dirty the inode.
        #[cfg(target_os = "linux")]
        match rustix::fs::openat(&directory, name, flags | OFlags::NOATIME, Mode::empty()) {
            // Only the owner may: who else this is, the checks on the opened file will tell.
            Err(Errno::PERM) => {}
            result => return result.map(File::from),
        }
        rustix::fs::openat(&directory, name, flags, Mode::empty()).map(File::from)
    })
}

/// Makes a directory below another one, with all rights of its owner, whatever the umask takes.
pub(in crate::store) fn make_directory(
    directory: impl AsFd,
    name: impl Arg + Copy,
) -> rustix::io::Result<()> {
    retry_on_intr(|| rustix::fs::mkdirat(&directory, name, Mode::RWXU))?;
    #[cfg(target_os = "linux")]
    {
        use std::os::fd::AsRawFd as _;
        // Without rights it cannot be opened but as a path; no other may have come into its place.
        let flags = DIRECTORY.union(OFlags::PATH);
        let made = retry_on_intr(|| rustix::fs::openat(&directory, name, flags, Mode::empty()))?;
        if !Mode::from_raw_mode(stat(&made)?.st_mode).contains(Mode::RWXU) {
            let made = format!("/proc/self/fd/{}", made.as_raw_fd());
            retry_on_intr(|| rustix::fs::chmod(&*made, Mode::RWXU))?;
        }
    }
    Ok(())
}

/// Gives the owner of a file that was just made the rights that the umask took. The first file tells for all.
pub(in crate::store) fn grant(file: &OwnedFd) -> rustix::io::Result<()> {
    const RIGHTS: Mode = Mode::RUSR.union(Mode::WUSR);
    static ARE_LEFT: OnceLock<bool> = OnceLock::new();
    let has_all = |stat: Stat| Mode::from_raw_mode(stat.st_mode).contains(RIGHTS);
    if *ARE_LEFT.get_or_init(|| stat(file).is_ok_and(has_all)) {
        return Ok(());
    }
    retry_on_intr(|| rustix::fs::fchmod(file, RIGHTS))
}

pub(in crate::store) fn stat(file: impl AsFd) -> rustix::io::Result<Stat> {
    retry_on_intr(|| rustix::fs::fstat(&file))
}

/// What has this name, be it a link.
pub(in crate::store) fn stat_at(directory: impl AsFd, name: &str) -> rustix::io::Result<Stat> {
    retry_on_intr(|| rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW))
}

pub(in crate::store) fn unlink_at(directory: impl AsFd, name: &str) -> rustix::io::Result<()> {
    retry_on_intr(|| rustix::fs::unlinkat(&directory, name, AtFlags::empty()))
}

/// Calls `visit` with every name in a directory until it breaks.
pub(in crate::store) fn each_name(
    directory: &OwnedFd,
    mut visit: impl FnMut(&[u8]) -> ControlFlow<()>,
) -> rustix::io::Result<()> {
    let mut entries = retry_on_intr(|| Dir::read_from(directory))?;
    while let Some(entry) = entries.read() {
        if visit(entry?.file_name().to_bytes()).is_break() {
            break;
        }
    }
    Ok(())
}

/// Waits until the disk has a file, or the names in a directory.
pub(in crate::store) fn sync(file: impl AsFd) -> rustix::io::Result<()> {
    retry_on_intr(|| rustix::fs::fsync(&file))
}

/// Waits until the disk has the names in a directory that is not ours, and may be a link.
pub(in crate::store) fn sync_path(path: &Path) -> rustix::io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    sync(retry_on_intr(|| {
        rustix::fs::open(path, flags, Mode::empty())
    })?)
}

pub(in crate::store) fn write_all_at(file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
    check_end(at.saturating_add(bytes.len() as u64))?;
    file.write_all_at(bytes, at)
}

/// Refuses a write that ends behind what a file may have (`RLIMIT_FSIZE`): where SIGXFSZ is not handled, it
/// would end the program. The limit is asked for once in a process.
pub(in crate::store) fn check_end(end: u64) -> io::Result<()> {
    static LIMIT: OnceLock<u64> = OnceLock::new();
    // A sandbox may forbid the question.
    let limit = LIMIT.get_or_init(|| getrlimit(Resource::FSIZE).map_or(u64::MAX, |(soft, _)| soft));
    if end > *limit {
        return Err(Errno::FBIG.into());
    }
    Ok(())
}

/// Sets the time of the last change. `File::set_modified` has seconds of 32 bits with musl on 32 bits.
pub(in crate::store) fn set_time(file: &File, time: SystemTime) -> io::Result<()> {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let times = Timestamps {
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        },
        last_modification: since.try_into().map_err(|_| Errno::OVERFLOW)?,
    };
    Ok(retry_on_intr(|| rustix::fs::futimens(file, &times))?)
}

/// Does what a signal may interrupt.
pub(in crate::store) fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}
