//! [`LazyManager`]: the manager of a program, created when it is first needed.

use std::sync::{Arc, Mutex, OnceLock, TryLockError};
use std::time::{Duration, Instant};

use http::StatusCode;

use crate::error::{Error, Result};
use crate::mutex::lock;
use crate::session::SessionManager;

/// How long a failure counts before the manager is tried to be created again.
pub(crate) const RETRY: Duration = Duration::from_secs(1);

/// Creates a manager once. A failure is not kept: what is away may come back.
#[derive(Clone)]
pub(crate) struct LazyManager(Arc<Inner>);

struct Inner {
    create: Box<dyn Fn() -> Result<SessionManager> + Send + Sync>,
    created: OnceLock<SessionManager>,
    /// Held by the thread that creates it.
    attempt: Mutex<()>,
    failure: Mutex<Option<Failure>>,
}

/// How the last attempt ended.
struct Failure {
    at: Instant,
    text: String,
    is_temporary: bool,
}

impl LazyManager {
    pub(crate) fn new(create: impl Fn() -> Result<SessionManager> + Send + Sync + 'static) -> Self {
        LazyManager(Arc::new(Inner {
            create: Box::new(create),
            created: OnceLock::new(),
            attempt: Mutex::default(),
            failure: Mutex::default(),
        }))
    }

    pub(crate) fn created(&self) -> Option<&SessionManager> {
        self.0.created.get()
    }

    /// The manager, created now if it was not and the last attempt failed longer ago than `pause`. While
    /// another thread tries again, that failure is returned.
    pub(crate) fn get(&self, pause: Duration) -> Result<SessionManager> {
        let inner = &*self.0;
        if let Some(manager) = inner.created.get() {
            return Ok(manager.clone());
        }
        let attempt = match inner.attempt.try_lock() {
            Ok(attempt) => Some(attempt),
            Err(TryLockError::Poisoned(attempt)) => Some(attempt.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        };
        if let Some(failed) = &*lock(&inner.failure)
            && (attempt.is_none() || failed.at.elapsed() < pause)
        {
            return Err(failed.error());
        }
        // The first attempt is waited for.
        let _attempt = attempt.unwrap_or_else(|| lock(&inner.attempt));
        if let Some(manager) = inner.created.get() {
            return Ok(manager.clone());
        }
        let created = (inner.create)().inspect_err(|error| {
            *lock(&inner.failure) = Some(Failure {
                at: Instant::now(),
                text: error.one_line(),
                is_temporary: error.status() == StatusCode::SERVICE_UNAVAILABLE,
            });
        });
        let manager = created?;
        Ok(inner.created.get_or_init(|| manager).clone())
    }
}

impl Failure {
    /// The error again, as far as an answer and the log need it.
    fn error(&self) -> Error {
        if self.is_temporary {
            Error::unavailable("no session can be opened yet", self.text.clone())
        } else {
            Error::Config(self.text.clone())
        }
    }
}
