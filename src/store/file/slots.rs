//! The two slots of a session file: bytes in, bytes out, no system call.
//!
//! ```text
//! bytes [0, cap)        '[' env0 ' '... '\n'
//! bytes [cap, 2*cap)    ',' env1 ' '... ']'        env1 = null in a fresh file
//! env   {"g":GGGGGGGGGGGGGGGGGGGG,"h":"HHHHHHHHHHHHHHHH","s":"SSSSSSSSSSSSSSSS","n":NNNNNNNNNN,"d":DATA}
//! ```
//!
//! `g` is the generation, `n` the length of DATA, both right-aligned with spaces; `h` is the XXH3-64
//! of the session's digest (64 characters), the 20 characters of `g`, the 10 of `n`, and DATA. The
//! digest is in it, so that a file copied over another session's name is a damaged file. `s` is the
//! seed of the hash, 64 random bits that the file keeps as long as it exists: without knowing them
//! no client can craft records of which a mixture has the right checksum.

use xxhash_rust::xxh3::Xxh3;

use crate::id::{SessionDigest, hex};
use crate::record::Record;

/// Where DATA begins in a slot.
pub(super) const DATA: usize = 92;
/// What a slot needs beyond its DATA.
pub(super) const OVERHEAD: usize = 94;

const GENERATION: std::ops::Range<usize> = 6..26;
const HASH: std::ops::Range<usize> = 32..48;
const SEED: std::ops::Range<usize> = 55..71;
const LENGTH: std::ops::Range<usize> = 77..87;

/// One of the two places in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SlotPosition {
    First,
    Second,
}

impl SlotPosition {
    pub(super) fn other(self) -> Self {
        match self {
            SlotPosition::First => SlotPosition::Second,
            SlotPosition::Second => SlotPosition::First,
        }
    }

    /// Where this place begins in a file whose slots hold `cap` bytes.
    pub(super) fn start(self, cap: usize) -> usize {
        match self {
            SlotPosition::First => 0,
            SlotPosition::Second => cap,
        }
    }

    fn brackets(self) -> (u8, u8) {
        match self {
            SlotPosition::First => (b'[', b'\n'),
            SlotPosition::Second => (b',', b']'),
        }
    }
}

/// Where a record is: in which slot of which size, as which generation, under which seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The size of a slot.
    pub(super) cap: usize,
    pub(super) slot: SlotPosition,
    pub(super) generation: u64,
    pub(super) seed: u64,
}

impl Place {
    /// Where the next record goes; `None` after the last generation.
    pub(super) fn next(self) -> Option<Self> {
        Some(Place {
            slot: self.slot.other(),
            generation: self.generation.checked_add(1)?,
            ..self
        })
    }

    pub(super) fn start(self) -> u64 {
        self.slot.start(self.cap) as u64
    }
}

/// What the first bytes of a slot say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    /// Nothing was ever written here.
    Fresh,
    Written(Header),
    /// A commit was interrupted here, or is under way.
    Torn,
}

/// The fixed part of a written slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) generation: u64,
    pub(super) length: usize,
    /// Both as they are written, which the checksum covers.
    fields: ([u8; 20], [u8; 10]),
    hash: [u8; 16],
    seed: [u8; 16],
}

impl Header {
    /// The seed, if `data` is what was written with this header under this name.
    pub(super) fn matches(&self, digest: &SessionDigest, data: &[u8]) -> Option<u64> {
        let seed = hex_number(&self.seed)?;
        let (g, n) = &self.fields;
        let is_whole = data.len() == self.length && checksum(digest, seed, g, n, data) == self.hash;
        is_whole.then_some(seed)
    }
}

/// Reads the beginning of a slot: at least [`DATA`] bytes.
pub(super) fn parse(bytes: &[u8], place: SlotPosition, cap: usize) -> Slot {
    if place == SlotPosition::Second && bytes.starts_with(b",null ") {
        return Slot::Fresh;
    }
    header(bytes, place, cap).map_or(Slot::Torn, Slot::Written)
}

/// Whether a file's first bytes may be the beginning of one, however few they are.
pub(super) fn may_begin(bytes: &[u8]) -> bool {
    bytes
        .iter()
        .zip(b"[{\"g\":")
        .all(|(read, begin)| read == begin)
}

