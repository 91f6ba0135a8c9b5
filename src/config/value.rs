//! What values mean: each kind read from text and shown again.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use super::secret::Secret;
use super::{FreeSpace, IdFrom, Secure};
use crate::applications::name_fault;
use crate::values::MAX_KEY_LENGTH;

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

/// Bytes, with a suffix K, M or G, or a part of the file system.
pub(super) fn free_space(value: &OsStr) -> Result<FreeSpace, String> {
    const MEANING: &str = "must be free space such as 100M or 5%, or 0 for none";
    let value = text(value)?;
    let bad = || MEANING.to_owned();
    if let Some(percent) = value.strip_suffix('%') {
        let percent = digits(percent).filter(|percent| *percent <= 100);
        return percent.map(FreeSpace::Percent).ok_or_else(bad);
    }
    let (amount, unit) = match value.char_indices().next_back() {
        Some((at, 'K')) => (&value[..at], 1 << 10),
        Some((at, 'M')) => (&value[..at], 1 << 20),
        Some((at, 'G')) => (&value[..at], 1 << 30),
        _ => (value, 1),
    };
    let bytes = digits::<u64>(amount)
        .and_then(|n| n.checked_mul(unit))
        .ok_or_else(bad)?;
    Ok(if bytes == 0 {
        FreeSpace::Any
    } else {
        FreeSpace::Bytes(bytes)
    })
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
    match name_fault(name) {
        None => Ok(name.to_owned()),
        Some(reason) => Err(reason.to_owned()),
    }
}

/// `cookie`, or a list of it with `query` and `form`.
pub(super) fn id_from(value: &OsStr) -> Result<IdFrom, String> {
    const MEANING: &str = "must be cookie, or a list of cookie, query, form";
    let list = text(value)?.split([',', ' ']);
    let mut from = IdFrom::default();
    let mut has_cookie = false;
    for source in list.filter(|source| !source.is_empty()) {
        match source {
            "cookie" => has_cookie = true,
            "query" => from.query = true,
            "form" => from.form = true,
            _ => return Err(MEANING.to_owned()),
        }
    }
    if has_cookie {
        Ok(from)
    } else {
        Err(MEANING.to_owned())
    }
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
