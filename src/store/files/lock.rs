//! Waiting for a lock, but not for ever.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::{self, File, TryLockError};
use std::io;
use std::ops::Deref;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use super::calls::retry;
use crate::error::{Error, Result};
use crate::mutex;

/// Longer than a page, `/proc/locks` is read in parts, and what changes meanwhile may hide a lock.
const LOOKS: usize = 5;
/// With so many abandoned waits for a file, its lock is held for ever: who comes now does not wait.
const MAX_ABANDONED: usize = 64;
/// With so many in the process, a wait for any file looks again and again instead, and leaves no thread behind.
const MAX_ABANDONED_IN_ALL: usize = 128;
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// For each file, the helper threads whose caller has given up, and which wait on until the holder lets go.
static ABANDONED: Mutex<BTreeMap<Inode, usize>> = Mutex::new(BTreeMap::new());

/// A file by its device and number.
type Inode = (u64, u64);

/// How a lock is tried, and how it is waited for.
type Calls = (
    fn(&File) -> Result<(), TryLockError>,
    fn(&File) -> io::Result<()>,
);

/// A file whose lock we hold. Dropped, it is unlocked.
///
/// Closing the file is not enough: a child that another thread forks meanwhile has it open, too, until it
/// is another program, or as long as it lives.
#[derive(Debug)]
pub(crate) struct LockedFile<F: Borrow<File> = File>(F);

/// A file whose lock was not had. It must be closed and never used for another try: a helper thread may still
/// get the lock, and unlocks it at once.
pub(crate) struct NotLocked<F> {
    pub(in crate::store) file: F,
    pub(in crate::store) error: Error,
}

impl<F> From<NotLocked<F>> for Error {
    fn from(failure: NotLocked<F>) -> Self {
        failure.error
    }
}

impl<F: Borrow<File>> LockedFile<F> {
    pub(crate) fn try_exclusive(file: F) -> io::Result<Option<Self>> {
        let is_free = attempt(|| file.borrow().try_lock())?;
        Ok(is_free.then_some(LockedFile(file)))
    }

    /// Takes the exclusive lock, or says who held it all the time: `left` of the `wait` that the caller was
    /// given.
    pub(crate) fn exclusive(
        file: F,
        left: Duration,
        wait: Duration,
        path: impl FnOnce() -> PathBuf,
    ) -> Result<Self, NotLocked<F>> {
        Self::wait(file, (File::try_lock, File::lock), left, wait, path)
    }

    /// Takes the shared lock, which keeps writers away; otherwise as [`LockedFile::exclusive`].
    pub(in crate::store) fn shared(
        file: F,
        wait: Duration,
        path: impl FnOnce() -> PathBuf,
    ) -> Result<Self, NotLocked<F>> {
        let calls: Calls = (File::try_lock_shared, File::lock_shared);
        Self::wait(file, calls, wait, wait, path)
    }

    fn wait(
        file: F,
        calls: Calls,
        left: Duration,
        wait: Duration,
        path: impl FnOnce() -> PathBuf,
    ) -> Result<Self, NotLocked<F>> {
        let locked = match attempt(|| calls.0(file.borrow())) {
            Ok(false) if !left.is_zero() => wait_for(file.borrow(), left, calls),
            tried => tried,
        };
        let error = match locked {
            Ok(true) => return Ok(LockedFile(file)),
            Ok(false) => Error::Busy {
                waited: wait,
                // Finding out takes longer than a try without waiting.
                holder: (!wait.is_zero()).then(|| holder(file.borrow())).flatten(),
            },
            Err(error) => Error::io("cannot lock", path(), error),
        };
        Err(NotLocked { file, error })
    }
}

impl<F: Borrow<File>> Deref for LockedFile<F> {
    type Target = File;

    fn deref(&self) -> &File {
        self.0.borrow()
    }
}

impl<F: Borrow<File>> Drop for LockedFile<F> {
    fn drop(&mut self) {
        // An unlock cannot fail on an open file.
        let _ = self.unlock();
    }
}

fn attempt(mut lock: impl FnMut() -> Result<(), TryLockError>) -> io::Result<bool> {
    retry(|| match lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    })
}

