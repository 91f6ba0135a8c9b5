//! The pool, used by several threads at once.

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
