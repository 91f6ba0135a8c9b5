//! What values mean: each kind read from text and shown again.

use std::ffi::OsStr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::choice::{ErrorLog, FreeSpace, IdFrom, Named, Secure};
use super::names::{MAX_KEY_LENGTH, invalid_name_reason};
use super::secret::{HIDDEN, Secret, without_passwords};

/// The longest time, in seconds: 100 years. Times far beyond it are no times for clocks and file systems.
pub(crate) const MAX_TIME: u64 = 100 * 366 * 24 * 3600;

const TIME_UNITS: [(char, u64); 4] = [('d', 24 * 3600), ('h', 3600), ('m', 60), ('s', 1)];
const SIZE_UNITS: [(char, u64); 3] = [('g', 1 << 30), ('m', 1 << 20), ('k', 1 << 10)];

/// How values of a kind are read and shown.
pub(super) struct Kind<T> {
    pub(super) read: fn(&OsStr) -> Result<T, String>,
    pub(super) show: fn(&T) -> String,
}

/// One of the names of a type.
pub(super) const fn choice<T: Named>() -> Kind<T> {
    Kind {
        read: |value| {
            let chosen = T::NAMES.iter().find(|(name, _)| value == *name);
            chosen.map(|(_, value)| *value).ok_or_else(|| {
                let names: Vec<_> = T::NAMES.iter().map(|(name, _)| *name).collect();
                format!("must be one of {}", names.join(", "))
            })
        },
        show: |value| {
            let chosen = T::NAMES.iter().find(|(_, choice)| choice == value);
            chosen.map_or("", |(name, _)| name).to_owned()
        },
    }
}

