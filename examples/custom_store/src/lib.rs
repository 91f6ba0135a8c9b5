//! A store outside of cgi-session: a file for each session, replaced as a whole. The library brings the locks and
//! says when a session ends. `tests/contract.rs` tries it with the suite that every store has to pass.

use std::fs;
use std::io::ErrorKind;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use cgi_session::store::{Expiry, SessionLock, SessionLocks, StoreKind, check_size, has_passed};
use cgi_session::{
    Config, Error, Lease, Record, Result, SessionDigest, Store, Stored, Sweep, SweepReport,
    Uninstalled, Visitor,
};

/// What a program names: `Program::new().store(example_store::PLAIN)`, with `storageType = custom`.
pub const PLAIN: StoreKind =
    StoreKind::new("custom", |config| Ok(Box::new(PlainStore::new(config)?)));

/// The store. A file holds the second at which the session ends and, on the next line, the record.
#[derive(Debug)]
pub struct PlainStore(Arc<Place>);

#[derive(Debug)]
struct Place {
    directory: PathBuf,
    locks: SessionLocks,
    expiry: Expiry,
    max_record_bytes: usize,
}

impl PlainStore {
    /// A store in `storageFileDir`, which is created with the first session.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] when that is not set.
    pub fn new(config: &Config) -> Result<Self> {
        let directory = config.storage_file_dir()?.to_owned();
        Ok(PlainStore(Arc::new(Place {
            locks: SessionLocks::new(&directory.with_extension("locks")),
            directory,
            expiry: Expiry::new(config),
            max_record_bytes: config.max_record_bytes(),
        })))
    }
}

impl Place {
    fn path(&self, session: &SessionDigest) -> PathBuf {
        self.directory.join(session.as_str())
    }

    fn load(&self, session: &SessionDigest) -> Result<Option<(Record, u64)>> {
        let path = self.path(session);
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            text => text.map_err(|error| Error::io("cannot read", &path, error))?,
        };
        // What is no record is no session.
        let parsed = text.split_once('\n').and_then(|(end, record)| {
            let record = Record::from_json(record.as_bytes().to_vec()).ok()?;
            Some((record, end.parse().ok()?))
        });
        Ok(parsed)
    }

    fn live(&self, session: &SessionDigest, now: SystemTime) -> Result<Option<(Record, u64)>> {
        Ok(self
            .load(session)?
            .filter(|(_, end)| !has_passed(*end, now)))
    }

    fn stored(&self, (record, end): (Record, u64), now: SystemTime) -> Stored {
        let last_access = self.expiry.last_access(&record, end, now);
        Stored::new(record, last_access)
    }

    /// Only under the lock of the session.
    fn save(&self, session: &SessionDigest, record: &Record, now: SystemTime) -> Result<()> {
        check_size(record, self.max_record_bytes)?;
        let mut text = format!("{}\n", self.expiry.end(record, now)).into_bytes();
        text.extend(record.to_json());
        let (path, new) = (
            self.path(session),
            self.directory.join(format!(".{session}")),
        );
        let saved = fs::create_dir_all(&self.directory).and_then(|()| fs::write(&new, text));
        let saved = saved.and_then(|()| fs::rename(&new, &path));
        saved.map_err(|error| Error::io("cannot save", path, error))
    }

    fn delete(&self, session: &SessionDigest) -> Result<()> {
        match fs::remove_file(self.path(session)) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(Error::io("cannot delete", self.path(session), error))
            }
            _ => Ok(()),
        }
    }

    /// The names of all sessions.
    fn sessions(&self) -> Result<Vec<SessionDigest>> {
        let entries = match fs::read_dir(&self.directory) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(|error| Error::io("cannot list", &self.directory, error))?,
        };
        let names = entries.flatten().map(|entry| entry.file_name());
        Ok(names
            .filter_map(|name| SessionDigest::parse(name.as_encoded_bytes()))
            .collect())
    }
}

impl Store for PlainStore {
    fn create(
        &self,
        session: &SessionDigest,
        record: &Record,
        now: SystemTime,
    ) -> Result<Option<Box<dyn Lease>>> {
        let Some(lock) = self.0.locks.try_take(session.as_str())? else {
            return Ok(None);
        };
        if self.0.load(session)?.is_some() {
            return Ok(None);
        }
        self.0.save(session, record, now)?;
        Ok(Some(self.lease(session, record, lock)))
    }

    fn lock(
        &self,
        session: &SessionDigest,
        wait: Duration,
        now: SystemTime,
    ) -> Result<Option<(Stored, Box<dyn Lease>)>> {
        // For an id that leads nowhere no lock is made.
        if self.0.load(session)?.is_none() {
            return Ok(None);
        }
        let lock = self.0.locks.take(session.as_str(), wait)?;
        let Some(loaded) = self.0.live(session, now)? else {
            return self.0.delete(session).map(|()| None);
        };
        let stored = self.0.stored(loaded, now);
        let lease = self.lease(session, &stored.record, lock);
        Ok(Some((stored, lease)))
    }

