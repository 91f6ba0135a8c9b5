//! One connection of a web server: records in, requests and responses out.
//!
//! What a peer may be slow with keeps no worker: the parameters, a body up to `bodyBuffer`, the
//! response, and what is left to read away after it. What has come, or has not been taken, is kept, and
//! the worker takes another connection. Only the rest of a longer body is waited for by its handler.

mod body;
mod end;
mod output;
mod permit;
mod streamed;

use std::io;
use std::mem;
use std::time::{Duration, Instant};

use http::StatusCode;
use rustix::event::PollFlags;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::net::Shutdown;

use super::record::{self, EndStatus, HEADER, Header, Kind};
use super::stream::Stream;
use crate::gateway::limits::Limits;
use crate::gateway::pace::Pace;
use crate::http::params::Params;
use crate::http::response::Response;
use body::StdinStream;
pub(super) use end::finish;
use output::Output;
pub(super) use permit::{ConnectionPermit, OpenConnections};

/// The longest that unread input is read away for after the response, and the longest pause in it.
const DRAIN: Duration = Duration::from_secs(30);
const DRAIN_PAUSE: Duration = Duration::from_secs(5);
/// How often a connection is read before another one has its turn.
const READS: usize = 64;
/// The limit in bytes of management answers that a peer has not taken; beyond it, it is not read.
const MAX_ANSWERS: usize = 64 << 10;
/// FastCGI 1.0, 5.1: the roles that are played here, and the flag to keep the connection.
const RESPONDER: [u8; 2] = [0, 1];
const AUTHORIZER: [u8; 2] = [0, 2];
const KEEP_CONNECTION: u8 = 1;

/// A connection, at whatever point of a request it is.
pub(super) struct Connection {
    /// What its events are known by.
    pub(super) number: u64,
    /// It has not been waited for yet.
    pub(super) is_new: bool,
    stream: Stream,
    stage: Stage,
    output: Output,
    input: Input,
    /// Our side of the socket is shut down.
    has_hung_up: bool,
    limits: Limits,
    pub(super) last_active: Instant,
    place: ConnectionPermit,
}

/// What the peer sends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Input {
    Open,
    /// What was read during a stream has not been dealt with, and no event tells of it.
    Unread,
    /// Nothing more, but it may still take its response.
    Ended,
}

enum Stage {
    Idle,
    Params {
        request: Active,
        bytes: Vec<u8>,
        is_too_much: bool,
    },
    /// The parameters are complete, and `wanted` bytes of the body are collected before a handler
    /// has the request. These are the whole body if `is_all`.
    Early {
        stdin: StdinStream,
        params: Params,
        wanted: usize,
        is_all: bool,
    },
    /// A handler has the request.
    Running(StdinStream),
    /// The response is written; the rest of the body is read away.
    Answered(StdinStream, Instant),
    /// Nothing more is said or listened to, until the peer closes.
    Closing(Instant),
}

