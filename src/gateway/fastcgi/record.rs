//! Records: the frames that everything travels in (FastCGI 1.0, 3.3).

use std::io::{self, Write as _};
use std::ops::Range;

use crate::http::params::Params;
use crate::http::response::Response;

/// The length of a record's header.
pub(super) const HEADER: usize = 8;
/// The most that a record can hold, as a multiple of the padding.
pub(super) const FULL: usize = 65_528;
/// The limits of what one request writes to the server's log: lines, and bytes of each.
const LOG_LINES: usize = 4;
const LOG_LINE: usize = 1024;
/// nginx takes the head of a response, and lines of the log before it, into 4 KiB.
const HEAD_BUFFER: usize = 3 << 10;

/// The type of a record. Other numbers than these are answered `FCGI_UNKNOWN_TYPE`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Kind(pub(super) u8);

impl Kind {
    pub(super) const BEGIN_REQUEST: Kind = Kind(1);
    pub(super) const ABORT_REQUEST: Kind = Kind(2);
    const END_REQUEST: Kind = Kind(3);
    pub(super) const PARAMS: Kind = Kind(4);
    pub(super) const STDIN: Kind = Kind(5);
    pub(super) const STDOUT: Kind = Kind(6);
    const STDERR: Kind = Kind(7);
    pub(super) const GET_VALUES: Kind = Kind(9);
    const GET_VALUES_RESULT: Kind = Kind(10);
    pub(super) const UNKNOWN_TYPE: Kind = Kind(11);
}

#[derive(Clone, Copy)]
pub(super) struct Header {
    pub(super) kind: Kind,
    /// The request it belongs to; 0 for management records.
    pub(super) id: u16,
    pub(super) content: usize,
    pub(super) padding: usize,
}

impl Header {
    /// Reads the header at the beginning of `bytes`; `None` when it is not there yet.
    pub(super) fn parse(bytes: &[u8]) -> io::Result<Option<Self>> {
        match *bytes {
            [version, ..] if version != 1 => Err(invalid()),
            [_, kind, id1, id0, content1, content0, padding, _, ..] => Ok(Some(Header {
                kind: Kind(kind),
                id: u16::from_be_bytes([id1, id0]),
                content: usize::from(u16::from_be_bytes([content1, content0])),
                padding: usize::from(padding),
            })),
            _ => Ok(None),
        }
    }

    /// The length of the whole record.
    pub(super) fn record(&self) -> usize {
        HEADER + self.content + self.padding
    }
}

/// Bytes are no record.
pub(super) fn invalid() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "no FastCGI record")
}

/// How a request ended, for the server (FastCGI 1.0, 5.5).
#[derive(Clone, Copy)]
pub(super) enum EndStatus {
    RequestComplete = 0,
    CannotMultiplex = 1,
    UnknownRole = 3,
}

/// Appends one record of up to 65,535 bytes, padded to a multiple of eight.
pub(super) fn push_record(out: &mut Vec<u8>, kind: Kind, id: u16, content: &[u8]) {
    let start = begin_record(out);
    out.extend_from_slice(content);
    end_record(out, start, kind, id);
}

/// Makes room for a header, to be filled in by [`end_record`].
fn begin_record(out: &mut Vec<u8>) -> usize {
    out.extend_from_slice(&[0; HEADER]);
    out.len()
}

fn end_record(out: &mut Vec<u8>, start: usize, kind: Kind, id: u16) {
    let content = u16::try_from(out.len() - start).unwrap_or(u16::MAX);
    let padding = u8::try_from((8 - content % 8) % 8).unwrap_or_default();
    let ([id1, id0], [content1, content0]) = (id.to_be_bytes(), content.to_be_bytes());
    let header = [1, kind.0, id1, id0, content1, content0, padding, 0];
    out[start - HEADER..start].copy_from_slice(&header);
    out.extend_from_slice(&[0; 8][..usize::from(padding)]);
}

pub(super) fn push_end(out: &mut Vec<u8>, id: u16, status: EndStatus) {
    let content = [0, 0, 0, 0, status as u8, 0, 0, 0];
    push_record(out, Kind::END_REQUEST, id, &content);
}

/// Appends a whole response and the end of its request. A small one is one record of content. The lines
/// are for the server's log.
pub(super) fn push_response(
    out: &mut Vec<u8>,
    id: u16,
    response: &Response,
    head_only: bool,
    log: &[String],
    status: EndStatus,
) {
    push_output(out, id, response, head_only, log);
    push_record(out, Kind::STDOUT, id, &[]);
    push_end(out, id, status);
}

