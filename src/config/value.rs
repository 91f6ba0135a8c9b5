//! What values mean: each kind read from text and shown again.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use super::secret::Secret;
use super::{ErrorLog, FreeSpace, IdFrom, Secure};
use crate::record::{MAX_KEY_LENGTH, invalid_name_reason};

fn text(text: &OsStr) -> Result<&str, String> {
    text.to_str().ok_or_else(|| "is not UTF-8".to_owned())
}

pub(super) fn secret(value: &OsStr) -> Result<Option<Secret>, String> {
    Ok(Some(text(value)?)
        .filter(|text| !text.is_empty())
        .map(Secret::new))
}

pub(super) fn one_of<T: Copy>(choices: &[(&str, T)], value: &OsStr) -> Result<T, String> {
    let chosen = choices.iter().find(|(name, _)| value == *name);
    chosen.map(|(_, value)| *value).ok_or_else(|| {
        let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
        format!("must be one of {}", names.join(", "))
    })
}

pub(super) fn name_of<T: Copy + PartialEq>(choices: &[(&str, T)], value: T) -> String {
    let chosen = choices.iter().find(|(_, choice)| *choice == value);
    chosen
        .map(|(name, _)| (*name).to_owned())
        .unwrap_or_default()
}

pub(super) fn boolean(value: &OsStr) -> Result<bool, String> {
    match text(value)?.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Ok(true),
        "false" | "no" | "off" | "0" => Ok(false),
        _ => Err("must be true or false".to_owned()),
    }
}

pub(super) fn secure(value: &OsStr) -> Result<Secure, String> {
    if value == "auto" {
        return Ok(Secure::Auto);
    }
    let always = boolean(value).map_err(|_| "must be auto, true or false".to_owned())?;
    Ok(if always {
        Secure::Always
    } else {
        Secure::Never
    })
}

/// Digits, and nothing else: no sign, and not those of other scripts. `None` when they are too many, too.
fn digits<T: FromStr>(text: &str) -> Option<T> {
    let are_digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| are_digits)
}

pub(super) fn number(value: &OsStr, meaning: &str) -> Result<u64, String> {
    digits(text(value)?).ok_or_else(|| format!("must be {meaning}"))
}

pub(super) fn record_bytes(value: &OsStr) -> Result<usize, String> {
    const MEANING: &str = "a number of bytes from 256 to 1073741824";
    let bytes = number(value, MEANING)?;
    let in_range = (256..=1 << 30).contains(&bytes);
    usize::try_from(bytes)
        .ok()
        .filter(|_| in_range)
        .ok_or_else(|| format!("must be {MEANING}"))
}

pub(super) fn key_length(value: &OsStr) -> Result<usize, String> {
    digits(text(value)?)
        .filter(|length| (1..=MAX_KEY_LENGTH).contains(length))
        .ok_or_else(|| format!("must be a number of bytes from 1 to {MAX_KEY_LENGTH}"))
}

pub(super) fn form_fields(value: &OsStr) -> Result<usize, String> {
    digits(text(value)?)
        .filter(|fields| (1..=1_000_000).contains(fields))
        .ok_or_else(|| "must be a number of fields from 1 to 1000000".to_owned())
}

/// A number of bytes, with a suffix K, M or G in either case.
fn size(text: &str) -> Option<u64> {
    let (amount, unit) = match text.char_indices().next_back() {
        Some((at, 'K' | 'k')) => (&text[..at], 1 << 10),
        Some((at, 'M' | 'm')) => (&text[..at], 1 << 20),
        Some((at, 'G' | 'g')) => (&text[..at], 1 << 30),
        _ => (text, 1),
    };
    digits::<u64>(amount)?.checked_mul(unit)
}

/// Bytes, or a part of the file system.
pub(super) fn free_space(value: &OsStr) -> Result<FreeSpace, String> {
    let value = text(value)?;
    let space = match value.strip_suffix('%') {
        Some(percent) => digits(percent)
            .filter(|percent| *percent <= 100)
            .map(FreeSpace::Percent),
        None => size(value).map(|bytes| match bytes {
            0 => FreeSpace::Any,
            bytes => FreeSpace::Bytes(bytes),
        }),
    };
    space.ok_or_else(|| "must be free space such as 100M or 5%, or 0 for none".to_owned())
}

