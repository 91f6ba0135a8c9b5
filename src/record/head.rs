//! [`Head`]: all of a record but its values, and how it is read and written as JSON.

use std::fmt;
use std::ops::Range;

use memchr::arch::all::memchr::{Three, Two};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::values::Unique;

/// The version of the format that this library writes.
const VERSION: u64 = 1;

/// Everything but the values.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Head {
    pub(super) created: u64,
    pub(super) numbers: [Option<u64>; NUMBERS.len()],
    pub(super) texts: [Option<String>; TEXTS.len()],
    pub(super) is_private: bool,
    /// Members of a later release, as they are to be written: `,"name":value`.
    pub(super) unknown: Vec<u8>,
}

const HEAD: &str = "{\"v\":1,\"created\":";
// The names with what stands around them.
const NUMBERS: [&str; 9] = [
    ",\"expires\":",
    ",\"timeout\":",
    ",\"idle\":",
    ",\"lifetime\":",
    ",\"sent\":",
    ",\"changed\":",
    ",\"tries\":",
    ",\"cookieLife\":",
    ",\"confirmed\":",
];
const TEXTS: [&str; 4] = [
    ",\"before\":",
    ",\"first\":",
    ",\"user\":",
    ",\"replaced\":",
];
const PRIVATE: &str = ",\"private\":true";
const VALUES: &str = ",\"values\":";

pub(super) const EXPIRES: usize = 0;
pub(super) const TIMEOUT: usize = 1;
pub(super) const IDLE: usize = 2;
pub(super) const LIFETIME: usize = 3;
pub(super) const SENT: usize = 4;
pub(super) const CHANGED: usize = 5;
pub(super) const TRIES: usize = 6;
pub(super) const COOKIE_LIFE: usize = 7;
pub(super) const CONFIRMED: usize = 8;
pub(super) const BEFORE: usize = 0;
pub(super) const FIRST: usize = 1;
pub(super) const USER: usize = 2;
pub(super) const REPLACED: usize = 3;

/// Why a text is not a record.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecordError {
    /// A later release of this library wrote it, in this version of the format.
    LaterVersion(u64),
    /// It is not a record at all.
    Malformed(String),
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecordError::LaterVersion(version) => {
                write!(f, "the record is of a later version, {version}")
            }
            RecordError::Malformed(reason) => write!(f, "no record: {reason}"),
        }
    }
}

impl std::error::Error for RecordError {}

impl Head {
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(HEAD.as_bytes());
        push_number(out, self.created);
        for (name, value) in NUMBERS.iter().zip(self.numbers) {
            if let Some(value) = value {
                out.extend_from_slice(name.as_bytes());
                push_number(out, value);
            }
        }
        for (name, value) in TEXTS.iter().zip(&self.texts) {
            if let Some(value) = value {
                out.extend_from_slice(name.as_bytes());
                push_text(out, value);
            }
        }
        if self.is_private {
            out.extend_from_slice(PRIVATE.as_bytes());
        }
        out.extend_from_slice(&self.unknown);
        out.extend_from_slice(VALUES.as_bytes());
    }
}

/// Reads the head as this library writes it, without looking at the values behind it: the store's
/// checksum has vouched for them, and they are parsed when a program asks for one.
pub(super) fn canonical_head(text: &[u8]) -> Option<(Box<Head>, Range<usize>)> {
    let (created, mut rest) = number(text.strip_prefix(HEAD.as_bytes())?)?;
    let mut head = Box::<Head>::default();
    head.created = created;
    for (name, slot) in NUMBERS.iter().zip(&mut head.numbers) {
        if let Some(after) = behind_name(rest, name) {
            let (value, after) = number(after)?;
            (*slot, rest) = (Some(value), after);
        }
    }
    for (name, slot) in TEXTS.iter().zip(&mut head.texts) {
        if let Some(after) = behind_name(rest, name) {
            let (text, after) = plain_text(after)?;
            (*slot, rest) = (Some(text.to_owned()), after);
        }
    }
    if let Some(after) = behind_name(rest, PRIVATE) {
        (head.is_private, rest) = (true, after);
    }
    let values = rest.strip_prefix(VALUES.as_bytes())?;
    let end = text.len().checked_sub(1)?;
    let shaped = values.ends_with(b"}}") && is_one_object(values.get(..values.len() - 1)?);
    shaped.then_some((head, text.len() - values.len()..end))
}

/// What stands behind a member's name. Mostly the first letter tells that it is another's.
fn behind_name<'a>(rest: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let name = name.as_bytes();
    let may_be = rest.get(2) == name.get(2);
    may_be.then(|| rest.strip_prefix(name)).flatten()
}

