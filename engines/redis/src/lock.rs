//! [`Lock`]: the lock of a session, of a user or of the clean-up, which is waited for as long as its holder is there.

use std::sync::Arc;
use std::time::{Duration, Instant};

use cgi_session::{Error, Result};
use cgi_session_kit::random_digits;
use cgi_session_kit::waiting::Backoff;
use redis::ToRedisArgs;
use scopeguard::ScopeGuard;

use super::Shared;
use super::node::{Kept, millis};
use super::scripts::{Reply, Script, UNLOCK};
use super::server::At;

/// The pause between two looks whether the holder of a lock is still connected.
const LOOK_PAUSE: Duration = Duration::from_millis(100);
/// How long a holder is waited for that another server knew, or this one before it was restarted: most
/// have ended by then, and nothing tells of the others.
pub(super) const GRACE: Duration = Duration::from_secs(1);

/// The lock of one key. It is given up when this is dropped.
pub(super) struct Lock {
    pub(super) shared: Arc<Shared>,
    link: Kept,
    key: String,
    /// What makes it different from every other: 32 digits, which the scripts compare. What the key holds is this, the
    /// server, its number for the connection, and the name of the process.
    pub(super) token: String,
    /// Whether there is a lock to give back.
    pub(super) is_held: bool,
}

impl Lock {
    /// The lock of this key, which is not held yet.
    pub(super) fn new(shared: &Arc<Shared>, key: String) -> Result<Self> {
        Ok(Lock {
            shared: Arc::clone(shared),
            link: None,
            key,
            token: random_digits::<16>()?,
            is_held: false,
        })
    }

    /// Runs a script that may hold the lock for so long.
    pub(super) fn call(
        &mut self,
        script: &Script,
        lease: Duration,
        arguments: impl ToRedisArgs,
    ) -> Result<Reply> {
        let arguments = (&self.token, millis(lease), arguments);
        let server = &self.shared.server;
        server.call(&mut self.link, script, &self.key, arguments)
    }

    /// Tries this script until no other holder of the key is in its way, or for as long as `wait`. One that is on
    /// another server is waited for no longer than `grace`.
    pub(super) fn wait(
        &mut self,
        script: &Script,
        lease: Duration,
        wait: Duration,
        grace: Duration,
        argument: impl ToRedisArgs,
    ) -> Result<Reply> {
        let mut backoff = Backoff::new(wait);
        let mut looked: Option<Instant> = None;
        // The holder, and when it was seen first.
        let mut seen = (String::new(), Instant::now());
        loop {
            let reply = self.call(script, lease, &argument)?;
            if reply.word != "busy" {
                self.is_held = reply.word == "yours";
                return Ok(reply);
            }
            let holder = reply.rest.into_iter().next().flatten().unwrap_or_default();
            let holder = String::from_utf8_lossy(&holder).into_owned();
            if seen.0 != holder {
                seen = (holder, Instant::now());
            }
            let (holder, since) = &seen;
            if looked.is_none_or(|looked| looked.elapsed() >= LOOK_PAUSE) {
                looked = Some(Instant::now());
                if self.is_gone(holder, since.elapsed() >= grace)? {
                    let server = &self.shared.server;
                    server.call(&mut self.link, &UNLOCK, &self.key, holder)?;
                    continue;
                }
            }
            if !backoff.pause() {
                let shown = parse(holder).map(|(.., shown)| shown.to_owned());
                return Err(backoff.busy(shown));
            }
        }
    }

    /// Whether the holder of the lock is not connected any more; one without a connection's number counts as present,
    /// and one whose connection was to another server as it is said.
    fn is_gone(&mut self, holder: &str, is_gone_elsewhere: bool) -> Result<bool> {
        let Some((server, id, _)) = parse(holder).filter(|(_, id, _)| *id != 0) else {
            return Ok(false);
        };
        let (action, at) = ("look for the holder of a lock in", At::Key(&self.key));
        let is_gone = self.shared.server.with(&mut self.link, action, at, |link| {
            if link.connection.server != server {
                return Ok(is_gone_elsewhere);
            }
            if link.connection.id == id {
                return Ok(true);
            }
            let mut command = redis::cmd("CLIENT");
            command.arg("LIST").arg("ID").arg(id);
            let list: String = command.query(link.connection())?;
            Ok(list.trim().is_empty())
        });
        match is_gone {
            // A user may have no right to ask for that.
            Err(Error::Store { .. }) => Ok(false),
            is_gone => is_gone,
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // A lock whose connection has ended is free for the next request.
        if !self.is_held || self.link.is_none() {
            return;
        }
        let server = &self.shared.server;
        let unlocked = server.call(&mut self.link, &UNLOCK, &self.key, &self.token);
        if let Err(error) = unlocked {
            log::warn!("{}", error.one_line());
            drop(self.link.take().map(ScopeGuard::into_inner));
        }
    }
}

/// The holder of a lock: its server, the server's number for its connection, and its name.
fn parse(holder: &str) -> Option<(&str, u64, &str)> {
    let mut parts = holder.splitn(4, ':').skip(1);
    let (server, id) = (parts.next()?, parts.next()?.parse().ok()?);
    Some((server, id, parts.next()?))
}
