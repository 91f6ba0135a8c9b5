//! Clean-up: deletes what has expired and is unused.
//!
//! The file's time selects candidates, so that a session used within `timeout`, or within what is asked
//! for, is never even opened. A candidate is locked without waiting, and whether it has expired is judged
//! again under that lock.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime};

use rustix::fs::{FileType, OFlags, Stat};
use rustix::io::Errno;

use super::content::{self, Content};
use super::count;
use super::inner::{FileStoreInner, is_counted};
use super::scan::{Folder, Kind, SWEEP_LOCK};
use super::users::{Index, Occupancy};
use crate::error::{Error, Result};
use crate::id::SessionDigest;
use crate::mutex::lock;
use crate::record::Record;
use crate::store::files::directory::{self, Locked};
use crate::store::files::{calls, lock::LockedFile};
use crate::store::{Sweep, SweepClock, SweepEvent, SweepReport};

/// How long an expired session is kept: a request may have found it alive a moment ago.
const GRACE: Duration = Duration::from_secs(60);
/// A temporary file of a process that still runs is never so old.
const TEMPORARY_AGE: Duration = Duration::from_secs(60);
/// How long a damaged file is kept where no `lifetime` says it.
const ASIDE_AGE: Duration = Duration::from_secs(30 * 24 * 3600);
/// How many entries are looked at between two looks at the clock and two progress reports.
const STEP: u64 = 256;
/// Without a `lifetime`, no setting makes a session live longer than this.
const FAR_FUTURE: Duration = Duration::from_secs(101 * 366 * 24 * 3600);

impl FileStoreInner {
    /// Runs a clean-up unless one is running.
    pub(super) fn sweep(&self, sweep: &Sweep<'_>, now: SystemTime) -> Result<SweepReport> {
        if self.directory.handle()?.is_none() {
            // Nothing was ever stored.
            return Ok(SweepReport::default());
        }
        if sweep.dry_run {
            // It changes nothing, so that it needs no lock; and making the lock's file would pass for
            // a clean-up that never was.
            return self.sweep_folders(sweep, now).map(|(report, _)| report);
        }
        match self.directory.try_lock_or_create(SWEEP_LOCK) {
            Ok(Some(sweep_lock)) => return self.sweep_locked(&sweep_lock, sweep, now),
            Ok(None) => {}
            Err(Error::Io { source, .. }) if is_full(&source) => {
                return self.sweep_unlocked(sweep, now);
            }
            Err(error) => return Err(error),
        }
        let already_running = true;
        Ok(SweepReport {
            already_running,
            ..SweepReport::default()
        })
    }

    /// How long ago the last clean-up ended.
    pub(super) fn last_sweep(&self, now: SystemTime) -> Option<Duration> {
        self.directory.age_of_sweep(SWEEP_LOCK, now)
    }

    /// The clean-up itself, under the lock of `.gc`.
    pub(super) fn sweep_locked(
        &self,
        sweep_lock: &LockedFile,
        sweep: &Sweep<'_>,
        now: SystemTime,
    ) -> Result<SweepReport> {
        let has_cap = self.config.max_sessions > 0;
        let counted = has_cap.then(|| count::read(self)).transpose()?;
        let (report, uncounted) = self.sweep_folders(sweep, now)?;
        if report.stopped_early {
            count::forget(self, report.deleted.saturating_sub(uncounted), counted);
        } else if let Some(counted) = counted {
            // What cannot be looked at may live.
            let unseen = report.failures.len() as u64;
            let sessions = report.live + report.busy + report.kept + unseen;
            count::recount(self, sessions, counted)?;
        }
        let noted = calls::set_time(sweep_lock, now);
        noted.map_err(|error| {
            self.directory
                .failed("cannot set the time of", SWEEP_LOCK, error)
        })?;
        Ok(report)
    }

    /// Makes the room that `.gc` needs. Each session still has its lock.
    fn sweep_unlocked(&self, sweep: &Sweep<'_>, now: SystemTime) -> Result<SweepReport> {
        let has_cap = self.config.max_sessions > 0;
        let counted = has_cap.then(|| count::read(self).ok()).flatten();
        let (report, uncounted) = self.sweep_folders(sweep, now)?;
        count::forget(self, report.deleted.saturating_sub(uncounted), counted);
        if let Err(error) = self.directory.try_lock_or_create(SWEEP_LOCK) {
            log::warn!("{}", error.one_line());
        }
        Ok(report)
    }

