//! The connections that are in no worker's hands, and the epoll instance that tells of them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use rustix::event::epoll;
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;

use super::connection::{Connection, OpenConnections};
use crate::gateway::error_log::report;
use crate::mutex::lock;

pub(super) struct IdleConnections {
    pub(super) epoll: OwnedFd,
    /// By what their events are known.
    by_number: Mutex<HashMap<u64, Connection>>,
    places: Arc<OpenConnections>,
    is_stopping: AtomicBool,
    /// How many connections have been closed amid a request since this was last reported.
    pub(super) cut_off: AtomicUsize,
}

impl IdleConnections {
    pub(super) fn new(epoll: OwnedFd, places: &Arc<OpenConnections>) -> Arc<Self> {
        Arc::new(IdleConnections {
            epoll,
            by_number: Mutex::default(),
            places: Arc::clone(places),
            is_stopping: AtomicBool::new(false),
            cut_off: AtomicUsize::new(0),
        })
    }

    pub(super) fn now(&self) -> MutexGuard<'_, HashMap<u64, Connection>> {
        lock(&self.by_number)
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Acquire)
    }

    /// From now on no connection is idle; returns those that were.
    pub(super) fn begin_stop(&self) -> HashMap<u64, Connection> {
        self.is_stopping.store(true, Ordering::Release);
        std::mem::take(&mut *self.now())
    }

    /// Leaves a connection to whichever worker sees its next bytes. Returns it when no worker will.
    pub(super) fn hand_back(&self, connection: Connection) -> Option<Connection> {
        let (number, is_new) = (connection.number, connection.is_new);
        let (reads, writes) = connection.events();
        let mut once = epoll::EventFlags::ONESHOT;
        once.set(epoll::EventFlags::IN | epoll::EventFlags::RDHUP, reads);
        once.set(epoll::EventFlags::OUT, writes);
        let data = epoll::EventData::new_u64(number);
        let mut idle = self.now();
        // In the map first: the event may come before this function returns.
        let mut connection = idle.entry(number).insert_entry(connection);
        let socket = connection.get().as_fd();
        let armed = if is_new {
            epoll::add(&self.epoll, socket, data, once)
        } else {
            match epoll::modify(&self.epoll, socket, data, once) {
                Err(Errno::NOENT) => epoll::add(&self.epoll, socket, data, once),
                armed => armed,
            }
        };
        if armed.is_err() || self.is_stopping() {
            return Some(connection.remove());
        }
        connection.get_mut().is_new = false;
        drop(idle);
        self.make_room(0);
        None
    }

    /// Closes the connections whose peers take their responses too slowly, the slowest first, while all that was not
    /// taken is too much for memory, but not an only one: `others` of them are in workers' hands.
    pub(super) fn make_room(&self, others: usize) {
        while self.places.owe_too_much() {
            let mut idle = self.now();
            // All workers may be staying with theirs, so that nobody sees that there is room for these. Of an error an
            // event tells.
            idle.values_mut()
                .for_each(|connection| drop(connection.flush()));
            let owed = || idle.iter().filter(|(_, connection)| connection.is_owed());
            let slow = owed().filter(|(_, connection)| connection.is_slow());
            let slowest = slow.min_by_key(|(_, connection)| connection.deadline());
            let slowest = slowest
                .map(|(number, _)| *number)
                .filter(|_| owed().count() + others > 1);
            let closed = slowest.and_then(|number| idle.remove(&number));
            drop(idle);
            if closed.is_none() {
                return;
            }
            report(
                "a response is cut off that is taken too slowly: those in memory are more than 64 MiB; \
                 large ones are for Response::stream",
            );
        }
    }

    /// Closes the connection that has been silent longest, before all one between two requests; tells whether there
    /// was one.
    pub(super) fn close_one(&self, except: Option<u64>) -> bool {
        let mut idle = self.now();
        let others = idle.values().filter(|it| Some(it.number) != except);
        let mut others: Vec<_> = others.collect();
        others.sort_by_key(|it| (it.is_owed() || !it.is_between_requests(), it.last_active));
        // Its next request may wait to be read; one that has something to do comes last all the same.
        let between = others
            .iter()
            .take_while(|it| it.is_between_requests() && !it.is_owed());
        let silent = between
            .into_iter()
            .find(|it| it.is_left() || !it.speaks_within(Duration::ZERO))
            .or(others.first());
        let number = silent.map(|it| it.number);
        let closed = number.and_then(|number| idle.remove(&number));
        drop(idle);
        if closed.as_ref().is_some_and(Connection::is_amid_request) {
            self.cut_off.fetch_add(1, Ordering::Relaxed);
        }
        closed.is_some()
    }
}
