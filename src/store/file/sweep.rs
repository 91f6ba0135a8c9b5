//! Clean-up: deletes what has expired and is in nobody's use.
//!
//! The file's time selects candidates, so that a live session is never even opened. A candidate
//! is locked without waiting, and whether it has expired is judged again under that lock.

use std::fs::File;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime};

use rustix::fs::{FileType, OFlags, Stat};

use super::content::{self, Content};
use super::lease::{check_file_size, unseeded};
use super::scan::{self, Folder, Kind, SWEEP_LOCK};
use super::users::{Index, Occupancy};
use super::{FileStoreInner, cap, is_counted};
use crate::error::{Error, Result};
use crate::id::SessionDigest;
use crate::record::{Record, RecordError};
use crate::store::files::calls;
use crate::store::files::directory::{self, Finding, Missing};
use crate::store::files::lock::{self, Release};
use crate::store::{Sweep, SweepClock, SweepEvent, SweepReport, age_of_sweep};

/// So long after its end an expired session stays: somebody may have found it alive a moment ago.
const GRACE: Duration = Duration::from_secs(60);
/// A temporary file of a process that still runs is never so old.
const TEMPORARY_AGE: Duration = Duration::from_secs(60);
/// How many entries are looked at between two looks at the clock and two progress reports.
const STEP: u64 = 256;
/// Without a `lifetime`, no setting makes a session live longer than this.
const FAR_FUTURE: Duration = Duration::from_secs(101 * 366 * 24 * 3600);

/// Runs a clean-up unless one is running.
pub(super) fn run(
    shared: &FileStoreInner,
    sweep: &Sweep<'_>,
    now: SystemTime,
) -> Result<SweepReport> {
    if shared.directory.handle(Missing::Leave)?.is_none() {
        // Nothing was ever stored.
        return Ok(SweepReport::default());
    }
    if sweep.dry_run {
        // It changes nothing, so that it needs no lock; and making the lock's file would pass for
        // a clean-up that never was.
        return folders(shared, sweep, now).map(|(report, _)| report);
    }
    let sweep_lock = shared.directory.open_or_create(SWEEP_LOCK)?;
    match lock::try_exclusive(&sweep_lock) {
        Ok(true) => {
            let _release = Release(&sweep_lock);
            locked(shared, &sweep_lock, sweep, now)
        }
        Ok(false) => Ok(SweepReport {
            already_running: true,
            ..SweepReport::default()
        }),
        Err(error) => Err(Error::io("cannot lock", shared.path(SWEEP_LOCK), error)),
    }
}

/// How long ago the last clean-up ended.
pub(super) fn last(shared: &FileStoreInner, now: SystemTime) -> Option<Duration> {
    let root = shared.directory.handle(Missing::Leave).ok()??;
    let stat = calls::stat_at(&*root, SWEEP_LOCK).ok()?;
    age_of_sweep(directory::modified(&stat), now)
}

/// The clean-up itself, under the lock of `.gc`.
pub(super) fn locked(
    shared: &FileStoreInner,
    sweep_lock: &File,
    sweep: &Sweep<'_>,
    now: SystemTime,
) -> Result<SweepReport> {
    let counted = cap::counted(shared)?;
    let (report, uncounted) = folders(shared, sweep, now)?;
    if report.stopped_early {
        cap::forget(shared, report.deleted.saturating_sub(uncounted));
    } else if let Some(counted) = counted {
        cap::recount(shared, report.live + report.busy, counted)?;
    }
    let noted = calls::set_time(sweep_lock, now);
    noted.map_err(|error| Error::io("cannot set the time of", shared.path(SWEEP_LOCK), error))?;
    Ok(report)
}

