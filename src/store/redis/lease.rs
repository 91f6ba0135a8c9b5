//! [`RedisLease`]: the lock of one session for a time, and the changes of its record.

use std::process;
use std::sync::Arc;
use std::time::SystemTime;

use super::record::Loaded;
use super::scripts::{Reply, number};
use super::server::Link;
use super::{Shared, ttl_millis};
use crate::error::{Error, Result};
use crate::id::{SessionDigest, hex};
use crate::record::{Record, unix_seconds};
use crate::store::{Lease, check_size};

/// What makes one lease different from every other.
pub(super) struct Token(String);

impl Token {
    /// The number of random bytes; the scripts compare their digits.
    const BYTES: usize = 16;

    pub(super) fn generate() -> Result<Self> {
        let mut random = [0; Token::BYTES];
        getrandom::fill(&mut random).map_err(Error::Random)?;
        let mut digits = [0; 2 * Token::BYTES];
        hex(&random, &mut digits);
        Ok(Token(String::from_utf8_lossy(&digits).into_owned()))
    }

    /// What the lock holds: the token, the connection, and who that is.
    pub(super) fn value(&self, link: &Link) -> Vec<u8> {
        let system = rustix::system::uname();
        let host = system.nodename().to_string_lossy();
        format!(
            "{}:{}:process {} on {host}",
            self.0,
            link.id(),
            process::id()
        )
        .into_bytes()
    }

    /// The number of the holder's connection, if the server has told him.
    pub(super) fn connection(holder: &str) -> Option<u64> {
        let id = holder.split(':').nth(1)?.parse().ok();
        id.filter(|id| *id != 0)
    }

    /// Who the holder is.
    pub(super) fn shown(holder: &str) -> Option<String> {
        holder.splitn(3, ':').nth(2).map(str::to_owned)
    }
}

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
    head: Record,
    end: u64,
    /// Whether there is a lock to give back.
    is_held: bool,
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
        }
    }

    /// From here on the lock is given back.
    pub(super) fn hold(&mut self, link: Option<Link>, loaded: &Loaded) {
        self.link = link;
        self.version.clone_from(&loaded.version);
        self.end = loaded.end;
        self.is_held = true;
    }

    pub(super) fn remember(&mut self, record: &Record) {
        self.head = head(record);
    }

    /// Stores the first record; `false` when there is one.
    pub(super) fn create(&mut self, record: &Record, now: SystemTime) -> Result<bool> {
        self.note_user(record, now)?;
        let shared = Arc::clone(&self.shared);
        let (version, end) = (self.next_version(), shared.expiry.end(record, now));
        // The answer may be lost of what was done: then too there is a lock to give back.
        self.is_held = true;
        let reply = self.write("store a session in", &shared.scripts.create, |begin| {
            let mut arguments = vec![begin.token, begin.lease, number(unix_seconds(now))];
            arguments.extend(content(&version, record, end, now));
            arguments
        })?;
        self.is_held = reply.word() == "done";
        (self.version, self.end) = (version, end);
        Ok(self.is_held)
    }

    /// Before the record names a user, the index of the user names the session.
    fn note_user(&mut self, record: &Record, now: SystemTime) -> Result<()> {
        let Some(user) = record.user() else {
            return Ok(());
        };
        let key = self.shared.names.user(user);
        let session = self.session;
        self.shared
            .server
            .with(&mut self.link, "note the user of a session in", |link| {
                let mut command = redis::cmd("ZADD");
                let command = command.arg(&key).arg(unix_seconds(now));
                command.arg(session.as_str()).exec(link.connection())
            })
    }

    fn next_version(&mut self) -> Vec<u8> {
        self.writes += 1;
        format!("{}.{}", self.token.0, self.writes).into_bytes()
    }

    fn write(
        &mut self,
        action: &str,
        script: &redis::Script,
        arguments: impl Fn(Beginning) -> Vec<Vec<u8>>,
    ) -> Result<Reply> {
        let shared = &self.shared;
        let keys = [
            shared.names.record(&self.session),
            shared.names.lock(&self.session),
        ];
        let token = &self.token;
        shared
            .server
            .call(&mut self.link, action, script, &keys, |link| {
                arguments(Beginning {
                    token: token.value(link),
                    lease: shared.lease_millis(),
                })
            })
    }

    /// The session is not ours any more, and neither is its lock.
    fn lost(&mut self) -> Error {
        self.is_held = false;
        Error::LeaseLost
    }

    fn gone(&mut self) -> Error {
        let place = self.shared.server.shown();
        Error::store(
            format!("lost the session {} in {place} while it was in use", self.session),
            "its key is not there any more",
        )
        .with_hint(
            "somebody deleted it by hand, or the server evicted it (see maxmemory-policy) or was started \
             without it; nothing was saved",
        )
    }
}

