//! [`Sentinels`]: which server is the primary, as the sentinels of a service say.
//!
//! One of them is asked whenever a connection is made, and once a second while connections are kept: the
//! old primary of a switch-over accepts commands for some seconds more. The client's own `Sentinel` has no
//! deadline for a sentinel or a primary that does not answer.

use std::mem;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use cgi_session::{Error, Result};
use cgi_session_kit::lock;
use redis::{ErrorKind, RedisConnectionInfo, RedisResult};

use super::failure::explain;
use super::place::{Address, Place, first_answer};

/// A sentinel that does not answer in this time is passed over.
const LIMIT: Duration = Duration::from_secs(1);
/// The pause between two questions while connections are kept.
const PAUSE: Duration = Duration::from_secs(1);
const AWAY: &str =
    "are the sentinels running, and does this program reach them? try: redis-cli -p 26379 ping";
const NO_ENTRY: &str = "sentinels have a user and a password of their own; add ?sentinelPass=PASSWORD, and \
                        &sentinelUser=USER if there is one, to database";
const NO_SENTINEL: &str =
    "database must name sentinels, whose port is 26379; for a single server write redis://";
const NO_NAME: &str = "database must hold the right name: redis+sentinel://HOST:26379/NAME/0; \
                       try: redis-cli -p 26379 sentinel masters";

/// The sentinels of one service.
pub(super) struct Sentinels {
    /// The name under which they know the primary.
    service: String,
    /// What they let in.
    settings: RedisConnectionInfo,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The sentinel that answered last.
    first: usize,
    primary: Option<Address>,
    asked: Option<Instant>,
    /// Another server has become the primary, and the connections to the one before are kept.
    has_moved: bool,
}

impl State {
    /// What the sentinel of this number has answered.
    fn note(&mut self, sentinel: usize, primary: &Address) {
        (self.first, self.asked) = (sentinel, Some(Instant::now()));
        let before = self.primary.replace(primary.clone());
        self.has_moved |= before.is_some_and(|before| before != *primary);
    }
}

impl Sentinels {
    pub(super) fn new(service: &str, settings: RedisConnectionInfo) -> Self {
        Sentinels {
            service: service.to_owned(),
            settings,
            state: Mutex::default(),
        }
    }

    /// Where the primary was when a sentinel was asked last.
    pub(super) fn known(&self) -> Option<Address> {
        lock(&self.state).primary.clone()
    }

    /// Whether another server has become the primary since this was asked: a sentinel is asked unless one was a
    /// moment ago. A new connection may have learned it before.
    pub(super) fn has_moved(&self, place: &Place) -> bool {
        {
            let mut state = lock(&self.state);
            if mem::take(&mut state.has_moved) {
                return true;
            }
            if state.asked.is_none_or(|asked| asked.elapsed() < PAUSE) {
                return false;
            }
            // Other requests continue with what is known.
            state.asked = Some(Instant::now());
        }
        // Without an answer the connections are kept.
        let _ = self.primary(place);
        mem::take(&mut lock(&self.state).has_moved)
    }

    /// Where the primary is, as the first sentinel says that answers.
    pub(super) fn primary(&self, place: &Place) -> Result<Address> {
        let (first, number) = (lock(&self.state).first, place.hosts.len());
        first_answer((0..number).map(|at| (first + at) % number), |at| {
            let primary = self.ask(place, &place.hosts[at])?;
            lock(&self.state).note(at, &primary);
            Ok(primary)
        })
    }

    fn ask(&self, place: &Place, sentinel: &Address) -> Result<Address> {
        let (host, port) = sentinel;
        let action = format!("find the primary of {}", place.shown);
        let name = format!("sentinel {host}:{port}");
        let answer = self.answer(place, sentinel).map_err(|error| {
            let told = explain(&action, &name, &error);
            match (&told, error.kind(), error.code()) {
                (Error::Unavailable { .. }, ErrorKind::Io, _) => told.with_hint(AWAY),
                (_, ErrorKind::AuthenticationFailed, _) | (_, _, Some("NOAUTH" | "NOPERM")) => {
                    told.with_hint(NO_ENTRY)
                }
                (_, ErrorKind::Server(_), _) => told.with_hint(NO_SENTINEL),
                _ => told,
            }
        })?;
        answer.ok_or_else(|| {
            let reason = format!("{name} monitors no primary of the name {}", self.service);
            Error::store(format!("cannot {action}"), reason).with_hint(NO_NAME)
        })
    }

    fn answer(&self, place: &Place, sentinel: &Address) -> RedisResult<Option<Address>> {
        let limit = place.patience.min(LIMIT);
        let sentinel = place.at(sentinel).set_redis_settings(self.settings.clone());
        let mut connection = place.connect(sentinel, limit)?;
        connection.set_read_timeout(Some(limit))?;
        let mut question = redis::cmd("SENTINEL");
        question.arg("GET-MASTER-ADDR-BY-NAME").arg(&self.service);
        question.query(&mut connection)
    }
}

#[cfg(test)]
mod tests {
    use cgi_session::Config;

    use super::*;

    #[test]
    fn what_a_new_connection_has_learned_of_another_primary_is_known_once_to_those_that_are_kept() {
        let url = "redis+sentinel://127.0.0.1:1/service/0";
        let place = Place::of(&Config::new().set("database", url).unwrap()).unwrap();
        let sentinels = place.sentinels.as_ref().unwrap();
        let answer = |port| {
            let primary = ("127.0.0.1".to_owned(), port);
            lock(&sentinels.state).note(0, &primary);
        };
        answer(2);
        answer(2);
        assert!(!sentinels.has_moved(&place));
        answer(3);
        assert!(sentinels.has_moved(&place));
        assert!(!sentinels.has_moved(&place));
    }
}
