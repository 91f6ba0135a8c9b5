//! One connection of a web server: records in, requests and responses out.
//!
//! Until a request's parameters are complete nothing here waits: what has come is kept, and the
//! worker goes on to somebody else. The body and the response do wait, each for a bounded time.

use std::fs::File;
use std::io::{self, Read, Write as _};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::net::Shutdown;

use super::Limits;
use super::record::{self, EndStatus, HEADER, Header, Kind};
use crate::params::Params;
use crate::response::Response;

/// How much is asked of the socket at once.
const READ: usize = 8 << 10;
/// After the response: the longest that unread input is read away, and the longest pause in it.
const DRAIN: Duration = Duration::from_secs(5);
const DRAIN_PAUSE: Duration = Duration::from_millis(500);
/// FastCGI 1.0, 5.1: the only role that is played here, and the flag to keep the connection.
const RESPONDER: [u8; 2] = [0, 1];
const KEEP_CONNECTION: u8 = 1;

/// A connection, at whatever point of a request it is.
pub(super) struct Connection {
    socket: File,
    input: Vec<u8>,
    /// So much of `input` has been dealt with.
    used: usize,
    stage: Stage,
    limits: Limits,
    pub(super) last_active: Instant,
}

enum Stage {
    Idle,
    Params {
        request: Active,
        bytes: Vec<u8>,
        is_too_much: bool,
    },
    Stdin {
        request: Active,
        left: usize,
        padding: usize,
        has_ended: bool,
    },
}

/// The request that a connection is busy with.
#[derive(Clone, Copy)]
struct Active {
    id: u16,
    keeps_connection: bool,
}

/// What reading on has brought.
pub(super) enum Progress {
    /// Nothing more for now.
    Waiting,
    /// The parameters of a request are complete; its body may follow.
    Request(Params),
    /// The parameters were too many or make no sense.
    BadRequest,
    /// The peer is gone, or speaks something else.
    Closed,
}

impl Connection {
    /// Takes an accepted, non-blocking socket.
    pub(super) fn new(socket: OwnedFd, limits: Limits) -> Self {
        let last_active = Instant::now();
        Connection {
            socket: socket.into(),
            input: Vec::new(),
            used: 0,
            stage: Stage::Idle,
            limits,
            last_active,
        }
    }

