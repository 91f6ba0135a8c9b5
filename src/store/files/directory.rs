//! The directory of the session files: opened once, checked, and every name resolved below it.

use std::fs::{self, DirEntry, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Access, CWD, FileType, Mode, OFlags, Stat};
use rustix::io::{Errno, retry_on_intr};

use super::lock::LockedFile;
use super::{calls, own};
use crate::error::{Error, Result, shell_word};
use crate::id::SessionDigest;
use crate::mutex;
use crate::store::age_of_sweep;

/// How long an opened directory is trusted to be the one that the path names. Within this time
/// a program notices that an administrator has moved the directory away.
const RECHECK: Duration = Duration::from_secs(1);

/// `storageFileDir`, and the only way to the files in it.
#[derive(Debug)]
pub(in crate::store) struct Directory {
    path: PathBuf,
    shards: bool,
    /// Who we are, and so who must own the directory and every file in it.
    uid: u32,
    opened: Mutex<Option<Opened>>,
    /// We have created the directory, and its name is not synced yet.
    parent_needs_sync: AtomicBool,
}

#[derive(Debug)]
struct Opened {
    handle: Arc<OwnedFd>,
    checked: SystemTime,
}

/// When a wait begins; no clock is read for none.
fn start_of(wait: Duration) -> Option<Instant> {
    (!wait.is_zero()).then(Instant::now)
}

impl Directory {
    pub(in crate::store) fn new(path: &Path, shards: bool) -> Self {
        // Without a slash at the end, which would follow a link in spite of O_NOFOLLOW.
        Directory {
            path: path.components().collect(),
            shards,
            uid: rustix::process::geteuid().as_raw(),
            opened: Mutex::new(None),
            parent_needs_sync: AtomicBool::new(false),
        }
    }

    pub(in crate::store) fn path(&self) -> &Path {
        &self.path
    }

    /// The name of a session's file below the directory.
    pub(in crate::store) fn file_name(&self, digest: &SessionDigest) -> String {
        self.name_of(digest.as_str(), ".json")
    }

    /// The name below the directory of what is called by a digest.
    pub(in crate::store) fn name_of(&self, digest: &str, ending: &str) -> String {
        Self::name_in(self.shards, digest, ending)
    }

    /// The name that a file would have with shards or without.
    pub(in crate::store) fn name_in(in_shards: bool, digest: &str, ending: &str) -> String {
        // concat() takes three times as many instructions, at each opening.
        let mut name = String::with_capacity(digest.len() + ending.len() + 3);
        if let Some(shard) = digest.get(..2).filter(|_| in_shards) {
            name.push_str(shard);
            name.push('/');
        }
        name.push_str(digest);
        name.push_str(ending);
        name
    }

    /// A new name for a file that will take the place of `name`, in the same directory as it.
    pub(in crate::store) fn temporary_name(name: &str, random: u64) -> String {
        let shard = name.rfind('/').map_or("", |slash| &name[..=slash]);
        format!("{shard}.tmp-{}-{random:016x}", std::process::id())
    }

    /// The opened directory, which is created if there is none.
    pub(in crate::store) fn create(&self) -> Result<Arc<OwnedFd>> {
        let opened = self.open(true, SystemTime::now())?;
        opened.ok_or_else(|| self.failed("cannot open the directory", "", Errno::NOENT))
    }

    /// The opened directory, if there is one.
    pub(in crate::store) fn handle(&self) -> Result<Option<Arc<OwnedFd>>> {
        self.open(false, SystemTime::now())
    }

    fn open(&self, creates: bool, now: SystemTime) -> Result<Option<Arc<OwnedFd>>> {
        let mut opened = mutex::lock(&self.opened);
        if let Some(current) = opened.as_mut() {
            let age = now.duration_since(current.checked);
            // Of two requests the one that looks later may have begun earlier.
            if age.unwrap_or_else(|error| error.duration()) < RECHECK {
                return Ok(Some(Arc::clone(&current.handle)));
            }
            if self.is_good_still(&current.handle) {
                current.checked = now;
                return Ok(Some(Arc::clone(&current.handle)));
            }
        }
        *opened = None;
        let Some(handle) = self.open_directory(creates)? else {
            return Ok(None);
        };
        let handle = Arc::new(handle);
        *opened = Some(Opened {
            handle: Arc::clone(&handle),
            checked: now,
        });
        Ok(Some(handle))
    }

