//! The body of the request that a connection is busy with.

use std::io;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;

use super::super::record::{HEADER, Header, Kind};
use super::permit::SMALL;
use super::{Active, Connection, MAX_ANSWERS, Pace, Progress, Stage};
use crate::gateway::limits::Limits;
use crate::http::params::Params;
use crate::session;

/// The longest that a handler waits for a body while no other thread does its worker's work.
const SHORT_WAIT: Duration = Duration::from_millis(10);

/// How far a request's body has been read.
pub(super) struct StdinStream {
    pub(super) request: Active,
    /// What came before the handler was run, and how much of it was read.
    pub(super) early: Vec<u8>,
    read: usize,
    /// What is left of the record that is being read.
    left: usize,
    padding: usize,
    is_last_record: bool,
    pub(super) is_aborted: bool,
    /// What was announced has come, or the end.
    pub(super) is_whole: bool,
    pace: Pace,
    /// Since when nothing of it has come, while it is collected.
    since: Instant,
}

impl StdinStream {
    pub(super) fn new(request: Active, limits: Limits) -> Self {
        StdinStream {
            request,
            early: Vec::new(),
            read: 0,
            left: 0,
            padding: 0,
            is_last_record: false,
            is_aborted: false,
            is_whole: false,
            pace: Pace::of_body(&limits),
            since: Instant::now(),
        }
    }

    /// When a body that is collected has taken too long.
    pub(super) fn deadline(&self) -> Instant {
        self.since + self.pace.left()
    }

    pub(super) fn has_ended(&self) -> bool {
        self.is_aborted || (self.is_last_record && self.padding == 0)
    }
}

impl Connection {
    /// Collects a body, or as much of it as there is room for; then the handler may run.
    pub(super) fn read_early(&mut self) -> io::Result<Option<Progress>> {
        loop {
            let ready = self.body_ready()?;
            let Stage::Early {
                stdin,
                wanted,
                is_all,
                ..
            } = &mut self.stage
            else {
                return Ok(None);
            };
            let Some(ready) = ready else { return Ok(None) };
            if stdin.is_aborted {
                let request = stdin.request;
                return self.abort(request).map(|()| None);
            }
            let (capacity, needed) = (stdin.early.capacity(), stdin.early.len() + ready);
            let grown = (2 * capacity).min(*wanted).max(needed);
            let has_room = needed <= capacity
                || self
                    .place
                    .reserve(grown - capacity, self.limits.body_buffer);
            if has_room {
                stdin
                    .early
                    .reserve_exact(grown.max(capacity) - stdin.early.len());
                stdin.early.extend_from_slice(&self.stream.ready()[..ready]);
                stdin.left -= ready;
                self.stream.consume(ready);
                stdin.pace.moved(stdin.since.elapsed(), ready);
                stdin.since = Instant::now();
            }
            let is_enough = stdin.early.len() >= *wanted;
            if ready == 0 || is_enough || !has_room {
                stdin.is_whole = ready == 0 || is_enough && *is_all;
                return Ok(self.end_early().map(Progress::Request));
            }
        }
    }

    /// The body of the request, in those stages that have one.
    pub(super) fn stdin(&mut self) -> Option<&mut StdinStream> {
        match &mut self.stage {
            Stage::Early { stdin, .. } | Stage::Running(stdin) | Stage::Answered(stdin, _) => {
                Some(stdin)
            }
            _ => None,
        }
    }

    /// How much of the body lies at the beginning of the input; 0 is its end, or an abort.
    fn body_ready(&mut self) -> io::Result<Option<usize>> {
        loop {
            let length = self.stream.ready().len();
            let Some(stdin) = self.stdin() else {
                return Ok(Some(0));
            };
            if stdin.is_aborted {
                return Ok(Some(0));
            }
            if stdin.left > 0 {
                return Ok(Some(stdin.left.min(length)).filter(|ready| *ready > 0));
            }
            if stdin.padding > 0 {
                let skipped = stdin.padding.min(length);
                stdin.padding -= skipped;
                self.stream.consume(skipped);
                if skipped == 0 {
                    return Ok(None);
                }
                continue;
            }
            if stdin.is_last_record {
                return Ok(Some(0));
            }
            if !self.next_record()? {
                return Ok(None);
            }
        }
    }

