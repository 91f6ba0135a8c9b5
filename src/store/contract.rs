//! [`Store`] and [`Lease`]: where records live, and the lock that lets one be written.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use serde::Serialize;

use crate::error::{Error, Result};
use crate::id::{SessionDigest, SessionId};
use crate::record::Record;

/// Under `whenFull = refuse` a full store looks for expired sessions at most so often.
pub(super) const RECOUNT: Duration = Duration::from_secs(10);
/// Clocks of one machine never differ so much.
const CLOCK_NOISE: Duration = Duration::from_secs(60);

/// An index of a user is read so many times at most, while sessions get other ids.
pub(crate) const MAX_LISTINGS: u32 = 100;

/// A place where records live.
///
/// What every store keeps, whatever it is made of:
///
/// * **Absent, expired and malformed are `None`.** `Err` means that the system failed.
/// * **A lease is the lock.** While one lives, no other process or thread gets a lease of the same
///   session; without one nothing can be written. Leases of different sessions do not disturb
///   each other.
/// * **A commit is whole or nothing**, also when the process dies in the middle of it.
/// * **Only [`Store::create`] makes a record.** A commit changes the record of its lease and can
///   never bring back one that is gone.
/// * **A reader never waits** and sees the last committed record.
///
/// A store knows a session by the digest of its id and never sees the id itself. `now` is the clock of
/// the caller: a store never asks for the time.
pub trait Store: Send + Sync {
    /// Stores a first record under a new id; `None` when the id is taken.
    ///
    /// # Errors
    ///
    /// When the record could not be stored; nothing is left behind then.
    fn create(
        &self,
        session: &SessionDigest,
        record: &Record,
        now: SystemTime,
    ) -> Result<Option<Box<dyn Lease>>>;

    /// Waits up to `wait` for the session's lock and loads what is stored.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`](crate::Error::Busy) when the lock was held elsewhere all that time.
    fn lock(
        &self,
        session: &SessionDigest,
        wait: Duration,
        now: SystemTime,
    ) -> Result<Option<(Stored, Box<dyn Lease>)>>;

    /// Loads what is stored without taking the lock, and counts as use of the session.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    fn read(&self, session: &SessionDigest, now: SystemTime) -> Result<Option<Stored>>;

    /// Loads what is stored without taking the lock and without counting as use: for
    /// administration. A store that can find one session without listing all should say how.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    fn peek(&self, session: &SessionDigest, now: SystemTime) -> Result<Option<Stored>> {
        let mut found = None;
        let mut visit = |seen: &SessionDigest, stored: Result<Stored>| {
            if seen == session {
                found = Some(stored);
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        };
        self.for_each(&mut visit, now)?;
        found.transpose()
    }