/// The size of a buffer.
pub(super) fn buffer(value: &OsStr) -> Result<usize, String> {
    let bytes = size(text(value)?).filter(|bytes| *bytes <= 1 << 30);
    let bytes = bytes.and_then(|bytes| usize::try_from(bytes).ok());
    bytes.ok_or_else(|| "must be a number of bytes such as 64k or 1m, at most 1g".to_owned())
}

pub(super) fn show_buffer(bytes: usize) -> String {
    [(1 << 30, 'g'), (1 << 20, 'm'), (1 << 10, 'k')]
        .into_iter()
        .find(|(unit, _)| bytes >= *unit && bytes.is_multiple_of(*unit))
        .map_or_else(
            || bytes.to_string(),
            |(unit, suffix)| format!("{}{suffix}", bytes / unit),
        )
}

pub(super) fn show_free_space(space: FreeSpace) -> String {
    match space {
        FreeSpace::Any => "0".to_owned(),
        FreeSpace::Bytes(bytes) => bytes.to_string(),
        FreeSpace::Percent(percent) => format!("{percent}%"),
    }
}

pub(super) fn probability(value: &OsStr) -> Result<f64, String> {
    let parsed = text(value)?.parse().ok();
    parsed
        .filter(|p| (0.0..=1.0).contains(p))
        .ok_or_else(|| "must be a number from 0 to 1".to_owned())
}

/// A time span; nothing (`0`) is `None`.
pub(super) fn duration(value: &OsStr) -> Result<Option<Duration>, String> {
    const LONGEST: u64 = 100 * 366 * 24 * 3600;
    let value = text(value)?;
    let (digits, unit) = match value.char_indices().next_back() {
        Some((at, 's')) => (&value[..at], 1),
        Some((at, 'm')) => (&value[..at], 60),
        Some((at, 'h')) => (&value[..at], 3600),
        Some((at, 'd')) => (&value[..at], 24 * 3600),
        _ => (value, 60),
    };
    if digits.is_empty() || !digits.bytes().all(|c| c.is_ascii_digit()) {
        return Err("not a time: write 30 (minutes), 90s, 2h or 7d".to_owned());
    }
    let seconds = digits.parse::<u64>().ok().and_then(|n| n.checked_mul(unit));
    match seconds {
        Some(0) => Ok(None),
        Some(seconds) if seconds <= LONGEST => Ok(Some(Duration::from_secs(seconds))),
        _ => Err("must be at most 100 years".to_owned()),
    }
}

pub(super) fn positive(value: &OsStr) -> Result<Duration, String> {
    duration(value)?.ok_or_else(|| "must be more than nothing".to_owned())
}

pub(super) fn show_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    [(24 * 3600, 'd'), (3600, 'h'), (60, 'm')]
        .into_iter()
        .find(|(unit, _)| seconds >= 2 * unit && seconds.is_multiple_of(*unit))
        .map_or_else(
            || format!("{seconds}s"),
            |(unit, suffix)| format!("{}{suffix}", seconds / unit),
        )
}

pub(super) fn show_optional(duration: Option<Duration>, none: &str) -> String {
    duration.map_or_else(|| none.to_owned(), show_duration)
}

/// Whether a value ends with what is meant as a comment, as some other readers take it.
pub(super) fn has_comment(value: &str) -> bool {
    [" #", "\t#", " ;", "\t;"]
        .iter()
        .any(|sign| value.contains(sign))
}

pub(super) fn absolute(value: &OsStr) -> Result<PathBuf, String> {
    let path = Path::new(value);
    if path.is_absolute() && !has_comment(&value.to_string_lossy()) {
        Ok(path.to_owned())
    } else {
        Err("must be an absolute path, as it stands, without quotes".to_owned())
    }
}

