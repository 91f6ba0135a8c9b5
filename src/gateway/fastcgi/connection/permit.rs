//! What the connections of a program have together: their number, and what of them is in memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The memory limit of all bodies that are being collected, as a multiple of `bodyBuffer`.
const BUFFERS: usize = 64;
/// A body up to this size is collected however much the others take.
pub(super) const SMALL: usize = 32 << 10;
/// How many bytes of responses may wait to be taken.
const MAX_OWED: usize = 64 << 20;

#[derive(Default)]
pub(in crate::gateway::fastcgi) struct OpenConnections {
    connections: AtomicUsize,
    bodies: AtomicUsize,
    owed: AtomicUsize,
}

impl OpenConnections {
    /// Whether the responses that wait to be taken are too much for memory.
    pub(in crate::gateway::fastcgi) fn owe_too_much(&self) -> bool {
        self.owed.load(Ordering::Relaxed) > MAX_OWED
    }
}

/// One of the places for connections; dropping it makes room for another.
pub(in crate::gateway::fastcgi) struct ConnectionPermit {
    all: Arc<OpenConnections>,
    body: usize,
    owed: usize,
}

impl ConnectionPermit {
    /// Takes a place; tells how many had been taken before.
    pub(in crate::gateway::fastcgi) fn take(places: &Arc<OpenConnections>) -> (Self, usize) {
        let before = places.connections.fetch_add(1, Ordering::Relaxed);
        let all = Arc::clone(places);
        let (body, owed) = (0, 0);
        (ConnectionPermit { all, body, owed }, before)
    }

    /// Takes memory for so much more of a body, if there is any.
    pub(super) fn reserve(&mut self, bytes: usize, body_buffer: usize) -> bool {
        let before = self.all.bodies.fetch_add(bytes, Ordering::Relaxed);
        self.body += bytes;
        let has_room = before.saturating_add(bytes) <= body_buffer.saturating_mul(BUFFERS);
        if !has_room && self.body > SMALL {
            self.all.bodies.fetch_sub(bytes, Ordering::Relaxed);
            self.body -= bytes;
            return false;
        }
        true
    }

    pub(super) fn release_body(&mut self) {
        self.all.bodies.fetch_sub(self.body, Ordering::Relaxed);
        self.body = 0;
    }

    /// So much of a response waits to be taken.
    pub(super) fn owe(&mut self, bytes: usize) {
        if bytes != self.owed {
            self.all.owed.fetch_add(bytes, Ordering::Relaxed);
            self.all.owed.fetch_sub(self.owed, Ordering::Relaxed);
            self.owed = bytes;
        }
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.release_body();
        self.owe(0);
        self.all.connections.fetch_sub(1, Ordering::Relaxed);
    }
}