fn wait_for(file: &File, wait: Duration, (try_lock, lock): Calls) -> io::Result<bool> {
    let stat = file.metadata()?;
    let inode = (stat.dev(), stat.ino());
    let (of_this, of_all) = {
        let abandoned = mutex::lock(&ABANDONED);
        let of_this = abandoned.get(&inode).copied();
        (of_this.unwrap_or(0), abandoned.values().sum::<usize>())
    };
    if of_this >= MAX_ABANDONED {
        Ok(false)
    } else if of_all >= MAX_ABANDONED_IN_ALL {
        look_again(file, wait, try_lock)
    } else {
        wait_in_thread(file, wait, lock, inode)
    }
}

/// Tries until it is time to give up. A process that takes the lock often may be quicker each time.
fn look_again(
    file: &File,
    wait: Duration,
    try_lock: fn(&File) -> Result<(), TryLockError>,
) -> io::Result<bool> {
    let started = Instant::now();
    while !attempt(|| try_lock(file))? {
        let left = wait.saturating_sub(started.elapsed());
        if left.is_zero() {
            return Ok(false);
        }
        thread::sleep(left.min(LOOK_AGAIN));
    }
    Ok(true)
}

/// A helper thread waits in flock(2). Polling would starve: the process that has just released the lock
/// takes it again before a sleeper wakes.
fn wait_in_thread(
    file: &File,
    wait: Duration,
    lock: fn(&File) -> io::Result<()>,
    inode: Inode,
) -> io::Result<bool> {
    // The same open file description: a lock through the clone is the file's own.
    let clone = file.try_clone()?;
    // A rendezvous: either the lock is handed over, or the helper knows that the caller waits no more.
    let (sender, receiver) = sync_channel(0);
    let helper = thread::Builder::new().name("session lock".to_owned());
    let helper = helper.spawn(move || {
        let locked = retry(|| lock(&clone));
        if sender.send(locked).is_err() {
            // The caller waits no more. The unlock cannot fail on a lock that we hold.
            let _ = clone.unlock();
            let mut abandoned = mutex::lock(&ABANDONED);
            if let Entry::Occupied(mut count) = abandoned.entry(inode) {
                *count.get_mut() -= 1;
                if *count.get() == 0 {
                    count.remove();
                }
            }
        }
    });
    if let Err(error) = helper {
        log::warn!("no lock can be waited for: cannot start a thread: {error}");
        return Ok(false);
    }
    match receiver.recv_timeout(wait) {
        Ok(locked) => locked.map(|()| true),
        Err(RecvTimeoutError::Timeout) => {
            *mutex::lock(&ABANDONED).entry(inode).or_default() += 1;
            // Dropped after it was counted, for the helper to take itself off again.
            drop(receiver);
            Ok(false)
        }
        Err(RecvTimeoutError::Disconnected) => Err(io::Error::other("the waiting thread died")),
    }
}

/// Who holds the lock of this file, from `/proc/locks`: `process 123 (counter), running for 4 s`.
pub(in crate::store) fn holder(file: &File) -> Option<String> {
    let stat = file.metadata().ok()?;
    let device = device_name(stat.dev());
    let pid = (0..LOOKS).find_map(|_| {
        let locks = fs::read_to_string("/proc/locks").ok()?;
        holder_of(&locks, &device, stat.ino()).map(str::to_owned)
    })?;
    if pid.parse() == Ok(std::process::id()) {
        return Some("another thread of this process".to_owned());
    }
    let program = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    let age = running_for(&pid).map(|age| format!(", running for {} s", age.as_secs()));
    Some(format!(
        "process {pid} ({}){}",
        program.trim(),
        age.unwrap_or_default()
    ))
}

/// A device as `/proc/locks` writes it: `fe:00`.
#[cfg(target_os = "linux")]
fn device_name(device: u64) -> String {
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    format!("{major:02x}:{minor:02x}")
}

/// Elsewhere there is no `/proc/locks`.
#[cfg(not(target_os = "linux"))]
fn device_name(_: u64) -> String {
    String::new()
}

/// The process that holds an exclusive flock(2) on this inode, from the text of `/proc/locks`.
fn holder_of<'a>(locks: &'a str, device: &str, inode: u64) -> Option<&'a str> {
    let holders = locks.lines().filter_map(|line| {
        // `1: FLOCK  ADVISORY  WRITE 123 fe:00:4711 0 EOF`; those who wait have `->` before FLOCK.
        let mut fields = line.split_ascii_whitespace().skip(1);
        if fields.next() != Some("FLOCK") || fields.nth(1) != Some("WRITE") {
            return None;
        }
        let pid = fields.next()?;
        let (place, number) = fields.next()?.rsplit_once(':')?;
        (number.parse() == Ok(inode)).then_some((place == device, pid))
    });
    // Btrfs tells a file another device than it shows here; only the inode can then be compared.
    holders
        .max_by_key(|(is_on_device, _)| *is_on_device)
        .map(|(_, pid)| pid)
}