/// What the arguments of a script begin with that writes under a lock.
struct Beginning {
    token: Vec<u8>,
    lease: Vec<u8>,
}

/// The arguments of a script that stores a record.
fn content(version: &[u8], record: &Record, end: u64, now: SystemTime) -> Vec<Vec<u8>> {
    let mut content = vec![
        version.to_vec(),
        record.to_json(),
        number(end),
        number(unix_seconds(now)),
        ttl_millis(end, now),
    ];
    content.extend(record.user().map(|user| user.as_bytes().to_vec()));
    content
}

impl Lease for RedisLease {
    fn commit(&mut self, record: &Record, now: SystemTime) -> Result<()> {
        check_size(record, self.shared.max_record_bytes)?;
        if record.user() != self.head.user() {
            self.note_user(record, now)?;
        }
        let shared = Arc::clone(&self.shared);
        let (old, end) = (self.version.clone(), shared.expiry.end(record, now));
        let version = self.next_version();
        let reply = self.write("save a session in", &shared.scripts.commit, |begin| {
            let mut arguments = vec![begin.token, begin.lease, old.clone()];
            arguments.extend(content(&version, record, end, now));
            arguments
        })?;
        match reply.word() {
            "done" => {
                (self.version, self.end, self.head) = (version, end, head(record));
                Ok(())
            }
            "gone" => Err(self.gone()),
            _ => Err(self.lost()),
        }
    }

    fn touch(&mut self, now: SystemTime) -> Result<()> {
        let Some(end) = self.shared.expiry.renewed(&self.head, self.end, now) else {
            return Ok(());
        };
        let shared = Arc::clone(&self.shared);
        let version = self.version.clone();
        let action = "renew the time of a session in";
        // One that is gone or another's has no use of it, and nothing of it was to be saved.
        self.write(action, &shared.scripts.touch, |begin| {
            let used = number(unix_seconds(now));
            let times = vec![number(end), used, ttl_millis(end, now)];
            [vec![begin.token, begin.lease, version.clone()], times].concat()
        })?;
        self.end = end;
        Ok(())
    }

    fn destroy(mut self: Box<Self>) -> Result<()> {
        let shared = Arc::clone(&self.shared);
        let version = self.version.clone();
        let reply = self.write("delete a session in", &shared.scripts.destroy, |begin| {
            vec![begin.token, begin.lease, version.clone()]
        })?;
        match reply.word() {
            "done" => {
                self.is_held = false;
                Ok(())
            }
            "gone" => Ok(()),
            _ => Err(self.lost()),
        }
    }
}

impl Drop for RedisLease {
    fn drop(&mut self) {
        // Without its connection a lock is nobody's, and whoever wants it takes it.
        if self.is_held && self.link.is_some() {
            let (session, token) = (self.session, &self.token.0);
            if let Err(error) = self.shared.unlock(&mut self.link, &session, token) {
                log::warn!("{}", error.one_line());
                self.link = None;
            }
        }
        self.shared.server.keep(self.link.take());
    }
}

fn head(record: &Record) -> Record {
    record.with_values(b"{}".to_vec())
}
