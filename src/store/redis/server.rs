//! [`Server`]: connections, kept for the next request and made again when the server was away.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use redis::{Connection, ErrorKind, RedisError, RedisResult, Script, ServerErrorKind};

use super::place::Place;
use super::scripts::{Reply, number};
use crate::config::Config;
use crate::error::{Error, Result};

/// So many connections are kept for the next request.
const KEPT: usize = 16;
/// Nobody waits longer for an answer, nor for a connection.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long nobody tries again to connect after it has failed, the first time and at most.
const BACK_OFF: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(1)];

const ADVICE: &str = "is the server running, and does this program reach it? try: redis-cli ping";

/// The server and the connections to it that nobody uses.
pub(super) struct Server {
    place: Place,
    patience: Duration,
    idle: Mutex<Vec<Link>>,
    trouble: Mutex<Option<Trouble>>,
}

/// The server could not be reached.
struct Trouble {
    reason: String,
    until: Instant,
    pause: Duration,
}

/// An open connection.
pub(super) struct Link {
    connection: Connection,
    id: u64,
    /// The server's clock in milliseconds since 1970, and when it showed that.
    clock: (u64, Instant),
}

impl Link {
    /// The server's number for it; 0 when it does not tell.
    pub(super) fn id(&self) -> u64 {
        self.id
    }

    pub(super) fn connection(&mut self) -> &mut Connection {
        &mut self.connection
    }

    /// What the server's clock will show when our patience is at an end. It is not later than that:
    /// the clock had gone on when we learned what it showed.
    fn deadline(&self, patience: Duration) -> Vec<u8> {
        let (shown, since) = self.clock;
        let passed = (since.elapsed() + patience).as_millis();
        number(shown.saturating_add(u64::try_from(passed).unwrap_or(u64::MAX)))
    }
}

impl Server {
    pub(super) fn new(config: &Config) -> Result<Self> {
        Ok(Server {
            place: Place::of(config)?,
            patience: config.lock_timeout.min(PATIENCE),
            idle: Mutex::default(),
            trouble: Mutex::default(),
        })
    }

    /// Where the server is, without a password.
    pub(super) fn shown(&self) -> &str {
        &self.place.shown
    }

    /// Runs a script. Its arguments stand behind the moment at which it is too late for it.
    pub(super) fn call(
        &self,
        link: &mut Option<Link>,
        action: &str,
        script: &Script,
        keys: &[String],
        arguments: impl Fn(&Link) -> Vec<Vec<u8>>,
    ) -> Result<Reply> {
        let invoke = |link: &mut Link| {
            let mut invocation = script.prepare_invoke();
            for key in keys {
                invocation.key(key);
            }
            invocation.arg(link.deadline(self.patience));
            for argument in arguments(link) {
                invocation.arg(argument);
            }
            invocation.invoke(link.connection()).map(Reply)
        };
        let reply = self.with(link, action, invoke)?;
        if reply.word() != "late" {
            return Ok(reply);
        }
        // It came in time, so that the server's clock was set. A new connection knows what it shows.
        *link = None;
        self.idle().clear();
        let reply = self.with(link, action, invoke)?;
        if reply.word() != "late" {
            return Ok(reply);
        }
        let cause = "the server's clock does not run evenly";
        Err(self.unavailable(action, cause, String::new()))
    }

    /// Does something once with any connection.
    pub(super) fn once<T>(
        &self,
        action: &str,
        work: impl FnMut(&mut Link) -> RedisResult<T>,
    ) -> Result<T> {
        let mut link = None;
        let done = self.with(&mut link, action, work);
        self.keep(link);
        done
    }

    /// Does something with this connection, or with another if there is none. What a connection
    /// fails at that the server has closed meanwhile is done again with a new one: it must be such
    /// that it can be done twice.
    pub(super) fn with<T>(
        &self,
        link: &mut Option<Link>,
        action: &str,
        mut work: impl FnMut(&mut Link) -> RedisResult<T>,
    ) -> Result<T> {
        let kept = link.take().or_else(|| self.idle().pop());
        let mut outcome = None;
        if let Some(mut kept) = kept {
            let done = work(&mut kept);
            if done.as_ref().is_err_and(is_closed) {
                // Then so are those that were made before.
                self.idle().clear();
            } else {
                outcome = Some((kept, done));
            }
        }
        let (current, done) = if let Some(outcome) = outcome {
            outcome
        } else {
            let mut made = self.connect(action)?;
            let done = work(&mut made);
            (made, done)
        };
        if done.as_ref().err().is_none_or(leaves_in_step) {
            *link = Some(current);
        }
        done.map_err(|error| self.explain(action, &error))
    }

