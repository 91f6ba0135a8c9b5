//! Records: the frames that everything travels in (FastCGI 1.0, 3.3).

use std::io::Write as _;
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

/// The type of a record. Other numbers are answered `FCGI_UNKNOWN_TYPE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    BeginRequest,
    AbortRequest,
    EndRequest,
    Params,
    Stdin,
    Stdout,
    Stderr,
    GetValues,
    GetValuesResult,
    UnknownType,
    Other(u8),
}

impl Kind {
    fn from_number(number: u8) -> Self {
        match number {
            1 => Kind::BeginRequest,
            2 => Kind::AbortRequest,
            3 => Kind::EndRequest,
            4 => Kind::Params,
            5 => Kind::Stdin,
            6 => Kind::Stdout,
            7 => Kind::Stderr,
            9 => Kind::GetValues,
            10 => Kind::GetValuesResult,
            11 => Kind::UnknownType,
            other => Kind::Other(other),
        }
    }

    pub(super) fn number(self) -> u8 {
        match self {
            Kind::BeginRequest => 1,
            Kind::AbortRequest => 2,
            Kind::EndRequest => 3,
            Kind::Params => 4,
            Kind::Stdin => 5,
            Kind::Stdout => 6,
            Kind::Stderr => 7,
            Kind::GetValues => 9,
            Kind::GetValuesResult => 10,
            Kind::UnknownType => 11,
            Kind::Other(number) => number,
        }
    }
}

/// The header of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: Kind,
    /// The request it belongs to; 0 for management records.
    pub(super) id: u16,
    pub(super) content: usize,
    pub(super) padding: usize,
}

/// Why bytes are no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WrongVersion;

