//! [`BrokenLease`]: a session that is locked, or believed to be.

use crate::prelude::*;
use cgi_session::Result;

use super::failed;
use super::fault::Fault;
use super::files::{forget, found, write_in_steps};
use super::place::Place;

pub(super) struct BrokenLease {
    place: Arc<Place>,
    path: PathBuf,
    /// What is locked: the record, or the file that stands for it.
    locked: File,
}

impl BrokenLease {
    pub(super) fn boxed(place: &Arc<Place>, path: PathBuf, locked: File) -> Box<dyn Lease> {
        Box::new(BrokenLease {
            place: Arc::clone(place),
            path,
            locked,
        })
    }

    fn write(&mut self, record: &Record) -> io::Result<()> {
        if self.place.fault == Fault::TruncateAndWrite {
            return write_in_steps(&self.locked, &record.to_json());
        }
        if self.place.fault == Fault::SharedLock {
            self.locked.lock()?;
        }
        let (temporary, file) = self.place.write_temporary(record)?;
        if self.place.fault != Fault::Resurrect && !self.path.exists() {
            forget(&temporary);
            return Err(io::ErrorKind::NotFound.into());
        }
        fs::rename(&temporary, &self.path).inspect_err(|_| forget(&temporary))?;
        if self.place.fault != Fault::LockFileRemoved {
            self.locked = file;
        }
        self.place.sync_directory()
    }
}

impl Lease for BrokenLease {
    fn commit(&mut self, record: &Record, _now: SystemTime) -> Result<()> {
        let written = self.write(record);
        written.map_err(|error| failed("save", &self.path, error))
    }

    fn finish(&mut self, record: &Record, now: SystemTime) -> Result<()> {
        match self.place.fault {
            Fault::ForgetEnd => Ok(()),
            Fault::DestroyAtEnd => {
                let deleted = found(fs::remove_file(&self.path));
                let deleted = deleted.map(drop);
                deleted.map_err(|error| failed("destroy", &self.path, error))
            }
            _ => self.commit(record, now),
        }
    }

    fn touch(&mut self, now: SystemTime) -> Result<()> {
        let file = OpenOptions::new().write(true).open(&self.path);
        let touched = file.and_then(|file| file.set_modified(now));
        touched.map_err(|error| failed("touch", &self.path, error))
    }

    fn destroy(self: Box<Self>) -> Result<()> {
        let deleted = found(fs::remove_file(&self.path));
        let deleted = deleted.and_then(|_| self.place.sync_directory());
        deleted.map_err(|error| failed("destroy", &self.path, error))
    }
}

impl Drop for BrokenLease {
    fn drop(&mut self) {
        // A lock that cannot be given back here ends with the descriptor.
        let _ = self.place.unlock(&self.path, &self.locked);
    }
}
