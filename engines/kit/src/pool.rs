//! [`Pool`]: connections to an engine, kept from request to request and made anew when the engine has
//! been away. A process that serves one request connects once, and only when its session is used.

use std::error::Error as _;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::{Duration, Instant};

use cgi_session::{Error, Result};

use crate::lock;

/// So many idle connections are kept.
const KEPT: usize = 16;
/// A connection that lay idle for longer is closed, so that a burst does not keep a server's for ever.
const MAX_IDLE: Duration = Duration::from_secs(300);
/// A connection that lay idle for longer is asked whether it still works.
const TRUSTED: Duration = Duration::from_secs(1);
/// The pause after a first failure to connect; it doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const MAX_PAUSE: Duration = Duration::from_secs(5);

/// What a pool connects to.
pub trait Connect: Send + Sync {
    /// A connection.
    type Connection: Send;

    /// A new connection, ready for use.
    ///
    /// # Errors
    ///
    /// When the engine cannot be reached, or does not let us in.
    fn connect(&self) -> Result<Self::Connection>;

    /// Whether a connection still works, as a round trip tells.
    fn is_alive(&self, connection: &mut Self::Connection) -> bool;
}

/// Connections to one engine.
#[derive(Debug)]
pub struct Pool<E: Connect> {
    engine: E,
    state: Mutex<State<E::Connection>>,
}

#[derive(Debug)]
struct State<C> {
    /// With the time at which each was given back.
    idle: Vec<(C, Instant)>,
    /// How often the pool was closed. What was made before is not kept any more.
    generation: u64,
    failure: Option<Failure>,
}

/// The last attempt to connect, which failed.
#[derive(Debug)]
struct Failure {
    error: Error,
    pause: Duration,
    since: Instant,
    /// Lives as long as the attempt that was made after the pause.
    attempt: Weak<()>,
}

impl<E: Connect> Pool<E> {
    /// A pool without connections.
    pub fn new(engine: E) -> Self {
        let state = Mutex::new(State {
            idle: Vec::new(),
            generation: 0,
            failure: None,
        });
        Pool { engine, state }
    }

    /// What it connects to.
    pub fn engine(&self) -> &E {
        &self.engine
    }

    /// A connection that works, and its generation. Shortly after an attempt that failed there is no
    /// other, and then one at a time: the answer is the same error.
    ///
    /// # Errors
    ///
    /// As [`Connect::connect`].
    pub fn take(&self) -> Result<(E::Connection, u64)> {
        while let Some((mut connection, since, generation)) = self.pop() {
            if since.elapsed() < TRUSTED || self.engine.is_alive(&mut connection) {
                return Ok((connection, generation));
            }
            // Then neither do those that lay there for longer, and each would be waited for.
            Self::close_idle_since(since, lock(&self.state));
        }
        self.connect()
    }

    /// A connection that was not used before.
    ///
    /// # Errors
    ///
    /// As [`Connect::connect`].
    pub fn connect(&self) -> Result<(E::Connection, u64)> {
        let started = Instant::now();
        let attempt = Arc::new(());
        let generation = {
            let mut state = lock(&self.state);
            if let Some(failure) = &mut state.failure {
                let is_paused = started < failure.since + failure.pause;
                if is_paused || failure.attempt.strong_count() > 0 {
                    return Err(again(&failure.error));
                }
                failure.attempt = Arc::downgrade(&attempt);
            }
            state.generation
        };
        let connected = self.engine.connect();
        let failure = &mut lock(&self.state).failure;
        match &connected {
            Ok(_) => *failure = None,
            // Of attempts that fail together, the first makes the pause longer.
            Err(_) if failure.as_ref().is_some_and(|it| it.since >= started) => {}
            Err(error) => {
                let before = failure.as_ref().map(|failure| failure.pause);
                let pause = before.map_or(FIRST_PAUSE, |pause| (pause * 2).min(MAX_PAUSE));
                *failure = Some(Failure {
                    error: again(error),
                    pause,
                    since: Instant::now(),
                    attempt: Weak::new(),
                });
            }
        }
        Ok((connected?, generation))
    }

    /// Gives back a connection that works. Any other is dropped instead.
    pub fn keep(&self, connection: E::Connection, generation: u64) {
        let mut state = lock(&self.state);
        if state.idle.len() < KEPT && state.generation == generation {
            state.idle.push((connection, Instant::now()));
        }
        if let Some(then) = Instant::now().checked_sub(MAX_IDLE) {
            Self::close_idle_since(then, state);
        }
    }

