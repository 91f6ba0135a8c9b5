//! One connection of a web server: records in, requests and responses out.
//!
//! Whatever a peer may be slow with keeps no worker: the parameters, the beginning of a body whose
//! length was told, and what is left to read away after the response. What has come is kept, and
//! the worker goes on to somebody else. The rest of a body and the response do wait, each for a
//! bounded time.

mod body;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use http::StatusCode;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};

use super::Limits;
use super::record::{self, EndStatus, HEADER, Header, Kind};
use super::stream::Stream;
use crate::params::Params;
use crate::response::Response;
use crate::runner::error_page;
use body::Stdin;

/// The longest that unread input is read away for after the response, and the longest pause in it.
const DRAIN: Duration = Duration::from_secs(30);
const DRAIN_PAUSE: Duration = Duration::from_secs(5);
/// The longest pause in it when the program ends and waits for it.
const LAST_DRAIN_PAUSE: Duration = Duration::from_millis(500);
/// How often a connection is read before another one has its turn.
const READS: usize = 64;
/// A peer that is owed so much after a response is not listened to before it has that.
const HELD_BACK: usize = 64 << 10;
/// FastCGI 1.0, 5.1: the only role that is played here, and the flag to keep the connection.
const RESPONDER: [u8; 2] = [0, 1];
const KEEP_CONNECTION: u8 = 1;

/// A connection, at whatever point of a request it is.
pub(super) struct Connection {
    stream: Stream,
    stage: Stage,
    /// What is to be said after the response that is being written. Amid a record of it this would
    /// be taken for content.
    held_back: Option<Vec<u8>>,
    limits: Limits,
    pub(super) last_active: Instant,
    _place: Place,
}

/// One of the places for connections; dropping it makes room for another.
pub(super) struct Place(Arc<AtomicUsize>);

