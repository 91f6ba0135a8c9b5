//! What values mean: each kind read from text and shown again.

use std::ffi::OsStr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::HeaderName;

use super::choice::{ClearSiteData, ErrorLog, FreeSpace, IdFrom, Named, Secure};
use super::networks::Networks;
use super::secret::{HIDDEN, Secret, without_passwords};

/// The longest key, in bytes of UTF-8.
pub const MAX_KEY_LENGTH: usize = 128;
/// The longest name of an application, in bytes, as in lemon.session.
const MAX_NAME: usize = 255;
/// Before a module's reserved name. Alone it is the name of the library's own notes.
pub(crate) const RESERVED: char = '@';

/// The longest time, in seconds: 100 years. Times far beyond it are no times for clocks and file systems.
pub(crate) const MAX_TIME: u64 = 100 * 366 * 24 * 3600;

const TIME_UNITS: [(char, u64); 4] = [('d', 24 * 3600), ('h', 3600), ('m', 60), ('s', 1)];
const SIZE_UNITS: [(char, u64); 3] = [('g', 1 << 30), ('m', 1 << 20), ('k', 1 << 10)];

/// How values of a kind are read and shown, and what is said of a text that is none.
pub(super) struct Kind<T> {
    read: fn(&OsStr) -> Option<T>,
    show: fn(&T) -> String,
    wrong: &'static str,
}

impl<T> Kind<T> {
    pub(super) fn read(&self, value: &OsStr) -> Result<T, &'static str> {
        (self.read)(value).ok_or(self.wrong)
    }

    pub(super) fn show(&self, value: &T) -> String {
        (self.show)(value)
    }
}

/// One of the names of a type.
pub(super) const fn choice<T: Named>() -> Kind<T> {
    Kind {
        read: |value| {
            // A list may be written without blanks.
            let is = |name: &str| value == name || value == name.replace(", ", ",").as_str();
            let chosen = T::NAMES.iter().find(|(name, _)| is(name));
            chosen.map(|(_, value)| *value)
        },
        show: |value| {
            let chosen = T::NAMES.iter().find(|(_, choice)| choice == value);
            chosen.map_or("", |(name, _)| name).to_owned()
        },
        wrong: T::WRONG,
    }
}

