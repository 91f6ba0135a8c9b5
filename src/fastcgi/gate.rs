//! Which requests may occupy a worker: of those that wait for one session only a few.
//!
//! Requests that write one session wait for each other. Were they all to wait in workers, one busy
//! session would hold every worker, and every other visitor would stand still. So when a quarter
//! of the workers waits for a session, or half of them is busy with it, its further requests wait
//! here, without a thread. Until then those that only read it wait for nobody.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::connection::Connection;
use crate::id::SessionId;
use crate::params::Params;

/// A connection in a worker's hands.
pub(super) struct Open {
    /// What its events are known by.
    pub(super) number: u64,
    /// It has not been waited for yet.
    pub(super) is_new: bool,
    pub(super) connection: Connection,
}

/// A request that is ready to be handled.
pub(super) struct Job {
    pub(super) open: Open,
    pub(super) params: Params,
    pub(super) session: Option<SessionId>,
    pub(super) arrived: Instant,
}

pub(super) struct Gate {
    /// So many may be busy with it.
    running: usize,
    sessions: Mutex<HashMap<SessionId, Crowd>>,
}

#[derive(Default)]
struct Crowd {
    running: usize,
    waiting: VecDeque<Job>,
}

impl Gate {
    /// A gate before so many workers. One session never gets all of them, unless there is only one.
    pub(super) fn new(workers: usize) -> Self {
        let most = workers.saturating_sub(1).max(1);
        Gate {
            running: (workers / 2).max(2).min(most),
            sessions: Mutex::new(HashMap::new()),
        }
    }

    /// Lets a request in, or keeps it until another of its session leaves.
    pub(super) fn enter(&self, job: Job) -> Option<Job> {
        let Some(session) = &job.session else {
            return Some(job);
        };
        let mut sessions = self.sessions();
        let crowd = sessions.entry(session.clone()).or_default();
        let is_open = crowd.running < self.running;
        // Who waits here is called by one whom the gate has let in, so there must be one. Those that
        // wait in workers may be none of these: an id in a form is not known here.
        if is_open || crowd.running == 0 {
            crowd.running += 1;
            return Some(job);
        }
        crowd.waiting.push_back(job);
        None
    }

    /// A request of this session is done; the one that may run in its place.
    pub(super) fn leave(&self, session: &SessionId) -> Option<Job> {
        let mut sessions = self.sessions();
        let crowd = sessions.get_mut(session)?;
        let next = crowd.waiting.pop_front();
        if next.is_none() {
            crowd.running = crowd.running.saturating_sub(1);
            if crowd.running == 0 {
                sessions.remove(session);
            }
        }
        next
    }

    /// Takes out who has waited longer than `longest`.
    pub(super) fn take_overdue(&self, longest: Duration) -> Vec<Job> {
        let mut overdue = Vec::new();
        for crowd in self.sessions().values_mut() {
            while crowd
                .waiting
                .front()
                .is_some_and(|job| job.arrived.elapsed() > longest)
            {
                overdue.extend(crowd.waiting.pop_front());
            }
        }
        overdue
    }

    fn sessions(&self) -> MutexGuard<'_, HashMap<SessionId, Crowd>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