    /// Deletes what has expired and is not in use. Under [`Sweep::keeps_sessions`] expired sessions are reported by
    /// [`SweepEvent::Kept`] and left.
    ///
    /// # Errors
    ///
    /// When the store as a whole cannot be cleaned; what went wrong with single sessions is in the
    /// report.
    fn delete_expired(&self, sweep: &Sweep<'_>, now: SystemTime) -> Result<SweepReport>;

    /// Whether expired sessions stay until they are handed over ([`Sweep::each`]): [`Store::delete_expired`] knows
    /// [`Sweep::keeps_sessions`], and [`Store::lock`] opens an expired session for a caller whose `now` is earlier than
    /// its end.
    fn keeps_expired(&self) -> bool {
        false
    }

    /// How long ago the last clean-up ended; `None` when there was none, or the store needs none.
    fn last_sweep(&self, now: SystemTime) -> Option<Duration>;

    /// Shows every live session once, without locking it and without counting as use. A session
    /// that cannot be read is shown with the reason.
    ///
    /// # Errors
    ///
    /// When the store as a whole cannot be listed.
    fn for_each(&self, visit: &mut Visitor<'_>, now: SystemTime) -> Result<()>;

    /// The live sessions whose record names this user. A store that knows whose a session is without
    /// its record names one that cannot be read, too.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    fn sessions_of(&self, user: &str, now: SystemTime) -> Result<Vec<SessionDigest>> {
        let mut found = Vec::new();
        let mut visit = |session: &SessionDigest, stored: Result<Stored>| {
            if stored.is_ok_and(|stored| stored.record.user() == Some(user)) {
                found.push(*session);
            }
            ControlFlow::Continue(())
        };
        self.for_each(&mut visit, now)?;
        Ok(found)
    }

    /// Whether the store has [`Store::lock_user`], without which `maxSessionsPerUser` is refused.
    fn locks_users(&self) -> bool {
        false
    }

    /// Waits up to `wait` for the lock under which a session becomes this user's while `maxSessionsPerUser` is set:
    /// as long as what is returned lives, no other process or thread gets it for the same user. No session is
    /// waited for under it.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] when it was not had in that time, and [`Error::Unsupported`] from a store that has none.
    fn lock_user(&self, _user: &str, _wait: Duration) -> Result<Box<dyn Send>> {
        Err(Error::Unsupported(
            "the sessions of a user cannot be counted",
        ))
    }

    /// Makes what the store needs before its first session. It may run again without harm. Returns
    /// every problem, not only the first.
    fn install(&self) -> Vec<Error> {
        Vec::new()
    }

    /// Looks whether the store is fit for sessions, and makes and changes nothing.
    fn examine(&self) -> Examination {
        // No session has this digest. Looking for it needs all that a request needs.
        let unused = SessionDigest::parse(&[b'0'; SessionDigest::LENGTH]);
        let looked = unused.map(|unused| self.peek(&unused, SystemTime::UNIX_EPOCH));
        Examination {
            problems: looked.and_then(Result::err).into_iter().collect(),
            ..Examination::default()
        }
    }

    /// Removes the sessions and everything that [`Store::install`] made, and nothing else.
    fn uninstall(&self) -> Uninstalled;

    /// For a store that keeps nothing itself: a store for one client alone, which holds the session
    /// that it recognizes in that client's cookie, or none.
    fn for_client(&self) -> Option<Box<dyn Store>> {
        None
    }

    /// The id that the value of a cookie stands for; `None` for one that stands for nothing. Of several that a store
    /// for one client recognizes, the last counts.
    fn recognize(&self, cookie_value: &str, _now: SystemTime) -> Option<SessionId> {
        SessionId::parse(cookie_value.as_bytes())
    }

    /// Keeps what so far lives in memory alone, for a store that can.
    ///
    /// # Errors
    ///
    /// When it could not be kept.
    fn flush(&self) -> Result<()> {
        Ok(())
    }
}

/// Is handed an expired session under its lock before it is deleted. A failure, of which this is the reason, keeps
/// the session for another try.
pub type EachExpired<'a> =
    dyn Fn(&SessionDigest, &Stored) -> std::result::Result<(), String> + Sync + 'a;

/// A callback for each session of a store; `Break` stops.
pub type Visitor<'a> = dyn FnMut(&SessionDigest, Result<Stored>) -> ControlFlow<()> + 'a;

/// How long ago a clean-up ended that noted this time, for [`Store::last_sweep`]: `None` for a time so far ahead
/// that a wrong clock noted it.
#[must_use]
pub fn age_of_sweep(ended: SystemTime, now: SystemTime) -> Option<Duration> {
    match now.duration_since(ended) {
        Ok(age) => Some(age),
        Err(ahead) if ahead.duration() <= CLOCK_NOISE => Some(Duration::ZERO),
        // Noted by a clock that was wrong: it must not put the next one off for years.
        Err(_) => None,
    }
}

/// The lock of one session. Dropped, it is unlocked and nothing is written.
pub trait Lease: Send {
    /// Replaces the record.
    ///
    /// # Errors
    ///
    /// When the record could not be stored; the one before is then untouched.
    fn commit(&mut self, record: &Record, now: SystemTime) -> Result<()>;

    /// Replaces the record for the last time: a store that can do both at once gives up the lock with
    /// it. The lease is then asked for its cookie's value at most, and dropped.
    ///
    /// # Errors
    ///
    /// As [`Lease::commit`].
    fn finish(&mut self, record: &Record, now: SystemTime) -> Result<()> {
        self.commit(record, now)
    }

    /// Notes that the session was used, without writing the record.
    ///
    /// # Errors
    ///
    /// When that could not be noted.
    fn touch(&mut self, now: SystemTime) -> Result<()>;

    /// Makes sure that the session is still this lease's, before it is stored under another id: a lock
    /// that a server keeps can be lost, and another request may have destroyed the session since.
    ///
    /// # Errors
    ///
    /// [`Error::LeaseLost`] when it is not, and when that cannot be found out.
    fn check(&mut self) -> Result<()> {
        Ok(())
    }

    /// Deletes the record.
    ///
    /// # Errors
    ///
    /// When the record is still there, and [`Error::LeaseLost`] when the lock had ended and another request may
    /// have destroyed the session or given it another id.
    fn destroy(self: Box<Self>) -> Result<()>;

    /// For a store that keeps nothing itself: what the client's cookie must hold from now on, if
    /// that is not what it holds already.
    fn cookie_value(&self, _id: &SessionId) -> Option<String> {
        None
    }
}

/// A record as it was found.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Stored {
    /// What is stored.
    pub record: Record,
    /// When the session was last used, as exactly as the store knows: to a sixtieth of `timeout` or, if that is set, to
    /// `touchAfter`.
    pub last_access: SystemTime,
}