/// Appends a response without the end of its request.
pub(super) fn push_output(
    out: &mut Vec<u8>,
    id: u16,
    response: &Response,
    head_only: bool,
    log: &[String],
) {
    let beginning = out.len();
    let body = response.content(head_only);
    // All at once: growing step by step takes up to twice the memory.
    out.reserve(body.len() + body.len() / 1024 + 4096);
    let start = begin_record(out);
    response.write_head(out, head_only);
    let head = out.len() - start;
    // Of a head that exceeds a record, the rest goes into further records.
    let rest_of_head = out.split_off(out.len().min(start + FULL));
    let room = FULL - (out.len() - start);
    let (first, rest) = body.split_at(body.len().min(room));
    out.extend_from_slice(first);
    end_record(out, start, Kind::STDOUT, id);
    for chunk in rest_of_head.chunks(FULL).chain(rest.chunks(FULL)) {
        push_record(out, Kind::STDOUT, id, chunk);
    }
    push_log(out, beginning, head, id, log);
}

/// Adds lines for the server's log before the response, where nginx reads them whatever the response
/// is, or after it if the head is long.
fn push_log(out: &mut Vec<u8>, beginning: usize, head: usize, id: u16, log: &[String]) {
    if log.is_empty() {
        return;
    }
    let mut records = Vec::new();
    push_lines(&mut records, id, log);
    let fits = head + records.len() <= HEAD_BUFFER;
    let place = if fits { beginning } else { out.len() };
    out.splice(place..place, records);
}

pub(super) fn push_lines(records: &mut Vec<u8>, id: u16, log: &[String]) {
    for line in log.iter().take(LOG_LINES) {
        let mut end = line.len().min(LOG_LINE);
        while !line.is_char_boundary(end) {
            end -= 1;
        }
        push_record(records, Kind::STDERR, id, &line.as_bytes()[..end]);
    }
    push_record(records, Kind::STDERR, id, &[]);
}

/// Takes a whole stream of names and values apart (FastCGI 1.0, 3.4); `None` when it cannot be used.
pub(super) fn decode_params(bytes: Vec<u8>, max_pairs: usize) -> Option<Params> {
    let mut pairs = Vec::with_capacity(32);
    let mut at = 0;
    while at < bytes.len() {
        let (name, value) = pair(&bytes, &mut at)?;
        if pairs.len() == max_pairs {
            return None;
        }
        pairs.push((name, value));
    }
    Some(Params::Ranges(bytes, pairs))
}

fn pair(bytes: &[u8], at: &mut usize) -> Option<(Range<usize>, Range<usize>)> {
    let (name, value) = (length(bytes, at)?, length(bytes, at)?);
    // Looked at before anything is allocated: a length is whatever a peer says.
    let (start, middle) = (*at, at.checked_add(name)?);
    let end = middle.checked_add(value)?;
    if end > bytes.len() {
        return None;
    }
    *at = end;
    Some((start..middle, middle..end))
}

fn length(bytes: &[u8], at: &mut usize) -> Option<usize> {
    let (length, width) = match bytes.get(*at..).unwrap_or_default() {
        [short @ 0..=0x7f, ..] => (usize::from(*short), 1),
        [a, b, c, d, ..] => {
            let long = u32::from_be_bytes([a & 0x7f, *b, *c, *d]);
            (usize::try_from(long).ok()?, 4)
        }
        _ => return None,
    };
    *at += width;
    Some(length)
}

/// Answers what the server asks about us (FastCGI 1.0, 4.1); what it asks beyond that is left out.
pub(super) fn push_values(out: &mut Vec<u8>, question: &[u8], max_connections: usize) {
    let mut answer = Vec::new();
    let mut at = 0;
    while at < question.len() {
        let Some((name, _)) = pair(question, &mut at) else {
            break;
        };
        let name = &question[name];
        let value = match name {
            b"FCGI_MAX_CONNS" | b"FCGI_MAX_REQS" => max_connections.to_string(),
            b"FCGI_MPXS_CONNS" => "0".to_owned(),
            _ => continue,
        };
        // Both lengths are below 128. A Vec takes every write.
        let _ = answer
            .write_all(&[name.len(), value.len()].map(|n| u8::try_from(n).unwrap_or_default()));
        answer.extend_from_slice(name);
        answer.extend_from_slice(value.as_bytes());
    }
    answer.truncate(FULL);
    push_record(out, Kind::GET_VALUES_RESULT, 0, &answer);
}