/// The request that a connection is busy with.
#[derive(Clone, Copy)]
struct Active {
    id: u16,
    keeps_connection: bool,
    /// A server sends no body to an authorizer, nor the end of one (FastCGI 1.0, 6.3).
    has_body: bool,
}

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
    pub(super) fn new(
        number: u64,
        socket: OwnedFd,
        limits: Limits,
        place: ConnectionPermit,
    ) -> Self {
        Connection {
            number,
            is_new: true,
            stream: Stream::new(socket),
            stage: Stage::Idle,
            output: Output::new(limits),
            input: Input::Open,
            has_hung_up: false,
            limits,
            last_active: Instant::now(),
            place,
        }
    }

    /// Writes what the peer takes and reads what has come, until a request is ready for its handler.
    pub(super) fn advance(&mut self) -> Progress {
        if self.input == Input::Unread {
            self.input = Input::Open;
        }
        // At last a step without a read: what waits in the buffer would wake no worker.
        for reads_left in (0..=READS).rev() {
            match self.step() {
                Ok(Some(progress)) => return progress,
                Ok(None) if reads_left > 0 && self.is_listening() => {}
                Ok(None) => break,
                Err(_) => return Progress::Closed,
            }
            match self.stream.fill() {
                Ok(0) => self.input = Input::Ended,
                Ok(_) => self.last_active = Instant::now(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => return Progress::Closed,
            }
        }
        self.stream.release();
        Progress::Waiting
    }

    /// What to wait for: the peer's bytes, and room for ours, which there is at once when nothing is to be waited for.
    pub(super) fn events(&self) -> (bool, bool) {
        (
            self.is_listening(),
            self.input == Input::Unread || !self.output.is_empty(),
        )
    }

    fn is_listening(&self) -> bool {
        let is_finishing = match &self.stage {
            Stage::Answered(stdin, _) => stdin.has_ended() && !self.output.is_empty(),
            _ => false,
        };
        !(self.input == Input::Ended || is_finishing || self.output.answers > MAX_ANSWERS)
    }

    /// Whether more comes within this time.
    pub(super) fn speaks_within(&self, pause: Duration) -> bool {
        self.stream.wait(PollFlags::IN, pause).is_ok()
    }

    /// Whether its peer has closed a Unix socket or reset the connection, so that no answer reaches it.
    pub(super) fn is_left(&self) -> bool {
        self.stream.wait(PollFlags::empty(), Duration::ZERO).is_ok()
    }

    /// Deals with what has been read; `Ok(None)` when more must be read.
    fn step(&mut self) -> io::Result<Option<Progress>> {
        self.flush()?;
        if self.input == Input::Ended && self.output.is_empty() {
            return Ok(Some(Progress::Closed));
        }
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
                    self.skip_stdin()?;
                    // Another request may have begun instead.
                    if matches!(self.stage, Stage::Answered(..)) {
                        if !self.after_response()? {
                            return Ok(Some(Progress::Closed));
                        }
                        if matches!(self.stage, Stage::Answered(..)) {
                            return Ok(None);
                        }
                    }
                }
                Stage::Closing(_) => {
                    self.stream.consume(usize::MAX);
                    if self.output.is_empty() {
                        self.hang_up()?;
                    }
                    return Ok(None);
                }
                Stage::Running(_) => return Ok(None),
            }
        }
    }

    fn whole_record(&mut self) -> io::Result<Option<(Header, Vec<u8>)>> {
        let ready = self.stream.ready();
        let header = Header::parse(ready)?;
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
            (Stage::Idle, Kind::BEGIN_REQUEST) => self.begin(header.id, content).map(|()| None),
            // An answered request is over, whatever its body is (FastCGI 1.0, 3.3).
            (Stage::Answered(stdin, _), Kind::BEGIN_REQUEST)
                if self.output.is_empty() && stdin.request.keeps_connection =>
            {
                self.begin(header.id, content).map(|()| None)
            }
            (_, Kind::BEGIN_REQUEST) => {
                let mut out = Vec::new();
                record::push_end(&mut out, header.id, EndStatus::CannotMultiplex);
                self.say(&out).map(|()| None)
            }
            (Stage::Params { request, .. }, Kind::ABORT_REQUEST) if request.id == header.id => {
                let request = *request;
                self.abort(request).map(|()| None)
            }
            (Stage::Params { request, .. }, Kind::PARAMS) if request.id == header.id => {
                Ok(self.take_params(content))
            }
            // Of another request, or out of its turn: it is dropped.
            _ => Ok(None),
        }
    }

    fn begin(&mut self, id: u16, content: &[u8]) -> io::Result<()> {
        let &[role1, role0, flags, _, _, _, _, _, ..] = content else {
            return Err(record::invalid());
        };
        let request = Active {
            id,
            keeps_connection: flags & KEEP_CONNECTION != 0,
            has_body: [role1, role0] == RESPONDER,
        };
        if !(request.has_body || self.limits.authorizes && [role1, role0] == AUTHORIZER) {
            // lighttpd serves the file when an authorizer says nothing but that it is none.
            let page = Response::text("This program does not answer requests of this role.\n")
                .with_status(StatusCode::FORBIDDEN);
            let mut out = Vec::new();
            record::push_response(&mut out, id, &page, false, &[], EndStatus::UnknownRole);
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
                // Still read to its end, so that the answer reaches the server.
                (*bytes, *is_too_much) = (Vec::new(), true);
            }
            if !*is_too_much {
                bytes.extend_from_slice(content);
            }
            return None;
        }
        let has_body = request.has_body;
        let mut stdin = StdinStream::new(*request, self.limits);
        let params = record::decode_params(mem::take(bytes), self.limits.params);
        let Some(params) = params.filter(|_| !*is_too_much) else {
            self.stage = Stage::Running(stdin);
            return Some(Progress::BadRequest);
        };
        let (wanted, is_all) = if has_body {
            body::wanted(&params, self.limits.body_buffer)
        } else {
            (0, true)
        };
        if wanted == 0 {
            stdin.is_whole = true;
            self.stage = Stage::Running(stdin);
            return Some(Progress::Request(params));
        }
        self.stage = Stage::Early {
            stdin,
            params,
            wanted,
            is_all,
        };
        None
    }

    fn manage(&mut self, header: Header, content: &[u8]) -> io::Result<()> {
        let mut out = Vec::new();
        if header.kind == Kind::GET_VALUES {
            record::push_values(&mut out, content, self.limits.connections);
        } else {
            let content = [header.kind.0, 0, 0, 0, 0, 0, 0, 0];
            record::push_record(&mut out, Kind::UNKNOWN_TYPE, 0, &content);
        }
        self.say(&out)
    }

    /// Sends records that are no part of a response, after one that is being written: amid a record
    /// of it they would be taken for content.
    fn say(&mut self, records: &[u8]) -> io::Result<()> {
        if let Stage::Answered(stdin, _) = &self.stage
            && !stdin.request.keeps_connection
        {
            // Our side of the socket will be shut down.
            return Ok(());
        }
        self.output.send(&mut self.stream, &mut records.to_vec())?;
        if !self.output.is_empty() {
            self.output.answers += records.len();
        }
        self.place.owe(self.output.size());
        Ok(())
    }

    /// Writes what the peer takes now.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        if self.output.is_empty() {
            return Ok(());
        }
        self.output.flush(&mut self.stream)?;
        self.place.owe(self.output.size());
        if let (true, Stage::Answered(_, since)) = (self.output.is_empty(), &mut self.stage) {
            // From now on it is the peer's turn.
            self.last_active = Instant::now();
            *since = self.last_active;
        }
        Ok(())
    }

    fn hang_up(&mut self) -> io::Result<()> {
        if mem::replace(&mut self.has_hung_up, true) {
            return Ok(());
        }
        Ok(rustix::net::shutdown(&self.stream.socket, Shutdown::Write)?)
    }

    /// Ends a request that its server has given up.
    fn abort(&mut self, request: Active) -> io::Result<()> {
        let mut out = Vec::new();
        record::push_end(&mut out, request.id, EndStatus::RequestComplete);
        self.end(request, &out)
    }

    /// Ends a request that no handler answers.
    fn end(&mut self, request: Active, last: &[u8]) -> io::Result<()> {
        self.say(last)?;
        self.stage = if request.keeps_connection {
            Stage::Idle
        } else {
            Stage::Closing(Instant::now())
        };
        Ok(())
    }

    /// Sends the response, and lines for the server's log. Tells whether the connection is to be read
    /// further: for another request, or because closing on unread input would reset it and lose the
    /// response.
    pub(super) fn respond(
        &mut self,
        response: &Response,
        head_only: bool,
        log: &[String],
        out: &mut Vec<u8>,
    ) -> io::Result<bool> {
        // The end of the input mostly is there by now, and an abort may be.
        if !self.skip_stdin()? && self.stream.fill().is_ok() {
            self.skip_stdin()?;
        }
        let stage = mem::replace(&mut self.stage, Stage::Idle);
        let Stage::Running(stdin) = stage else {
            return Ok(false);
        };
        let request = stdin.request;
        self.place.release_body();
        out.clear();
        if stdin.is_aborted {
            record::push_end(out, request.id, EndStatus::RequestComplete);
        } else {
            let complete = EndStatus::RequestComplete;
            record::push_response(out, request.id, response, head_only, log, complete);
        }
        self.last_active = Instant::now();
        self.stage = Stage::Answered(stdin, self.last_active);
        self.output.send(&mut self.stream, out)?;
        self.place.owe(self.output.size());
        self.after_response()
    }

    /// What follows a response that the peer has taken. Tells whether to read further.
    fn after_response(&mut self) -> io::Result<bool> {
        let Stage::Answered(stdin, _) = &self.stage else {
            return Ok(true);
        };
        let (has_ended, is_kept) = (stdin.has_ended(), stdin.request.keeps_connection);
        if !self.output.is_empty() || is_kept && !has_ended {
            return Ok(true);
        }
        if is_kept {
            self.stage = Stage::Idle;
            return Ok(true);
        }
        if has_ended && self.stream.is_drained() {
            return Ok(false);
        }
        self.hang_up()?;
        if has_ended {
            self.stage = Stage::Closing(Instant::now());
        }
        Ok(true)
    }

    /// Whether this connection has had its time: with a body, with its response, between requests, or
    /// after the last.
    pub(super) fn is_overdue(&mut self) -> bool {
        if self.deadline() > Instant::now() {
            return false;
        }
        // A Unix socket says that it has room when most of what it holds is taken, and may have some.
        if !self.output.is_empty() {
            return self.flush().is_err() || self.deadline() <= Instant::now();
        }
        // A request's bytes may have come while all workers were busy.
        let is_answered = matches!(self.stage, Stage::Answered(..) | Stage::Closing(_));
        is_answered || !self.speaks_within(Duration::ZERO)
    }

    /// When the peer is given up if nothing moves.
    pub(super) fn deadline(&self) -> Instant {
        if !self.output.is_empty() {
            return self.output.deadline();
        }
        match &self.stage {
            Stage::Early { stdin, .. } => stdin.deadline(),
            Stage::Answered(_, since) | Stage::Closing(since) => {
                (self.last_active + DRAIN_PAUSE).min(*since + DRAIN)
            }
            _ => self.last_active + self.limits.idle_timeout,
        }
    }

    /// Whether it has no request that is known: one may be under way.
    pub(super) fn is_between_requests(&self) -> bool {
        matches!(self.stage, Stage::Idle | Stage::Params { .. })
    }

    /// Whether a request has begun, and its peer has not taken the response.
    pub(super) fn is_amid_request(&self) -> bool {
        self.is_owed() || matches!(self.stage, Stage::Params { .. } | Stage::Early { .. })
    }

    /// Whether the peer has not taken its response.
    pub(super) fn is_owed(&self) -> bool {
        !self.output.is_empty()
    }

    /// Whether the peer takes its response, if not at once.
    pub(super) fn is_taking(&self) -> bool {
        self.is_owed() && !self.is_slow()
    }

    /// Whether the peer takes its response too slowly while memory is short.
    pub(super) fn is_slow(&self) -> bool {
        self.output.is_slow()
    }

    /// Writes what the peer takes within this time.
    pub(super) fn flush_within(&mut self, pause: Duration) -> io::Result<()> {
        let _ = self.stream.wait(PollFlags::OUT, pause);
        self.flush()
    }

    /// Whether a handler need not wait for the body.
    pub(super) fn has_whole_body(&self) -> bool {
        matches!(&self.stage, Stage::Running(stdin) if stdin.is_whole)
    }

    /// Collects no more of a body, so that the request can be answered: its parameters. `None` when none is collected.
    pub(super) fn end_early(&mut self) -> Option<Params> {
        match mem::replace(&mut self.stage, Stage::Idle) {
            Stage::Early { stdin, params, .. } => {
                self.stage = Stage::Running(stdin);
                Some(params)
            }
            stage => {
                self.stage = stage;
                None
            }
        }
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.socket.as_fd()
    }
}