impl Stored {
    /// This record, last used then.
    #[must_use]
    pub fn new(record: Record, last_access: SystemTime) -> Self {
        Stored {
            record,
            last_access,
        }
    }
}

/// The limits of one clean-up. A store asks [`Sweep::clock`] and [`Sweep::is_enough`] between two sessions and sets
/// `stopped_early` of its report when one says that it is over.
///
/// ```
/// use std::time::Duration;
/// use cgi_session::Sweep;
///
/// let bounded = Sweep::new().max_time(Duration::from_secs(5)).max_files(10_000);
/// # let _ = bounded;
/// ```
#[derive(Clone, Copy, Default)]
pub struct Sweep<'a> {
    pub(crate) max_time: Option<Duration>,
    pub(crate) max_files: Option<u64>,
    pub(crate) stop: Option<&'a AtomicBool>,
    pub(crate) dry_run: bool,
    pub(crate) idle: Option<Duration>,
    pub(crate) observer: Option<&'a (dyn Fn(SweepEvent<'_>) + Sync)>,
    pub(crate) each: Option<&'a EachExpired<'a>>,
    pub(crate) each_tries: Option<u64>,
}

impl<'a> Sweep<'a> {
    /// Everything that has expired, without limits.
    #[must_use]
    pub fn new() -> Self {
        Sweep::default()
    }

    /// Stops after this time.
    #[must_use]
    pub fn max_time(mut self, time: Duration) -> Self {
        self.max_time = Some(time);
        self
    }

    /// Stops soon after this has become true.
    #[must_use]
    pub fn stop_when(mut self, is_over: &'a AtomicBool) -> Self {
        self.stop = Some(is_over);
        self
    }

    /// Stops after so many deleted files.
    #[must_use]
    pub fn max_files(mut self, files: u64) -> Self {
        self.max_files = Some(files);
        self
    }

    /// Ends also sessions that were unused for so long, whatever their records say. Only
    /// [`SessionManager::delete_expired`](crate::SessionManager::delete_expired) does that, for any store that can
    /// be listed; a use that the store has not noted yet, which it does each sixtieth of a session's idle
    /// time or at most once in `touchAfter`, is allowed for. It does not go together with [`Sweep::each`].
    #[must_use]
    pub fn idle(mut self, time: Duration) -> Self {
        self.idle = Some(time);
        self
    }

    /// Calls this for each expired session under its lock, and deletes the session when that succeeds. It is called
    /// again when the process died before the deletion, and not for sessions that were destroyed or evicted. Only
    /// [`SessionManager::delete_expired`](crate::SessionManager::delete_expired) does that, for stores that
    /// [keep](Store::keeps_expired) expired sessions.
    ///
    /// ```
    /// # use cgi_session::{Config, SessionManager, Sweep};
    /// # let directory = tempfile::tempdir()?;
    /// # let manager = SessionManager::new(Config::new().set("storageFileDir", directory.path())?)?;
    /// let report = manager.delete_expired(&Sweep::new().each_tries(3).each(&|session, stored| {
    ///     println!("{session} of {:?} has expired", stored.record.user());
    ///     Ok(())
    /// }))?;
    /// assert_eq!((report.deleted, report.kept), (0, 0));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn each(mut self, call: &'a EachExpired<'a>) -> Self {
        self.each = Some(call);
        self
    }

    /// How many calls of [`Sweep::each`] for one session may fail before it is deleted all the same: three,
    /// if this is not called, and one at least.
    #[must_use]
    pub fn each_tries(mut self, tries: u64) -> Self {
        self.each_tries = Some(tries.max(1));
        self
    }

    /// Whether expired sessions are left to the caller, which has something to do with each before it is deleted.
    #[must_use]
    pub fn keeps_sessions(&self) -> bool {
        self.each.is_some() && !self.dry_run
    }

    /// Only looks for what it would delete.
    #[must_use]
    pub fn dry_run(mut self, dry_run: bool) -> Self {
        self.dry_run = dry_run;
        self
    }

    /// Whether nothing is to be deleted: the report says what would be.
    #[must_use]
    pub fn is_dry_run(&self) -> bool {
        self.dry_run
    }

    /// Whether a clean-up that has deleted so many has reached [`Sweep::max_files`].
    #[must_use]
    pub fn is_enough(&self, deleted: u64) -> bool {
        self.max_files.is_some_and(|max| deleted >= max)
    }

    /// Whether all live sessions are to be counted: not in a limited time for which there is no observer.
    #[must_use]
    pub fn counts_live(&self) -> bool {
        self.max_time.is_none() || self.observer.is_some()
    }

    /// Whether [`Sweep::stop_when`] has become true.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stop.is_some_and(|stop| stop.load(Ordering::Relaxed))
    }

    /// Tells the observer, if there is one.
    pub fn notify(&self, event: SweepEvent<'_>) {
        if let Some(observer) = self.observer {
            observer(event);
        }
    }

    /// Counts a session of so many bytes that was deleted or, in a dry run, would be, and tells the observer.
    pub fn note_deleted(
        &self,
        report: &mut SweepReport,
        name: &str,
        age: Duration,
        bytes: u64,
        reason: &'static str,
    ) {
        report.deleted += 1;
        report.deleted_bytes += bytes;
        self.notify(SweepEvent::Deleted {
            name,
            age,
            bytes,
            reason,
        });
    }

    /// The limits of time of a clean-up that begins now.
    #[must_use]
    pub fn clock(&self) -> SweepClock<'a> {
        SweepClock {
            sweep: *self,
            deadline: self
                .max_time
                .and_then(|time| Instant::now().checked_add(time)),
        }
    }

    /// Reports what happens, from several threads at once.
    #[must_use]
    pub fn observer(mut self, observer: &'a (dyn Fn(SweepEvent<'_>) + Sync)) -> Self {
        self.observer = Some(observer);
        self
    }
}

