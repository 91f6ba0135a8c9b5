//! [`Limits`]: what a program accepts, most of them a FastCGI responder.

use std::thread;
use std::time::Duration;

use crate::config::{BODY_BUFFER, BODY_TIMEOUT, MIN_RATE};
use crate::session::SessionManager;
use crate::session::lazy_manager::LazyManager;

/// What a responder accepts; [`Program`](crate::Program) documents each.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// None: as many as suit the machine.
    pub(crate) workers: Option<usize>,
    pub(crate) connections: usize,
    pub(crate) streams: usize,
    /// Requests of role Authorizer are answered, too.
    pub(crate) authorizes: bool,
    pub(crate) params_bytes: usize,
    pub(crate) params: usize,
    pub(crate) idle_timeout: Duration,
    pub(crate) read_timeout: Duration,
    pub(crate) write_timeout: Duration,
    pub(crate) body_buffer: usize,
    pub(crate) body_timeout: Duration,
    pub(crate) body_min_rate: u64,
    pub(crate) response_min_rate: u64,
}

impl Default for Limits {
    fn default() -> Self {
        // Not out of a Config: every CGI program would make one more than it needs.
        Limits {
            workers: None,
            connections: 1024,
            streams: 64,
            authorizes: false,
            params_bytes: 512 << 10,
            params: 1000,
            idle_timeout: Duration::from_secs(60),
            read_timeout: Duration::from_secs(60),
            write_timeout: Duration::from_secs(60),
            body_buffer: BODY_BUFFER,
            body_timeout: BODY_TIMEOUT,
            body_min_rate: MIN_RATE,
            response_min_rate: MIN_RATE,
        }
    }
}

impl Limits {
    /// Takes over the limits that the configuration sets, if it is known.
    pub(crate) fn configured(self, manager: &LazyManager) -> Self {
        let Some(config) = manager.created().map(SessionManager::config) else {
            return self;
        };
        Limits {
            body_buffer: config.body_buffer,
            body_timeout: config.body_timeout,
            body_min_rate: config.body_min_rate,
            response_min_rate: config.response_min_rate,
            ..self
        }
    }

    /// The number of workers. Counting processors takes a dozen system calls, which a program that
    /// is started for one request must not make.
    pub(crate) fn workers(&self) -> usize {
        let processors = || thread::available_parallelism().map_or(1, usize::from);
        self.workers.unwrap_or_else(|| (4 * processors()).max(16))
    }

    /// Raises the soft limit of descriptors towards the hard one, to what the connections and what is done for each may
    /// need, of which the connections may take three quarters: the others are left for sessions and files.
    #[cfg(all(target_os = "linux", feature = "fastcgi"))]
    pub(crate) fn within_descriptors(mut self) -> Self {
        let wanted = (self.connections as u64)
            .saturating_mul(2)
            .saturating_add(1024);
        // Without an answer there is no limit to keep to, and running out is survived.
        let most = rlimit::increase_nofile_limit(wanted).unwrap_or(u64::MAX);
        let connections = usize::try_from(most - most / 4).unwrap_or(usize::MAX);
        self.connections = self.connections.min(connections);
        self
    }

    /// How many requests wait for sessions at once, and how many with long bodies for workers: the other connections are
    /// for those that do not.
    pub(crate) fn places(&self) -> usize {
        (self.connections / 4).max(1)
    }
}