    /// Reads what has come, until a request's parameters are complete.
    pub(super) fn advance(&mut self) -> Progress {
        self.last_active = Instant::now();
        loop {
            match self.take_record() {
                Ok(Some(progress)) => return progress,
                Ok(None) => {}
                Err(_) => return Progress::Closed,
            }
            match self.fill(READ) {
                Ok(0) => return Progress::Closed,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.compact();
                    return Progress::Waiting;
                }
                Err(_) => return Progress::Closed,
            }
        }
    }

    /// Deals with the whole records that are there; `Ok(None)` when more must be read.
    fn take_record(&mut self) -> io::Result<Option<Progress>> {
        while let Some(header) = self.header()? {
            let start = self.used + HEADER;
            let record = start..start + header.content;
            if self.input.len() < self.used + header.record() {
                return Ok(None);
            }
            self.used += header.record();
            let progress = self.dispatch(header, record)?;
            if progress.is_some() {
                return Ok(progress);
            }
        }
        Ok(None)
    }

    fn dispatch(
        &mut self,
        header: Header,
        record: std::ops::Range<usize>,
    ) -> io::Result<Option<Progress>> {
        if header.id == 0 {
            return self.manage(header, record).map(|()| None);
        }
        match (&mut self.stage, header.kind) {
            (Stage::Idle, Kind::BeginRequest) => {
                let body = self.input.get(record).unwrap_or_default();
                let &[role1, role0, flags, _, _, _, _, _, ..] = body else {
                    return Err(invalid());
                };
                let request = Active {
                    id: header.id,
                    keeps_connection: flags & KEEP_CONNECTION != 0,
                };
                if [role1, role0] == RESPONDER {
                    self.stage = Stage::Params {
                        request,
                        bytes: Vec::new(),
                        is_too_much: false,
                    };
                    return Ok(None);
                }
                self.end(request, EndStatus::UnknownRole)
            }
            (Stage::Params { .. } | Stage::Stdin { .. }, Kind::BeginRequest) => {
                let mut out = Vec::new();
                record::push_end(&mut out, header.id, EndStatus::CannotMultiplex);
                self.write(&out).map(|()| None)
            }
            (Stage::Params { request, .. }, Kind::AbortRequest) if request.id == header.id => {
                let request = *request;
                self.end(request, EndStatus::RequestComplete)
            }
            (
                Stage::Params {
                    request,
                    bytes,
                    is_too_much,
                },
                Kind::Params,
            ) if request.id == header.id => {
                if header.content > 0 {
                    if bytes.len() + header.content > self.limits.params_bytes {
                        // Read to its end all the same, so that the answer reaches the server.
                        (*bytes, *is_too_much) = (Vec::new(), true);
                    }
                    if !*is_too_much {
                        bytes.extend_from_slice(self.input.get(record).unwrap_or_default());
                    }
                    return Ok(None);
                }
                let (request, bytes, is_too_much) = (*request, std::mem::take(bytes), *is_too_much);
                self.stage = Stage::Stdin {
                    request,
                    left: 0,
                    padding: 0,
                    has_ended: false,
                };
                let params = record::decode_params(bytes, self.limits.params)
                    .ok()
                    .filter(|_| !is_too_much);
                Ok(Some(params.map_or(Progress::BadRequest, Progress::Request)))
            }
            // Of another request, or out of its turn: nothing of it reaches anybody.
            _ => Ok(None),
        }
    }

    fn manage(&mut self, header: Header, record: std::ops::Range<usize>) -> io::Result<()> {
        let mut out = Vec::new();
        if header.kind == Kind::GetValues {
            let question = self.input.get(record).unwrap_or_default();
            record::push_values(&mut out, question, self.limits.connections);
        } else {
            record::push_record(
                &mut out,
                Kind::UnknownType,
                0,
                &[header.kind.number(), 0, 0, 0, 0, 0, 0, 0],
            );
        }
        self.write(&out)
    }

    /// Ends a request that is not answered.
    fn end(&mut self, request: Active, status: EndStatus) -> io::Result<Option<Progress>> {
        let mut out = Vec::new();
        record::push_end(&mut out, request.id, status);
        self.write(&out)?;
        self.stage = Stage::Idle;
        Ok((!request.keeps_connection).then_some(Progress::Closed))
    }

    fn header(&self) -> io::Result<Option<Header>> {
        let bytes = self.input.get(self.used..).unwrap_or_default();
        Header::parse(bytes).map_err(|_| invalid())
    }

    /// Reads the request's body; 0 is its end.
    pub(super) fn read_body(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.read_stdin(buffer, self.limits.read_timeout)
    }

    fn read_stdin(&mut self, buffer: &mut [u8], pause: Duration) -> io::Result<usize> {
        loop {
            let Stage::Stdin {
                request,
                left,
                padding,
                has_ended,
            } = &mut self.stage
            else {
                return Ok(0);
            };
            if *has_ended || buffer.is_empty() {
                return Ok(0);
            }
            let ready = self.input.get(self.used..).unwrap_or_default();
            if *left > 0 && !ready.is_empty() {
                let length = buffer.len().min(*left).min(ready.len());
                buffer[..length].copy_from_slice(&ready[..length]);
                (*left, self.used) = (*left - length, self.used + length);
                return Ok(length);
            }
            if *left == 0 && *padding > 0 && !ready.is_empty() {
                let length = (*padding).min(ready.len());
                (*padding, self.used) = (*padding - length, self.used + length);
                continue;
            }
            if *left == 0
                && *padding == 0
                && let Some(header) = Header::parse(ready).map_err(|_| invalid())?
            {
                if header.kind == Kind::Stdin && header.id == request.id {
                    (*left, *padding, *has_ended) =
                        (header.content, header.padding, header.content == 0);
                    self.used += HEADER;
                    continue;
                }
                if header.kind == Kind::AbortRequest && header.id == request.id {
                    return Err(io::Error::new(
                        io::ErrorKind::ConnectionAborted,
                        "the server aborted the request",
                    ));
                }
                if ready.len() >= header.record() {
                    let start = self.used + HEADER;
                    self.used += header.record();
                    self.dispatch(header, start..start + header.content)?;
                    continue;
                }
            }
            if self.fill_within(pause)? == 0 {
                return Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "it was cut off",
                ));
            }
        }
    }

    /// Sends the response and ends the request. Tells whether the connection serves another.
    pub(super) fn respond(
        &mut self,
        response: &Response,
        head_only: bool,
        out: &mut Vec<u8>,
    ) -> bool {
        let Stage::Stdin { request, .. } = self.stage else {
            return false;
        };
        out.clear();
        record::push_response(out, request.id, response, head_only);
        // A server that sends the end of the input after the response must not find us gone.
        let mut has_ended = self.has_ended() || self.read_away(Duration::ZERO, 0);
        if self.write(out).is_err() {
            return false;
        }
        if !request.keeps_connection && !has_ended {
            // Closing on unread input would reset the connection and lose the response.
            if rustix::net::shutdown(&self.socket, Shutdown::Write).is_err() {
                return false;
            }
        }
        if !has_ended {
            has_ended = self.read_away(DRAIN_PAUSE, usize::MAX);
        }
        self.stage = Stage::Idle;
        self.compact();
        self.last_active = Instant::now();
        request.keeps_connection && has_ended
    }

    fn has_ended(&self) -> bool {
        matches!(
            self.stage,
            Stage::Stdin {
                has_ended: true,
                ..
            }
        )
    }

    /// Reads away what the handler did not read; tells whether that was all of it.
    fn read_away(&mut self, pause: Duration, limit: usize) -> bool {
        let started = Instant::now();
        let mut buffer = [0; 16 << 10];
        let mut read = 0;
        while started.elapsed() < DRAIN {
            match self.read_stdin(&mut buffer, pause) {
                Ok(0) => return true,
                Ok(length) => read += length,
                Err(_) => return false,
            }
            if read > limit {
                return false;
            }
        }
        false
    }

    /// Reads more input, waiting for it up to `pause`.
    fn fill_within(&mut self, pause: Duration) -> io::Result<usize> {
        loop {
            match self.fill(2 * READ) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    wait(self.socket.as_fd(), PollFlags::IN, pause)?;
                }
                result => return result,
            }
        }
    }

    fn fill(&mut self, most: usize) -> io::Result<usize> {
        self.compact();
        let start = self.input.len();
        self.input.resize(start + most, 0);
        let read = loop {
            match self.socket.read(&mut self.input[start..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => break result,
            }
        };
        self.input.truncate(start + *read.as_ref().unwrap_or(&0));
        read
    }

    /// Drops the input that has been dealt with, and the buffer when it holds nothing.
    fn compact(&mut self) {
        if self.used == self.input.len() {
            self.input.clear();
            if matches!(self.stage, Stage::Idle) {
                self.input = Vec::new();
            }
        } else {
            self.input.drain(..self.used);
        }
        self.used = 0;
    }

    fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.socket.write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => bytes = &bytes[written..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    wait(
                        self.socket.as_fd(),
                        PollFlags::OUT,
                        self.limits.write_timeout,
                    )?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn invalid() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "no FastCGI record")
}

fn wait(socket: BorrowedFd<'_>, event: PollFlags, most: Duration) -> io::Result<()> {
    let mut polled = [PollFd::from_borrowed_fd(socket, event)];
    let most = Timespec::try_from(most).map_err(io::Error::other)?;
    match rustix::io::retry_on_intr(|| poll(&mut polled, Some(&most)))? {
        0 => Err(io::ErrorKind::TimedOut.into()),
        _ => Ok(()),
    }
}
