//! A response that is written while it is sent, in its own thread.

use std::io::{self, Write};
use std::mem;
use std::time::Instant;

use rustix::event::PollFlags;

use super::super::record::{self, EndStatus, FULL, HEADER, Header, Kind};
use super::super::workers::StreamPermit;
use super::super::write_lines;
use super::{Active, Connection, Input, MAX_ANSWERS, Stage};
use crate::gateway::error_log;
use crate::gateway::runner::report_cut;
use crate::http::response::Response;
use crate::http::stream::{StreamBody, StreamEnd};
use crate::id::SessionDigest;
use crate::session::lazy_manager::LazyManager;

impl Connection {
    /// Sends the response, and lines for the server's log; the configuration says where a failure is reported.
    /// Returns the connection after a whole response if there is more to read.
    pub(in crate::gateway::fastcgi) fn stream(
        mut self,
        response: &Response,
        body: &StreamBody,
        permit: &StreamPermit,
        log: &[String],
        manager: &LazyManager,
        session: Option<&SessionDigest>,
    ) -> Option<Self> {
        let Stage::Running(stdin) = &mut self.stage else {
            return None;
        };
        let request = stdin.request;
        // The handler has read of it what it wanted.
        stdin.early = Vec::new();
        self.place.release_body();
        self.output.keep_pace();
        let mut out = Vec::new();
        record::push_output(&mut out, request.id, response, false, log);
        let mut sink = RecordSink {
            connection: &mut self,
            request,
            out: Vec::new(),
        };
        let end = match sink.connection.write_all(request, &mut out) {
            Ok(()) => body.run(&mut sink, &|| permit.is_stopping(), response.announced()),
            Err(_) => StreamEnd::ClientLeft,
        };
        out = Vec::new();
        match end {
            StreamEnd::ClientLeft => {}
            StreamEnd::Whole => {
                record::push_record(&mut out, Kind::STDOUT, request.id, &[]);
                record::push_end(&mut out, request.id, EndStatus::RequestComplete);
                if self.write_all(request, &mut out).is_ok() {
                    return self.end_stream();
                }
            }
            StreamEnd::Failed(reason) => {
                let ((), lines) = error_log::keep(|| report_cut(reason.as_deref(), session));
                let lines = write_lines(lines, manager);
                if !lines.is_empty() {
                    record::push_lines(&mut out, request.id, &lines);
                }
                // Without END_REQUEST the response is not whole. nginx, which takes the end of the connection for that
                // of a response that it does not buffer, gives up at a version that there is not.
                out.extend([0; HEADER]);
                // The server may be gone by now.
                let _ = self.write_all(request, &mut out);
            }
        }
        None
    }

    fn end_stream(mut self) -> Option<Self> {
        let Stage::Running(stdin) = mem::replace(&mut self.stage, Stage::Idle) else {
            return None;
        };
        self.last_active = Instant::now();
        self.stage = Stage::Answered(stdin, self.last_active);
        self.output.forget_pace();
        self.stream.release();
        let goes_on = self.input != Input::Ended && self.after_response().unwrap_or(false);
        if !self.stream.ready().is_empty() {
            self.input = Input::Unread;
        }
        goes_on.then_some(self)
    }

    /// Writes all of it, as long as the peer's pace allows. The time in which there was nothing to write does
    /// not count.
    fn write_all(&mut self, request: Active, bytes: &mut Vec<u8>) -> io::Result<()> {
        self.listen(request)?;
        self.output.send(&mut self.stream, bytes)?;
        while !self.output.is_empty() {
            let left = self
                .output
                .deadline()
                .saturating_duration_since(Instant::now());
            let mut events = PollFlags::OUT;
            events.set(PollFlags::IN, self.hears(request));
            self.stream
                .wait(events, left)
                .or_else(|error| match error.kind() {
                    io::ErrorKind::TimedOut => Ok(()),
                    _ => Err(error),
                })?;
            self.listen(request)?;
            // A socket says that it has room when most of what it holds is taken, and may have some.
            self.flush()?;
            if !self.output.is_empty() && self.output.deadline() <= Instant::now() {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
        Ok(())
    }

    fn hears(&self, request: Active) -> bool {
        !(self.input == Input::Ended || self.output.answers > MAX_ANSWERS || self.is_ahead(request))
    }

    /// Whether the peer has begun its next request. It is read when the stream is whole, and no more is until then.
    fn is_ahead(&self, request: Active) -> bool {
        let has_ended = matches!(&self.stage, Stage::Running(stdin) if stdin.has_ended());
        let next = Header::parse(self.stream.ready()).ok().flatten();
        let begins = next.is_some_and(|next| next.kind == Kind::BEGIN_REQUEST && next.id != 0);
        has_ended && request.keeps_connection && begins
    }

    /// Takes what the peer has sent meanwhile: an end of the request, questions, the rest of the body.
    fn listen(&mut self, request: Active) -> io::Result<()> {
        if self.hears(request) {
            match self.stream.fill() {
                Ok(0) => self.input = Input::Ended,
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                _ => {}
            }
        }
        if self.skip_stdin()? {
            let is_aborted = self.stdin().is_some_and(|stdin| stdin.is_aborted);
            while !is_aborted
                && !self.is_ahead(request)
                && let Some(record) = self.whole_record()?
            {
                if (record.0.kind, record.0.id) == (Kind::ABORT_REQUEST, request.id) {
                    return Err(io::ErrorKind::ConnectionAborted.into());
                }
                self.dispatch(&record)?;
            }
            if is_aborted {
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
        }
        Ok(())
    }
}

/// The records of a stream, each as long as what was written at once.
struct RecordSink<'a> {
    connection: &'a mut Connection,
    request: Active,
    out: Vec<u8>,
}

impl Write for RecordSink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for chunk in bytes.chunks(FULL) {
            self.out.clear();
            record::push_record(&mut self.out, Kind::STDOUT, self.request.id, chunk);
            self.connection.write_all(self.request, &mut self.out)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