/// Goes through all folders, several at a time. Also returns how many of the deleted files `.count` did
/// not count.
fn folders(
    shared: &FileStoreInner,
    sweep: &Sweep<'_>,
    now: SystemTime,
) -> Result<(SweepReport, u64)> {
    let clock = sweep.clock();
    let mut folders = scan::folder_names(shared)?;
    if sweep.max_time.is_some() || sweep.stop.is_some() {
        // The last one may have stopped on its way: in the end each folder has its turn.
        let first = rand::random_range(0..folders.len().max(1));
        folders.rotate_left(first);
    }
    let run = Run {
        shared,
        sweep,
        now,
        clock,
        stop: AtomicBool::new(clock.is_over()),
        deleted: AtomicU64::new(0),
        uncounted: AtomicU64::new(0),
    };
    let next = AtomicUsize::new(0);
    let total = Mutex::new(Ok(SweepReport::default()));
    let work = || {
        while let Some(prefix) = folders.get(next.fetch_add(1, Ordering::Relaxed)) {
            let report = run.folder(prefix);
            let mut total = total.lock().unwrap_or_else(PoisonError::into_inner);
            match (total.as_mut(), report) {
                (Ok(total), Ok(report)) => add(total, report),
                (Ok(_), Err(error)) => *total = Err(error),
                (Err(_), _) => {}
            }
        }
    };
    let threads = thread::available_parallelism()
        .map_or(1, usize::from)
        .min(folders.len());
    thread::scope(|scope| {
        for _ in 1..threads {
            // A thread that cannot be made leaves its share to the others.
            let _ = thread::Builder::new().spawn_scoped(scope, work);
        }
        work();
    });
    let mut report = total.into_inner().unwrap_or_else(PoisonError::into_inner)?;
    report.stopped_early = run.stop.into_inner();
    Ok((report, run.uncounted.into_inner()))
}

fn add(total: &mut SweepReport, part: SweepReport) {
    total.examined += part.examined;
    total.deleted += part.deleted;
    total.deleted_bytes += part.deleted_bytes;
    total.live += part.live;
    total.busy += part.busy;
    total.temporary += part.temporary;
    total.set_aside += part.set_aside;
    total.foreign += part.foreign;
    total.failures.extend(part.failures);
}

/// One clean-up under way, shared by its threads.
struct Run<'a> {
    shared: &'a FileStoreInner,
    sweep: &'a Sweep<'a>,
    now: SystemTime,
    clock: SweepClock<'a>,
    stop: AtomicBool,
    deleted: AtomicU64,
    /// Those of them that `maxSessions` does not count.
    uncounted: AtomicU64,
}