pub(super) const SESSIONS: Kind<u64> = Kind {
    read: |value| whole(value, 0..=u64::MAX - 1),
    show: u64::to_string,
    wrong: "must be a number of sessions, or 0 for no cap",
};
pub(super) const RATE: Kind<u64> = Kind {
    wrong: "must be a number of bytes per second, or 0 for any",
    ..SESSIONS
};
pub(super) const RECORD_BYTES: Kind<usize> = Kind {
    read: |value| whole(value, 256..=1 << 30),
    show: usize::to_string,
    wrong: "must be a number of bytes from 256 to 1073741824",
};
pub(super) const KEY_LENGTH: Kind<usize> = Kind {
    read: |value| whole(value, 1..=MAX_KEY_LENGTH as u64),
    show: usize::to_string,
    wrong: "must be a number of bytes from 1 to 128",
};
pub(super) const FORM_FIELDS: Kind<usize> = Kind {
    read: |value| whole(value, 1..=1_000_000),
    show: usize::to_string,
    wrong: "must be a number of fields from 1 to 1000000",
};
pub(super) const BUFFER: Kind<usize> = Kind {
    read: |value| usize::try_from(size(value.to_str()?).filter(|bytes| *bytes <= 1 << 30)?).ok(),
    show: |bytes| shown(*bytes as u64, &SIZE_UNITS, 1),
    wrong: "must be a number of bytes such as 64k or 1m, at most 1g",
};
pub(super) const FREE_SPACE: Kind<FreeSpace> = Kind {
    read: |value| match value.to_str()?.strip_suffix('%') {
        Some(percent) => whole(percent.as_ref(), 0..=100).map(FreeSpace::Percent),
        None => size(value.to_str()?).map(FreeSpace::Bytes),
    },
    show: |space| match space {
        FreeSpace::Bytes(bytes) => bytes.to_string(),
        FreeSpace::Percent(percent) => format!("{percent}%"),
    },
    wrong: "must be free space such as 100M or 5%, or 0 for none",
};
pub(super) const PROBABILITY: Kind<f64> = Kind {
    read: |value| {
        let probability = value.to_str()?.parse().ok()?;
        (0.0..=1.0).contains(&probability).then_some(probability)
    },
    show: f64::to_string,
    wrong: "must be a number from 0 to 1",
};
pub(super) const BOOLEAN: Kind<bool> = Kind {
    read: |value| match value.to_str()?.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Some(true),
        "false" | "no" | "off" | "0" => Some(false),
        _ => None,
    },
    show: bool::to_string,
    wrong: "must be true or false",
};
pub(super) const SECURE: Kind<Secure> = Kind {
    read: |value| match (BOOLEAN.read)(value) {
        None => (value == "auto").then_some(Secure::Auto),
        Some(true) => Some(Secure::Always),
        Some(false) => Some(Secure::Never),
    },
    show: |secure| match secure {
        Secure::Auto => "auto".to_owned(),
        secure => (*secure == Secure::Always).to_string(),
    },
    wrong: "must be auto, true or false",
};
pub(super) const SHARDS: Kind<u16> = Kind {
    read: |value| whole(value, 1..=256).filter(|shards| [1, 256].contains(shards)),
    show: u16::to_string,
    wrong: "must be 1 or 256",
};
pub(super) const TIME: Kind<Duration> = Kind {
    read: |value| duration(value)?,
    show: |time| shown(time.as_secs(), &TIME_UNITS, 2),
    wrong: "not a time of more than nothing and at most 100 years: write 30 (minutes), 90s, 2h or 7d",
};
/// A time, of which 0 is none.
pub(super) const OPTIONAL_TIME: Kind<Option<Duration>> = Kind {
    read: duration,
    show: |time| time.as_ref().map_or_else(|| "0".to_owned(), TIME.show),
    wrong: "not a time of at most 100 years: write 30 (minutes), 90s, 2h or 7d",
};
pub(super) const MAX_AGE: Kind<Option<Duration>> = Kind {
    read: |value| match value.to_str()? {
        "none" => Some(None),
        _ => (TIME.read)(value).map(Some),
    },
    show: |time| time.as_ref().map_or_else(|| "none".to_owned(), TIME.show),
    wrong: TIME.wrong,
};
pub(super) const PATH: Kind<Option<PathBuf>> = Kind {
    read: |value| {
        let path = Path::new(value);
        let is_plain = path.is_absolute() && !has_comment(&value.to_string_lossy());
        is_plain.then(|| Some(path.to_owned()))
    },
    show: |path| {
        path.as_ref()
            .map_or_else(String::new, |path| path.display().to_string())
    },
    wrong: "must be an absolute path, as it stands, without quotes",
};
pub(super) const PASSWORD: Kind<Option<Secret>> = Kind {
    read: |value| {
        let given = Some(value.to_str()?).filter(|it| !it.is_empty());
        Some(given.map(Secret::new))
    },
    show: |password| password.as_ref().map_or("", |_| HIDDEN).to_owned(),
    wrong: "is not UTF-8",
};
pub(super) const DATABASE: Kind<Option<Secret>> = Kind {
    show: |url| {
        url.as_ref()
            .map_or_else(String::new, |url| without_passwords(url.reveal()))
    },
    ..PASSWORD
};
/// A token of RFC 9110, 5.6.2: what a cookie's name may be (RFC 6265, 4.1.1).
pub(super) const TOKEN: Kind<String> = Kind {
    read: |value| {
        named(value, 256, |c| {
            c.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&c)
        })
    },
    show: String::clone,
    wrong: "must be a token: letters, digits and !#$%&'*+-.^_`|~, at most 256",
};
pub(super) const TABLE: Kind<String> = Kind {
    read: |value| named(value, 63, |c| c.is_ascii_alphanumeric() || c == b'_'),
    show: String::clone,
    wrong: "must be letters, digits and _, at most 63",
};
pub(super) const COOKIE_PATH: Kind<String> = Kind {
    read: |value| {
        let path = named(value, 1024, |c| (0x20..0x7f).contains(&c) && c != b';')?;
        (path.starts_with('/') && !has_comment(&path)).then_some(path)
    },
    show: String::clone,
    wrong: "must begin with / and hold no ; and no control characters",
};
pub(super) const COOKIE_DOMAIN: Kind<Option<String>> = Kind {
    read: |value| match value.to_str()? {
        "" | "none" => Some(None),
        host => {
            let mut labels = host.strip_prefix('.').unwrap_or(host).split('.');
            (host.len() <= 253 && labels.all(is_label)).then(|| Some(host.to_owned()))
        }
    },
    show: |domain| domain.clone().unwrap_or_default(),
    wrong: "must be a host name such as example.org",
};
pub(super) const APPLICATION: Kind<String> = Kind {
    read: |value| {
        let name = value.to_str()?;
        invalid_name_reason(name).is_none().then(|| name.to_owned())
    },
    show: String::clone,
    wrong: "must be at most 255 bytes without control characters, and not begin with @, which marks reserved names",
};
/// `cookie`, or a list of it with `query` and `form`; or `header:` with a name.
pub(super) const ID_FROM: Kind<IdFrom> = Kind {
    read: |value| {
        if let Some(name) = value.to_str()?.strip_prefix("header:") {
            return Some(IdFrom {
                header: Some(id_header(name)?),
                ..IdFrom::default()
            });
        }
        match listed(value, ["cookie", "query", "form"])? {
            [true, query, form] => Some(IdFrom {
                query,
                form,
                header: None,
            }),
            _ => None,
        }
    },
    show: |from| match &from.header {
        Some(name) => format!("header:{name}"),
        None => list(["cookie", "query", "form"], [true, from.query, from.form]),
    },
    wrong: "must be cookie, a list of cookie, query, form, or header: and a name such as X-Session-Id, of letters, \
        digits and -, that HTTP and CGI have no other use for",
};
pub(super) const NETWORKS: Kind<Networks> = Kind {
    read: |value| Networks::parse(value.to_str()?),
    show: Networks::to_string,
    wrong: "must be a list of addresses and networks such as 10.0.0.0/8, ::1",
};
pub(super) const CLEAR_SITE_DATA: Kind<ClearSiteData> = Kind {
    read: |value| {
        let [cache, cookies, storage] = listed(value, ["cache", "cookies", "storage"])?;
        Some(ClearSiteData {
            cache,
            cookies,
            storage,
        })
    },
    show: |data| {
        let set = [data.cache, data.cookies, data.storage];
        list(["cache", "cookies", "storage"], set)
    },
    wrong: "must be a list of cache, cookies, storage, or empty",
};
pub(super) const ERROR_LOG: Kind<ErrorLog> = Kind {
    read: |value| match listed(value, ["stderr", "server"])? {
        [false, false] => None,
        [stderr, server] => Some(ErrorLog { stderr, server }),
    },
    show: |log| list(["stderr", "server"], [log.stderr, log.server]),
    wrong: "must be a list of stderr, server",
};