    /// Goes through all folders, several at a time. Also returns how many of the deleted files `.count` did
    /// not count.
    fn sweep_folders(&self, sweep: &Sweep<'_>, now: SystemTime) -> Result<(SweepReport, u64)> {
        let clock = sweep.clock();
        let (mut folders, mut first) = (self.folder_names()?, None);
        if sweep.max_time.is_some() || sweep.stop.is_some() {
            // The last one may have stopped on its way: in the end each folder and each name has its turn.
            let folder = rand::random_range(0..folders.len().max(1));
            folders.rotate_left(folder);
            let digits = format!("{:02x}", rand::random::<u8>());
            first = digits.get(..rand::random_range(1..=2)).map(str::to_owned);
        }
        let run = Run {
            shared: self,
            sweep,
            now,
            first,
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
                let mut total = lock(&total);
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
}

/// Whether there is no room for one more file.
fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded
    )
}

fn add(total: &mut SweepReport, part: SweepReport) {
    total.examined += part.examined;
    total.deleted += part.deleted;
    total.deleted_bytes += part.deleted_bytes;
    total.live += part.live;
    total.busy += part.busy;
    total.kept += part.kept;
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
    /// Of names that are not in a shard, those come first that begin with this.
    first: Option<String>,
    clock: SweepClock<'a>,
    stop: AtomicBool,
    deleted: AtomicU64,
    /// Those of them that `maxSessions` does not count.
    uncounted: AtomicU64,
}