/// Whether a text is one object to its end, and not one with further members of the record behind it.
fn is_one_object(text: &[u8]) -> bool {
    if !text.starts_with(b"{") {
        return false;
    }
    // Mostly nothing but brackets stands behind the first that closes.
    let closing = text.iter().rev().take_while(|byte| **byte == b'}').count();
    if !has_closing(&text[..text.len() - closing]) {
        return true;
    }
    let (sign, mut depth, mut rest) = (Three::new(b'"', b'{', b'}'), 0_usize, text);
    while let Some(at) = sign.find(rest) {
        let found = rest.get(at);
        rest = rest.get(at + 1..).unwrap_or_default();
        match found {
            Some(b'"') => rest = behind_string(rest),
            Some(b'{') => depth += 1,
            _ if depth == 1 => return rest.is_empty(),
            _ => depth -= 1,
        }
    }
    false
}

// Here and above without a look at what the processor can do: behind a hypervisor that costs more than it gains.
fn has_closing(text: &[u8]) -> bool {
    #[cfg(target_arch = "x86_64")]
    if let Some(sign) = memchr::arch::x86_64::sse2::memchr::One::new(b'}') {
        return sign.find(text).is_some();
    }
    text.contains(&b'}')
}

/// What stands behind a JSON string that has begun.
fn behind_string(mut rest: &[u8]) -> &[u8] {
    let sign = Two::new(b'"', b'\\');
    while let Some(at) = sign.find(rest) {
        if rest.get(at) == Some(&b'"') {
            return rest.get(at + 1..).unwrap_or_default();
        }
        // Whatever is escaped ends nothing.
        rest = rest.get(at + 2..).unwrap_or_default();
    }
    &[]
}

/// A number without leading zeros, and what follows it.
fn number(text: &[u8]) -> Option<(u64, &[u8])> {
    let (mut value, mut rest) = (0_u64, text);
    while let [digit @ b'0'..=b'9', after @ ..] = rest {
        value = value
            .checked_mul(10)?
            .checked_add(u64::from(digit - b'0'))?;
        rest = after;
    }
    let is_canonical = match text.len() - rest.len() {
        0 => false,
        1 => true,
        _ => !text.starts_with(b"0"),
    };
    is_canonical.then_some((value, rest))
}

/// A JSON string in which nothing is escaped, and what follows it.
fn plain_text(text: &[u8]) -> Option<(&str, &[u8])> {
    let text = text.strip_prefix(b"\"")?;
    let end = text.iter().position(|byte| *byte == b'"')?;
    let (inside, rest) = text.split_at(end);
    let is_plain = inside.iter().all(|byte| *byte >= b' ' && *byte != b'\\');
    let inside = std::str::from_utf8(inside).ok().filter(|_| is_plain)?;
    Some((inside, rest.strip_prefix(b"\"")?))
}

/// Reads any JSON text of the right meaning: another order, white space, members of a later release.
#[cold]
pub(super) fn general_head(text: &[u8]) -> Result<(Box<Head>, Range<usize>), RecordError> {
    #[derive(Deserialize)]
    struct Version {
        v: u64,
    }
    let malformed = |error: serde_json::Error| RecordError::Malformed(error.to_string());
    let Version { v } = serde_json::from_slice(text).map_err(malformed)?;
    if v != VERSION {
        return Err(RecordError::LaterVersion(v));
    }
    let Unique(members) = serde_json::from_slice::<Unique<&RawValue>>(text).map_err(malformed)?;
    let (mut head, mut created, mut values) = (Box::<Head>::default(), None, None);
    for (name, value) in &members {
        let value = value.get();
        let number = || serde_json::from_str::<Option<u64>>(value).map_err(malformed);
        let is_this = |known: &&str| known.trim_matches([',', '"', ':']) == name;
        let position = |names: &[&str]| names.iter().position(is_this);
        if let Some(at) = position(&NUMBERS) {
            head.numbers[at] = number()?;
        } else if let Some(at) = position(&TEXTS) {
            head.texts[at] = serde_json::from_str(value).map_err(malformed)?;
        } else {
            match &**name {
                "v" => {}
                "created" => created = number()?,
                "private" => head.is_private = serde_json::from_str(value).map_err(malformed)?,
                "values" => values = Some(value),
                _ => {
                    head.unknown.push(b',');
                    push_text(&mut head.unknown, name);
                    head.unknown.push(b':');
                    head.unknown.extend_from_slice(value.as_bytes());
                }
            }
        }
    }
    let missing = |name: &str| RecordError::Malformed(format!("there is no {name}"));
    head.created = created.ok_or_else(|| missing("created"))?;
    let values = values.ok_or_else(|| missing("values"))?;
    if !values.starts_with('{') {
        return Err(RecordError::Malformed("values is not an object".to_owned()));
    }
    let start = values.as_ptr().addr() - text.as_ptr().addr();
    Ok((head, start..start + values.len()))
}

fn push_number(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

// A Vec takes every write.
fn push_text(out: &mut Vec<u8>, text: &str) {
    let _ = serde_json::to_writer(out, text);
}