    fn read(&self, session: &SessionDigest, now: SystemTime) -> Result<Option<Stored>> {
        let Some((record, end)) = self.0.live(session, now)? else {
            return Ok(None);
        };
        // To be read is to be used. Without the lock nothing is written, and no request waits for it.
        if self.0.expiry.renewed(&record, end, now).is_some()
            && let Some(_lock) = self.0.locks.try_take(session.as_str())?
            && let Some((latest, _)) = self.0.live(session, now)?
        {
            self.0.save(session, &latest, now)?;
        }
        Ok(Some(self.0.stored((record, end), now)))
    }

    fn peek(&self, session: &SessionDigest, now: SystemTime) -> Result<Option<Stored>> {
        let live = self.0.live(session, now)?;
        Ok(live.map(|loaded| self.0.stored(loaded, now)))
    }

    fn delete_expired(&self, sweep: &Sweep<'_>, now: SystemTime) -> Result<SweepReport> {
        let (clock, mut report) = (sweep.clock(), SweepReport::default());
        for session in self.0.sessions()? {
            if clock.is_over() || sweep.is_enough(report.deleted) {
                report.stopped_early = true;
                return Ok(report);
            }
            report.examined += 1;
            if let Some((record, _)) = self.0.live(&session, now)? {
                report.live += u64::from(!record.is_replaced());
                continue;
            }
            let Some(_lock) = self.0.locks.try_take(session.as_str())? else {
                report.busy += 1;
                continue;
            };
            // It may have been used since.
            if let Some((record, end)) = self.0.load(&session)?
                && has_passed(end, now)
            {
                if !sweep.is_dry_run() {
                    self.0.delete(&session)?;
                }
                let bytes = record.to_json().len() as u64;
                let used = self.0.expiry.last_access(&record, end, now);
                let age = now.duration_since(used).unwrap_or_default();
                sweep.note_deleted(&mut report, session.as_str(), age, bytes, "expired");
            }
        }
        if !sweep.is_dry_run()
            && let Some(lock) = self.0.locks.sweep()?
        {
            report.temporary = self.0.locks.remove_abandoned(clock)?;
            lock.note(now)?;
        }
        Ok(report)
    }

    fn last_sweep(&self, now: SystemTime) -> Option<Duration> {
        self.0.locks.last_sweep(now)
    }

    fn for_each(&self, visit: &mut Visitor<'_>, now: SystemTime) -> Result<()> {
        for session in self.0.sessions()? {
            let found = self.peek(&session, now).transpose();
            let is_marker = |it: &Result<Stored>| it.as_ref().is_ok_and(|it| it.record.is_marker());
            let found = found.filter(|found| !is_marker(found));
            if found.map(|found| visit(&session, found)) == Some(ControlFlow::Break(())) {
                break;
            }
        }
        Ok(())
    }

    fn uninstall(&self) -> Uninstalled {
        let mut done = Uninstalled::default();
        let removed = self.0.sessions().and_then(|sessions| {
            for session in sessions {
                let loaded = self.0.load(&session)?;
                done.sessions += u64::from(loaded.is_some_and(|(it, _)| !it.is_replaced()));
                self.0.delete(&session)?;
            }
            self.0.locks.uninstall(&mut done)
        });
        done.errors.extend(removed.err());
        // One that holds something else stays.
        let _ = fs::remove_dir(&self.0.directory);
        done
    }
}

impl PlainStore {
    fn lease(&self, session: &SessionDigest, record: &Record, lock: SessionLock) -> Box<dyn Lease> {
        Box::new(PlainLease {
            place: Arc::clone(&self.0),
            session: *session,
            record: record.clone(),
            _lock: lock,
        })
    }
}

/// The lock of one session, and its record as it is stored.
struct PlainLease {
    place: Arc<Place>,
    session: SessionDigest,
    record: Record,
    _lock: SessionLock,
}

impl Lease for PlainLease {
    fn commit(&mut self, record: &Record, now: SystemTime) -> Result<()> {
        if self.place.load(&self.session)?.is_none() {
            // It was deleted by hand, and only `create` makes a session.
            return Err(Error::LeaseLost);
        }
        self.place.save(&self.session, record, now)?;
        self.record = record.clone();
        Ok(())
    }

    fn touch(&mut self, now: SystemTime) -> Result<()> {
        let record = self.record.clone();
        self.commit(&record, now)
    }

    fn destroy(self: Box<Self>) -> Result<()> {
        self.place.delete(&self.session)
    }
}
