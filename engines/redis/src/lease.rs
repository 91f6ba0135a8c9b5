//! [`RedisLease`]: the lock of one session for a time, and the changes of its record.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use cgi_session::store::{check_size, unix_seconds};
use cgi_session::{Error, Lease, Record, Result, SessionDigest};
use cgi_session_kit::reading::{self, head, tell};
use redis::ToRedisArgs;

use super::lock::Token;
use super::node::{Link, millis};
use super::record::Loaded;
use super::scripts::{CHECK, COMMIT, CREATE, DESTROY, Reply, Script, TOUCH};
use super::server::{At, keep};
use super::{Shared, ttl_millis};

/// The lock of one session.
pub(super) struct RedisLease {
    shared: Arc<Shared>,
    link: Option<Link>,
    session: SessionDigest,
    token: Token,
    /// The version that is stored as far as we know.
    version: Vec<u8>,
    writes: u64,
    /// The times of the record, without its values.
    pub(super) head: Record,
    end: u64,
    /// Whether there is a lock to give back.
    is_held: bool,
    held_since: Instant,
}

impl RedisLease {
    /// A lease without its lock.
    pub(super) fn new(
        shared: &Arc<Shared>,
        session: &SessionDigest,
        token: Token,
        record: &Record,
    ) -> Self {
        RedisLease {
            shared: Arc::clone(shared),
            link: None,
            session: *session,
            token,
            version: Vec::new(),
            writes: 0,
            head: head(record),
            end: 0,
            is_held: false,
            held_since: Instant::now(),
        }
    }

    /// From here on the lock is given back.
    pub(super) fn hold(&mut self, link: Option<Link>, loaded: &Loaded) {
        self.link = link;
        self.version.clone_from(&loaded.version);
        self.end = loaded.row.end;
        self.is_held = true;
    }

    /// Stores the first record; `false` when there is one. It is not stored twice: when it may have been,
    /// and is not there, it may have been deleted since.
    pub(super) fn create(&mut self, record: &Record, now: SystemTime) -> Result<bool> {
        self.note_user(record, now)?;
        let end = self.shared.expiry.end(record, now);
        let arguments = (unix_seconds(now), self.content(record, end, now));
        // The answer may be lost of what was done: then too there is a lock to give back.
        self.is_held = true;
        let action = "store a session in";
        let reply = self.write(action, &CREATE, self.lease(), arguments)?;
        if reply.word() == "absent" {
            return Err(self.unknown(action));
        }
        self.is_held = reply.word() == "done";
        (self.version, self.end) = (self.last_version(), end);
        Ok(self.is_held)
    }

    /// Saves the record, and holds the lock for so long; for 0 it is released.
    fn store(&mut self, record: &Record, now: SystemTime, lease: u64) -> Result<()> {
        check_size(record, self.shared.max_record_bytes)?;
        if record.user() != self.head.user() {
            self.note_user(record, now)?;
        }
        let end = self.shared.expiry.end(record, now);
        let arguments = (self.version.clone(), self.content(record, end, now));
        let action = "save a session in";
        let reply = self.write(action, &COMMIT, lease, arguments)?;
        if reply.word() != "done" {
            let lost = self.lost(&reply);
            return Err(if reply.is_repeated {
                self.unknown(action)
            } else {
                lost
            });
        }
        (self.version, self.end, self.head) = (self.last_version(), end, head(record));
        self.is_held = lease > 0;
        Ok(())
    }

    /// Before the record names a user, the index of the user names the session.
    fn note_user(&self, record: &Record, now: SystemTime) -> Result<()> {
        let Some(user) = record.user() else {
            return Ok(());
        };
        let key = self.shared.names.user(user);
        let arguments = (&key, unix_seconds(now), self.session.as_str());
        let action = "note the user of a session in";
        self.shared
            .server
            .ask(action, At::Key(&key), "ZADD", arguments)
    }

    /// What a script stores, and the user of it if it has one.
    fn content<'a>(
        &mut self,
        record: &'a Record,
        end: u64,
        now: SystemTime,
    ) -> impl ToRedisArgs + use<'a> {
        self.writes += 1;
        (
            self.last_version(),
            record.to_json(),
            end,
            reading::used(record, now),
            ttl_millis(end, now),
            record.user(),
        )
    }

    fn lease(&self) -> u64 {
        millis(self.shared.lease)
    }

    /// The version of what this lease has last tried to write.
    fn last_version(&self) -> Vec<u8> {
        format!("{}.{}", self.token.0, self.writes).into_bytes()
    }

    fn write(
        &mut self,
        action: &str,
        script: &Script,
        lease: u64,
        arguments: impl ToRedisArgs,
    ) -> Result<Reply> {
        let shared = &self.shared;
        let key = shared.names.record(&self.session);
        let (link, token) = (&mut self.link, &self.token);
        let first = |link: &Link| (token.value(link), lease);
        let server = &shared.server;
        server.call(link, action, script, &key, first, arguments)
    }

    /// The session is not ours any more, and neither is its lock.
    fn lost(&mut self, reply: &Reply) -> Error {
        self.is_held = false;
        let is_missing = reply.word() == "gone" && !reply.is_repeated;
        if is_missing && self.held_since.elapsed() < self.shared.lease {
            log::warn!(
                "the session {} was lost in {} while it was in use: somebody deleted it by hand, or the \
                 server evicted it (see maxmemory-policy) or was started without it",
                self.session,
                self.shared.server.shown
            );
        }
        Error::LeaseLost
    }

    /// An answer was lost, and what is stored now does not tell what it was.
    fn unknown(&self, action: &str) -> Error {
        let action = format!("cannot {action} {}", self.shared.server.shown);
        let error = Error::unavailable(action, "the connection ended before the answer came");
        error.with_hint("whether it was done is not known")
    }
}

impl Lease for RedisLease {
    fn commit(&mut self, record: &Record, now: SystemTime) -> Result<()> {
        self.store(record, now, self.lease())
    }

    fn finish(&mut self, record: &Record, now: SystemTime) -> Result<()> {
        self.store(record, now, 0)
    }

    fn touch(&mut self, now: SystemTime) -> Result<()> {
        let Some(end) = self.shared.expiry.renewed(&self.head, self.end, now) else {
            return Ok(());
        };
        let used = unix_seconds(now);
        let arguments = (self.version.clone(), end, used, ttl_millis(end, now));
        // One that is gone or another's has no use of it, and nothing of it was to be saved.
        let action = "renew the time of a session in";
        tell(
            self.write(action, &TOUCH, self.lease(), arguments)
                .map(drop),
        );
        self.end = end;
        Ok(())
    }

    fn check(&mut self) -> Result<()> {
        let version = self.version.clone();
        let reply = self.write("look at a session in", &CHECK, self.lease(), version)?;
        if reply.word() == "done" {
            return Ok(());
        }
        Err(self.lost(&reply))
    }

    fn destroy(mut self: Box<Self>) -> Result<()> {
        let version = self.version.clone();
        let reply = self.write("delete a session in", &DESTROY, self.lease(), version)?;
        match reply.word() {
            "done" => {}
            // It was done the first time, and not heard of. Otherwise another request has ended it, or given
            // it another id.
            "gone" if reply.is_repeated => {}
            _ => return Err(self.lost(&reply)),
        }
        self.is_held = false;
        Ok(())
    }
}

impl Drop for RedisLease {
    fn drop(&mut self) {
        if self.is_held {
            let key = self.shared.names.record(&self.session);
            self.shared.let_go(&mut self.link, &key, &self.token);
        }
        keep(self.link.take());
    }
}
