//! [`RedisStore`]: sessions in a Redis server, which the programs of several machines can share.
//!
//! # Assumptions
//!
//! The server runs one script after the other, each as a whole, and answers only afterwards. Its clock
//! runs on while it is stopped. Nothing is assumed of the clocks of the programs but that they agree to
//! a minute, and nothing of the network.
//!
//! # The lock
//!
//! A lock on a network cannot be held for ever, nor until its holder dies: it stands beside the record, as
//! a secret value and the time until which it counts (`lockLease`). Therefore the lock only makes requests
//! wait for each other, and it is the version of the record that keeps an update from being lost: every
//! record has one, that no other record ever had. A script saves only over the version that its request has
//! loaded, and only while no other request has the lock.
//!
//! The value names the holder's connection as well. A request that waits asks the server whether that is still
//! there, so that a holder which was killed is waited for no longer than a tenth of a second; and one that
//! is connected to a server that has not the session any more, no longer than a second.
//!
//! | what happens | what the next request sees |
//! |---|---|
//! | the holder dies before its commit | the old record, at once |
//! | the holder's machine loses power or its network | the old record, after `lockLease` |
//! | the holder takes longer than `lockLease` | the old record; the slow commit fails, if another request came in between |
//! | the answer to a commit is lost | the new record; the commit is asked for again and found done |
//! | the answer to a creation is lost | the session, if it is there; if not, it is not stored again, and its maker gets an error |
//! | the server stands still, and the request gives up | the old record: a script that comes too late does nothing |
//! | the server restarts | whatever it had kept; a commit on another version fails |
//! | a replica takes the server's place | whatever it had received; a commit on another version fails |

#![cfg_attr(docsrs, feature(doc_cfg))]

mod cluster;
mod failure;
mod install;
mod lease;
mod listing;
mod lock;
mod node;
mod place;
mod record;
mod scripts;
mod sentinel;
mod server;
mod sweep;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use cgi_session::store::{Expiry, unix_seconds};
use cgi_session::{
    Config, Error, Examination, Lease, Record, Result, SessionDigest, Store, StoreKind, Stored,
    Sweep, SweepReport, Uninstalled, Visitor,
};

use cgi_session_kit::reading::renewing;
use lease::RedisLease;
use lock::{GRACE, Lock};
use scripts::{HOLD_USER, RENEW};
use server::{At, Server};

/// The store that `storageType = redis` chooses: `Program::new().store(cgi_session_redis::REDIS)`.
pub const REDIS: StoreKind =
    StoreKind::new("redis", |config| Ok(Box::new(RedisStore::new(config)?)));

/// Sessions in a Redis server or cluster (`storageType = redis`), which `database` names by its URL.
///
/// | `database` | |
/// |---|---|
/// | `redis://USER:PASSWORD@HOST:6379/0` | a server, and the number of its database |
/// | `redis+unix:///run/redis/redis.sock?db=0&user=USER&pass=PASSWORD` | by its socket |
/// | `redis+cluster://USER:PASSWORD@HOST:7001,HOST:7002/` | a cluster, by some of its nodes |
/// | `redis+sentinel://USER:PASSWORD@HOST:26379,HOST:26379/NAME/0` | the primary that the sentinels know under this name; `?sentinelUser=USER&sentinelPass=PASSWORD` for their own password |
/// | `rediss://…`, `rediss+cluster://…`, `rediss+sentinel://…` | with TLS (feature `tls`; see `databaseCaFile`) |
/// | `valkey://…` and the like | the same |
///
/// | key | holds |
/// |---|---|
/// | `Session:{DIGEST}` | a hash: `record` (JSON), `end`, `used` (seconds since 1970, 0 for what a change of id left), `version`, `user`; the holder of the lock (`lock`), and for how long (`until`) |
/// | `Session:user:NAME` | the digests of a user's sessions, and of some that have ended |
/// | `Session:lock:NAME` | who counts the sessions of a user, while `maxSessionsPerUser` is set |
/// | `Session:sweep` | when the last clean-up ended, and which one is running |
///
/// `table` is what they begin with. The server deletes a session by itself when it has expired; a clean-up
/// has little to do. It needs version 6.2 of Redis, or Valkey.
///
/// # What the server cannot promise
///
/// * **A commit that was acknowledged can be lost** when the server dies before it has written it to
///   disk, and when a replica takes over that had not received it. With `durability = data` it waits for both; when
///   that does not happen in time, the answer is [`Error::Unavailable`], and the commit stays done at the server. No
///   session is damaged by a loss, and none mixes two states.
/// * **Sessions can go before their time** when the server may evict keys: give it `maxmemory-policy
///   noeviction`. [`Store::install`] looks for that and for persistence that is off, and warns.
/// * **A lock ends after `lockLease`**, whatever its holder does. A request that was too slow gets
///   [`Error::LeaseLost`] when it commits or destroys, if another one came in between; no update is lost.
/// * `maxSessions` is refused.
#[derive(Clone)]
pub struct RedisStore {
    shared: Arc<Shared>,
}

