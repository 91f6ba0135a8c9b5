//! [`Pool`]: connections to an engine, kept from request to request and made anew when the engine has
//! been away. A process that serves one request connects once, and only when its session is used.

use std::error::Error as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};

/// So many idle connections are kept.
const KEPT: usize = 16;
/// A connection that lay idle for longer is asked whether it still works.
const TRUSTED: Duration = Duration::from_secs(1);
/// The pause after a first failure to connect; it doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What a pool connects to.
pub(in crate::store) trait Engine: Send + Sync {
    type Connection: Send;

    /// A new connection, ready for use.
    fn connect(&self) -> Result<Self::Connection>;

    /// Whether a connection still works, as a round trip tells.
    fn is_alive(&self, connection: &mut Self::Connection) -> bool;
}

/// Connections to one engine.
pub(in crate::store) struct Pool<E: Engine> {
    engine: E,
    state: Mutex<State<E::Connection>>,
}

struct State<C> {
    /// With the time at which each was given back.
    idle: Vec<(C, Instant)>,
    failure: Option<Failure>,
}

/// The last attempt to connect, which failed.
struct Failure {
    error: Error,
    pause: Duration,
    until: Instant,
}

impl<E: Engine> Pool<E> {
    pub(in crate::store) fn new(engine: E) -> Self {
        let (idle, failure) = (Vec::new(), None);
        let state = Mutex::new(State { idle, failure });
        Pool { engine, state }
    }

    pub(in crate::store) fn engine(&self) -> &E {
        &self.engine
    }

    /// A connection that works. Shortly after an attempt that failed there is no other: the answer is
    /// the same error.
    pub(in crate::store) fn take(&self) -> Result<E::Connection> {
        while let Some((mut connection, since)) = self.pop() {
            if since.elapsed() < TRUSTED || self.engine.is_alive(&mut connection) {
                return Ok(connection);
            }
            // Then neither do those that lay there for longer, and each would be waited for.
            self.close_idle_since(since);
        }
        self.connect()
    }

    /// A connection that nobody has used before.
    pub(in crate::store) fn connect(&self) -> Result<E::Connection> {
        if let Some(failure) = &self.state().failure
            && Instant::now() < failure.until
        {
            return Err(again(&failure.error));
        }
        let connected = self.engine.connect();
        let failure = &mut self.state().failure;
        match &connected {
            Ok(_) => *failure = None,
            Err(error) => {
                let before = failure.as_ref().map(|failure| failure.pause);
                let pause = before.map_or(FIRST_PAUSE, |pause| (pause * 2).min(LONGEST_PAUSE));
                *failure = Some(Failure {
                    error: again(error),
                    pause,
                    until: Instant::now() + pause,
                });
            }
        }
        connected
    }

    /// Gives back a connection that works. Any other is dropped instead.
    pub(in crate::store) fn keep(&self, connection: E::Connection) {
        let mut state = self.state();
        if state.idle.len() < KEPT {
            state.idle.push((connection, Instant::now()));
        }
    }

    /// Closes the connections that nobody uses, and forgets that there was none.
    pub(in crate::store) fn close(&self) {
        let mut state = self.state();
        state.idle.clear();
        state.failure = None;
    }

    /// Closes the connections that were given back then or before.
    fn close_idle_since(&self, since: Instant) {
        let mut state = self.state();
        let older = state.idle.partition_point(|(_, kept)| *kept <= since);
        let older: Vec<_> = state.idle.drain(..older).collect();
        // Each may say good-bye, which nobody else is to wait for.
        drop(state);
        drop(older);
    }

    fn pop(&self) -> Option<(E::Connection, Instant)> {
        self.state().idle.pop()
    }