impl Run<'_> {
    fn folder(&self, prefix: &str) -> Result<SweepReport> {
        let mut report = SweepReport::default();
        let Some(folder) = scan::open(self.shared, prefix)? else {
            return Ok(report);
        };
        let mut entries = 0;
        scan::each_entry(self.shared, &folder, |name, kind| {
            entries += 1;
            if entries % STEP == 0 {
                self.notify(SweepEvent::Examined(STEP));
            }
            if self.clock.is_over() {
                self.stop.store(true, Ordering::Relaxed);
            }
            if self.stop.load(Ordering::Relaxed) {
                return ControlFlow::Break(());
            }
            let outcome = match kind {
                Kind::Session(digest) => self.session(&folder, name, &digest, &mut report),
                Kind::Temporary => self.temporary(&folder, name, &mut report),
                Kind::SetAside => self.set_aside(&folder, name, &mut report),
                Kind::Index => self.index(&folder, name),
                Kind::Shard | Kind::Own => Ok(()),
                Kind::Foreign => {
                    report.foreign += 1;
                    Ok(())
                }
            };
            if let Err(error) = outcome {
                report.failures.push(error.one_line());
            }
            ControlFlow::Continue(())
        })?;
        self.notify(SweepEvent::Examined(entries % STEP));
        Ok(report)
    }

    fn session(
        &self,
        folder: &Folder,
        name: &str,
        digest: &SessionDigest,
        report: &mut SweepReport,
    ) -> Result<()> {
        let Some(stat) = self.status(folder, name)? else {
            return Ok(());
        };
        report.examined += 1;
        if !self.is_due(&stat) {
            report.live += 1;
            return Ok(());
        }
        let Some(file) = self.open(folder, name)? else {
            return Ok(());
        };
        if !self.try_lock(&file, folder, name)? {
            report.busy += u64::from(is_counted(directory::modified(&stat)));
            return Ok(());
        }
        let _release = Release(&file);
        let path = || self.path(folder, name);
        let stored = format!("{}{name}", folder.prefix);
        // Used, deleted or replaced since it was looked at.
        let Finding::Session(stat) = self.shared.directory.examine(&file, &stored)? else {
            return Ok(());
        };
        if !self.is_due(&stat) {
            report.live += 1;
            return Ok(());
        }
        check_file_size(self.shared, directory::size(&stat), &stored)?;
        let content = content::load(&file, directory::size(&stat), digest);
        let content = content.map_err(|error| Error::io("cannot read", path(), error))?;
        let reason = match content {
            // Its time is up, whatever it once held.
            Content::Damaged(_) => "damaged and expired",
            Content::Unseeded => {
                report.live += 1;
                return Err(unseeded(self.shared, &stored));
            }
            Content::Record(current) => match Record::from_json(current.data) {
                // Whatever end of its own it has: a clock that was wrong may have set that.
                Ok(record) if self.is_too_old(&record) => "older than any session may be",
                Ok(record) if !self.has_ended(&record, &stat) => {
                    report.live += u64::from(!record.is_replaced());
                    return self.repair(&file, folder, name, &record, &stat);
                }
                Ok(record) if record.is_marker() => "the marker of a changed id",
                Ok(_) => "expired",
                Err(RecordError::Malformed(_)) => "damaged and expired",
                // Whether it has expired is for that version to say.
                Err(RecordError::LaterVersion(_)) => {
                    report.live += 1;
                    return Ok(());
                }
            },
        };
        if self.delete(folder, name, &stat, reason)? {
            report.deleted += 1;
            report.deleted_bytes += directory::size(&stat);
            let uncounted = u64::from(!is_counted(directory::modified(&stat)));
            self.uncounted.fetch_add(uncounted, Ordering::Relaxed);
        }
        Ok(())
    }

    fn temporary(&self, folder: &Folder, name: &str, report: &mut SweepReport) -> Result<()> {
        let Some(stat) = self.status(folder, name)? else {
            return Ok(());
        };
        if self.age(&stat) <= TEMPORARY_AGE {
            return Ok(());
        }
        let Some(file) = self.open(folder, name)? else {
            return Ok(());
        };
        // Somebody else's file is none of ours, whatever its name.
        let stored = format!("{}{name}", folder.prefix);
        if self.try_lock(&file, folder, name)?
            && let Finding::Session(_) = self.shared.directory.examine(&file, &stored)?
            && self.delete(folder, name, &stat, "left behind by a process that died")?
        {
            report.temporary += 1;
        }
        Ok(())
    }

    fn set_aside(&self, folder: &Folder, name: &str, report: &mut SweepReport) -> Result<()> {
        let Some(stat) = self.status(folder, name)? else {
            return Ok(());
        };
        match self.shared.lifetime {
            Some(keep) if self.age(&stat) > keep => {}
            _ => {
                report.set_aside += 1;
                return Ok(());
            }
        }
        // Somebody else's file is none of ours, whatever its name.
        let stored = format!("{}{name}", folder.prefix);
        if let Some(file) = self.open(folder, name)?
            && let Finding::Session(_) = self.shared.directory.examine(&file, &stored)?
        {
            self.delete(folder, name, &stat, "damaged, and kept long enough")?;
        }
        Ok(())
    }

    /// Deletes an index of no session, and makes one smaller that is mostly out of date. What it
    /// loses by sessions deleted in this clean-up, the next one sees.
    fn index(&self, folder: &Folder, name: &str) -> Result<()> {
        let Some(stat) = self.status(folder, name)? else {
            return Ok(());
        };
        // The session that was added to it last lives so long.
        if self.age(&stat) <= self.shared.idle {
            return Ok(());
        }
        // None: gone, or a login is under way.
        let stored = format!("{}{name}", folder.prefix);
        let Some(index) = Index::try_lock(self.shared, stored)? else {
            return Ok(());
        };
        match index.in_use()? {
            Occupancy::Empty => {
                let reason = "no session of this user is left";
                self.delete(folder, name, &stat, reason).map(drop)
            }
            Occupancy::Sparse(sessions) if !self.sweep.dry_run => index.rewrite(&sessions),
            Occupancy::Sparse(_) | Occupancy::Dense => Ok(()),
        }
    }

    /// Looks at an entry without opening it; `None` when it is gone or is no regular file.
    fn status(&self, folder: &Folder, name: &str) -> Result<Option<Stat>> {
        match calls::stat_at(&folder.handle, name) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile => {
                Ok(Some(stat))
            }
            Ok(_) => Err(Error::refused(
                &self.path(folder, name),
                "has the name of a file of ours but is no regular file",
            )
            .with_hint("it was left alone; remove it by hand")),
            Err(rustix::io::Errno::NOENT) => Ok(None),
            Err(errno) => Err(Error::io(
                "cannot examine",
                self.path(folder, name),
                errno.into(),
            )),
        }
    }

    /// Whether a session's time is up, or so far ahead that the clock must have been wrong.
    fn is_due(&self, stat: &Stat) -> bool {
        let modified = directory::modified(stat);
        let end = modified.checked_add(self.shared.idle);
        let longest = self.shared.lifetime.unwrap_or(FAR_FUTURE);
        !is_counted(modified)
            || end.is_some_and(|end| self.is_past(end))
            || modified
                .duration_since(self.now)
                .is_ok_and(|ahead| ahead > longest)
    }

    /// Whether a record has ended, as it says itself. Nobody can be about to use a marker.
    fn has_ended(&self, record: &Record, stat: &Stat) -> bool {
        let end = self.shared.end(record, directory::modified(stat));
        end.is_some_and(|end| self.is_past(end) || record.is_marker() && end < self.now)
    }

    fn is_too_old(&self, record: &Record) -> bool {
        record.is_too_old(self.shared.lifetime, self.now)
    }

    /// Whether an end is so long ago that nobody can still be about to use the session.
    fn is_past(&self, end: SystemTime) -> bool {
        end.checked_add(GRACE).is_some_and(|end| end < self.now)
    }

    fn age(&self, stat: &Stat) -> Duration {
        self.now
            .duration_since(directory::modified(stat))
            .unwrap_or_default()
    }

    fn open(&self, folder: &Folder, name: &str) -> Result<Option<File>> {
        match calls::open_at(&folder.handle, name, OFlags::RDWR) {
            Ok(file) => Ok(Some(file)),
            Err(rustix::io::Errno::NOENT) => Ok(None),
            Err(errno) => Err(Error::io(
                "cannot open",
                self.path(folder, name),
                errno.into(),
            )),
        }
    }

    fn try_lock(&self, file: &File, folder: &Folder, name: &str) -> Result<bool> {
        lock::try_exclusive(file)
            .map_err(|error| Error::io("cannot lock", self.path(folder, name), error))
    }

    /// Puts the time right of a file that lives and was found as a candidate.
    fn repair(
        &self,
        file: &File,
        folder: &Folder,
        name: &str,
        record: &Record,
        stat: &Stat,
    ) -> Result<()> {
        let modified = directory::modified(stat);
        // One in the future was set by a clock that was wrong.
        let right = self
            .shared
            .mtime_for(record)
            .unwrap_or(modified.min(self.now));
        if right == modified {
            return Ok(());
        }
        self.set_time(file, folder, name, right)
    }

    fn set_time(&self, file: &File, folder: &Folder, name: &str, time: SystemTime) -> Result<()> {
        if self.sweep.dry_run {
            return Ok(());
        }
        let set = calls::set_time(file, time);
        set.map_err(|error| Error::io("cannot set the time of", self.path(folder, name), error))
    }

    /// Deletes a file, unless as many as were asked for are deleted already.
    fn delete(
        &self,
        folder: &Folder,
        name: &str,
        stat: &Stat,
        reason: &'static str,
    ) -> Result<bool> {
        let earlier = self.deleted.fetch_add(1, Ordering::Relaxed);
        if self.sweep.max_files.is_some_and(|max| earlier >= max) {
            self.stop.store(true, Ordering::Relaxed);
            return Ok(false);
        }
        if !self.sweep.dry_run {
            match calls::unlink_at(&folder.handle, name) {
                Ok(()) | Err(rustix::io::Errno::NOENT) => {}
                Err(errno) => {
                    return Err(Error::io(
                        "cannot delete",
                        self.path(folder, name),
                        errno.into(),
                    ));
                }
            }
        }
        let name = &format!("{}{name}", folder.prefix);
        self.notify(SweepEvent::Deleted {
            name,
            age: self.age(stat),
            bytes: directory::size(stat),
            reason,
        });
        Ok(true)
    }

    fn notify(&self, event: SweepEvent<'_>) {
        if let Some(observer) = self.sweep.observer {
            observer(event);
        }
    }

    fn path(&self, folder: &Folder, name: &str) -> std::path::PathBuf {
        self.shared.path(&format!("{}{name}", folder.prefix))
    }
}