pub(super) const SESSIONS: Kind<u64> = Kind {
    read: |value| {
        whole(
            value,
            0..=u64::MAX - 1,
            "a number of sessions, or 0 for no cap",
        )
    },
    show: u64::to_string,
};
pub(super) const RATE: Kind<u64> = Kind {
    read: |value| {
        whole(
            value,
            0..=u64::MAX - 1,
            "a number of bytes per second, or 0 for any",
        )
    },
    show: u64::to_string,
};
pub(super) const RECORD_BYTES: Kind<usize> = Kind {
    read: |value| {
        whole(
            value,
            256..=1 << 30,
            "a number of bytes from 256 to 1073741824",
        )
    },
    show: usize::to_string,
};
pub(super) const KEY_LENGTH: Kind<usize> = Kind {
    read: |value| {
        whole(
            value,
            1..=MAX_KEY_LENGTH as u64,
            "a number of bytes from 1 to 128",
        )
    },
    show: usize::to_string,
};
pub(super) const FORM_FIELDS: Kind<usize> = Kind {
    read: |value| whole(value, 1..=1_000_000, "a number of fields from 1 to 1000000"),
    show: usize::to_string,
};
/// The size of a buffer.
pub(super) const BUFFER: Kind<usize> = Kind {
    read: |value| {
        let bytes = size(text(value)?).filter(|bytes| *bytes <= 1 << 30);
        let bytes = bytes.and_then(|bytes| usize::try_from(bytes).ok());
        bytes.ok_or_else(|| "must be a number of bytes such as 64k or 1m, at most 1g".to_owned())
    },
    show: |bytes| shown(*bytes as u64, &SIZE_UNITS, 1),
};
/// Bytes, or a part of the file system.
pub(super) const FREE_SPACE: Kind<FreeSpace> = Kind {
    read: |value| {
        let value = text(value)?;
        let space = match value.strip_suffix('%') {
            Some(percent) => digits(percent)
                .and_then(|percent| u8::try_from(percent).ok())
                .filter(|percent| *percent <= 100)
                .map(FreeSpace::Percent),
            None => size(value).map(|bytes| match bytes {
                0 => FreeSpace::Any,
                bytes => FreeSpace::Bytes(bytes),
            }),
        };
        space.ok_or_else(|| "must be free space such as 100M or 5%, or 0 for none".to_owned())
    },
    show: |space| match space {
        FreeSpace::Any => "0".to_owned(),
        FreeSpace::Bytes(bytes) => bytes.to_string(),
        FreeSpace::Percent(percent) => format!("{percent}%"),
    },
};
pub(super) const PROBABILITY: Kind<f64> = Kind {
    read: |value| {
        let parsed = text(value)?.parse().ok();
        let parsed = parsed.filter(|p| (0.0..=1.0).contains(p));
        parsed.ok_or_else(|| "must be a number from 0 to 1".to_owned())
    },
    show: f64::to_string,
};
pub(super) const BOOLEAN: Kind<bool> = Kind {
    read: |value| match text(value)?.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Ok(true),
        "false" | "no" | "off" | "0" => Ok(false),
        _ => Err("must be true or false".to_owned()),
    },
    show: bool::to_string,
};
pub(super) const SECURE: Kind<Secure> = Kind {
    read: |value| match (BOOLEAN.read)(value) {
        _ if value == "auto" => Ok(Secure::Auto),
        Ok(true) => Ok(Secure::Always),
        Ok(false) => Ok(Secure::Never),
        Err(_) => Err("must be auto, true or false".to_owned()),
    },
    show: |secure| {
        let name = match secure {
            Secure::Auto => "auto",
            Secure::Always => "true",
            Secure::Never => "false",
        };
        name.to_owned()
    },
};
pub(super) const SHARDS: Kind<u16> = Kind {
    read: |value| match value.to_str() {
        Some("1") => Ok(1),
        Some("256") => Ok(256),
        _ => Err("must be 1 or 256".to_owned()),
    },
    show: u16::to_string,
};
pub(super) const TIME: Kind<Duration> = Kind {
    read: |value| duration(value)?.ok_or_else(|| "must be more than nothing".to_owned()),
    show: |time| shown(time.as_secs(), &TIME_UNITS, 2),
};
/// A time, of which 0 is none.
pub(super) const OPTIONAL_TIME: Kind<Option<Duration>> = Kind {
    read: duration,
    show: |time| time.as_ref().map_or_else(|| "0".to_owned(), TIME.show),
};
pub(super) const MAX_AGE: Kind<Option<Duration>> = Kind {
    read: |value| match value.to_str() {
        Some("none") => Ok(None),
        _ => (TIME.read)(value).map(Some),
    },
    show: |time| time.as_ref().map_or_else(|| "none".to_owned(), TIME.show),
};
pub(super) const PATH: Kind<Option<PathBuf>> = Kind {
    read: |value| {
        let path = Path::new(value);
        let is_plain = path.is_absolute() && !has_comment(&value.to_string_lossy());
        is_plain
            .then(|| Some(path.to_owned()))
            .ok_or_else(|| "must be an absolute path, as it stands, without quotes".to_owned())
    },
    show: |path| {
        path.as_ref()
            .map_or_else(String::new, |path| path.display().to_string())
    },
};
pub(super) const PASSWORD: Kind<Option<Secret>> = Kind {
    read: |value| Ok(filled(value)?.map(Secret::new)),
    show: |password| password.as_ref().map_or("", |_| HIDDEN).to_owned(),
};
pub(super) const DATABASE: Kind<Option<Secret>> = Kind {
    read: PASSWORD.read,
    show: |url| {
        url.as_ref()
            .map_or_else(String::new, |url| without_passwords(url.reveal()))
    },
};
/// A token of RFC 9110, 5.6.2: what a cookie's name may be (RFC 6265, 4.1.1).
pub(super) const TOKEN: Kind<String> = Kind {
    read: |value| {
        let is_allowed = |c: u8| c.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&c);
        let reason = "a token: letters, digits and !#$%&'*+-.^_`|~, at most 256";
        named(value, 256, is_allowed, reason)
    },
    show: String::clone,
};
pub(super) const TABLE: Kind<String> = Kind {
    read: |value| {
        let is_allowed = |c: u8| c.is_ascii_alphanumeric() || c == b'_';
        named(value, 63, is_allowed, "letters, digits and _, at most 63")
    },
    show: String::clone,
};
pub(super) const COOKIE_PATH: Kind<String> = Kind {
    read: |value| {
        let reason = "a path that begins with / and holds no ; and no control characters";
        let is_allowed = |c: u8| (0x20..0x7f).contains(&c) && c != b';';
        let path = named(value, 1024, is_allowed, reason)?;
        let is_path = path.starts_with('/') && !has_comment(&path);
        is_path
            .then_some(path)
            .ok_or_else(|| format!("must be {reason}"))
    },
    show: String::clone,
};
pub(super) const COOKIE_DOMAIN: Kind<Option<String>> = Kind {
    read: |value| {
        let is_allowed = |c: u8| c.is_ascii_alphanumeric() || b"-.".contains(&c);
        match filled(value)? {
            None | Some("none") => Ok(None),
            Some(_) => named(value, 253, is_allowed, "a host name").map(Some),
        }
    },
    show: |domain| domain.clone().unwrap_or_default(),
};
pub(super) const APPLICATION: Kind<String> = Kind {
    read: |value| {
        let name = text(value)?;
        invalid_name_reason(name)
            .map_or_else(|| Ok(name.to_owned()), |reason| Err(reason.to_owned()))
    },
    show: String::clone,
};
/// `cookie`, or a list of it with `query` and `form`.
pub(super) const ID_FROM: Kind<IdFrom> = Kind {
    read: |value| match listed(value, ["cookie", "query", "form"])? {
        [true, query, form] => Ok(IdFrom { query, form }),
        _ => Err("must be cookie, or a list of cookie, query, form".to_owned()),
    },
    show: |from| list(["cookie", "query", "form"], [true, from.query, from.form]),
};
/// `stderr`, `server`, or both.
pub(super) const ERROR_LOG: Kind<ErrorLog> = Kind {
    read: |value| match listed(value, ["stderr", "server"])? {
        [false, false] => Err("must be a list of stderr, server".to_owned()),
        [stderr, server] => Ok(ErrorLog { stderr, server }),
    },
    show: |log| list(["stderr", "server"], [log.stderr, log.server]),
};

