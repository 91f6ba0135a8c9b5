//! [`CustomStore`]: sessions kept by functions of the program's own.

mod functions;

use std::error::Error as StdError;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use xxhash_rust::xxh3::xxh3_64;

use super::expiry::{Expiry, has_passed};
use super::files::locks::{SessionLock, SessionLocks};
use super::{Lease, Store, Stored, Sweep, SweepReport, Uninstalled, Visitor, check_size};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::id::{SessionDigest, SessionId, random};
use crate::record::{Record, RecordError, unix_seconds};

use functions::EMPTY;
pub use functions::{CustomFunctions, CustomResult};

/// Sessions kept by the program's own functions (`storageType = custom`).
///
/// The functions need no locks: the library takes one for each session from files in `storageFileDir`,
/// so that no update is lost between the programs of one machine. Programs on other
/// machines that use the same rows are not locked out; with [`CustomFunctions::save_if`] the second of two that
/// change a session at once is refused, and without it the first is overwritten.
///
/// A clean-up calls [`CustomFunctions::clean_up`] once, whatever its limits are. It may delete a
/// session that expired while a request holds it: that request's commit then stores it again, whole, or is
/// [`Error::LeaseLost`] (503) with [`CustomFunctions::save_if`].
///
/// A session that is listed ([`CustomFunctions::keys`]) is shown with the digits of its key and zeros, which
/// name the same session as its whole digest does.
pub struct CustomStore {
    shared: Arc<CustomStoreInner>,
}

struct CustomStoreInner {
    functions: Box<dyn CustomFunctions>,
    locks: SessionLocks,
    expiry: Expiry,
    max_record_bytes: usize,
}

impl CustomStore {
    /// A store of these functions. Nothing is called or made yet.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] when `storageFileDir` is not set, which the locks need, or `maxSessions`
    /// is: the rows are not counted.
    pub fn new(config: &Config, functions: impl CustomFunctions + 'static) -> Result<Self> {
        let directory = config.storage_file_dir().map_err(|error| {
            Error::Config(format!(
                "{error}; storageType = custom keeps its locks there, one for each session in use"
            ))
        })?;
        if config.max_sessions > 0 {
            return Err(Error::Config(format!(
                "maxSessions ({}): storageType = custom does not count its sessions; set it to 0",
                config.origin("maxSessions")
            )));
        }
        let shared = CustomStoreInner {
            functions: Box::new(functions),
            locks: SessionLocks::new(directory),
            expiry: Expiry::new(config),
            max_record_bytes: config.max_record_bytes,
        };
        Ok(CustomStore {
            shared: Arc::new(shared),
        })
    }

    fn lease(
        &self,
        key: &str,
        lock: SessionLock,
        record: &Record,
        (text, row): (String, Row),
    ) -> CustomLease {
        CustomLease {
            shared: Arc::clone(&self.shared),
            key: key.to_owned(),
            record: record.clone(),
            text,
            row,
            _lock: lock,
        }
    }

    fn keys(&self) -> Result<Vec<String>> {
        let keys = self.shared.functions.keys();
        let keys = keys.map_err(|error| Error::store("cannot list the sessions", error))?;
        keys.ok_or(Error::Unsupported(
            "its functions cannot list sessions (CustomFunctions::keys)",
        ))
    }

    fn count_expired(&self, now: SystemTime) -> Result<SweepReport> {
        let mut report = SweepReport::default();
        for key in self.keys()? {
            let Some((data, end)) = self.shared.load(&key)? else {
                continue;
            };
            report.examined += 1;
            if has_passed(end, now) {
                report.deleted += 1;
            } else {
                let is_marker = |record: Record| record.is_marker();
                report.live += u64::from(!parse(&key, data)?.is_some_and(is_marker));
            }
        }
        Ok(report)
    }
}

