//! Waiting for the lock of a session or a user, as long as its holder is there.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use cgi_session::store::unix_seconds;
use cgi_session::{Error, Result, SessionDigest};
use cgi_session_kit::waiting::Backoff;
use cgi_session_kit::{name_of_process, random_digits};
use redis::ToRedisArgs;
use scopeguard::guard;

use super::Shared;
use super::node::{Link, millis};
use super::record::Loaded;
use super::scripts::{HOLD, LOCK, Reply, Script, UNLOCK};
use super::server::{At, keep, nothing};

/// The pause between two looks whether the holder of a lock is still connected.
const LOOK_PAUSE: Duration = Duration::from_millis(100);
/// How long a holder is waited for that another server knew, or this one before it was restarted: most
/// have ended by then, and nothing tells of the others.
const GRACE: Duration = Duration::from_secs(1);

/// What makes one lease different from every other: 32 digits, which the scripts compare.
pub(super) struct Token(pub(super) String);

impl Token {
    pub(super) fn generate() -> Result<Self> {
        random_digits::<16>().map(Token)
    }

    /// What the lock holds: the token, the server and its number for the connection, and the name of the process.
    pub(super) fn value(&self, link: &Link) -> String {
        let (token, server, connection) = (&self.0, &link.connection.server, link.connection.id);
        let process = name_of_process();
        format!("{token}:{server}:{connection}:{process}")
    }
}

/// The holder of a lock, as the lock names it.
struct Holder<'a> {
    server: &'a str,
    connection: u64,
    shown: &'a str,
}

impl<'a> Holder<'a> {
    fn parse(value: &'a str) -> Option<Self> {
        let mut parts = value.splitn(4, ':').skip(1);
        Some(Holder {
            server: parts.next()?,
            connection: parts.next()?.parse().ok()?,
            shown: parts.next()?,
        })
    }
}

/// Where the holder of a lock is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Presence {
    Here,
    /// Its connection was to another server.
    Elsewhere,
    Gone,
}

/// Waits for the lock of a user.
pub(super) fn lock_user(shared: &Arc<Shared>, user: &str, wait: Duration) -> Result<Box<dyn Send>> {
    let (action, key, token) = (
        "count the sessions of a user in",
        shared.names.lock(user),
        Token::generate()?,
    );
    let mut link = None;
    let waited = shared.wait_for(&mut link, &key, &token, wait, action, &HOLD, "alone");
    let shared = Arc::clone(shared);
    let lock = guard(link, move |mut link| shared.let_go(&mut link, &key, &token));
    waited?;
    Ok(Box::new(lock))
}

impl Shared {
    /// Waits for the lock of a session and loads what is stored; `None` when there is nothing.
    pub(super) fn take_lock(
        &self,
        link: &mut Option<Link>,
        session: &SessionDigest,
        token: &Token,
        wait: Duration,
        now: SystemTime,
    ) -> Result<Option<Loaded>> {
        let (action, key) = ("open a session in", self.names.record(session));
        let now = unix_seconds(now);
        let reply = self.wait_for(link, &key, token, wait, action, &LOCK, now)?;
        Ok(Loaded::from_reply(reply))
    }

    /// Tries this script until no other holder of the key is in its way.
    #[expect(clippy::too_many_arguments, reason = "what, where, how long and how")]
    fn wait_for(
        &self,
        link: &mut Option<Link>,
        key: &str,
        token: &Token,
        wait: Duration,
        action: &str,
        script: &Script,
        argument: impl ToRedisArgs,
    ) -> Result<Reply> {
        let mut backoff = Backoff::new(wait);
        let mut looked: Option<Instant> = None;
        // The holder, and when it was seen first.
        let mut seen = (String::new(), Instant::now());
        loop {
            let first = |link: &Link| (token.value(link), millis(self.lease));
            let reply = (self.server).call(link, action, script, key, first, &argument)?;
            if reply.word() != "busy" {
                return Ok(reply);
            }
            let holder = reply.text(1);
            if seen.0 != holder {
                seen = (holder, Instant::now());
            }
            let (holder, since) = &seen;
            if looked.is_none_or(|looked| looked.elapsed() >= LOOK_PAUSE) {
                looked = Some(Instant::now());
                let presence = self.presence(link, key, holder)?;
                if presence == Presence::Gone
                    || presence == Presence::Elsewhere && since.elapsed() >= GRACE
                {
                    self.unlock(link, key, holder)?;
                    continue;
                }
            }
            if !backoff.pause() {
                let holder = Holder::parse(holder);
                return Err(backoff.busy(holder.map(|holder| holder.shown.to_owned())));
            }
        }
    }

    /// Whether the holder of a lock is still connected; one without a connection's number counts as present.
    pub(super) fn presence(
        &self,
        link: &mut Option<Link>,
        key: &str,
        holder: &str,
    ) -> Result<Presence> {
        let Some(holder) = Holder::parse(holder).filter(|holder| holder.connection != 0) else {
            return Ok(Presence::Here);
        };
        let action = "look for the holder of a lock in";
        let presence = self.server.with(link, action, At::Key(key), |link| {
            if link.connection.server != holder.server {
                return Ok(Presence::Elsewhere);
            }
            if link.connection.id == holder.connection {
                return Ok(Presence::Gone);
            }
            let mut command = redis::cmd("CLIENT");
            command.arg("LIST").arg("ID").arg(holder.connection);
            let list: String = command.query(link.connection())?;
            let is_there = !list.trim().is_empty();
            Ok(if is_there {
                Presence::Here
            } else {
                Presence::Gone
            })
        });
        match presence {
            // A user may have no right to ask for that.
            Err(Error::Store { .. }) => Ok(Presence::Here),
            presence => presence,
        }
    }

    pub(super) fn unlock(&self, link: &mut Option<Link>, key: &str, holder: &str) -> Result<()> {
        let action = "unlock a session in";
        let unlocked = self
            .server
            .call(link, action, &UNLOCK, key, nothing, holder);
        unlocked.map(drop)
    }

    /// Gives up a lock that may be had, and the connection back.
    pub(super) fn let_go(&self, link: &mut Option<Link>, key: &str, token: &Token) {
        // A lock whose connection has ended is free for the next request.
        if link.is_some()
            && let Err(error) = self.unlock(link, key, &token.0)
        {
            log::warn!("{}", error.one_line());
            *link = None;
        }
        keep(link.take());
    }
}
