//! [`Driver`]: asynchronous libraries, used by threads that wait, with one deadline for each call. There is no other thread
//! but one that resolves a name.

use std::error::Error as StdError;
use std::future::Future;
use std::io;
use std::thread;
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::time::{sleep, timeout};

use super::dialect::{Failure, Kind};

/// Between two tries to connect to a server that has enough to do.
const PAUSE: Duration = Duration::from_millis(10);

/// The runtime of one connection. `None` when it is dropped.
pub(super) struct Driver(Option<Runtime>);

impl Driver {
    /// Connects. A Unix socket takes no more while enough wait at it, and is tried again.
    pub(super) fn connect<T, E, F>(
        patience: Duration,
        connect: impl Fn() -> F + Send + Sync,
        meaning: fn(&E) -> Failure,
    ) -> Result<(Self, T), Failure>
    where
        T: Send,
        E: StdError + Send + 'static,
        F: Future<Output = Result<T, E>> + Send,
    {
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Failure::new(Kind::Unavailable, error));
        let driver = Driver(Some(runtime?));
        let work = async {
            loop {
                match connect().await {
                    Err(error) if is_full(&error) => sleep(PAUSE).await,
                    connected => return connected,
                }
            }
        };
        let connected = driver.run(patience, work, meaning)?;
        Ok((driver, connected))
    }

    /// Works until this is ready, or the time is over. `meaning` explains its errors.
    pub(super) fn run<T: Send, E: Send>(
        &self,
        patience: Duration,
        work: impl Future<Output = Result<T, E>> + Send,
        meaning: fn(&E) -> Failure,
    ) -> Result<T, Failure> {
        let wait = || {
            let runtime = self.0.as_ref()?;
            runtime.block_on(async { timeout(patience, work).await.ok() })
        };
        let done = if Handle::try_current().is_err() {
            wait()
        } else {
            // A thread that works for another runtime must not wait in it.
            thread::scope(|scope| {
                let started = thread::Builder::new().spawn_scoped(scope, wait);
                started.ok()?.join().ok().flatten()
            })
        };
        let done = done.ok_or_else(|| Failure::new(Kind::Late, "no answer in time"))?;
        done.map_err(|error| meaning(&error))
    }
}

fn is_full(error: &(dyn StdError + 'static)) -> bool {
    match error.downcast_ref::<io::Error>() {
        Some(reason) => reason.kind() == io::ErrorKind::WouldBlock,
        None => error.source().is_some_and(is_full),
    }
}

impl Drop for Driver {
    /// A name that is still being resolved is not waited for.
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