/// A header field that may carry ids. CGI makes one variable of names that differ in `-` and `_`, and responses
/// have the field, too.
fn id_header(name: &str) -> Option<HeaderName> {
    const TAKEN: &str = "age allow alt-svc cache-control clear-site-data connection cookie date etag expect \
        expires forwarded from host keep-alive last-modified link location max-forwards origin pragma proxy range \
        referer referrer-policy refresh retry-after script-control server set-cookie status \
        strict-transport-security te trailer transfer-encoding upgrade user-agent vary via warning \
        www-authenticate x-csrf-token x-frame-options x-lighttpd-send-file x-real-ip x-sendfile \
        x-sendfile2";
    const TAKEN_BEGINNINGS: [&str; 9] = [
        "accept",
        "access-control-",
        "content-",
        "if-",
        "proxy-",
        "sec-",
        "variable-",
        "x-accel-",
        "x-forwarded-",
    ];
    let is_good = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    let name = named(name.as_ref(), 64, is_good)?.to_ascii_lowercase();
    let is_taken = TAKEN.split(' ').any(|taken| taken == name)
        || name.ends_with("authorization")
        || TAKEN_BEGINNINGS.iter().any(|taken| name.starts_with(taken));
    HeaderName::try_from(name).ok().filter(|_| !is_taken)
}

