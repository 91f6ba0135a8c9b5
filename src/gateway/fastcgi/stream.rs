//! A connection's bytes: a non-blocking socket, and what was read from it and not yet used.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;

/// How much is asked of the socket at once.
const READ: usize = 8 << 10;

pub(super) struct Stream {
    pub(super) socket: File,
    input: Vec<u8>,
    /// So much of `input` has been dealt with.
    used: usize,
    /// The last read took everything that had come.
    was_all: bool,
}

impl Stream {
    /// Takes an accepted, non-blocking socket.
    pub(super) fn new(socket: OwnedFd) -> Self {
        Stream {
            socket: socket.into(),
            input: Vec::new(),
            used: 0,
            was_all: true,
        }
    }

    /// What has been read and not been used.
    pub(super) fn ready(&self) -> &[u8] {
        self.input.get(self.used..).unwrap_or_default()
    }

    /// Marks the next bytes as dealt with.
    pub(super) fn consume(&mut self, length: usize) {
        self.used = self.input.len().min(self.used.saturating_add(length));
    }

    /// Whether nothing unread was left when the socket was last read.
    pub(super) fn is_drained(&self) -> bool {
        self.was_all && self.ready().is_empty()
    }

    /// Reads what has come; an error of kind `WouldBlock` when nothing has.
    pub(super) fn fill(&mut self) -> io::Result<usize> {
        self.compact();
        let start = self.input.len();
        self.input.resize(start + READ, 0);
        let read = loop {
            match self.socket.read(&mut self.input[start..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => break result,
            }
        };
        let length = *read.as_ref().unwrap_or(&0);
        self.input.truncate(start + length);
        self.was_all = length < READ;
        read
    }

    /// Reads more input, waiting for it up to `pause`.
    pub(super) fn fill_within(&mut self, pause: Duration) -> io::Result<usize> {
        loop {
            match self.fill() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.wait(PollFlags::IN, pause)?;
                }
                result => return result,
            }
        }
    }

    /// Writes what the peer takes without waiting.
    pub(super) fn write_some(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut written = 0;
        while written < bytes.len() {
            match self.socket.write(&bytes[written..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(length) => written += length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(written)
    }

    /// Waits up to `pause` until the peer has sent something (`IN`) or takes something (`OUT`).
    pub(super) fn wait(&self, events: PollFlags, pause: Duration) -> io::Result<()> {
        let mut polled = [PollFd::new(&self.socket, events)];
        let pause = Timespec::try_from(pause).map_err(io::Error::other)?;
        match rustix::io::retry_on_intr(|| poll(&mut polled, Some(&pause)))? {
            0 => Err(io::ErrorKind::TimedOut.into()),
            _ => Ok(()),
        }
    }

    /// Drops the input that has been dealt with.
    pub(super) fn compact(&mut self) {
        if self.used == self.input.len() {
            self.input.clear();
        } else {
            self.input.drain(..self.used);
        }
        self.used = 0;
    }

    /// Gives up the part of the buffer that holds nothing, for a time without input.
    pub(super) fn release(&mut self) {
        self.compact();
        self.input.shrink_to_fit();
    }
}
