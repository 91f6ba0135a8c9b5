//! Which requests may read their bodies in workers: those of half the workers at most. Further ones
//! wait here, without a thread, as long as they are not too many.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::mutex::lock;

pub(super) struct Streams<J> {
    /// How many may run at once.
    pub(super) most: usize,
    /// How many may wait.
    places: usize,
    state: Mutex<State<J>>,
}

struct State<J> {
    running: usize,
    waiting: VecDeque<(Instant, J)>,
}

/// The right to read a body in a worker; dropping it gives it to the next request.
pub(super) struct Slot<'a, J>(&'a Streams<J>);

impl<J> Streams<J> {
    pub(super) fn new(workers: usize, places: usize) -> Self {
        Streams {
            most: (workers / 2).max(1),
            places,
            state: Mutex::new(State {
                running: 0,
                waiting: VecDeque::new(),
            }),
        }
    }

    /// Adds a request behind those that wait. Returns it when there is no place.
    pub(super) fn add(&self, job: J) -> Option<J> {
        let mut state = lock(&self.state);
        if state.waiting.len() >= self.places {
            return Some(job);
        }
        state.waiting.push_back((Instant::now(), job));
        None
    }

    pub(super) fn next(&self) -> Option<(Slot<'_, J>, J)> {
        let mut state = lock(&self.state);
        if state.running >= self.most {
            return None;
        }
        let (_, job) = state.waiting.pop_front()?;
        state.running += 1;
        Some((Slot(self), job))
    }

    /// Forgets those that no client waits for, and takes out those that have waited longer than this.
    pub(super) fn take_overdue(&self, longest: Duration, is_left: impl Fn(&J) -> bool) -> Vec<J> {
        let mut state = lock(&self.state);
        state.waiting.retain(|(_, job)| !is_left(job));
        let is_overdue = |(since, _): &(Instant, J)| since.elapsed() > longest;
        let overdue = state.waiting.iter().take_while(|it| is_overdue(it)).count();
        state.waiting.drain(..overdue).map(|(_, job)| job).collect()
    }
}

impl<J> Drop for Slot<'_, J> {
    fn drop(&mut self) {
        lock(&self.0.state).running -= 1;
    }
}