pub(super) fn show_path(path: Option<&Path>) -> String {
    path.map(|path| path.display().to_string())
        .unwrap_or_default()
}

/// A token of RFC 9110, 5.6.2: what a cookie's name may be (RFC 6265, 4.1.1).
pub(super) fn token(value: &OsStr) -> Result<String, String> {
    let name = text(value)?;
    let allowed = |c: u8| c.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&c);
    if name.is_empty() || name.len() > 256 || !name.bytes().all(allowed) {
        return Err("must be a token: letters, digits and !#$%&'*+-.^_`|~, at most 256".to_owned());
    }
    Ok(name.to_owned())
}

pub(super) fn cookie_path(value: &OsStr) -> Result<String, String> {
    let path = text(value)?;
    let is_plain = path.bytes().all(is_attribute_byte) && !has_comment(path);
    if !path.starts_with('/') || path.len() > 1024 || !is_plain {
        return Err("must begin with / and hold no ; and no control characters".to_owned());
    }
    Ok(path.to_owned())
}

pub(super) fn cookie_domain(value: &OsStr) -> Result<Option<String>, String> {
    let domain = text(value)?;
    if domain.is_empty() || domain == "none" {
        return Ok(None);
    }
    let allowed = |c: u8| c.is_ascii_alphanumeric() || c == b'-' || c == b'.';
    if domain.len() > 253 || !domain.bytes().all(allowed) {
        return Err("must be a host name".to_owned());
    }
    Ok(Some(domain.to_owned()))
}

fn is_attribute_byte(byte: u8) -> bool {
    (0x20..0x7f).contains(&byte) && byte != b';'
}

pub(super) fn application(value: &OsStr) -> Result<String, String> {
    let name = text(value)?;
    match invalid_name_reason(name) {
        None => Ok(name.to_owned()),
        Some(reason) => Err(reason.to_owned()),
    }
}

/// `cookie`, or a list of it with `query` and `form`.
pub(super) fn id_from(value: &OsStr) -> Result<IdFrom, String> {
    let [cookie, query, form] = listed(value, ["cookie", "query", "form"])?;
    if cookie {
        Ok(IdFrom { query, form })
    } else {
        Err("must be cookie, or a list of cookie, query, form".to_owned())
    }
}

/// `stderr`, `server`, or both.
pub(super) fn error_log(value: &OsStr) -> Result<ErrorLog, String> {
    let [stderr, server] = listed(value, ["stderr", "server"])?;
    if stderr || server {
        Ok(ErrorLog { stderr, server })
    } else {
        Err("must be a list of stderr, server".to_owned())
    }
}

pub(super) fn show_error_log(log: ErrorLog) -> String {
    let names = [(log.stderr, "stderr"), (log.server, "server")];
    let names = names
        .into_iter()
        .filter_map(|(is_set, name)| is_set.then_some(name));
    names.collect::<Vec<_>>().join(", ")
}

/// Which of these names a list holds.
fn listed<const N: usize>(value: &OsStr, names: [&str; N]) -> Result<[bool; N], String> {
    let mut found = [false; N];
    let list = text(value)?.split([',', ' ']);
    for word in list.filter(|word| !word.is_empty()) {
        match names.iter().position(|name| *name == word) {
            Some(at) => found[at] = true,
            None => return Err(format!("must be a list of {}", names.join(", "))),
        }
    }
    Ok(found)
}

pub(super) fn show_id_from(from: IdFrom) -> String {
    let query = if from.query { ", query" } else { "" };
    let form = if from.form { ", form" } else { "" };
    format!("cookie{query}{form}")
}

pub(super) fn table(value: &OsStr) -> Result<String, String> {
    let name = text(value)?;
    let allowed = |c: u8| c.is_ascii_alphanumeric() || c == b'_';
    if name.is_empty() || name.len() > 63 || !name.bytes().all(allowed) {
        return Err("must be letters, digits and _, at most 63".to_owned());
    }
    Ok(name.to_owned())
}