impl Place {
    /// Takes a place; tells how many had been taken before.
    pub(super) fn take(taken: &Arc<AtomicUsize>) -> (Self, usize) {
        let before = taken.fetch_add(1, Ordering::Relaxed);
        (Place(Arc::clone(taken)), before)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

enum Stage {
    Idle,
    Params {
        request: Active,
        bytes: Vec<u8>,
        is_too_much: bool,
    },
    /// The parameters are complete, and `wanted` bytes of the body shall come first.
    Early {
        stdin: Stdin,
        params: Params,
        wanted: usize,
    },
    /// A handler has the request.
    Running(Stdin),
    /// The response is written; the rest of the body is read away.
    Answered(Stdin, Instant),
    /// Nothing more is said or listened to, until the peer closes.
    Closing(Instant),
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
    pub(super) fn new(socket: OwnedFd, limits: Limits, place: Place) -> Self {
        Connection {
            stream: Stream::new(socket),
            stage: Stage::Idle,
            held_back: None,
            limits,
            last_active: Instant::now(),
            _place: place,
        }
    }

    /// Reads what has come, until a request is ready for its handler.
    pub(super) fn advance(&mut self) -> Progress {
        for _ in 0..READS {
            match self.step() {
                Ok(Some(progress)) => return progress,
                Ok(None) => {}
                Err(_) => return Progress::Closed,
            }
            match self.stream.fill() {
                Ok(0) => return Progress::Closed,
                Ok(_) => self.last_active = Instant::now(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => return Progress::Closed,
            }
        }
        // After the last read: what waits in the buffer would wake nobody.
        match self.step() {
            Ok(Some(progress)) => return progress,
            Ok(None) => {}
            Err(_) => return Progress::Closed,
        }
        self.stream.release();
        Progress::Waiting
    }

    /// Whether more comes within this time.
    pub(super) fn speaks_within(&self, pause: Duration) -> bool {
        self.stream.wait_for_input(pause).is_ok()
    }

    /// Deals with what has been read; `Ok(None)` when more must be read.
    fn step(&mut self) -> io::Result<Option<Progress>> {
        loop {
            match self.stage {
                Stage::Idle | Stage::Params { .. } => {
                    let Some(record) = self.whole_record()? else {
                        return Ok(None);
                    };
                    let progress = self.dispatch(&record)?;
                    if progress.is_some() {
                        return Ok(progress);
                    }
                }
                Stage::Early { .. } => {
                    let progress = self.read_early()?;
                    // An abort has ended the request, and the next one may lie behind it.
                    if progress.is_some() || matches!(self.stage, Stage::Early { .. }) {
                        return Ok(progress);
                    }
                }
                Stage::Answered(..) => {
                    if !self.skip_stdin()? {
                        return Ok(None);
                    }
                    // Another request may have begun instead.
                    if matches!(self.stage, Stage::Answered(..)) && !self.end_of_request()? {
                        return Ok(Some(Progress::Closed));
                    }
                }
                Stage::Closing(_) => {
                    self.stream.consume(usize::MAX);
                    return Ok(None);
                }
                Stage::Running(_) => return Ok(None),
            }
        }
    }

    /// Takes a whole record out of the input.
    fn whole_record(&mut self) -> io::Result<Option<(Header, Vec<u8>)>> {
        let ready = self.stream.ready();
        let header = Header::parse(ready).map_err(|_| invalid())?;
        let Some(header) = header.filter(|header| ready.len() >= header.record()) else {
            return Ok(None);
        };
        let content = ready[HEADER..HEADER + header.content].to_vec();
        self.stream.consume(header.record());
        Ok(Some((header, content)))
    }

    fn dispatch(&mut self, (header, content): &(Header, Vec<u8>)) -> io::Result<Option<Progress>> {
        if header.id == 0 {
            return self.manage(*header, content).map(|()| None);
        }
        match (&mut self.stage, header.kind) {
            (Stage::Idle, Kind::BeginRequest) => self.begin(header.id, content).map(|()| None),
            // An answered request is over, whatever its body is (FastCGI 1.0, 3.3).
            (Stage::Answered(stdin, _), Kind::BeginRequest)
                if self.held_back.is_none() && stdin.request.keeps_connection =>
            {
                self.begin(header.id, content).map(|()| None)
            }
            (_, Kind::BeginRequest) => {
                let mut out = Vec::new();
                record::push_end(&mut out, header.id, EndStatus::CannotMultiplex);
                self.say(&out).map(|()| None)
            }
            (Stage::Params { request, .. }, Kind::AbortRequest) if request.id == header.id => {
                let request = *request;
                self.abort(request).map(|()| None)
            }
            (Stage::Params { request, .. }, Kind::Params) if request.id == header.id => {
                Ok(self.take_params(content))
            }
            // Of another request, or out of its turn: nothing of it reaches anybody.
            _ => Ok(None),
        }
    }

    fn begin(&mut self, id: u16, content: &[u8]) -> io::Result<()> {
        let &[role1, role0, flags, _, _, _, _, _, ..] = content else {
            return Err(invalid());
        };
        let request = Active {
            id,
            keeps_connection: flags & KEEP_CONNECTION != 0,
        };
        if [role1, role0] != RESPONDER {
            // lighttpd serves the file when an authorizer says nothing but that it is none.
            let page = error_page(StatusCode::FORBIDDEN);
            let mut out = Vec::new();
            record::push_response(&mut out, id, &page, false, EndStatus::UnknownRole);
            return self.end(request, &out);
        }
        self.stage = Stage::Params {
            request,
            bytes: Vec::new(),
            is_too_much: false,
        };
        Ok(())
    }

    fn take_params(&mut self, content: &[u8]) -> Option<Progress> {
        let Stage::Params {
            request,
            bytes,
            is_too_much,
        } = &mut self.stage
        else {
            return None;
        };
        if !content.is_empty() {
            if bytes.len() + content.len() > self.limits.params_bytes {
                // Read to its end all the same, so that the answer reaches the server.
                (*bytes, *is_too_much) = (Vec::new(), true);
            }
            if !*is_too_much {
                bytes.extend_from_slice(content);
            }
            return None;
        }
        let (stdin, bytes) = (Stdin::new(*request), std::mem::take(bytes));
        let params = record::decode_params(bytes, self.limits.params).ok();
        let Some(params) = params.filter(|_| !*is_too_much) else {
            self.stage = Stage::Running(stdin);
            return Some(Progress::BadRequest);
        };
        let wanted = body::wanted(&params);
        if wanted == 0 {
            self.stage = Stage::Running(stdin);
            return Some(Progress::Request(params));
        }
        self.stage = Stage::Early {
            stdin,
            params,
            wanted,
        };
        None
    }

    fn manage(&mut self, header: Header, content: &[u8]) -> io::Result<()> {
        let mut out = Vec::new();
        if header.kind == Kind::GetValues {
            record::push_values(&mut out, content, self.limits.connections);
        } else {
            let content = [header.kind.number(), 0, 0, 0, 0, 0, 0, 0];
            record::push_record(&mut out, Kind::UnknownType, 0, &content);
        }
        self.say(&out)
    }

    /// Sends records that are no part of a response, at once or after it.
    fn say(&mut self, records: &[u8]) -> io::Result<()> {
        match (&mut self.held_back, &self.stage) {
            (Some(held_back), _) => held_back.extend_from_slice(records),
            // The peer was told that nothing more comes.
            (None, Stage::Answered(stdin, _)) if !stdin.request.keeps_connection => {}
            _ => self.write(records)?,
        }
        Ok(())
    }

    /// Ends a request that its server has given up.
    fn abort(&mut self, request: Active) -> io::Result<()> {
        let mut out = Vec::new();
        record::push_end(&mut out, request.id, EndStatus::RequestComplete);
        self.end(request, &out)
    }

    /// Ends a request that no handler answers.
    fn end(&mut self, request: Active, last: &[u8]) -> io::Result<()> {
        self.write(last)?;
        self.stage = if request.keeps_connection {
            Stage::Idle
        } else {
            self.stream.finish_writing()?;
            Stage::Closing(Instant::now())
        };
        Ok(())
    }

    /// Sends the response. Tells whether the connection is to be read further: for another
    /// request, or because closing on unread input would reset it and lose the response.
    pub(super) fn respond(
        &mut self,
        response: &Response,
        head_only: bool,
        out: &mut Vec<u8>,
    ) -> bool {
        self.try_respond(response, head_only, out).unwrap_or(false)
    }

    fn try_respond(
        &mut self,
        response: &Response,
        head_only: bool,
        out: &mut Vec<u8>,
    ) -> io::Result<bool> {
        // The end of the input mostly is there by now, and an abort may be.
        if !self.skip_stdin()? && self.stream.fill().is_ok() {
            self.skip_stdin()?;
        }
        let stage = std::mem::replace(&mut self.stage, Stage::Idle);
        let Stage::Running(stdin) = stage else {
            return Ok(false);
        };
        let request = stdin.request;
        out.clear();
        if stdin.is_aborted {
            record::push_end(out, request.id, EndStatus::RequestComplete);
        } else {
            let complete = EndStatus::RequestComplete;
            record::push_response(out, request.id, response, head_only, complete);
        }
        let has_ended = stdin.has_ended();
        self.last_active = Instant::now();
        self.stage = Stage::Answered(stdin, self.last_active);
        self.held_back = Some(Vec::new());
        let has_ended = self.write_response(out, has_ended)?;
        let held_back = self.held_back.take().unwrap_or_default();
        self.write(&held_back)?;
        self.last_active = Instant::now();
        if has_ended {
            return self.end_of_request();
        }
        if !request.keeps_connection {
            self.stream.finish_writing()?;
        }
        Ok(true)
    }

    /// Writes the response, and reads the body away meanwhile: some peers do not read before they
    /// have sent all of it. Tells whether the body has ended.
    fn write_response(&mut self, mut out: &[u8], mut has_ended: bool) -> io::Result<bool> {
        let mut last_written = Instant::now();
        loop {
            let written = self.stream.write_some(out)?;
            out = &out[written..];
            let held_back = self.held_back.as_ref().map_or(0, Vec::len);
            if out.is_empty() || has_ended || held_back > HELD_BACK {
                break;
            }
            if written > 0 {
                last_written = Instant::now();
            } else if last_written.elapsed() > self.limits.write_timeout {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.stream.wait_for_peer(self.limits.write_timeout)?;
            match self.stream.fill() {
                Ok(0) => break,
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => break,
                _ => has_ended = self.skip_stdin()?,
            }
        }
        // There is nothing more to read while it is written.
        self.write(out)?;
        Ok(has_ended)
    }

    /// A request was answered and its body is through. Tells whether to read further.
    fn end_of_request(&mut self) -> io::Result<bool> {
        let keeps_connection = self
            .stdin()
            .is_some_and(|stdin| stdin.request.keeps_connection);
        if keeps_connection {
            self.stage = Stage::Idle;
            return Ok(true);
        }
        if self.stream.is_drained() {
            return Ok(false);
        }
        self.stream.finish_writing()?;
        self.stage = Stage::Closing(Instant::now());
        Ok(true)
    }

    /// Whether this connection has had its time: between requests, or after the last.
    pub(super) fn is_overdue(&self) -> bool {
        let silent = self.last_active.elapsed();
        match self.stage {
            Stage::Answered(_, since) | Stage::Closing(since) => {
                silent > DRAIN_PAUSE || since.elapsed() > DRAIN
            }
            _ => silent > self.limits.idle_timeout,
        }
    }

    /// Closes the connection at the program's end. What was answered is not lost: its caller waits
    /// for the rest of the input, but not after `deadline`.
    pub(super) fn close_at_end(mut self, deadline: Instant) {
        if !matches!(self.stage, Stage::Answered(..) | Stage::Closing(_)) {
            return;
        }
        // A peer that is gone has nothing to lose.
        let mut is_open = self.stream.finish_writing().is_ok();
        while is_open && Instant::now() < deadline {
            self.stream.consume(usize::MAX);
            is_open = matches!(self.stream.fill_within(LAST_DRAIN_PAUSE), Ok(1..));
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write(bytes, self.limits.write_timeout)
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

fn invalid() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "no FastCGI record")
}