    /// Begins the next record of a body, and deals with others in between.
    fn next_record(&mut self) -> io::Result<bool> {
        let Some(header) = Header::parse(self.stream.ready())? else {
            return Ok(false);
        };
        let Some(stdin) = self.stdin().filter(|stdin| stdin.request.id == header.id) else {
            return self.another_record();
        };
        if header.kind == Kind::STDIN {
            (stdin.left, stdin.padding) = (header.content, header.padding);
            stdin.is_last_record = header.content == 0;
            self.stream.consume(HEADER);
            return Ok(true);
        }
        let is_abort = header.kind == Kind::ABORT_REQUEST;
        let is_whole = self.another_record()?;
        if let Some(stdin) = self.stdin() {
            stdin.is_aborted = is_abort && is_whole;
        }
        Ok(is_whole)
    }

    fn another_record(&mut self) -> io::Result<bool> {
        let Some(record) = self.whole_record()? else {
            return Ok(false);
        };
        self.dispatch(&record)?;
        Ok(true)
    }

    /// Reads the request's body; 0 is its end.
    pub(in crate::gateway::fastcgi) fn read_body(
        &mut self,
        buffer: &mut [u8],
    ) -> io::Result<usize> {
        let has_body = self.stdin().is_some_and(|stdin| stdin.request.has_body);
        if buffer.is_empty() || !has_body {
            return Ok(0);
        }
        loop {
            if let Some(stdin) = self.stdin() {
                let early = stdin.early.get(stdin.read..).unwrap_or_default();
                let length = early.len().min(buffer.len());
                buffer[..length].copy_from_slice(&early[..length]);
                stdin.read += length;
                if length > 0 {
                    return Ok(length);
                }
                stdin.early = Vec::new();
                self.place.release_body();
            }
            let ready = self.body_ready()?;
            if self.stdin().is_some_and(|stdin| stdin.is_aborted) {
                let error = "the server aborted the request";
                return Err(io::Error::new(io::ErrorKind::ConnectionAborted, error));
            }
            if let Some(ready) = ready {
                let length = ready.min(buffer.len());
                buffer[..length].copy_from_slice(&self.stream.ready()[..length]);
                self.skip(length);
                return Ok(length);
            }
            self.wait_for_body()?;
        }
    }

    /// Waits for more of the body, as long as its pace allows.
    fn wait_for_body(&mut self) -> io::Result<()> {
        self.flush()?;
        while self.output.answers > MAX_ANSWERS {
            self.stream
                .wait(PollFlags::OUT, self.limits.write_timeout)?;
            self.flush()?;
        }
        let started = Instant::now();
        let most = self.stdin().map(|stdin| stdin.pace.left());
        let most = most.unwrap_or_default();
        let mut filled = self.stream.fill_within(most.min(SHORT_WAIT));
        if filled.as_ref().is_err_and(is_timeout) {
            filled = session::stand_aside(|| self.stream.fill_within(most));
        }
        if let Some(stdin) = self.stdin() {
            stdin.pace.moved(started.elapsed(), 0);
        }
        let failed = |kind, error| Err(io::Error::new(kind, error));
        match filled {
            Ok(0) => failed(io::ErrorKind::UnexpectedEof, "it was cut off"),
            Err(error) if is_timeout(&error) => {
                failed(io::ErrorKind::TimedOut, "it came too slowly")
            }
            filled => filled.map(drop),
        }
    }

    fn skip(&mut self, length: usize) {
        if let Some(stdin) = self.stdin() {
            stdin.left -= length;
            stdin.pace.moved(Duration::ZERO, length);
        }
        self.stream.consume(length);
    }

    /// Drops what has come of the body; tells whether that was the end of it.
    pub(super) fn skip_stdin(&mut self) -> io::Result<bool> {
        loop {
            match self.body_ready()? {
                Some(0) => return Ok(true),
                Some(ready) => self.skip(ready),
                None => return Ok(false),
            }
        }
    }
}

fn is_timeout(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::TimedOut
}

/// How much of a body is collected before its handler is run, and whether that is all of it: what the
/// client has announced, or up to the end if it said nothing that makes sense. Of a longer one it is the
/// beginning, which gives a handler something to do.
pub(super) fn wanted(params: &Params, body_buffer: usize) -> (usize, bool) {
    let length = params
        .get("CONTENT_LENGTH")
        .and_then(|length| length.to_str());
    let length = length.and_then(|length| length.parse::<usize>().ok());
    match length {
        Some(length) if length <= body_buffer => (length, true),
        Some(_) => (body_buffer.clamp(1, SMALL), false),
        None => (body_buffer.max(1), false),
    }
}