    /// Keeps a connection for the next use.
    pub(super) fn keep(&self, link: Option<Link>) {
        let mut idle = self.idle();
        if let Some(link) = link
            && idle.len() < KEPT
        {
            idle.push(link);
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Link>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn trouble(&self) -> MutexGuard<'_, Option<Trouble>> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn connect(&self, action: &str) -> Result<Link> {
        if let Some(trouble) = &*self.trouble()
            && Instant::now() < trouble.until
        {
            return Err(self.unavailable(action, &trouble.reason, ADVICE.to_owned()));
        }
        // Nobody is kept waiting by the note while somebody connects.
        let made = self.make_link();
        let mut noted = self.trouble();
        match made {
            Ok(link) => {
                *noted = None;
                Ok(link)
            }
            Err(error) => {
                let [first, longest] = BACK_OFF;
                let last = noted.as_ref().map(|trouble| trouble.pause);
                let pause = last.map_or(first, |last| (last * 2).min(longest));
                if error.is_io_error() {
                    *noted = Some(Trouble {
                        reason: cause(&error),
                        until: Instant::now() + pause,
                        pause,
                    });
                }
                drop(noted);
                Err(self.explain(action, &error))
            }
        }
    }

    fn make_link(&self) -> RedisResult<Link> {
        let mut connection = self
            .place
            .client
            .get_connection_with_timeout(self.patience)?;
        connection.set_read_timeout(Some(self.patience))?;
        connection.set_write_timeout(Some(self.patience))?;
        let id = match redis::cmd("CLIENT").arg("ID").query(&mut connection) {
            Ok(id) => id,
            // Not everybody may ask for that.
            Err(error) if leaves_in_step(&error) => 0,
            Err(error) => return Err(error),
        };
        let (seconds, micros): (u64, u64) = redis::cmd("TIME").query(&mut connection)?;
        let millis = seconds.saturating_mul(1000).saturating_add(micros / 1000);
        Ok(Link {
            connection,
            id,
            clock: (millis, Instant::now()),
        })
    }

    /// An error of the server's or of the way there, with what to do about it.
    pub(super) fn explain(&self, action: &str, error: &RedisError) -> Error {
        let reason = cause(error);
        let hint = match (error.kind(), error.code()) {
            (ErrorKind::Io, _) if reason.contains("certificate") => {
                let hint = "check databaseCaFile, and that database names the host as its certificate does";
                return self.failed(action, &reason, hint);
            }
            (ErrorKind::Io, _) => ADVICE.to_owned(),
            (ErrorKind::Server(ServerErrorKind::ReadOnly), _) => {
                "this server is a replica; database must name the primary".to_owned()
            }
            (ErrorKind::Server(ServerErrorKind::Moved | ServerErrorKind::Ask), _) => {
                let hint = "this server is part of a cluster, in which sessions cannot be kept";
                return self.failed(action, &reason, hint);
            }
            (
                ErrorKind::Server(
                    ServerErrorKind::BusyLoading
                    | ServerErrorKind::MasterDown
                    | ServerErrorKind::TryAgain
                    | ServerErrorKind::ClusterDown,
                ),
                _,
            ) => "it will serve again by itself".to_owned(),
            (_, Some("OOM")) => {
                "the server's memory is full and nothing was saved; raise maxmemory in its configuration".to_owned()
            }
            (_, Some("MISCONF" | "NOREPLICAS")) => {
                "the server cannot keep what it is given and nothing was saved; see its log".to_owned()
            }
            (_, Some("BUSY")) => "another program's script keeps the server busy".to_owned(),
            (_, Some("ERR")) if reason.contains("max number of clients") => {
                "raise maxclients in the server's configuration".to_owned()
            }
            (ErrorKind::AuthenticationFailed, _) | (_, Some("NOAUTH" | "WRONGPASS" | "NOPERM")) => {
                let hint = "check the user and the password in database or databasePasswordFile, and what \
                            the user may do (ACL)";
                return self.failed(action, &reason, hint);
            }
            (_, Some("WRONGTYPE")) => {
                let hint = "another program uses a key of this name; choose another table";
                return self.failed(action, &reason, hint);
            }
            _ => return self.failed(action, &reason, ""),
        };
        self.unavailable(action, &reason, hint)
    }

    fn failed(&self, action: &str, cause: &str, hint: &str) -> Error {
        Error::store(format!("cannot {action} {}", self.shown()), cause).with_hint(hint)
    }

    fn unavailable(&self, action: &str, cause: &str, hint: String) -> Error {
        Error::Unavailable {
            action: format!("cannot {action} {}", self.shown()),
            hint,
            source: cause.into(),
        }
    }
}

/// What went wrong, in words and without what the client adds of its own.
fn cause(error: &RedisError) -> String {
    if error.is_timeout() {
        return "no answer in time".to_owned();
    }
    match (error.code(), error.detail()) {
        // Behind it stands in which line of which script.
        (Some(code), Some(detail)) => {
            let detail = detail.split(" script: ").next().unwrap_or_default();
            format!("{code} {detail}")
        }
        _ => error.to_string(),
    }
}

/// Whether the server has closed the connection, so that nothing of this came to an end there
/// that would be unknown to whoever does it again.
fn is_closed(error: &RedisError) -> bool {
    error.is_connection_dropped()
}

/// Whether the next answer on this connection will be that of the next question. To a server that may
/// only read, one connects anew: another may have its place by then.
fn leaves_in_step(error: &RedisError) -> bool {
    !matches!(
        error.kind(),
        ErrorKind::Io
            | ErrorKind::Parse
            | ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::BusyLoading)
    )
}