fn header(bytes: &[u8], place: SlotPosition, cap: usize) -> Option<Header> {
    let bytes: &[u8; DATA] = bytes.get(..DATA)?.try_into().ok()?;
    let fixed = bytes[0] == place.brackets().0
        && bytes[1..6] == *b"{\"g\":"
        && bytes[26..32] == *b",\"h\":\""
        && bytes[48..55] == *b"\",\"s\":\""
        && bytes[71..77] == *b"\",\"n\":"
        && bytes[87..] == *b",\"d\":";
    if !fixed {
        return None;
    }
    let fields: ([u8; 20], [u8; 10]) = (
        bytes[GENERATION].try_into().ok()?,
        bytes[LENGTH].try_into().ok()?,
    );
    let header = Header {
        generation: aligned_number(&fields.0)?,
        length: usize::try_from(aligned_number(&fields.1)?).ok()?,
        fields,
        seed: bytes[SEED].try_into().ok()?,
        hash: bytes[HASH].try_into().ok()?,
    };
    (header.length.checked_add(OVERHEAD)? <= cap).then_some(header)
}

/// Spaces alone before it: in the checksum the field is what a number is written as.
fn aligned_number(mut field: &[u8]) -> Option<u64> {
    while let Some(rest) = field.strip_prefix(b"        ") {
        field = rest;
    }
    let blank = field.iter().position(|byte| *byte != b' ')?;
    let digits = field.get(blank..)?;
    if matches!(digits, [b'0', _, ..]) {
        return None;
    }
    digits.iter().try_fold(0u64, |number, digit| {
        let digit = digit.is_ascii_digit().then(|| digit - b'0')?;
        number.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

/// Lower-case digits alone: the checksum does not cover them, so that each number has one spelling.
fn hex_number(digits: &[u8; 16]) -> Option<u64> {
    digits.iter().try_fold(0, |number, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u64::from(digit))
    })
}

/// Whether a slot begins as before the checksum had a seed. No version that was released wrote it.
pub(super) fn is_unseeded(bytes: &[u8]) -> bool {
    matches!(bytes.first(), Some(b'[' | b','))
        && [
            (1, &b"{\"g\":"[..]),
            (26, b",\"h\":\""),
            (48, b"\",\"n\":"),
            (64, b",\"d\":"),
        ]
        .into_iter()
        .all(|(at, fixed)| bytes.get(at..).is_some_and(|rest| rest.starts_with(fixed)))
}

/// The size of a slot for `length` bytes of DATA: half as much again, in whole `unit`s.
pub(super) fn capacity(length: usize, unit: usize) -> usize {
    let need = length + OVERHEAD;
    (need + need / 2).next_multiple_of(unit)
}

/// A record that is about to be written: its JSON text behind the room for a slot's head.
pub(super) struct Draft(Vec<u8>);

impl Draft {
    /// In a buffer for a slot of about this size.
    pub(super) fn new(record: &Record, cap: usize) -> Self {
        let mut text = Vec::with_capacity(cap);
        text.resize(DATA, b' ');
        record.write_json(&mut text);
        Draft(text)
    }

    /// The length of the JSON text.
    pub(super) fn length(&self) -> usize {
        self.0.len() - DATA
    }

    /// A slot as it is written; `None` when the record does not fit.
    pub(super) fn slot(self, digest: &SessionDigest, place: Place) -> Option<Vec<u8>> {
        let fits = self.length() + OVERHEAD <= place.cap;
        fits.then(|| seal(self.0, digest, place))
    }
}

fn seal(mut slot: Vec<u8>, digest: &SessionDigest, place: Place) -> Vec<u8> {
    let (open, close) = place.slot.brackets();
    let (head, data) = slot.split_at_mut(DATA);
    let (g, n) = (decimal(place.generation), decimal(data.len() as u64));
    let hash = checksum(digest, place.seed, &g, &n, data);
    head.copy_from_slice(
        b"[{\"g\":                    ,\"h\":\"                \",\"s\":\"                \",\"n\":          ,\"d\":",
    );
    head[0] = open;
    head[GENERATION].copy_from_slice(&g);
    head[LENGTH].copy_from_slice(&n);
    head[HASH].copy_from_slice(&hash);
    hex(&place.seed.to_be_bytes(), &mut head[SEED]);
    slot.push(b'}');
    slot.resize(place.cap - 1, b' ');
    slot.push(close);
    slot
}

/// A whole new file: the record in the first place, nothing in the second.
pub(super) fn encode_new_file(
    digest: &SessionDigest,
    seed: u64,
    generation: u64,
    unit: usize,
    record: &Record,
) -> (Vec<u8>, Place) {
    let draft = Draft::new(record, 2 * capacity(record.values().len() + 128, unit));
    let place = Place {
        cap: capacity(draft.length(), unit),
        slot: SlotPosition::First,
        generation,
        seed,
    };
    let mut file = seal(draft.0, digest, place);
    file.extend_from_slice(b",null");
    file.resize(2 * place.cap - 1, b' ');
    file.push(b']');
    (file, place)
}

/// The hash as it is written: 16 hexadecimal digits.
fn checksum(
    digest: &SessionDigest,
    seed: u64,
    generation: &[u8; 20],
    length: &[u8; 10],
    data: &[u8],
) -> [u8; 16] {
    let mut hash = Xxh3::with_seed(seed);
    hash.update(digest.as_bytes());
    hash.update(generation);
    hash.update(length);
    hash.update(data);
    let mut text = [0; 16];
    hex(&hash.digest().to_be_bytes(), &mut text);
    text
}

/// A number right-aligned with spaces: leading zeros would not be JSON.
fn decimal<const WIDTH: usize>(mut value: u64) -> [u8; WIDTH] {
    let mut field = [b' '; WIDTH];
    for place in field.iter_mut().rev() {
        *place = b'0' + u8::try_from(value % 10).unwrap_or_default();
        value /= 10;
        if value == 0 {
            break;
        }
    }
    field
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    const SEED: u64 = 0x0123_4567_89ab_cdef;

    fn digest() -> SessionDigest {
        SessionDigest::parse(&[b'a'; 64]).unwrap()
    }

    fn record(values: &str) -> Record {
        Record::new(UNIX_EPOCH).with_values(values.as_bytes().to_vec())
    }

    /// A slot of 512 bytes.
    fn slot(slot: SlotPosition, generation: u64, record: &Record) -> Vec<u8> {
        let (cap, seed) = (512, SEED);
        let place = Place {
            cap,
            slot,
            generation,
            seed,
        };
        Draft::new(record, cap).slot(&digest(), place).unwrap()
    }

    /// What is in a slot, if its checksum is right under the name of `digest`.
    fn read<'a>(slot: &'a [u8], at: SlotPosition, digest: &SessionDigest) -> Option<&'a [u8]> {
        let Slot::Written(header) = parse(slot, at, 512) else {
            return None;
        };
        let data = &slot[DATA..DATA + header.length];
        header.matches(digest, data).map(|_| data)
    }

    #[test]
    fn a_slot_is_read_as_it_was_written_under_its_own_name_and_in_its_own_place() {
        let record = record(r#"{"":{"a":"b"}}"#);
        let other = SessionDigest::parse(&[b'b'; 64]).unwrap();
        for at in [SlotPosition::First, SlotPosition::Second] {
            let slot = slot(at, u64::MAX, &record);
            assert_eq!(slot.len(), 512);
            assert_eq!(read(&slot, at, &digest()), Some(&*record.to_json()));
            assert_eq!(read(&slot, at, &other), None);
            assert_eq!(parse(&slot, at.other(), 512), Slot::Torn);
        }
    }

    #[test]
    fn no_flipped_bit_of_header_or_data_passes_for_the_original() {
        let record = record(r#"{"":{"a":1}}"#);
        let original = slot(SlotPosition::First, 7, &record);
        for at in 0..DATA + record.json_len() {
            for bit in 0..8 {
                let mut slot = original.clone();
                slot[at] ^= 1 << bit;
                let passed = read(&slot, SlotPosition::First, &digest());
                assert_eq!(passed, None, "bit {bit} of byte {at}");
            }
        }
    }

    #[test]
    fn nothing_but_spaces_stands_before_a_number() {
        for at in [GENERATION.start, LENGTH.start] {
            for blank in [b'\t', b'\n', b'\r', 0x0c] {
                let mut slot = slot(SlotPosition::First, 7, &record("{}"));
                slot[at] = blank;
                assert_eq!(parse(&slot, SlotPosition::First, 512), Slot::Torn);
            }
        }
    }
}
