//! [`RedisLease`]: the lock of one session for a time, and the changes of its record.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use cgi_session::store::{check_size, unix_seconds};
use cgi_session::{Error, Lease, Record, Result, SessionDigest, Stored};
use cgi_session_kit::reading::{self, head, tell};

use super::lock::{GRACE, Lock};
use super::record::loaded;
use super::scripts::{CHECK, COMMIT, CREATE, DESTROY, LOCK, Reply, Script, TOUCH};
use super::server::At;
use super::{Shared, ttl_millis};

pub(super) struct RedisLease {
    shared: Arc<Shared>,
    lock: Lock,
    session: SessionDigest,
    /// The version that is stored as far as we know; before there is one, the time by which others have expired.
    version: Vec<u8>,
    writes: u64,
    /// The times of the record, without its values.
    head: Record,
    end: u64,
    held_since: Instant,
}

impl RedisLease {
    fn new(shared: &Arc<Shared>, session: &SessionDigest, now: SystemTime) -> Result<Self> {
        Ok(RedisLease {
            shared: Arc::clone(shared),
            lock: Lock::new(shared, shared.record(session))?,
            session: *session,
            version: unix_seconds(now).to_string().into_bytes(),
            writes: 0,
            head: Record::new(now),
            end: 0,
            held_since: Instant::now(),
        })
    }

    /// Waits for the lock of a session and loads what is stored; `None` when there is nothing.
    pub(super) fn open(
        shared: &Arc<Shared>,
        session: &SessionDigest,
        wait: Duration,
        now: SystemTime,
    ) -> Result<Option<(Stored, Self)>> {
        let mut lease = RedisLease::new(shared, session, now)?;
        let reply = (lease.lock).wait(&LOCK, shared.lease(), wait, GRACE, unix_seconds(now))?;
        let Some((row, version)) = reply.rest.try_into().ok().and_then(loaded) else {
            return Ok(None);
        };
        (lease.version, lease.end, lease.held_since) = (version, row.end, Instant::now());
        let stored = row.stored(session, &shared.server.shown)?;
        Ok(stored.map(|stored| {
            lease.head = head(&stored.record);
            (stored, lease)
        }))
    }

    /// Stores the first record; `None` when there is one. It is not stored twice: when it may have been,
    /// and is not there, it may have been deleted since.
    pub(super) fn create(
        shared: &Arc<Shared>,
        session: &SessionDigest,
        record: &Record,
        now: SystemTime,
    ) -> Result<Option<Self>> {
        let mut lease = RedisLease::new(shared, session, now)?;
        // The answer may be lost of what was done: then too there is a lock to give back.
        lease.lock.is_held = true;
        let reply = lease.save(&CREATE, record, now, shared.lease())?;
        if reply.word == "absent" {
            return Err(lease.unknown(&CREATE));
        }
        lease.lock.is_held = reply.word == "done";
        Ok(lease.lock.is_held.then_some(lease))
    }

    /// Saves the record, and holds the lock for so long; for no time it is released.
    fn store(&mut self, record: &Record, now: SystemTime, lease: Duration) -> Result<()> {
        let reply = self.save(&COMMIT, record, now, lease)?;
        let saved = self.outcome(&reply);
        if saved.is_err() && reply.is_repeated {
            return Err(self.unknown(&COMMIT));
        }
        saved
    }

    fn save(
        &mut self,
        script: &Script,
        record: &Record,
        now: SystemTime,
        lease: Duration,
    ) -> Result<Reply> {
        check_size(record, self.shared.config.max_record_bytes())?;
        if record.user() != self.head.user() {
            self.note_user(record, now)?;
        }
        self.writes += 1;
        let version = format!("{}.{}", self.lock.token, self.writes).into_bytes();
        let end = self.shared.expiry().end(record, now);
        let times = (end, reading::used(record, now), ttl_millis(end, now));
        let content = (&version, record.to_json(), record.user());
        let reply = (self.lock).call(script, lease, (&self.version, times, content))?;
        if reply.word == "done" {
            (self.version, self.end, self.head) = (version, end, head(record));
            self.lock.is_held = !lease.is_zero();
        }
        Ok(reply)
    }

    /// Before the record names a user, the index of the user names the session.
    fn note_user(&self, record: &Record, now: SystemTime) -> Result<()> {
        let Some(user) = record.user() else {
            return Ok(());
        };
        let key = self.shared.key(&format!("user:{user}"));
        let arguments = (&key, unix_seconds(now), self.session.as_str());
        let (action, at) = ("note the user of a session in", At::Key(&key));
        self.shared.server.ask(action, at, "ZADD", arguments)
    }

    /// What was not done is not ours any more, and neither is its lock: another request has ended the session,
    /// changed it, or given it another id.
    fn outcome(&mut self, reply: &Reply) -> Result<()> {
        if reply.word == "done" {
            return Ok(());
        }
        self.lock.is_held = false;
        let is_missing = reply.word == "gone" && !reply.is_repeated;
        if is_missing && self.held_since.elapsed() < self.shared.lease() {
            log::warn!(
                "the session {} was lost in {} while it was in use: somebody deleted it by hand, or the \
                 server evicted it (see maxmemory-policy) or was started without it",
                self.session,
                self.shared.server.shown
            );
        }
        Err(Error::LeaseLost)
    }

    /// An answer was lost, and what is stored now does not tell what it was.
    fn unknown(&self, script: &Script) -> Error {
        let action = format!("cannot {} {}", script.action, self.shared.server.shown);
        let error = Error::unavailable(action, "the connection ended before the answer came");
        error.with_hint("whether it was done is not known")
    }
}

impl Lease for RedisLease {
    fn commit(&mut self, record: &Record, now: SystemTime) -> Result<()> {
        self.store(record, now, self.shared.lease())
    }

    fn finish(&mut self, record: &Record, now: SystemTime) -> Result<()> {
        self.store(record, now, Duration::ZERO)
    }

    fn touch(&mut self, now: SystemTime) -> Result<()> {
        let Some(end) = self.shared.expiry().renewed(&self.head, self.end, now) else {
            return Ok(());
        };
        let arguments = (&self.version, end, unix_seconds(now), ttl_millis(end, now));
        let touched = self.lock.call(&TOUCH, self.shared.lease(), arguments);
        // One that is gone or another's has no use of it, and nothing of it was to be saved.
        tell(touched.map(drop));
        self.end = end;
        Ok(())
    }

    fn check(&mut self) -> Result<()> {
        let reply = (self.lock).call(&CHECK, self.shared.lease(), &self.version)?;
        self.outcome(&reply)
    }

    fn destroy(mut self: Box<Self>) -> Result<()> {
        let reply = (self.lock).call(&DESTROY, self.shared.lease(), &self.version)?;
        self.outcome(&reply)?;
        self.lock.is_held = false;
        Ok(())
    }
}