/// What the store, its leases and its clean-up have in common.
struct Shared {
    server: Server,
    config: Config,
}

impl RedisStore {
    /// A store in the server that the configuration's `database` names. Nothing is connected yet.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] when `database` is no URL of a Redis server, the password cannot be read, or
    /// `maxSessions` asks for what the server cannot do.
    pub fn new(config: &Config) -> Result<Self> {
        if config.max_sessions() > 0 {
            return Err(Error::Config(format!(
                "maxSessions ({}) is not supported by storageType = redis; set it to 0, and maxmemory in the \
                 server's configuration",
                config.origin("maxSessions")
            )));
        }
        let shared = Shared {
            server: Server::new(config)?,
            config: config.clone(),
        };
        Ok(RedisStore {
            shared: Arc::new(shared),
        })
    }
}

impl Store for RedisStore {
    fn create(
        &self,
        session: &SessionDigest,
        record: &Record,
        now: SystemTime,
    ) -> Result<Option<Box<dyn Lease>>> {
        let created = RedisLease::create(&self.shared, session, record, now)?;
        Ok(created.map(|lease| Box::new(lease) as _))
    }

    fn lock(
        &self,
        session: &SessionDigest,
        wait: Duration,
        now: SystemTime,
    ) -> Result<Option<(Stored, Box<dyn Lease>)>> {
        let opened = RedisLease::open(&self.shared, session, wait, now)?;
        Ok(opened.map(|(stored, lease)| (stored, Box::new(lease) as _)))
    }

    fn read(&self, session: &SessionDigest, now: SystemTime) -> Result<Option<Stored>> {
        let (shared, found) = (&self.shared, self.shared.find(session, now)?);
        // Unless another request has noted or written something meanwhile.
        Ok(renewing(found, &shared.expiry(), now, |end, new_end| {
            let (key, ttl) = (shared.record(session), ttl_millis(new_end, now));
            let arguments = (end, new_end, unix_seconds(now), ttl);
            let renewed = shared.server.call(&mut None, &RENEW, &key, arguments);
            renewed.map(drop)
        }))
    }

    fn peek(&self, session: &SessionDigest, now: SystemTime) -> Result<Option<Stored>> {
        let found = self.shared.find(session, now)?;
        Ok(found.map(|(stored, _)| stored))
    }

    fn delete_expired(&self, sweep: &Sweep<'_>, now: SystemTime) -> Result<SweepReport> {
        sweep::run(&self.shared, sweep, now)
    }

    fn last_sweep(&self, now: SystemTime) -> Option<Duration> {
        sweep::last(&self.shared, now)
    }

    fn for_each(&self, visit: &mut Visitor<'_>, now: SystemTime) -> Result<()> {
        listing::for_each(&self.shared, visit, now)
    }

    fn sessions_of(&self, user: &str, now: SystemTime) -> Result<Vec<SessionDigest>> {
        listing::sessions_of(&self.shared, user, now)
    }

    fn locks_users(&self) -> bool {
        true
    }

    fn lock_user(&self, user: &str, wait: Duration) -> Result<Box<dyn Send>> {
        let mut lock = Lock::new(&self.shared, self.shared.key(&format!("lock:{user}")))?;
        lock.wait(&HOLD_USER, self.shared.lease(), wait, GRACE, None::<u64>)?;
        Ok(Box::new(lock))
    }

    fn install(&self) -> Vec<Error> {
        install::install(&self.shared)
    }

    fn examine(&self) -> Examination {
        install::examine(&self.shared)
    }

    fn uninstall(&self) -> Uninstalled {
        install::uninstall(&self.shared)
    }
}

impl Shared {
    fn expiry(&self) -> Expiry {
        Expiry::new(&self.config)
    }

    fn lease(&self) -> Duration {
        self.config.lock_lease()
    }

    /// A live session and its end.
    fn find(&self, session: &SessionDigest, now: SystemTime) -> Result<Option<(Stored, u64)>> {
        let key = self.record(session);
        let (action, at, fields) = ("read a session in", At::Key(&key), &record::ALL);
        let fields = self.server.ask(action, at, "HMGET", (&key, fields))?;
        let shown = &self.server.shown;
        record::loaded(fields).map_or(Ok(None), |(row, _)| row.live(session, shown, now))
    }
}

/// How long the server keeps a record with this end. Its own clock may be another, and a record is
/// needed until its last second is over.
fn ttl_millis(end: u64, now: SystemTime) -> u64 {
    const MARGIN: u64 = 2;
    const LONGEST: u64 = 100 * 366 * 24 * 3600;
    let left = end.saturating_sub(unix_seconds(now)).min(LONGEST);
    (left + MARGIN) * 1000
}
