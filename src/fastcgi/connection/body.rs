//! The body of the request that a connection is busy with.

use std::io;

use super::super::record::{HEADER, Header, Kind};
use super::{Active, Connection, Progress, Stage, invalid};
use crate::params::Params;

/// A handler is not run before so much of its body is there, if so much was announced.
const EARLY_BODY: usize = 32 << 10;

/// How far a request's body has been read.
pub(super) struct Stdin {
    pub(super) request: Active,
    /// What came before the handler was run, and how much of it was read.
    early: Vec<u8>,
    read: usize,
    /// What is left of the record that is being read.
    left: usize,
    padding: usize,
    is_last_record: bool,
    pub(super) is_aborted: bool,
}

impl Stdin {
    pub(super) fn new(request: Active) -> Self {
        Stdin {
            request,
            early: Vec::new(),
            read: 0,
            left: 0,
            padding: 0,
            is_last_record: false,
            is_aborted: false,
        }
    }

    pub(super) fn has_ended(&self) -> bool {
        self.is_aborted || (self.is_last_record && self.padding == 0)
    }
}

impl Connection {
    /// Collects the beginning of a body; then the handler may run.
    pub(super) fn read_early(&mut self) -> io::Result<Option<Progress>> {
        loop {
            let ready = self.body_ready()?;
            let Stage::Early {
                stdin,
                params,
                wanted,
            } = &mut self.stage
            else {
                return Ok(None);
            };
            let Some(ready) = ready else { return Ok(None) };
            stdin.early.extend_from_slice(&self.stream.ready()[..ready]);
            stdin.left -= ready;
            self.stream.consume(ready);
            if stdin.is_aborted {
                let request = stdin.request;
                return self.abort(request).map(|()| None);
            }
            if ready == 0 || stdin.early.len() >= *wanted {
                let params = std::mem::take(params);
                let request = stdin.request;
                let stdin = std::mem::replace(stdin, Stdin::new(request));
                self.stage = Stage::Running(stdin);
                return Ok(Some(Progress::Request(params)));
            }
        }
    }

    /// The body of the request, in those stages that have one.
    pub(super) fn stdin(&mut self) -> Option<&mut Stdin> {
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
        let Some(header) = Header::parse(self.stream.ready()).map_err(|_| invalid())? else {
            return Ok(false);
        };
        let Some(stdin) = self.stdin().filter(|stdin| stdin.request.id == header.id) else {
            return self.another_record();
        };
        if header.kind == Kind::Stdin {
            (stdin.left, stdin.padding) = (header.content, header.padding);
            stdin.is_last_record = header.content == 0;
            self.stream.consume(HEADER);
            return Ok(true);
        }
        let is_abort = header.kind == Kind::AbortRequest;
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
    pub(in crate::fastcgi) fn read_body(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
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
            if self.stream.fill_within(self.limits.read_timeout)? == 0 {
                let error = "it was cut off";
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, error));
            }
        }
    }

    fn skip(&mut self, length: usize) {
        if let Some(stdin) = self.stdin() {
            stdin.left -= length;
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

/// How much of a body is waited for before its handler is run: what the client has announced, up
/// to a limit, and nothing when it said nothing that makes sense.
pub(super) fn wanted(params: &Params) -> usize {
    let length = params
        .get("CONTENT_LENGTH")
        .and_then(|length| length.to_str());
    let length = length.and_then(|length| length.parse::<usize>().ok());
    length.unwrap_or_default().min(EARLY_BODY)
}
