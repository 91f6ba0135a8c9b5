//! A store that is broken on purpose. A test that claims to find faults must find each of these,
//! and nothing in [`Fault::Nothing`].
mod fault;
mod files;
mod lease;
mod place;

use std::error::Error as StdError;

use cgi_session::{Result, Stored, SweepReport, Uninstalled, Visitor};

pub use fault::Fault;
use files::{forget, load_named};
use lease::BrokenLease;
use place::{Place, has_expired};

use crate::prelude::*;

/// One file `<digest>.json` for each session, which expires an hour after its last change.
pub struct BrokenStore(Arc<Place>);

impl BrokenStore {
    pub fn open(fault: Fault, directory: &Path) -> Self {
        fs::create_dir_all(directory).unwrap();
        BrokenStore(Arc::new(Place {
            fault,
            directory: directory.to_owned(),
            cap: None,
        }))
    }

    /// The same with room for so many sessions: a newcomer sends away the least recently used.
    pub fn with_cap(self, cap: Option<u64>) -> Self {
        BrokenStore(Arc::new(Place {
            fault: self.0.fault,
            directory: self.0.directory.clone(),
            cap,
        }))
    }

    pub fn path(&self, session: &SessionDigest) -> PathBuf {
        self.0.path(session)
    }
}

impl Store for BrokenStore {
    fn create(
        &self,
        session: &SessionDigest,
        record: &Record,
        _now: SystemTime,
    ) -> Result<Option<Box<dyn Lease>>> {
        let path = self.path(session);
        let made = || -> io::Result<Option<File>> {
            self.0.make_room()?;
            let (temporary, file) = self.0.write_temporary(record)?;
            let linked = fs::hard_link(&temporary, &path);
            forget(&temporary);
            match linked {
                Ok(()) => self.0.sync_directory().map(|()| Some(file)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(None),
                Err(error) => Err(error),
            }
        };
        let made = made().map_err(|error| failed("create", &path, error))?;
        Ok(made.map(|locked| BrokenLease::boxed(&self.0, path, locked)))
    }

    fn lock(
        &self,
        session: &SessionDigest,
        wait: Duration,
        now: SystemTime,
    ) -> Result<Option<(Stored, Box<dyn Lease>)>> {
        let path = self.path(session);
        let locked = match self.0.lock(&path, wait) {
            Ok(locked) => locked,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(Error::Busy {
                    waited: wait,
                    holder: None,
                });
            }
            Err(error) => return Err(failed("lock", &path, error)),
        };
        let Some(locked) = locked else {
            return Ok(None);
        };
        let stored = self.0.load_locked(&path, &locked);
        let lease = BrokenLease::boxed(&self.0, path.clone(), locked);
        match stored.map_err(|error| failed("load", &path, error))? {
            Some(stored) if has_expired(&stored, now) => {
                lease.destroy()?;
                Ok(None)
            }
            found => Ok(found.map(|stored| (stored, lease))),
        }
    }

    fn read(&self, session: &SessionDigest, now: SystemTime) -> Result<Option<Stored>> {
        let path = self.path(session);
        let stored = load_named(&path);
        let stored = stored.map_err(|error| failed("load", &path, error))?;
        Ok(stored.filter(|stored| !has_expired(stored, now)))
    }

    fn delete_expired(&self, _sweep: &Sweep<'_>, now: SystemTime) -> Result<SweepReport> {
        let mut report = SweepReport::default();
        let entries = fs::read_dir(&self.0.directory);
        for entry in entries.map_err(|error| failed("list", &self.0.directory, error))? {
            let path = entry
                .map_err(|error| failed("list", &self.0.directory, error))?
                .path();
            match self.0.sweep_file(&path, now) {
                Ok(true) => report.deleted += 1,
                Ok(false) => report.live += 1,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => report.busy += 1,
                Err(error) => report.failures.push(error.to_string()),
            }
        }
        Ok(report)
    }

    fn last_sweep(&self, _now: SystemTime) -> Option<Duration> {
        None
    }

    fn for_each(&self, visit: &mut Visitor<'_>, now: SystemTime) -> Result<()> {
        let entries = fs::read_dir(&self.0.directory);
        for entry in entries.map_err(|error| failed("list", &self.0.directory, error))? {
            let name = entry.map_err(|error| failed("list", &self.0.directory, error))?;
            let name = name.file_name();
            let Some(digest) = place::session(&name) else {
                continue;
            };
            if let Some(stored) = self.read(&digest, now)?
                && !stored.record.is_marker()
                && visit(&digest, Ok(stored)) == ControlFlow::Break(())
            {
                break;
            }
        }
        Ok(())
    }

    fn sessions_of(&self, user: &str, now: SystemTime) -> Result<Vec<SessionDigest>> {
        let mut found = Vec::new();
        let mut visit = |session: &SessionDigest, stored: Result<Stored>| {
            if stored.is_ok_and(|stored| stored.record.user() == Some(user)) {
                found.push(*session);
            }
            ControlFlow::Continue(())
        };
        if self.0.fault != Fault::ForgetUsers {
            self.for_each(&mut visit, now)?;
        }
        Ok(found)
    }

    fn uninstall(&self) -> Uninstalled {
        let mut done = Uninstalled::default();
        if let Err(error) = fs::remove_dir_all(&self.0.directory) {
            done.errors.push(failed("remove", &self.0.directory, error));
        }
        done
    }
}

fn failed(action: &str, path: &Path, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Error {
    Error::store(format!("cannot {action} {}", path.display()), source)
}