    fn state(&self) -> MutexGuard<'_, State<E::Connection>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The same error once more.
fn again(error: &Error) -> Error {
    let cause = || {
        error
            .source()
            .map_or_else(String::new, crate::error::one_line)
    };
    match error {
        Error::Unavailable { action, hint, .. } => {
            Error::unavailable(action, cause()).with_hint(hint)
        }
        Error::Store { action, hint, .. } => Error::store(action, cause()).with_hint(hint),
        other => Error::Config(other.one_line()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    /// Connects as often as it is let, and numbers its connections.
    #[derive(Default)]
    struct Counting {
        attempts: AtomicU32,
        questions: AtomicU32,
        is_down: std::sync::atomic::AtomicBool,
        is_stale: std::sync::atomic::AtomicBool,
    }

    impl Engine for Counting {
        type Connection = u32;

        fn connect(&self) -> Result<u32> {
            let number = self.attempts.fetch_add(1, Ordering::Relaxed);
            if self.is_down.load(Ordering::Relaxed) {
                return Err(Error::unavailable("cannot connect", "refused").with_hint("start it"));
            }
            Ok(number)
        }

        fn is_alive(&self, _: &mut u32) -> bool {
            self.questions.fetch_add(1, Ordering::Relaxed);
            !self.is_stale.load(Ordering::Relaxed)
        }
    }

    fn aged(pool: &Pool<Counting>) {
        for (_, since) in &mut pool.state().idle {
            *since = since.checked_sub(TRUSTED).unwrap();
        }
    }

    #[test]
    fn a_connection_is_used_again_and_examined_when_it_lay_idle() {
        let pool = Pool::new(Counting::default());
        assert_eq!(pool.engine().attempts.load(Ordering::Relaxed), 0);
        let first = pool.take().unwrap();
        pool.keep(first);
        assert_eq!(pool.take().unwrap(), first);
        pool.keep(first);
        pool.engine().is_stale.store(true, Ordering::Relaxed);
        assert_eq!(pool.take().unwrap(), first, "it was in use a moment ago");
        pool.keep(first);
        aged(&pool);
        let second = pool.take().unwrap();
        assert_eq!(second, first + 1);
        pool.keep(second);
        pool.close();
        assert_eq!(pool.take().unwrap(), second + 1);
    }

    #[test]
    fn one_connection_without_an_answer_ends_those_that_lay_idle_for_longer() {
        let pool = Pool::new(Counting::default());
        let taken: Vec<_> = (0..3).map(|_| pool.take().unwrap()).collect();
        for connection in taken {
            pool.keep(connection);
        }
        aged(&pool);
        pool.engine().is_stale.store(true, Ordering::Relaxed);
        assert_eq!(pool.take().unwrap(), 3);
        assert_eq!(pool.engine().questions.load(Ordering::Relaxed), 1);
        assert!(pool.state().idle.is_empty());
        // One that was in use a moment ago is no older.
        pool.keep(3);
        pool.close_idle_since(Instant::now().checked_sub(TRUSTED).unwrap());
        assert_eq!(pool.take().unwrap(), 3);
    }

    #[test]
    fn after_a_failure_nobody_connects_for_a_while_that_grows() {
        let pool = Pool::new(Counting::default());
        pool.engine().is_down.store(true, Ordering::Relaxed);
        for attempt in 1..9 {
            let error = pool.take().unwrap_err();
            assert_eq!(error.one_line(), "cannot connect: refused; start it");
            assert_eq!(error.status(), 503);
            assert_eq!(pool.take().unwrap_err().one_line(), error.one_line());
            assert_eq!(pool.engine().attempts.load(Ordering::Relaxed), attempt);
            let failure = &mut pool.state().failure;
            let failure = failure.as_mut().unwrap();
            let expected = FIRST_PAUSE * 2_u32.pow(attempt - 1);
            assert_eq!(failure.pause, expected.min(LONGEST_PAUSE));
            failure.until = Instant::now();
        }
        pool.engine().is_down.store(false, Ordering::Relaxed);
        pool.take().unwrap();
        assert!(pool.state().failure.is_none());
    }
}