/// When a clean-up under way must end ([`Sweep::clock`]).
#[derive(Clone, Copy, Debug)]
pub struct SweepClock<'a> {
    sweep: Sweep<'a>,
    deadline: Option<Instant>,
}

impl SweepClock<'_> {
    /// Whether it must end now.
    #[must_use]
    pub fn is_over(&self) -> bool {
        let is_late = |deadline| Instant::now() >= deadline;
        self.sweep.is_stopped() || self.deadline.is_some_and(is_late)
    }
}

/// Something that happened during a clean-up.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum SweepEvent<'a> {
    /// So many more entries have been looked at.
    Examined(u64),
    /// An entry was deleted or, in a dry run, would be.
    Deleted {
        /// Its name in the directory.
        name: &'a str,
        /// How long ago it was last used.
        age: Duration,
        /// Its size in bytes.
        bytes: u64,
        /// Why it goes.
        reason: &'static str,
    },
    /// An expired session was left to the caller ([`Sweep::keeps_sessions`]).
    Kept {
        /// The session.
        session: &'a SessionDigest,
        /// A moment before its end, as of which [`Store::lock`] opens it.
        as_of: SystemTime,
    },
}

/// What a clean-up did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct SweepReport {
    /// Another clean-up was running, and this one did nothing.
    pub already_running: bool,
    /// A limit was reached before everything had been looked at; the numbers are of what had been.
    pub stopped_early: bool,
    /// Session files looked at.
    pub examined: u64,
    /// Expired sessions deleted (in a dry run: that would be).
    pub deleted: u64,
    /// Bytes of the files deleted.
    pub deleted_bytes: u64,
    /// Sessions that still live, if they are counted ([`Sweep::counts_live`]).
    pub live: u64,
    /// Expired by their time but locked by a request: left alone.
    pub busy: u64,
    /// Expired, and kept: its call failed, or its turn has not come ([`Sweep::each`]).
    pub kept: u64,
    /// Files left behind by processes that died, deleted.
    pub temporary: u64,
    /// Damaged files that were set aside (`*.corrupt`) and are still kept.
    pub set_aside: u64,
    /// Entries that are none of ours, left alone.
    pub foreign: u64,
    /// What could not be deleted or read, one line each.
    pub failures: Vec<String>,
}

/// What [`Store::examine`] found.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Examination {
    /// What the store is kept in, with its version, where it tells: `Redis 7.0.15`.
    pub engine: Option<String>,
    /// Every problem.
    pub problems: Vec<Error>,
    /// What works and should be looked at, one line each.
    pub warnings: Vec<String>,
}

/// What [`Store::uninstall`] did.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Uninstalled {
    /// Sessions removed.
    pub sessions: u64,
    /// What is not the store's own and was left where it is.
    pub foreign: Vec<String>,
    /// Every problem.
    pub errors: Vec<Error>,
}

/// The size of a record as JSON text, if `maxRecordBytes` allows it.
///
/// # Errors
///
/// [`Error::TooLarge`] when it does not.
pub fn check_size(record: &Record, limit: usize) -> Result<usize> {
    check_length(record, record.json_len(), limit)
}

/// The same where it is known already that the JSON text has so many bytes.
pub(super) fn check_length(record: &Record, size: usize, limit: usize) -> Result<usize> {
    // Beyond the limit a session that has expired could not count the tries of its call.
    if size > limit && record.tries() == 0 {
        return Err(Error::TooLarge { size, limit });
    }
    Ok(size)
}

/// Whether a session has ended that was last used then; one that says no idle time lives so long unused.
pub(super) fn has_expired(
    record: &Record,
    last_access: SystemTime,
    timeout: Duration,
    now: SystemTime,
) -> bool {
    let end = record.end(last_access, timeout);
    end.is_some_and(|end| end < now)
}