impl Run<'_> {
    fn folder(&self, prefix: &str) -> Result<SweepReport> {
        let mut report = SweepReport::default();
        let Some(folder) = self.shared.open_folder(prefix)? else {
            return Ok(report);
        };
        let mut entries = 0;
        let first = self.first.as_deref().filter(|_| prefix.is_empty());
        let rounds = if first.is_some() {
            &[true, false][..]
        } else {
            &[false]
        };
        for round in rounds {
            self.shared.each_entry(&folder, |name, kind| {
                if self.must_stop() {
                    return ControlFlow::Break(());
                }
                if first.is_some_and(|first| name.starts_with(first)) != *round {
                    return ControlFlow::Continue(());
                }
                entries += 1;
                if entries % STEP == 0 {
                    self.sweep.notify(SweepEvent::Examined(STEP));
                }
                self.visit(&folder, name, &kind, &mut report);
                ControlFlow::Continue(())
            })?;
            if self.stop.load(Ordering::Relaxed) {
                break;
            }
        }
        self.sweep.notify(SweepEvent::Examined(entries % STEP));
        Ok(report)
    }

    /// Whether it is to end here, before it is through.
    fn must_stop(&self) -> bool {
        if self.clock.is_over() {
            self.stop.store(true, Ordering::Relaxed);
        }
        self.stop.load(Ordering::Relaxed)
    }

    fn visit(&self, folder: &Folder, name: &str, kind: &Kind, report: &mut SweepReport) {
        let outcome = match kind {
            Kind::Shard | Kind::Own => Ok(()),
            Kind::Foreign => {
                report.foreign += 1;
                Ok(())
            }
            kind => self.entry(folder, name, kind, report),
        };
        if let Err(error) = outcome {
            report.failures.push(error.one_line());
        }
    }

    fn entry(
        &self,
        folder: &Folder,
        name: &str,
        kind: &Kind,
        report: &mut SweepReport,
    ) -> Result<()> {
        let stat = match calls::stat_at(&folder.handle, name) {
            Err(Errno::NOENT) => return Ok(()),
            stat => stat.map_err(|errno| {
                let stored = [&folder.prefix, name].concat();
                self.shared.failed("cannot examine", &stored, errno)
            })?,
        };
        let entry = Entry { folder, name, stat };
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            let path = self.shared.path(&entry.stored());
            let reason = "has the name of a file of ours but is no regular file";
            let hint = "it was left alone; remove it by hand";
            return Err(Error::refused(&path, reason).with_hint(hint));
        }
        if !matches!(kind, Kind::Session(_)) {
            self.correct_time(&entry)?;
        }
        match kind {
            Kind::Session(digest) => self.session(&entry, digest, report),
            Kind::Temporary => self.temporary(&entry, report),
            Kind::SetAside => self.set_aside(&entry, report),
            Kind::Index => self.index(&entry),
            Kind::Shard | Kind::Own | Kind::Foreign => Ok(()),
        }
    }

    fn session(
        &self,
        entry: &Entry<'_>,
        digest: &SessionDigest,
        report: &mut SweepReport,
    ) -> Result<()> {
        report.examined += 1;
        if !self.is_due(&entry.stat) {
            report.live += 1;
            return Ok(());
        }
        let stored = entry.stored();
        let locked = match self.lock(entry) {
            Err(Error::Busy { .. }) => {
                let counted = u64::from(is_counted(directory::modified(&entry.stat)));
                if self.is_over(&entry.stat, self.shared.config.timeout) {
                    report.busy += counted;
                } else {
                    report.live += counted;
                }
                return Ok(());
            }
            locked => locked?,
        };
        let Some((file, stat)) = locked else {
            // Gone, or in another file by now, since it has outgrown this one.
            let now = calls::stat_at(&entry.folder.handle, entry.name);
            let lives = now.is_ok_and(|stat| is_counted(directory::modified(&stat)));
            report.live += u64::from(lives);
            return Ok(());
        };
        // Used since it was looked at.
        if !self.is_due(&stat) {
            report.live += 1;
            return Ok(());
        }
        let entry = Entry { stat, ..*entry };
        let mut damage = None;
        let reason = match self.shared.load(&file, &stat, digest, &stored)? {
            // Its time is up, whatever it once held.
            Content::Damaged(reason) => {
                let is_unfinished = content::is_unfinished(&file, directory::size(&stat));
                let is_unfinished = is_unfinished
                    .map_err(|error| self.shared.failed("cannot read", &stored, error))?;
                damage = (!is_unfinished).then_some(reason);
                "damaged and expired"
            }
            // Whether it has expired is for that version to say.
            Content::LaterVersion(_) => {
                report.live += 1;
                return Ok(());
            }
            unseeded @ Content::Unseeded => {
                report.live += 1;
                return unseeded.current(self.shared, &stored).map(drop);
            }
            Content::Record(current) => {
                let record = current.record;
                let is_too_old = record.is_too_old(self.shared.config.lifetime, self.now);
                if self.sweep.keeps_sessions()
                    && !record.is_replaced()
                    && (is_too_old || self.has_ended(&record, &stat))
                {
                    report.kept += 1;
                    let modified = directory::modified(&stat);
                    let as_of = record.expires().map_or(modified, |end| end.min(modified));
                    let session = digest;
                    self.sweep.notify(SweepEvent::Kept { session, as_of });
                    return Ok(());
                }
                // Whatever end of its own it has: a clock that was wrong may have set that.
                if is_too_old {
                    "older than any session may be"
                } else if !self.has_ended(&record, &stat) {
                    report.live += u64::from(!record.is_replaced());
                    return self.repair(&file, &entry, &record);
                } else if record.is_marker() {
                    "the marker of a changed id"
                } else {
                    "expired"
                }
            }
        };
        let copy_aside = || match damage {
            Some(reason) => self.shared.copy_aside(&file, &stored, reason),
            None => Ok(()),
        };
        if self.delete(&entry, reason, copy_aside)? {
            report.deleted += 1;
            report.deleted_bytes += directory::size(&stat);
            let uncounted = u64::from(!is_counted(directory::modified(&stat)));
            self.uncounted.fetch_add(uncounted, Ordering::Relaxed);
        }
        Ok(())
    }

    fn temporary(&self, entry: &Entry<'_>, report: &mut SweepReport) -> Result<()> {
        if self.age(&entry.stat) > TEMPORARY_AGE
            && self.delete_if_free(entry, "left behind by a process that died")?
        {
            report.temporary += 1;
        }
        Ok(())
    }

    fn set_aside(&self, entry: &Entry<'_>, report: &mut SweepReport) -> Result<()> {
        let keep = self.shared.config.lifetime.unwrap_or(ASIDE_AGE);
        if self.age(&entry.stat) <= keep {
            report.set_aside += 1;
        } else {
            self.delete_if_free(entry, "damaged, and kept long enough")?;
        }
        Ok(())
    }

    /// Deletes an index of no session, and makes one smaller that is mostly out of date. What it
    /// loses by sessions deleted in this clean-up, the next one sees.
    fn index(&self, entry: &Entry<'_>) -> Result<()> {
        // The session that was added to it last lives so long.
        if self.age(&entry.stat) <= self.shared.config.timeout {
            return Ok(());
        }
        // None: gone, or a login is under way.
        let Some(index) = Index::try_lock(self.shared, entry.stored())? else {
            return Ok(());
        };
        match index.in_use()? {
            Occupancy::Empty => {
                let reason = "no session of this user is left";
                self.delete(entry, reason, || Ok(())).map(drop)
            }
            Occupancy::Sparse(sessions) if !self.sweep.dry_run => index.rewrite(&sessions),
            Occupancy::Sparse(_) | Occupancy::Dense => Ok(()),
        }
    }

    /// Whether a session's time is up, or so far ahead that the clock must have been wrong. One that was unused for as
    /// long as is asked may have a shorter time of its own.
    fn is_due(&self, stat: &Stat) -> bool {
        let timeout = self.shared.config.timeout;
        let unused = self.sweep.idle.map_or(timeout, |idle| idle.min(timeout));
        self.is_over(stat, unused)
    }

    fn is_over(&self, stat: &Stat, unused: Duration) -> bool {
        let modified = directory::modified(stat);
        let end = modified.checked_add(unused);
        let longest = self.shared.config.lifetime.unwrap_or(FAR_FUTURE);
        !is_counted(modified)
            || end.is_some_and(|end| self.is_past(end))
            || modified
                .duration_since(self.now)
                .is_ok_and(|ahead| ahead > longest)
    }

    /// Whether a record has ended, as it says itself. No request can be about to use a marker.
    fn has_ended(&self, record: &Record, stat: &Stat) -> bool {
        let timeout = self.shared.config.timeout;
        let end = record.end(directory::modified(stat), timeout);
        end.is_some_and(|end| self.is_past(end) || record.is_marker() && end < self.now)
    }

    /// Whether an end is so long ago that no request can still be about to use the session.
    fn is_past(&self, end: SystemTime) -> bool {
        end.checked_add(GRACE).is_some_and(|end| end < self.now)
    }

    fn age(&self, stat: &Stat) -> Duration {
        self.now
            .duration_since(directory::modified(stat))
            .unwrap_or_default()
    }

    /// Takes the lock of a file; `None` when it is gone, and [`Error::Busy`] when its lock is not free.
    fn lock(&self, entry: &Entry<'_>) -> Result<Option<Locked>> {
        let directory = &self.shared.directory;
        match calls::open_at(&entry.folder.handle, entry.name, OFlags::RDWR) {
            Ok(file) => directory.lock_file(file, &entry.stored(), None, Duration::ZERO),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(self.shared.failed("cannot open", &entry.stored(), errno)),
        }
    }

    /// Corrects the time of a file that lives and was found as a candidate.
    fn repair(&self, file: &File, entry: &Entry<'_>, record: &Record) -> Result<()> {
        let modified = directory::modified(&entry.stat);
        // One in the future was set by a clock that was wrong.
        let right = self
            .shared
            .mtime_for(record)
            .unwrap_or(modified.min(self.now));
        if right == modified {
            return Ok(());
        }
        self.set_time(file, entry, right)
    }

    /// Takes the time of a file that is no session, and in use by no process, for now if a clock that was wrong has
    /// set it ahead.
    fn correct_time(&self, entry: &Entry<'_>) -> Result<()> {
        let ahead = directory::modified(&entry.stat).duration_since(self.now);
        if ahead.is_ok_and(|ahead| ahead > GRACE)
            && let Some((file, _)) = directory::if_free(self.lock(entry))?.flatten()
        {
            self.set_time(&file, entry, self.now)?;
        }
        Ok(())
    }

    fn set_time(&self, file: &File, entry: &Entry<'_>, time: SystemTime) -> Result<()> {
        if self.sweep.dry_run {
            return Ok(());
        }
        let set = calls::set_time(file, time);
        set.map_err(|error| {
            self.shared
                .failed("cannot set the time of", &entry.stored(), error)
        })
    }

    /// Deletes a file under its lock, if that is free: one of another owner is none of ours, whatever its name.
    fn delete_if_free(&self, entry: &Entry<'_>, reason: &'static str) -> Result<bool> {
        let locked = directory::if_free(self.lock(entry))?.flatten();
        locked.map_or(Ok(false), |_locked| self.delete(entry, reason, || Ok(())))
    }

    /// Deletes a file once something else is done, unless as many as were asked for are deleted already.
    fn delete(
        &self,
        entry: &Entry<'_>,
        reason: &'static str,
        first: impl FnOnce() -> Result<()>,
    ) -> Result<bool> {
        let earlier = self.deleted.fetch_add(1, Ordering::Relaxed);
        if self.sweep.is_enough(earlier) {
            self.stop.store(true, Ordering::Relaxed);
            return Ok(false);
        }
        if !self.sweep.dry_run {
            first()?;
            if let Err(errno) = calls::unlink_at(&entry.folder.handle, entry.name)
                && errno != Errno::NOENT
            {
                return Err(self.shared.failed("cannot delete", &entry.stored(), errno));
            }
        }
        self.sweep.notify(SweepEvent::Deleted {
            name: &entry.stored(),
            age: self.age(&entry.stat),
            bytes: directory::size(&entry.stat),
            reason,
        });
        Ok(true)
    }
}

/// A file of the store as the clean-up has found it.
#[derive(Clone, Copy)]
struct Entry<'a> {
    folder: &'a Folder,
    name: &'a str,
    stat: Stat,
}

impl Entry<'_> {
    /// Its name in the store.
    fn stored(&self) -> String {
        [&self.folder.prefix, self.name].concat()
    }
}
