//! The records of a web server: what a connection reads out of them.
//!
//! Tries to have a parameter or a byte of a body lost, changed, or given to another request. What an
//! independent encoder has put into records arrives exactly, wherever records and reads cut it and
//! however they are padded; of bytes that are no such records, at least every cut reads the same.

/// What a socket takes at once, with nobody at its other end who reads, however small its pieces are.
const LONGEST: usize = 32 << 10;

/// A request as it arrives: the parameters in their order, and the body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arrived {
    /// Names and values.
    pub params: Vec<(Vec<u8>, Vec<u8>)>,
    /// All of the body.
    pub body: Vec<u8>,
}

/// Sends bytes as they are or, after the byte 1, requests that follow the bytes; `read` is a
/// connection that gets them in these pieces.
///
/// # Panics
///
/// When something else arrives than was sent.
pub fn check(bytes: &[u8], read: impl Fn(&[&[u8]]) -> Vec<Arrived>) {
    if let Some((1, script)) = bytes.split_first()
        && let Some((cuts, script)) = script.split_at_checked(2)
    {
        let (sent, records) = requests(script);
        if records.len() > LONGEST {
            return;
        }
        assert_eq!(read(&[&records]), sent, "in one piece");
        assert_eq!(read(&pieces(&records, cuts)), sent, "in pieces");
    } else {
        let cuts = bytes.get(..2).unwrap_or(&[1, 9]);
        assert_eq!(
            read(&pieces(bytes, cuts)),
            read(&[bytes]),
            "in pieces and in one"
        );
    }
}

/// The bytes that a connection gets for this input.
#[must_use]
pub fn sent(bytes: &[u8]) -> Vec<u8> {
    match bytes {
        [1, _, _, script @ ..] => requests(script).1,
        other => other.to_vec(),
    }
}

/// The bytes in pieces whose lengths alternate; what is behind so many of them is the last.
#[must_use]
pub fn pieces<'b>(bytes: &'b [u8], cuts: &[u8]) -> Vec<&'b [u8]> {
    let mut lengths = cuts.iter().map(|cut| 1 + usize::from(*cut)).cycle();
    let mut rest = bytes;
    let mut pieces = Vec::new();
    while !rest.is_empty() {
        let length = if pieces.len() < 64 {
            lengths.next()
        } else {
            None
        };
        let length = length.unwrap_or(rest.len()).min(rest.len());
        let (piece, others) = rest.split_at(length);
        pieces.push(piece);
        rest = others;
    }
    pieces
}

/// The requests that a script asks for, on one connection, and the records that say so.
///
/// Each request begins with three bytes: the number of its parameters, the length of the content of its
/// records, the padding. A parameter is two lengths and its bytes; the rest up to the next byte 255
/// is the body.
fn requests(script: &[u8]) -> (Vec<Arrived>, Vec<u8>) {
    let (mut sent, mut records) = (Vec::new(), Vec::new());
    let mut rest = script;
    while let [count, size, padding, following @ ..] = rest {
        rest = following;
        let mut request = Arrived::default();
        for _ in 0..count % 8 {
            let [name, value, bytes @ ..] = rest else {
                break;
            };
            let name = usize::from(*name).min(bytes.len());
            let (name, bytes) = bytes.split_at(name);
            let (value, bytes) = bytes.split_at(usize::from(*value).min(bytes.len()));
            rest = bytes;
            // What the length of a body is, the records say, and not a parameter.
            if !name.eq_ignore_ascii_case(b"CONTENT_LENGTH") {
                request.params.push((name.to_vec(), value.to_vec()));
            }
        }
        let end = rest
            .iter()
            .position(|byte| *byte == 255)
            .unwrap_or(rest.len());
        request.body = rest[..end].to_vec();
        rest = rest.get(end + 1..).unwrap_or_default();
        encode(&request, 1 + usize::from(*size), *padding, &mut records);
        sent.push(request);
    }
    (sent, records)
}

/// Appends the records of a request, on a connection that is kept (FastCGI 1.0, 3.3 and 3.4).
fn encode(request: &Arrived, size: usize, padding: u8, records: &mut Vec<u8>) {
    record(1, &[0, 1, 1, 0, 0, 0, 0, 0], padding, records);
    let mut params = Vec::new();
    for (name, value) in &request.params {
        for part in [name, value] {
            let length = u32::try_from(part.len()).unwrap_or_default();
            // A short length may be written as a long one, too.
            if length > 127 || padding % 2 == 1 {
                params.extend((length | 1 << 31).to_be_bytes());
            } else {
                params.push(length.to_be_bytes()[3]);
            }
        }
        params.extend_from_slice(name);
        params.extend_from_slice(value);
    }
    for (kind, bytes) in [(4, &params), (5, &request.body)] {
        for chunk in bytes.chunks(size) {
            record(kind, chunk, padding, records);
        }
        record(kind, &[], padding, records);
    }
}

fn record(kind: u8, content: &[u8], padding: u8, records: &mut Vec<u8>) {
    let [high, low] = u16::try_from(content.len())
        .unwrap_or_default()
        .to_be_bytes();
    records.extend([1, kind, 0, 1, high, low, padding, 0]);
    records.extend_from_slice(content);
    records.resize(records.len() + usize::from(padding), 0xee);
}