impl Store for CustomStore {
    fn create(
        &self,
        session: &SessionDigest,
        record: &Record,
        now: SystemTime,
    ) -> Result<Option<Box<dyn Lease>>> {
        check_size(record, self.shared.max_record_bytes)?;
        let key = session.short_key();
        let Some(lock) = self.shared.locks.try_take(key)? else {
            // The request that has its lock has the session.
            return Ok(None);
        };
        let present = self.shared.load(key)?;
        if present
            .as_ref()
            .is_some_and(|(_, end)| !has_passed(*end, now))
        {
            return Ok(None);
        }
        let row = Row {
            version: present.map(|(data, _)| version_of(&data)),
            end: 0,
        };
        let mut lease = Box::new(self.lease(key, lock, record, (String::new(), row)));
        match lease.commit(record, now) {
            Ok(()) => Ok(Some(lease)),
            // Another machine has made it.
            Err(Error::LeaseLost) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn lock(
        &self,
        session: &SessionDigest,
        wait: Duration,
        now: SystemTime,
    ) -> Result<Option<(Stored, Box<dyn Lease>)>> {
        let key = session.short_key();
        // No lock's file is created for an id that leads nowhere, or to a session that was destroyed.
        if self.shared.load(key)?.is_none_or(|(_, end)| end == 0) {
            return Ok(None);
        }
        let lock = self.shared.locks.take(key, wait)?;
        let Some((data, end)) = self.shared.load(key)? else {
            return Ok(None);
        };
        let row = Row::of(&data, end);
        if has_passed(end, now) {
            return match self.shared.delete(key, row) {
                // A clean-up may have been faster.
                Ok(()) | Err(Error::LeaseLost) => Ok(None),
                Err(error) => Err(error),
            };
        }
        let Some(record) = parse(key, data.clone())? else {
            return Ok(None);
        };
        let lease = Box::new(self.lease(key, lock, &record, (data, row)));
        Ok(Some((self.shared.stored(record, end, now), lease)))
    }

    fn read(&self, session: &SessionDigest, now: SystemTime) -> Result<Option<Stored>> {
        let key = session.short_key();
        let found = self.shared.find(key, now)?;
        if let Some((stored, row)) = &found
            && self
                .shared
                .expiry
                .renewed(&stored.record, row.end, now)
                .is_some()
            && let Err(error) = self.shared.renew(key, now)
        {
            // What was read is right all the same.
            log::warn!("{}", error.one_line());
        }
        Ok(found.map(|(stored, _)| stored))
    }

    fn peek(&self, session: &SessionDigest, now: SystemTime) -> Result<Option<Stored>> {
        let found = self.shared.find(session.short_key(), now)?;
        Ok(found.map(|(stored, _)| stored))
    }

    fn delete_expired(&self, sweep: &Sweep<'_>, now: SystemTime) -> Result<SweepReport> {
        if sweep.dry_run {
            return self.count_expired(now);
        }
        let (clock, mut report) = (sweep.clock(), SweepReport::default());
        let Some(lock) = self.shared.locks.sweep()? else {
            report.already_running = true;
            return Ok(report);
        };
        let deleted = self.shared.functions.clean_up(unix_seconds(now));
        report.deleted =
            deleted.map_err(|error| Error::store("cannot clean up the sessions", error))?;
        report.examined = report.deleted;
        report.temporary = self.shared.locks.remove_abandoned(clock)?;
        lock.note(now)?;
        Ok(report)
    }

    fn last_sweep(&self, now: SystemTime) -> Option<Duration> {
        self.shared.locks.last_sweep(now)
    }

    fn for_each(&self, visit: &mut Visitor<'_>, now: SystemTime) -> Result<()> {
        for key in self.keys()? {
            let session = SessionDigest::parse(format!("{key:0<64}").as_bytes());
            let Some(session) = session.filter(|_| key.len() == SessionId::LENGTH) else {
                continue;
            };
            let flow = match self.shared.find(&key, now) {
                Ok(Some((stored, _))) if !stored.record.is_marker() => visit(&session, Ok(stored)),
                Ok(_) => ControlFlow::Continue(()),
                Err(error) => visit(&session, Err(error)),
            };
            if flow.is_break() {
                break;
            }
        }
        Ok(())
    }

    fn install(&self) -> Vec<Error> {
        self.shared.locks.install().err().into_iter().collect()
    }

    fn uninstall(&self) -> Uninstalled {
        let mut done = Uninstalled::default();
        match self.keys() {
            Ok(keys) => {
                let delete =
                    |key: &String| failed("delete", key, self.shared.functions.delete(key));
                for deleted in keys.iter().map(delete) {
                    done.sessions += u64::from(deleted.is_ok());
                    done.errors.extend(deleted.err());
                }
            }
            Err(error) => done.errors.push(error),
        }
        let removed = self.shared.locks.uninstall(&mut done);
        done.errors.extend(removed.err());
        done
    }
}

impl CustomStoreInner {
    fn load(&self, key: &str) -> Result<Option<(String, u64)>> {
        failed("load", key, self.functions.load(key))
    }

    /// Saves a record over the row of this version, if the functions look at that.
    fn save(&self, key: &str, before: Option<u64>, text: &str, end: u64) -> Result<Row> {
        let row = Row::of(text, end);
        if !self.save_if(key, before, text, row)? {
            failed("save", key, self.functions.save(key, text, end))?;
        }
        Ok(row)
    }

    fn delete(&self, key: &str, row: Row) -> Result<()> {
        if self.save_if(key, row.version, EMPTY, Row::of(EMPTY, 0))? {
            return Ok(());
        }
        failed("delete", key, self.functions.delete(key))
    }

    /// Whether the functions have saved this, as those of one machine need not.
    fn save_if(&self, key: &str, before: Option<u64>, text: &str, row: Row) -> Result<bool> {
        let version = row.version.unwrap_or_default();
        let saved = self.functions.save_if(key, before, text, row.end, version);
        match failed("save", key, saved)? {
            Some(true) => Ok(true),
            Some(false) => Err(Error::LeaseLost),
            None => Ok(false),
        }
    }

    /// A live session and its row.
    fn find(&self, key: &str, now: SystemTime) -> Result<Option<(Stored, Row)>> {
        let Some((data, end)) = self.load(key)?.filter(|(_, end)| !has_passed(*end, now)) else {
            return Ok(None);
        };
        let row = Row::of(&data, end);
        Ok(parse(key, data)?.map(|record| (self.stored(record, end, now), row)))
    }

    fn stored(&self, record: Record, end: u64, now: SystemTime) -> Stored {
        Stored {
            last_access: self.expiry.last_access(&record, end, now),
            record,
        }
    }

    /// Notes that a session was read. A request that has its lock notes the use itself.
    fn renew(&self, key: &str, now: SystemTime) -> Result<()> {
        let Some(_lock) = self.locks.try_take(key)? else {
            return Ok(());
        };
        // It may have been saved since it was read.
        if let Some((data, end)) = self.load(key)?
            && !has_passed(end, now)
            && let Some(record) = parse(key, data.clone())?
            && let Some(new_end) = self.expiry.renewed(&record, end, now)
        {
            // Of the same text, and so of the same version: who holds the session elsewhere may still save it.
            match self.save(key, Some(version_of(&data)), &data, new_end) {
                // What another machine has saved is newer.
                Ok(_) | Err(Error::LeaseLost) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

#[derive(Clone, Copy)]
struct Row {
    /// None before there is one.
    version: Option<u64>,
    end: u64,
}

impl Row {
    fn of(data: &str, end: u64) -> Self {
        Row {
            version: Some(version_of(data)),
            end,
        }
    }
}

/// A number that stands for the data of a row, of the bits that an SQL `bigint` has.
fn version_of(data: &str) -> u64 {
    xxh3_64(data.as_bytes()) >> 1
}

/// White space of 64 random bits. With it in the text no client that chooses values knows their version.
fn blanks() -> Result<String> {
    let [bits] = random()?;
    let blank = |bit| if bits >> bit & 1 == 0 { ' ' } else { '\t' };
    Ok((0..u64::BITS).map(blank).collect())
}

/// Reads the record of a row; what is no record at all is `None`.
fn parse(key: &str, data: String) -> Result<Option<Record>> {
    match Record::from_json(data.into_bytes()) {
        Ok(record) => Ok(Some(record)),
        Err(RecordError::Malformed(reason)) => {
            log::warn!("the session {key} holds no record and was left alone: {reason}");
            Ok(None)
        }
        Err(RecordError::LaterVersion(version)) => Err(Error::store(
            format!("cannot read the session {key}"),
            format!("a later release of cgi-session wrote it (version {version} of the format)"),
        )),
    }
}

fn failed<T>(
    verb: &str,
    key: &str,
    result: Result<T, impl Into<Box<dyn StdError + Send + Sync>>>,
) -> Result<T> {
    result.map_err(|error| Error::store(format!("cannot {verb} the session {key}"), error))
}

struct CustomLease {
    shared: Arc<CustomStoreInner>,
    key: String,
    record: Record,
    /// As it is stored.
    text: String,
    row: Row,
    _lock: SessionLock,
}

impl Lease for CustomLease {
    fn commit(&mut self, record: &Record, now: SystemTime) -> Result<()> {
        check_size(record, self.shared.max_record_bytes)?;
        let (shared, before) = (&self.shared, self.row.version);
        let text = failed("save", &self.key, String::from_utf8(record.to_json()))?;
        let text = text.replacen('{', &["{", &blanks()?].concat(), 1);
        self.row = shared.save(&self.key, before, &text, shared.expiry.end(record, now))?;
        self.text = text;
        self.record = record.clone();
        Ok(())
    }

    fn touch(&mut self, now: SystemTime) -> Result<()> {
        let shared = &self.shared;
        if let Some(end) = shared.expiry.renewed(&self.record, self.row.end, now) {
            match shared.save(&self.key, self.row.version, &self.text, end) {
                Ok(row) => self.row = row,
                // What another machine has saved is newer, and nothing of this request was to be saved.
                Err(Error::LeaseLost) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn destroy(self: Box<Self>) -> Result<()> {
        self.shared.delete(&self.key, self.row)
    }
}
