//! The pool, used by several threads at once.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use cgi_session::{Error, Result};
use cgi_session_kit::Pool;
use cgi_session_kit::pool::Connect;

/// Numbers its connections.
#[derive(Default)]
struct Numbered(AtomicU32);

impl Connect for Numbered {
    type Connection = u32;

    fn connect(&self) -> Result<u32> {
        Ok(self.0.fetch_add(1, Relaxed))
    }

    fn is_alive(&self, _: &mut u32) -> bool {
        true
    }
}

#[test]
fn after_a_close_no_older_connection_is_taken() {
    let pool = Pool::new(Numbered::default());
    let is_over = AtomicBool::new(false);
    // What is older was made before the close, and lay in the pool or was in use.
    let oldest_after_close = || {
        let next = pool.engine().0.load(Relaxed);
        pool.close();
        let connections: Vec<_> = (0..4).map(|_| pool.take().unwrap()).collect();
        for (connection, generation) in &connections {
            pool.keep(*connection, *generation);
        }
        let numbers = connections.iter().map(|(connection, _)| *connection);
        (next, numbers.min().unwrap())
    };
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !is_over.load(Relaxed) {
                    let (connection, generation) = pool.take().unwrap();
                    pool.keep(connection, generation);
                }
            });
        }
        let mut rounds = (0..100_000).map(|_| oldest_after_close());
        let older = rounds.find(|(next, oldest)| oldest < next);
        is_over.store(true, Relaxed);
        assert_eq!(older, None);
    });
}

/// Is in use by another process each time.
struct Held;

impl Connect for Held {
    type Connection = ();

    fn connect(&self) -> Result<()> {
        Err(Error::Busy {
            waited: Duration::ZERO,
            holder: None,
        })
    }

    fn is_alive(&self, (): &mut ()) -> bool {
        true
    }
}

#[test]
fn a_failure_that_may_pass_is_remembered_as_one() {
    let pool = Pool::new(Held);
    let statuses = [(); 2].map(|()| pool.take().unwrap_err().status().as_u16());
    assert_eq!(statuses, [503, 503]);
}

/// Refuses every connection, after something that depends on how many it has refused.
struct Refusing<F>(AtomicU32, F);

impl<F: Fn(u32) + Send + Sync> Connect for Refusing<F> {
    type Connection = ();

    fn connect(&self) -> Result<()> {
        (self.1)(self.0.fetch_add(1, Relaxed));
        Err(Error::unavailable("cannot connect", "no answer in time"))
    }

    fn is_alive(&self, (): &mut ()) -> bool {
        true
    }
}

/// The pause after a first failure, which is shorter than that after a second.
const PAUSE: Duration = Duration::from_millis(150);

#[test]
fn attempts_that_fail_together_make_the_pause_longer_once() {
    let both = Barrier::new(2);
    let meet = |number| {
        if number < 2 {
            both.wait();
        }
    };
    let pool = Pool::new(Refusing(AtomicU32::new(0), meet));
    let attempt = || pool.take().unwrap_err();
    thread::scope(|scope| {
        scope.spawn(attempt);
        scope.spawn(attempt);
    });
    thread::sleep(PAUSE);
    attempt();
    assert_eq!(pool.engine().0.load(Relaxed), 3);
}

#[test]
fn after_a_failure_one_attempt_is_made_at_a_time() {
    let step = Barrier::new(2);
    let last = |number| {
        if number == 1 {
            // It has begun, and ends when the test says so.
            step.wait();
            step.wait();
        }
    };
    let pool = Pool::new(Refusing(AtomicU32::new(0), last));
    let attempt = || pool.take().unwrap_err();
    attempt();
    thread::sleep(PAUSE);
    thread::scope(|scope| {
        scope.spawn(attempt);
        step.wait();
        let told = attempt().one_line();
        let attempts = pool.engine().0.load(Relaxed);
        step.wait();
        assert_eq!((attempts, &*told), (2, "cannot connect: no answer in time"));
    });
}