fn text(text: &OsStr) -> Result<&str, String> {
    text.to_str().ok_or_else(|| "is not UTF-8".to_owned())
}

fn filled(value: &OsStr) -> Result<Option<&str>, String> {
    Ok(Some(text(value)?).filter(|text| !text.is_empty()))
}

/// A text of at least one and at most `longest` bytes, all of which are allowed.
fn named(
    value: &OsStr,
    longest: usize,
    is_allowed: impl Fn(u8) -> bool,
    meaning: &str,
) -> Result<String, String> {
    let name = text(value)?;
    let is_good = (1..=longest).contains(&name.len()) && name.bytes().all(is_allowed);
    is_good
        .then(|| name.to_owned())
        .ok_or_else(|| format!("must be {meaning}"))
}

/// Digits, and nothing else: no sign, and not those of other scripts. More than fit are the largest number.
fn digits(text: &str) -> Option<u64> {
    let are_digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    are_digits.then(|| text.parse().unwrap_or(u64::MAX))
}

fn whole<T: TryFrom<u64>>(
    value: &OsStr,
    range: RangeInclusive<u64>,
    meaning: &str,
) -> Result<T, String> {
    let number = digits(text(value)?).filter(|number| range.contains(number));
    let number = number.and_then(|number| T::try_from(number).ok());
    number.ok_or_else(|| format!("must be {meaning}"))
}

/// A number with the letter of a unit behind it, or of `unit`.
fn scaled(text: &str, units: &[(char, u64)], unit: u64) -> Option<u64> {
    let found = units
        .iter()
        .find_map(|(letter, unit)| Some((text.strip_suffix(*letter)?, *unit)));
    let (amount, unit) = found.unwrap_or((text, unit));
    Some(digits(amount)?.saturating_mul(unit))
}

/// An amount in the largest unit of which it is at least `least`, and whole.
fn shown(amount: u64, units: &[(char, u64)], least: u64) -> String {
    let fits = |unit: u64| unit == 1 || amount >= least * unit && amount.is_multiple_of(unit);
    let found = units.iter().find(|(_, unit)| fits(*unit));
    found.map_or_else(
        || amount.to_string(),
        |(letter, unit)| format!("{}{letter}", amount / unit),
    )
}

/// A number of bytes, with a suffix K, M or G in either case.
fn size(text: &str) -> Option<u64> {
    scaled(&text.to_ascii_lowercase(), &SIZE_UNITS, 1).filter(|bytes| *bytes < u64::MAX)
}

/// A time span; nothing (`0`) is `None`.
fn duration(value: &OsStr) -> Result<Option<Duration>, String> {
    match scaled(text(value)?, &TIME_UNITS, 60) {
        None => Err("not a time: write 30 (minutes), 90s, 2h or 7d".to_owned()),
        Some(0) => Ok(None),
        Some(seconds) if seconds <= MAX_TIME => Ok(Some(Duration::from_secs(seconds))),
        Some(_) => Err("must be at most 100 years".to_owned()),
    }
}

/// Which of these names a list holds.
fn listed<const N: usize>(value: &OsStr, names: [&str; N]) -> Result<[bool; N], String> {
    let mut found = [false; N];
    let words = text(value)?.split([',', ' ']);
    for word in words.filter(|word| !word.is_empty()) {
        match names.iter().position(|name| *name == word) {
            Some(at) => found[at] = true,
            None => return Err(format!("must be a list of {}", names.join(", "))),
        }
    }
    Ok(found)
}

fn list<const N: usize>(names: [&str; N], is_set: [bool; N]) -> String {
    let set = names.iter().zip(is_set).filter(|(_, is_set)| *is_set);
    let names: Vec<_> = set.map(|(name, _)| *name).collect();
    names.join(", ")
}

/// Whether a value holds what some readers take for a comment.
pub(super) fn has_comment(value: &str) -> bool {
    [" #", "\t#", " ;", "\t;"]
        .iter()
        .any(|sign| value.contains(sign))
}