/// Whether this is a part of a host name (RFC 1123, 2.1).
fn is_label(label: &str) -> bool {
    let is_good = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    let is_inside = !label.starts_with('-') && !label.ends_with('-');
    (1..=63).contains(&label.len()) && is_inside && label.bytes().all(is_good)
}

/// A text of at least one and at most `longest` bytes, all of which are allowed.
fn named(value: &OsStr, longest: usize, is_allowed: impl Fn(u8) -> bool) -> Option<String> {
    let name = value.to_str()?;
    let is_good = (1..=longest).contains(&name.len()) && name.bytes().all(is_allowed);
    is_good.then(|| name.to_owned())
}

/// Digits, and nothing else: no sign, and not those of other scripts. More than fit are the largest number.
fn digits(text: &str) -> Option<u64> {
    let are_digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    are_digits.then(|| text.parse().unwrap_or(u64::MAX))
}

fn whole<T: TryFrom<u64>>(value: &OsStr, range: RangeInclusive<u64>) -> Option<T> {
    let number = digits(value.to_str()?).filter(|number| range.contains(number));
    number.and_then(|number| T::try_from(number).ok())
}

/// A number with the letter of a unit behind it, or of `unit`.
fn scaled(text: &str, units: &[(char, u64)], unit: u64) -> Option<u64> {
    let mut suffixes = units.iter();
    let found = suffixes.find_map(|(letter, unit)| Some((text.strip_suffix(*letter)?, *unit)));
    let (amount, unit) = found.unwrap_or((text, unit));
    Some(digits(amount)?.saturating_mul(unit))
}

/// An amount in the largest unit of which it is at least `least`, and whole.
fn shown(amount: u64, units: &[(char, u64)], least: u64) -> String {
    let fits = |unit: u64| unit == 1 || amount >= least * unit && amount.is_multiple_of(unit);
    match units.iter().find(|(_, unit)| fits(*unit)) {
        Some((letter, unit)) => format!("{}{letter}", amount / unit),
        None => amount.to_string(),
    }
}

/// A number of bytes, with a suffix K, M or G in either case.
fn size(text: &str) -> Option<u64> {
    let bytes = scaled(&text.to_ascii_lowercase(), &SIZE_UNITS, 1);
    bytes.filter(|bytes| *bytes < u64::MAX)
}

/// A time span; nothing (`0`) is `Some(None)`.
#[expect(clippy::option_option, reason = "the setting itself is optional")]
fn duration(value: &OsStr) -> Option<Option<Duration>> {
    match scaled(value.to_str()?, &TIME_UNITS, 60)? {
        0 => Some(None),
        seconds @ 1..=MAX_TIME => Some(Some(Duration::from_secs(seconds))),
        _ => None,
    }
}

/// Which of these names a list holds; `None` when it holds others.
fn listed<const N: usize>(value: &OsStr, names: [&str; N]) -> Option<[bool; N]> {
    let mut found = [false; N];
    let words = value.to_str()?.split([',', ' ']);
    for word in words.filter(|word| !word.is_empty()) {
        found[names.iter().position(|name| *name == word)?] = true;
    }
    Some(found)
}

fn list<const N: usize>(names: [&str; N], is_set: [bool; N]) -> String {
    let set = names.iter().zip(is_set).filter(|(_, is_set)| *is_set);
    set.map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}

/// Whether a value holds what some readers take for a comment.
pub(super) fn has_comment(value: &str) -> bool {
    let mut pairs = value.as_bytes().windows(2);
    pairs.any(|pair| matches!(pair, [b' ' | b'\t', b'#' | b';']))
}

/// Why a text cannot be the name of an application.
pub(crate) fn invalid_name_reason(name: &str) -> Option<&'static str> {
    if name.len() > MAX_NAME {
        Some("must be at most 255 bytes")
    } else if name.chars().any(char::is_control) {
        Some("must hold no control characters")
    } else if name.starts_with(RESERVED) {
        Some("must not begin with @, which marks reserved names")
    } else {
        None
    }
}