/// How long a process has been running (proc(5): field 22 of stat, in hundredths of a second).
fn running_for(pid: &str) -> Option<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let started: u64 = stat
        .rsplit(')')
        .next()?
        .split_ascii_whitespace()
        .nth(19)?
        .parse()
        .ok()?;
    let uptime = fs::read_to_string("/proc/uptime").ok()?;
    let uptime: f64 = uptime.split_ascii_whitespace().next()?.parse().ok()?;
    Duration::try_from_secs_f64(uptime)
        .ok()?
        .checked_sub(Duration::from_millis(started * 10))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two_handles() -> (tempfile::NamedTempFile, File, File) {
        let named = tempfile::NamedTempFile::new().unwrap();
        let (one, two) = (named.reopen().unwrap(), named.reopen().unwrap());
        (named, one, two)
    }

    fn take<F: Borrow<File>>(file: F, wait: Duration) -> Result<LockedFile<F>> {
        Ok(LockedFile::exclusive(file, wait, wait, PathBuf::new)?)
    }

    #[test]
    fn a_waiter_gets_the_lock_when_the_holder_lets_go() {
        let (_named, one, two) = two_handles();
        let locked = take(&one, Duration::ZERO).unwrap();
        thread::scope(|scope| {
            let waiter = scope.spawn(|| take(&two, Duration::from_secs(60)).unwrap());
            drop(locked);
            let _locked = waiter.join().unwrap();
            assert!(LockedFile::try_exclusive(&one).unwrap().is_none());
        });
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn many_locks_that_are_held_leave_few_threads_behind_and_others_are_waited_for() {
        let held: Vec<_> = (0..MAX_ABANDONED_IN_ALL + 50)
            .map(|_| {
                let (_named, one, two) = two_handles();
                let locked = take(one, Duration::ZERO).unwrap();
                let busy = take(two, Duration::from_millis(1)).unwrap_err();
                assert!(matches!(busy, Error::Busy { .. }));
                locked
            })
            .collect();
        let threads = fs::read_dir("/proc/self/task").unwrap();
        let name = |thread: io::Result<fs::DirEntry>| {
            fs::read_to_string(thread.unwrap().path().join("comm"))
        };
        let helpers = threads
            .map(name)
            .filter(|it| it.as_ref().is_ok_and(|it| it == "session lock\n"));
        // Other tests have some.
        let most = MAX_ABANDONED_IN_ALL + 25;
        assert!(helpers.count() <= most);
        a_waiter_gets_the_lock_when_the_holder_lets_go();
        drop(held);
    }

    #[test]
    fn a_file_of_the_same_number_on_another_device_is_not_taken_for_this_one() {
        let locks = "1: FLOCK  ADVISORY  WRITE 10 00:1c:17 0 EOF\n\
                     1: -> FLOCK  ADVISORY  WRITE 11 00:1c:17 0 EOF\n\
                     2: FLOCK  ADVISORY  WRITE 12 fe:00:17 0 EOF\n\
                     3: FLOCK  ADVISORY  WRITE 13 07:00:17 0 EOF\n\
                     4: FLOCK  ADVISORY  READ 14 08:00:17 0 EOF\n";
        assert_eq!(holder_of(locks, "fe:00", 17), Some("12"));
        assert_eq!(holder_of(locks, "fe:00", 18), None);
        assert_eq!(
            holder_of("1: FLOCK ADVISORY WRITE 7 00:2f:5 0 EOF\n", "00:30", 5),
            Some("7")
        );
    }

    #[test]
    fn fs2_and_this_lock_exclude_each_other() {
        let (_named, one, two) = two_handles();
        fs2::FileExt::lock_exclusive(&one).unwrap();
        assert!(LockedFile::try_exclusive(&two).unwrap().is_none());
        fs2::FileExt::unlock(&one).unwrap();
        let _locked = LockedFile::try_exclusive(&two).unwrap().unwrap();
        assert!(fs2::FileExt::try_lock_exclusive(&one).is_err());
    }
}