impl Header {
    /// Reads the header at the beginning of `bytes`; `None` when it is not there yet.
    pub(super) fn parse(bytes: &[u8]) -> Result<Option<Self>, WrongVersion> {
        match *bytes {
            [version, ..] if version != 1 => Err(WrongVersion),
            [_, kind, id1, id0, content1, content0, padding, _, ..] => Ok(Some(Header {
                kind: Kind::from_number(kind),
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
    let header = [1, kind.number(), id1, id0, content1, content0, padding, 0];
    out[start - HEADER..start].copy_from_slice(&header);
    out.extend_from_slice(&[0; 8][..usize::from(padding)]);
}

/// Appends the end of a request.
pub(super) fn push_end(out: &mut Vec<u8>, id: u16, status: EndStatus) {
    push_record(
        out,
        Kind::EndRequest,
        id,
        &[0, 0, 0, 0, status as u8, 0, 0, 0],
    );
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
    push_record(out, Kind::Stdout, id, &[]);
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
    let start = begin_record(out);
    response.write_head(out, head_only);
    let head = out.len() - start;
    // Of a head that exceeds a record, the rest goes into records of its own.
    let rest_of_head = out.split_off(out.len().min(start + FULL));
    let body = response.content(head_only);
    let room = FULL - (out.len() - start);
    let (first, rest) = body.split_at(body.len().min(room));
    out.extend_from_slice(first);
    end_record(out, start, Kind::Stdout, id);
    for chunk in rest_of_head.chunks(FULL).chain(rest.chunks(FULL)) {
        push_record(out, Kind::Stdout, id, chunk);
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

/// Appends lines for the server's log.
pub(super) fn push_lines(records: &mut Vec<u8>, id: u16, log: &[String]) {
    for line in log.iter().take(LOG_LINES) {
        let mut end = line.len().min(LOG_LINE);
        while !line.is_char_boundary(end) {
            end -= 1;
        }
        push_record(records, Kind::Stderr, id, &line.as_bytes()[..end]);
    }
    push_record(records, Kind::Stderr, id, &[]);
}

/// Why a stream of parameters cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BadParams;

/// Takes a whole stream of names and values apart (FastCGI 1.0, 3.4).
pub(super) fn decode_params(bytes: Vec<u8>, max_pairs: usize) -> Result<Params, BadParams> {
    let mut pairs = Vec::with_capacity(32);
    let mut at = 0;
    while at < bytes.len() {
        let (name, value) = pair(&bytes, &mut at)?;
        if pairs.len() == max_pairs {
            return Err(BadParams);
        }
        pairs.push((name, value));
    }
    Ok(Params::from_ranges(bytes, pairs))
}

fn pair(bytes: &[u8], at: &mut usize) -> Result<(Range<usize>, Range<usize>), BadParams> {
    let (name, value) = (length(bytes, at)?, length(bytes, at)?);
    // Looked at before anything is allocated: a length is whatever a peer says.
    let (start, middle) = (*at, at.checked_add(name).ok_or(BadParams)?);
    let end = middle
        .checked_add(value)
        .filter(|end| *end <= bytes.len())
        .ok_or(BadParams)?;
    *at = end;
    Ok((start..middle, middle..end))
}

fn length(bytes: &[u8], at: &mut usize) -> Result<usize, BadParams> {
    let (length, width) = match bytes.get(*at..).unwrap_or_default() {
        [short @ 0..=0x7f, ..] => (usize::from(*short), 1),
        [a, b, c, d, ..] => {
            let long = u32::from_be_bytes([a & 0x7f, *b, *c, *d]);
            (usize::try_from(long).map_err(|_| BadParams)?, 4)
        }
        _ => return Err(BadParams),
    };
    *at += width;
    Ok(length)
}

/// Answers what the server asks about us (FastCGI 1.0, 4.1); what it asks beyond that is left out.
pub(super) fn push_values(out: &mut Vec<u8>, question: &[u8], max_connections: usize) {
    let mut answer = Vec::new();
    let mut at = 0;
    while at < question.len() {
        let Ok((name, _)) = pair(question, &mut at) else {
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
    push_record(out, Kind::GetValuesResult, 0, &answer);
}

#[cfg(test)]
mod tests {
    use super::*;

    type Pair = (Vec<u8>, Vec<u8>);

    fn pairs(bytes: &[u8]) -> Result<Vec<Pair>, BadParams> {
        let params = decode_params(bytes.to_vec(), 1000)?;
        Ok(params
            .iter()
            .map(|(name, value)| (name.to_vec(), value.to_vec()))
            .collect())
    }

    #[test]
    fn names_and_values_are_bytes_of_any_length_in_their_order() {
        assert_eq!(pairs(b"").unwrap(), []);
        let long = vec![b'v'; 100_000];
        let mut bytes = b"\x01\x02a\xff\xfe\x00\x00\x01\x00b".to_vec();
        bytes.extend_from_slice(b"\x01\x80\x01\x86\xa0a");
        bytes.extend_from_slice(&long);
        let expected = [
            (b"a".to_vec(), b"\xff\xfe".to_vec()),
            (vec![], vec![]),
            (b"b".to_vec(), vec![]),
            (b"a".to_vec(), long),
        ];
        assert_eq!(pairs(&bytes).unwrap(), expected);
    }

    #[test]
    fn lengths_that_lie_are_found_out_before_anything_is_allocated() {
        for bytes in [
            &b"\x01"[..],
            b"\x01\x02ab",
            b"\x80\x00",
            b"\xff\xff\xff\xff\x01aaaaaaaaaaaaaaaa",
            b"\x01\xff\xff\xff\xffa",
        ] {
            assert_eq!(pairs(bytes), Err(BadParams), "{bytes:?}");
        }
        assert!(decode_params(vec![0; 2002], 1000).is_err());
        assert!(decode_params(vec![0; 2000], 1000).is_ok());
    }

    #[test]
    fn a_large_response_is_cut_into_records() {
        let mut out = Vec::new();
        push_response(
            &mut out,
            7,
            &Response::text(vec![b'x'; 200_000]),
            false,
            &[],
            EndStatus::RequestComplete,
        );
        let (mut at, mut content, mut kinds) = (0, 0, Vec::new());
        while let Some(header) = Header::parse(&out[at..]).unwrap() {
            assert_eq!(header.record() % 8, 0);
            kinds.push(header.kind);
            content += if header.kind == Kind::Stdout {
                header.content
            } else {
                0
            };
            at += header.record();
        }
        assert_eq!(
            (at, kinds.len(), kinds.last()),
            (out.len(), 6, Some(&Kind::EndRequest))
        );
        assert!(content > 200_000);
    }

    #[test]
    fn only_known_questions_are_answered_and_broken_ones_do_no_harm() {
        let mut out = Vec::new();
        push_values(
            &mut out,
            b"\x0e\x00FCGI_MAX_CONNS\x01\x00x\x0f\x00FCGI_MPXS_CONNS\xff\xff",
            64,
        );
        assert_eq!(
            &out[8..],
            b"\x0e\x02FCGI_MAX_CONNS64\x0f\x01FCGI_MPXS_CONNS0\0\0\0\0"
        );
    }
}