    /// Every reason why the directory, which is there, cannot be used.
    pub(in crate::store) fn problems(&self) -> Vec<Error> {
        match rustix::fs::lstat(&self.path) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
                directory_problems(&self.path, &stat, self.uid).collect()
            }
            _ => Vec::new(),
        }
    }

    /// The same of an opened shard.
    pub(in crate::store) fn problems_of(&self, shard: &str, handle: &OwnedFd) -> Vec<Error> {
        match calls::stat(handle) {
            Ok(stat) => directory_problems(&self.path.join(shard), &stat, self.uid).collect(),
            Err(errno) => vec![self.failed("cannot examine", shard, errno)],
        }
    }

    /// How long ago a clean-up ended, by the time of its lock.
    pub(in crate::store) fn age_of_sweep(&self, lock: &str, now: SystemTime) -> Option<Duration> {
        let stat = self.at(|directory| calls::stat_at(directory, lock)).ok()?;
        age_of_sweep(modified(&stat), now)
    }

    /// Forgets the opened directory, so that the path is looked up again.
    pub(in crate::store) fn reopen(&self) {
        *mutex::lock(&self.opened) = None;
    }

    /// Removes the directory, in which nothing is left.
    pub(in crate::store) fn remove(&self) -> Result<()> {
        self.reopen();
        rustix::fs::rmdir(&self.path).map_err(|errno| {
            let hint = match errno {
                Errno::NOTEMPTY | Errno::EXIST => {
                    "a session was begun meanwhile: stop the programs first, and run it again"
                }
                _ => "it is empty; remove it by hand, as its parent's owner",
            };
            Error::io("cannot remove", &self.path, errno.into()).with_hint(hint)
        })
    }

    fn is_good_still(&self, handle: &OwnedFd) -> bool {
        match (rustix::fs::lstat(&self.path), calls::stat(handle)) {
            (Ok(named), Ok(held)) => {
                let mut problems = directory_problems(&self.path, &named, self.uid);
                is_same(&named, &held) && problems.next().is_none()
            }
            _ => false,
        }
    }

    fn open_directory(&self, creates: bool) -> Result<Option<OwnedFd>> {
        let mut result = calls::open_directory(&*self.path);
        if matches!(result, Err(Errno::NOENT)) && creates {
            match calls::make_directory(CWD, &*self.path) {
                // It was made just now, by us or by another program.
                Ok(()) | Err(Errno::EXIST) => self.parent_needs_sync.store(true, Ordering::Relaxed),
                Err(errno) => return Err(self.advised("cannot create", "", errno)),
            }
            result = calls::open_directory(&*self.path);
        }
        match result {
            Ok(handle) => {
                let stat = calls::stat(&handle);
                let stat = stat.map_err(|errno| self.failed("cannot examine", "", errno))?;
                let problem = directory_problems(&self.path, &stat, self.uid).next();
                problem.map_or(Ok(Some(handle)), Err)
            }
            Err(Errno::NOENT) if !creates => Ok(None),
            Err(Errno::NOTDIR | Errno::LOOP) => {
                let reason = if self.path.is_symlink() {
                    "is a symbolic link"
                } else {
                    "is not a directory"
                };
                Err(Error::refused(&self.path, reason)
                    .with_hint("it must be a directory of its own, not a link to one"))
            }
            Err(errno) => Err(self.advised("cannot open the directory", "", errno)),
        }
    }

    /// Opens an existing session file for reading or writing; `None` when there is none.
    pub(in crate::store) fn open_file(&self, name: &str, access: OFlags) -> Result<Option<File>> {
        self.open_file_at(name, access, SystemTime::now())
    }

    /// The same for a caller who knows what time it is.
    pub(in crate::store) fn open_file_at(
        &self,
        name: &str,
        access: OFlags,
        now: SystemTime,
    ) -> Result<Option<File>> {
        let Some(directory) = self.open(false, now)? else {
            return Ok(None);
        };
        match calls::open_at(&directory, name, access) {
            Ok(file) => Ok(Some(file)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(self.explain_open(&directory, name, errno)),
        }
    }

    /// Creates a file that must not exist yet; `None` when it does. Its mode is 0600.
    pub(in crate::store) fn create_file(&self, name: &str) -> Result<Option<File>> {
        let mut tries = 0;
        loop {
            let directory = self.create()?;
            let flags =
                OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            match rustix::fs::openat(&*directory, name, flags, Mode::RUSR | Mode::WUSR) {
                Ok(file) => {
                    return match calls::grant(&file) {
                        Ok(()) => Ok(Some(file.into())),
                        Err(errno) => {
                            self.discard(name);
                            Err(self.failed("cannot set the mode of", name, errno))
                        }
                    };
                }
                Err(Errno::EXIST) => return Ok(None),
                Err(Errno::INTR) => {}
                // A shard is made when it is first needed; a directory that is gone is made again,
                // and then its shard.
                Err(Errno::NOENT) if tries < 3 => {
                    tries += 1;
                    match name.split_once('/') {
                        Some((shard, _)) => self.create_shard(&directory, shard)?,
                        None => self.reopen(),
                    }
                }
                Err(errno) => {
                    let (action, name) = match name {
                        ".gc" | ".count" | ".users" | ".sweep" => ("cannot create", name),
                        _ => ("cannot create a session file in", ""),
                    };
                    return Err(self.advised(action, name, errno));
                }
            }
        }
    }

    /// Opens a file and takes its lock, waiting up to `wait`; `None` when there is none.
    ///
    /// After every lock the link count is looked at: a file that was deleted or replaced meanwhile has none,
    /// and the name is looked up again.
    pub(in crate::store) fn lock(&self, name: &str, wait: Duration) -> Result<Option<Locked>> {
        self.lock_since(start_of(wait), name, wait)
    }

    /// As [`Directory::lock`], of a file that is created when it is first needed.
    pub(in crate::store) fn lock_or_create(&self, name: &str, wait: Duration) -> Result<Locked> {
        let started = start_of(wait);
        loop {
            if let Some(locked) = self.lock_since(started, name, wait)? {
                return Ok(locked);
            }
            if let Some(file) = self.create_file(name)?
                && let Some(locked) = self.lock_file(file, name, started, wait)?
            {
                return Ok(locked);
            }
        }
    }

    fn lock_since(
        &self,
        started: Option<Instant>,
        name: &str,
        wait: Duration,
    ) -> Result<Option<Locked>> {
        while let Some(file) = self.open_file(name, OFlags::RDWR)? {
            if let Some(locked) = self.lock_file(file, name, started, wait)? {
                return Ok(Some(locked));
            }
        }
        Ok(None)
    }

    /// Takes the lock of an opened file; `None` when it was deleted or replaced meanwhile.
    pub(in crate::store) fn lock_file(
        &self,
        file: File,
        name: &str,
        started: Option<Instant>,
        wait: Duration,
    ) -> Result<Option<Locked>> {
        let left = started.map_or(wait, |started| wait.saturating_sub(started.elapsed()));
        let file = LockedFile::exclusive(file, left, wait, || self.path.join(name))?;
        Ok(self.examine(&*file, name)?.map(|stat| (file, stat)))
    }

    /// Opens a file and takes its lock; `None` when there is none, or its lock is not free.
    pub(in crate::store) fn try_lock(&self, name: &str) -> Result<Option<Locked>> {
        Ok(if_free(self.lock(name, Duration::ZERO))?.flatten())
    }

    /// As [`Directory::try_lock`], of a file that is created when it is first needed.
    pub(in crate::store) fn try_lock_or_create(&self, name: &str) -> Result<Option<LockedFile>> {
        let locked = if_free(self.lock_or_create(name, Duration::ZERO))?;
        Ok(locked.map(|(file, _)| file))
    }

    fn create_shard(&self, directory: &OwnedFd, shard: &str) -> Result<()> {
        match calls::make_directory(directory, shard) {
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            // The directory itself is gone; the caller looks it up again.
            Err(Errno::NOENT) => {
                self.reopen();
                Ok(())
            }
            Err(errno) => Err(self.failed("cannot create", shard, errno)),
        }
    }

    /// Whether `name` still leads to this open file, and not to nothing or to another one: a program that keeps no
    /// protocol may have ended the session, or has moved the whole directory away.
    pub(in crate::store) fn leads_to(&self, name: &str, file: impl AsFd) -> Result<bool> {
        let named = self.at(|directory| calls::stat_at(directory, name));
        let is_same = |held| match named {
            Err(Errno::NOENT) => Ok(false),
            named => named.map(|named| is_same(&named, &held)),
        };
        let leads = calls::stat(file).and_then(is_same);
        leads.map_err(|errno| self.failed("cannot examine", name, errno))
    }

    /// Whether anything has this name. What cannot be found out counts as there.
    pub(in crate::store) fn has(&self, name: &str) -> bool {
        let stat = |directory: &OwnedFd| calls::stat_at(directory, name).map(drop);
        self.at(stat) != Err(Errno::NOENT)
    }

    /// Puts the file `from` in the place of `to`.
    pub(in crate::store) fn rename(&self, from: &str, to: &str) -> Result<()> {
        let renamed = self
            .at(|directory| retry_on_intr(|| rustix::fs::renameat(directory, from, directory, to)));
        renamed.map_err(|errno| self.failed("cannot replace", to, errno))
    }

    /// Deletes a file; one that is gone already is no error.
    pub(in crate::store) fn unlink(&self, name: &str) -> Result<()> {
        match self.at(|directory| calls::unlink_at(directory, name)) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(self.advised("cannot delete", name, errno)),
        }
    }

    /// Waits until the disk has the names in the directory that `name` lies in, and the directory's
    /// own, if we have made it.
    pub(in crate::store) fn sync(&self, name: &str) -> Result<()> {
        let synced = self.at(|directory| match name.split_once('/') {
            None => calls::sync(directory),
            Some((shard, _)) => {
                calls::sync(calls::open_directory_at(directory, shard)?)?;
                calls::sync(directory)
            }
        });
        let failed =
            |path: &Path, errno: Errno| Error::io("cannot sync the directory", path, errno.into());
        synced.map_err(|errno| failed(&self.path, errno))?;
        if self.parent_needs_sync.load(Ordering::Relaxed) {
            let parent = self.path.parent().filter(|path| *path != Path::new(""));
            let parent = parent.unwrap_or(Path::new("."));
            calls::sync_path(parent).map_err(|errno| failed(parent, errno))?;
            self.parent_needs_sync.store(false, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Runs a call below the directory.
    fn at<T>(&self, call: impl Fn(&OwnedFd) -> rustix::io::Result<T>) -> rustix::io::Result<T> {
        match self.handle() {
            Ok(Some(directory)) => call(&directory),
            Ok(None) => Err(Errno::NOENT),
            Err(error) => {
                // The call has room for a number alone.
                log::error!("{}", error.one_line());
                Err(Errno::NOTDIR)
            }
        }
    }

    /// Checks an opened file: regular, ours alone, and under one name. `None` when it was deleted or replaced
    /// after it was opened: look the name up again.
    pub(in crate::store) fn examine(&self, file: impl AsFd, name: &str) -> Result<Option<Stat>> {
        own::examine(file, self.uid, || self.path.join(name))
    }

    /// The error of a call on what has this name below the directory.
    pub(in crate::store) fn failed(
        &self,
        action: &'static str,
        name: &str,
        cause: impl Into<io::Error>,
    ) -> Error {
        let path = match name {
            "" => self.path.clone(),
            name => self.path.join(name),
        };
        let cause = cause.into();
        let advice =
            Errno::from_io_error(&cause).and_then(|errno| system_advice(&self.path, errno));
        Error::io(action, path, cause).with_hint(advice.unwrap_or_default())
    }

    fn advised(&self, action: &'static str, name: &str, errno: Errno) -> Error {
        let advice = advice(&self.path, errno);
        self.failed(action, name, errno).with_hint(advice)
    }

    /// Deletes a half-written file on the way out; what stays is left to the clean-up.
    pub(in crate::store) fn discard(&self, name: &str) {
        if let Err(error) = self.unlink(name) {
            log::warn!("{}", error.one_line());
        }
    }

    fn explain_open(&self, directory: &OwnedFd, name: &str, errno: Errno) -> Error {
        own::refusal(&self.path.join(name), errno).unwrap_or_else(|| {
            let hint = system_advice(&self.path, errno).unwrap_or_else(|| {
                calls::stat_at(directory, name).map_or_else(
                    |_| advice(&self.path, errno),
                    |stat| match stat.st_uid {
                        uid if uid == self.uid => ownership("the file", &stat),
                        uid => {
                            let file = shell_word(&self.path.join(name));
                            format!("{} {file}", wrong_owner(uid, self.uid))
                        }
                    },
                )
            });
            self.failed("cannot open", name, errno).with_hint(hint)
        })
    }
}

/// A file with its lock, as it was found then.
pub(in crate::store) type Locked = (LockedFile, Stat);

/// What came of taking a lock, unless another process or thread has it.
pub(in crate::store) fn if_free<T>(locked: Result<T>) -> Result<Option<T>> {
    match locked {
        Err(Error::Busy { .. }) => Ok(None),
        locked => locked.map(Some),
    }
}

/// What to do about a directory that is no place for sessions.
const NAME_ANOTHER: &str =
    "it is not for sessions alone: name a directory of its own in storageFileDir";

/// Where each directory is the system's, and in `/var` only some are, though they may be empty.
const SYSTEM: [&str; 5] = ["/boot", "/dev", "/etc", "/usr", "/usr/local"];
const OF_VAR: [&str; 11] = [
    "backups", "cache", "lib", "local", "lock", "log", "mail", "opt", "run", "spool", "tmp",
];

/// Whether a directory is for sessions alone, as far as its name and its entries show: its owner and mode may be
/// changed then. It is not one of the system's, and holds nothing else.
#[must_use]
pub fn is_dedicated(path: &Path) -> bool {
    let is_ours = |name: &[u8]| {
        let shard = |digit: &u8| matches!(digit, b'0'..=b'9' | b'a'..=b'f');
        let own = matches!(name, b".gc" | b".count" | b".users" | b".sweep");
        let digest = name.get(..SessionDigest::LENGTH);
        own || name.starts_with(b".tmp-")
            || name.len() == 2 && name.iter().all(shard)
            || digest.is_some_and(|digest| SessionDigest::parse(digest).is_some())
    };
    let is_ours = |entry: io::Result<DirEntry>| match entry {
        Ok(entry) => is_ours(entry.file_name().as_encoded_bytes()),
        Err(_) => true,
    };
    // Where users share a directory, its mode says so (`/var/tmp`, `/var/mail`), even as long as it is empty.
    let is_shared = rustix::fs::stat(path).is_ok_and(|found| {
        let mode = Mode::from_raw_mode(found.st_mode);
        mode.contains(Mode::SVTX) || mode.contains(Mode::SGID | Mode::WGRP)
    });
    let is_of_system = SYSTEM
        .iter()
        .any(|parent| path.parent() == Some(Path::new(parent)))
        || OF_VAR
            .iter()
            .any(|name| path == Path::new("/var").join(name));
    // What cannot be listed is closed to others, as one for sessions is.
    path.components().count() > 2
        && !is_shared
        && !is_of_system
        && fs::read_dir(path).map_or(true, |mut all| all.all(is_ours))
}

/// What is wrong with the owner and the mode of a directory.
fn directory_problems(path: &Path, stat: &Stat, uid: u32) -> impl Iterator<Item = Error> {
    let problem = move |reason: String, command: String| {
        let refused = Error::refused(path, reason);
        if is_dedicated(path) {
            refused.with_hint(format!("{command} {}", shell_word(path)))
        } else {
            refused.with_hint(NAME_ANOTHER)
        }
    };
    let owner = (stat.st_uid != uid).then(|| {
        let reason = format!("belongs to uid {}", stat.st_uid);
        problem(reason, wrong_owner(stat.st_uid, uid))
    });
    let mode = Mode::from_raw_mode(stat.st_mode);
    let mode = mode.intersects(Mode::WGRP | Mode::WOTH).then(|| {
        let reason = format!("can be written by others (mode {:04o})", mode.bits());
        problem(reason, "try: chmod 0700".to_owned())
    });
    owner.into_iter().chain(mode)
}

/// What to do about a failed call: of most, who we are, what the nearest existing directory is,
/// and the command that mends it.
fn advice(path: &Path, errno: Errno) -> String {
    if let Some(advice) = system_advice(path, errno) {
        return advice;
    }
    if path.is_dir() && !is_dedicated(path) {
        return NAME_ANOTHER.to_owned();
    }
    let uid = rustix::process::geteuid().as_raw();
    let gid = rustix::process::getegid().as_raw();
    if let Some(stat) = rustix::fs::stat(path).ok().filter(|it| it.st_uid != uid) {
        return format!("{} {}", wrong_owner(stat.st_uid, uid), shell_word(path));
    }
    let described = path.ancestors().find_map(|above| {
        let stat = rustix::fs::stat(above).ok()?;
        let is_closed = rustix::fs::access(above, Access::EXEC_OK).is_err();
        Some((ownership(&above.display().to_string(), &stat), is_closed))
    });
    let described = described.unwrap_or_else(|| (format!("running as uid {uid}"), false));
    let (described, is_closed) = described;
    if is_closed && !path.exists() {
        // What another user has closed may be closed for a reason.
        return format!(
            "{described} and closed to it; name a directory elsewhere in storageFileDir"
        );
    }
    let path = shell_word(path);
    format!("{described}; try: install -d -m 0700 -o {uid} -g {gid} {path}")
}

/// What to do about a directory of another user, up to its name: given away, it is lost to the programs that use
/// it. Root's should be nobody's.
fn wrong_owner(owner: u32, uid: u32) -> String {
    let first = match owner {
        0 => "try:".to_owned(),
        _ => format!("run it as uid {owner}: sudo -u '#{owner}' …; or, if nothing else uses that:"),
    };
    format!("running as uid {uid}; {first} chown -R {uid}")
}

/// What to do about a failure that has nothing to do with owners and modes.
fn system_advice(path: &Path, errno: Errno) -> Option<String> {
    Some(match errno {
        Errno::NOSPC | Errno::DQUOT => {
            "make room, or raise the quota; try: df and df -i, which show space and inodes"
                .to_owned()
        }
        Errno::FBIG => "no file of this program may be so long; try: ulimit -f with a higher number, or LimitFSIZE of its \
            unit"
            .to_owned(),
        Errno::MFILE | Errno::NFILE => {
            "too many files are open; try: ulimit -n with a higher number".to_owned()
        }
        Errno::ROFS => {
            let place = path.display();
            format!("try: mount -o remount,rw on the file system that holds {place}")
        }
        _ => return None,
    })
}

fn ownership(what: &str, stat: &Stat) -> String {
    let mode = Mode::from_raw_mode(stat.st_mode).bits();
    let uid = rustix::process::geteuid().as_raw();
    format!(
        "running as uid {uid}; {what} is {mode:04o} {}:{}",
        stat.st_uid, stat.st_gid
    )
}

fn is_same(one: &Stat, other: &Stat) -> bool {
    (one.st_ino, one.st_dev) == (other.st_ino, other.st_dev)
}

/// The size of an examined file in bytes.
pub(in crate::store) fn size(stat: &Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or_default()
}

/// When an examined file was last modified.
pub(in crate::store) fn modified(stat: &Stat) -> SystemTime {
    let seconds = u64::try_from(stat.st_mtime).unwrap_or_default();
    let nanoseconds = u32::try_from(stat.st_mtime_nsec).unwrap_or_default();
    UNIX_EPOCH
        .checked_add(Duration::new(seconds, nanoseconds))
        .unwrap_or(UNIX_EPOCH)
}