    /// Closes the idle connections, and those in use when they are given back: what was true
    /// of one of them is true of all.
    pub fn close(&self) {
        let mut state = lock(&self.state);
        // In one step: one that is taken in between would be kept as of the new generation.
        state.generation += 1;
        Self::close_idle_since(Instant::now(), state);
    }

    /// Also forgets that there was none.
    pub fn reset(&self) {
        self.close();
        lock(&self.state).failure = None;
    }

    /// Closes the connections that were given back then or before.
    fn close_idle_since(since: Instant, mut state: MutexGuard<'_, State<E::Connection>>) {
        let older = state.idle.partition_point(|(_, kept)| *kept <= since);
        let older: Vec<_> = state.idle.drain(..older).collect();
        // Each may say good-bye, for which no other thread is to wait.
        drop(state);
        drop(older);
    }

    fn pop(&self) -> Option<(E::Connection, Instant, u64)> {
        let mut state = lock(&self.state);
        let (connection, since) = state.idle.pop()?;
        Some((connection, since, state.generation))
    }
}

/// The same error once more.
fn again(error: &Error) -> Error {
    let cause = || {
        error
            .source()
            .map_or_else(String::new, cgi_session::one_line)
    };
    match error {
        Error::Unavailable { action, hint, .. } => {
            Error::unavailable(action, cause()).with_hint(hint)
        }
        Error::Store { action, hint, .. } => Error::store(action, cause()).with_hint(hint),
        other if other.status() == 503 => Error::unavailable("cannot connect", other.one_line()),
        other => Error::Config(other.one_line()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};

    /// Connects as often as it is let, and numbers its connections.
    #[derive(Default)]
    struct Counting {
        attempts: AtomicU32,
        is_down: AtomicBool,
        pool: Weak<Pool<Counting>>,
    }

    /// A connection whose end takes a while, in which the others must be at hand.
    struct Numbered(u32, Weak<Pool<Counting>>);

    impl Drop for Numbered {
        fn drop(&mut self) {
            if let Some(pool) = self.1.upgrade() {
                assert!(pool.state.try_lock().is_ok(), "while the pool is locked");
            }
        }
    }

    impl Connect for Counting {
        type Connection = Numbered;

        fn connect(&self) -> Result<Numbered> {
            let number = self.attempts.fetch_add(1, Relaxed);
            if self.is_down.load(Relaxed) {
                return Err(Error::unavailable("cannot connect", "refused").with_hint("start it"));
            }
            Ok(Numbered(number, self.pool.clone()))
        }

        fn is_alive(&self, _: &mut Numbered) -> bool {
            true
        }
    }

    fn counting() -> Arc<Pool<Counting>> {
        Arc::new_cyclic(|pool| {
            let pool = pool.clone();
            Pool::new(Counting {
                pool,
                ..Counting::default()
            })
        })
    }

    #[test]
    fn what_lay_idle_for_long_is_closed_when_another_connection_is_given_back() {
        let pool = counting();
        let keep = |(connection, generation)| pool.keep(connection, generation);
        let [in_use, one, other] = [(); 3].map(|()| pool.take().unwrap());
        keep(one);
        keep(other);
        for (_, since) in &mut lock(&pool.state).idle {
            *since = since.checked_sub(MAX_IDLE).unwrap();
        }
        keep(in_use);
        assert_eq!(lock(&pool.state).idle.len(), 1);
        assert_eq!(pool.take().unwrap().0.0, 0);
    }

    #[test]
    fn after_a_failure_no_connection_is_tried_for_a_while_that_grows() {
        let pool = counting();
        let failed = || pool.take().map(drop).unwrap_err();
        pool.engine().is_down.store(true, Relaxed);
        for attempt in 1..9 {
            let error = failed();
            assert_eq!(error.one_line(), "cannot connect: refused; start it");
            assert_eq!(error.status(), 503);
            // Nor when a connection of before has failed.
            pool.close();
            assert_eq!(failed().one_line(), error.one_line());
            assert_eq!(pool.engine().attempts.load(Relaxed), attempt);
            let failure = &mut lock(&pool.state).failure;
            let failure = failure.as_mut().unwrap();
            let expected = FIRST_PAUSE * 2_u32.pow(attempt - 1);
            assert_eq!(failure.pause, expected.min(MAX_PAUSE));
            failure.since = failure.since.checked_sub(failure.pause).unwrap();
        }
        pool.engine().is_down.store(false, Relaxed);
        drop(pool.take().unwrap());
        assert!(lock(&pool.state).failure.is_none());
    }
}
