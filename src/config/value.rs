//! The table of keys: how each is read from text and shown again.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cookie::SameSite;

use super::secret::{HIDDEN, Secret, without_passwords};
use super::{CacheLimiter, Config, Durability, FreeSpace, IdFrom, Secure, StorageType, WhenFull};
use crate::applications::name_fault;
use crate::values::MAX_KEY_LENGTH;

/// One key of section `[session]`.
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) set: fn(&mut Config, &OsStr) -> Result<(), String>,
    pub(super) show: fn(&Config) -> String,
}

const STORAGE_TYPES: [(&str, StorageType); 8] = [
    ("file", StorageType::File),
    ("ram", StorageType::Ram),
    ("cookie", StorageType::Cookie),
    ("custom", StorageType::Custom),
    ("sqlite", StorageType::Sqlite),
    ("mysql", StorageType::Mysql),
    ("postgres", StorageType::Postgres),
    ("redis", StorageType::Redis),
];
const SAME_SITES: [(&str, SameSite); 3] = [
    ("Lax", SameSite::Lax),
    ("Strict", SameSite::Strict),
    ("None", SameSite::None),
];
const WHEN_FULL: [(&str, WhenFull); 2] = [
    ("evictOldest", WhenFull::EvictOldest),
    ("refuse", WhenFull::Refuse),
];
const DURABILITIES: [(&str, Durability); 2] =
    [("none", Durability::None), ("data", Durability::Data)];
const CACHE_LIMITERS: [(&str, CacheLimiter); 4] = [
    ("nocache", CacheLimiter::Nocache),
    ("private", CacheLimiter::Private),
    ("public", CacheLimiter::Public),
    ("none", CacheLimiter::None),
];
const SHARDS: [(&str, u16); 2] = [("1", 1), ("256", 256)];

/// Every key, in the order of the documentation.
pub(super) const KEYS: &[Key] = &[
    Key {
        name: "storageType",
        set: |c, t| one_of(&STORAGE_TYPES, t).map(|v| c.storage_type = v),
        show: |c| name_of(&STORAGE_TYPES, c.storage_type),
    },
    Key {
        name: "storageFileDir",
        set: |c, t| absolute(t).map(|v| c.storage_file_dir = Some(v)),
        show: |c| show_path(c.storage_file_dir.as_deref()),
    },
    Key {
        name: "timeout",
        set: |c, t| positive(t).map(|v| c.timeout = v),
        show: |c| show_duration(c.timeout),
    },
    Key {
        name: "lifetime",
        set: |c, t| duration(t).map(|v| c.lifetime = v),
        show: |c| show_optional(c.lifetime, "0"),
    },
    Key {
        name: "cleanUpDelay",
        set: |c, t| duration(t).map(|v| c.clean_up_delay = v),
        show: |c| show_optional(c.clean_up_delay, "0"),
    },
    Key {
        name: "cleanUpProbability",
        set: |c, t| probability(t).map(|v| c.clean_up_probability = v),
        show: |c| c.clean_up_probability.to_string(),
    },
    Key {
        name: "cookieName",
        set: |c, t| token(t).map(|v| c.cookie_name = v),
        show: |c| c.cookie_name.clone(),
    },
    Key {
        name: "cookiePath",
        set: |c, t| cookie_path(t).map(|v| c.cookie_path = v),
        show: |c| c.cookie_path.clone(),
    },
    Key {
        name: "cookieDomain",
        set: |c, t| cookie_domain(t).map(|v| c.cookie_domain = v),
        show: |c| c.cookie_domain.clone().unwrap_or_default(),
    },
    Key {
        name: "cookieSameSite",
        set: |c, t| one_of(&SAME_SITES, t).map(|v| c.cookie_same_site = v),
        show: |c| name_of(&SAME_SITES, c.cookie_same_site),
    },
    Key {
        name: "cookieHttpOnly",
        set: |c, t| boolean(t).map(|v| c.cookie_http_only = v),
        show: |c| c.cookie_http_only.to_string(),
    },
    Key {
        name: "cookiePartitioned",
        set: |c, t| boolean(t).map(|v| c.cookie_partitioned = v),
        show: |c| c.cookie_partitioned.to_string(),
    },
    Key {
        name: "cookieSecure",
        set: |c, t| secure(t).map(|v| c.cookie_secure = v),
        show: |c| {
            match c.cookie_secure {
                Secure::Auto => "auto",
                Secure::Always => "true",
                Secure::Never => "false",
            }
            .to_owned()
        },
    },
    Key {
        name: "cookieMaxAge",
        set: |c, t| {
            c.cookie_max_age = if t == "none" {
                None
            } else {
                Some(positive(t)?)
            };
            Ok(())
        },
        show: |c| show_optional(c.cookie_max_age, "none"),
    },
    Key {
        name: "lockTimeout",
        set: |c, t| positive(t).map(|v| c.lock_timeout = v),
        show: |c| show_duration(c.lock_timeout),
    },
    Key {
        name: "lockLease",
        set: |c, t| positive(t).map(|v| c.lock_lease = v),
        show: |c| show_duration(c.lock_lease),
    },
    Key {
        name: "maxSessions",
        set: |c, t| number(t, "a number of sessions, or 0 for no cap").map(|v| c.max_sessions = v),
        show: |c| c.max_sessions.to_string(),
    },
    Key {
        name: "whenFull",
        set: |c, t| one_of(&WHEN_FULL, t).map(|v| c.when_full = v),
        show: |c| name_of(&WHEN_FULL, c.when_full),
    },
    Key {
        name: "maxRecordBytes",
        set: |c, t| record_bytes(t).map(|v| c.max_record_bytes = v),
        show: |c| c.max_record_bytes.to_string(),
    },
    Key {
        name: "maxKeyLength",
        set: |c, t| key_length(t).map(|v| c.max_key_length = v),
        show: |c| c.max_key_length.to_string(),
    },
    Key {
        name: "minFreeSpace",
        set: |c, t| free_space(t).map(|v| c.min_free_space = v),
        show: |c| show_free_space(c.min_free_space),
    },
    Key {
        name: "durability",
        set: |c, t| one_of(&DURABILITIES, t).map(|v| c.durability = v),
        show: |c| name_of(&DURABILITIES, c.durability),
    },
    Key {
        name: "app",
        set: |c, t| application(t).map(|v| c.app = v),
        show: |c| c.app.clone(),
    },
    Key {
        name: "cacheLimiter",
        set: |c, t| one_of(&CACHE_LIMITERS, t).map(|v| c.cache_limiter = v),
        show: |c| name_of(&CACHE_LIMITERS, c.cache_limiter),
    },
    Key {
        name: "idFrom",
        set: |c, t| id_from(t).map(|v| c.id_from = v),
        show: |c| show_id_from(c.id_from),
    },
    Key {
        name: "database",
        set: |c, t| secret(t).map(|v| c.database = v),
        show: |c| c.database().map(without_passwords).unwrap_or_default(),
    },
    Key {
        name: "databasePassword",
        set: |c, t| secret(t).map(|v| c.database_password = v),
        show: |c| {
            c.database_password
                .as_ref()
                .map_or("", |_| HIDDEN)
                .to_owned()
        },
    },
    Key {
        name: "databasePasswordFile",
        set: |c, t| absolute(t).map(|v| c.database_password_file = Some(v)),
        show: |c| show_path(c.database_password_file.as_deref()),
    },
    Key {
        name: "databaseCaFile",
        set: |c, t| absolute(t).map(|v| c.database_ca_file = Some(v)),
        show: |c| show_path(c.database_ca_file.as_deref()),
    },
    Key {
        name: "table",
        set: |c, t| table(t).map(|v| c.table = v),
        show: |c| c.table.clone(),
    },
    Key {
        name: "secretKeyFile",
        set: |c, t| absolute(t).map(|v| c.secret_key_file = Some(v)),
        show: |c| show_path(c.secret_key_file.as_deref()),
    },
    Key {
        name: "shards",
        set: |c, t| {
            one_of(&SHARDS, t)
                .map(|v| c.shards = v)
                .map_err(|_| "must be 1 or 256".to_owned())
        },
        show: |c| c.shards.to_string(),
    },
    Key {
        name: "snapshotFile",
        set: |c, t| absolute(t).map(|v| c.snapshot_file = Some(v)),
        show: |c| show_path(c.snapshot_file.as_deref()),
    },
    Key {
        name: "snapshotDelay",
        set: |c, t| positive(t).map(|v| c.snapshot_delay = v),
        show: |c| show_duration(c.snapshot_delay),
    },
];

/// Names that the four older systems used, and what became of them.
const FORMER: &[(&str, &str)] = &[
    (
        "seed",
        "is gone: ids come only from the operating system's random generator",
    ),
    ("comment", "is gone: it belongs to the obsolete RFC 2109"),
    ("version", "is gone: it belongs to the obsolete RFC 2109"),
    ("persistent_session", "is now storageType = file"),
    ("storage", "is now storageType"),
    (
        "expires",
        "is now timeout (idle) or lifetime (absolute); lemon's seconds are written 1440s",
    ),
    ("cleanup", "is now cleanUpProbability"),
    (
        "sessionID",
        "is not a setting: a program gives an id in code",
    ),
    ("path", "is now cookiePath"),
    ("domain", "is now cookieDomain"),
    ("secure", "is now cookieSecure"),
    ("max-age", "is now cookieMaxAge"),
];

/// Why a key is unknown, and what to write instead.
pub(super) fn explain_unknown(key: &str) -> String {
    // lemon.session kept those of its cookie in a dictionary of that name.
    let former = key.strip_prefix("cookie.").unwrap_or(key);
    if let Some((_, fate)) = FORMER.iter().find(|(name, _)| *name == former) {
        return (*fate).to_owned();
    }
    let distance = |name: &str| strsim::levenshtein(&name.to_lowercase(), &key.to_lowercase());
    let nearest = KEYS
        .iter()
        .map(|known| known.name)
        .min_by_key(|name| distance(name));
    match nearest {
        Some(name) if distance(name) <= 1 + name.len() / 3 => {
            format!("unknown key; did you mean {name}?")
        }
        _ => "unknown key; `cgi-session config` lists the keys".to_owned(),
    }
}

fn text(text: &OsStr) -> Result<&str, String> {
    text.to_str().ok_or_else(|| "is not UTF-8".to_owned())
}

fn secret(value: &OsStr) -> Result<Option<Secret>, String> {
    Ok(Some(text(value)?)
        .filter(|text| !text.is_empty())
        .map(Secret::new))
}

fn one_of<T: Copy>(choices: &[(&str, T)], value: &OsStr) -> Result<T, String> {
    let chosen = choices.iter().find(|(name, _)| value == *name);
    chosen.map(|(_, value)| *value).ok_or_else(|| {
        let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
        format!("must be one of {}", names.join(", "))
    })
}

fn name_of<T: Copy + PartialEq>(choices: &[(&str, T)], value: T) -> String {
    let chosen = choices.iter().find(|(_, choice)| *choice == value);
    chosen
        .map(|(name, _)| (*name).to_owned())
        .unwrap_or_default()
}

fn boolean(value: &OsStr) -> Result<bool, String> {
    match text(value)?.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Ok(true),
        "false" | "no" | "off" | "0" => Ok(false),
        _ => Err("must be true or false".to_owned()),
    }
}

fn secure(value: &OsStr) -> Result<Secure, String> {
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

fn number(value: &OsStr, meaning: &str) -> Result<u64, String> {
    text(value)?
        .parse()
        .map_err(|_| format!("must be {meaning}"))
}

fn record_bytes(value: &OsStr) -> Result<usize, String> {
    const MEANING: &str = "a number of bytes from 256 to 1073741824";
    let bytes = number(value, MEANING)?;
    let in_range = (256..=1 << 30).contains(&bytes);
    usize::try_from(bytes)
        .ok()
        .filter(|_| in_range)
        .ok_or_else(|| format!("must be {MEANING}"))
}

fn key_length(value: &OsStr) -> Result<usize, String> {
    let parsed = text(value)?.parse().ok();
    parsed
        .filter(|length| (1..=MAX_KEY_LENGTH).contains(length))
        .ok_or_else(|| format!("must be a number of bytes from 1 to {MAX_KEY_LENGTH}"))
}

/// Bytes, with a suffix K, M or G, or a part of the file system.
fn free_space(value: &OsStr) -> Result<FreeSpace, String> {
    const MEANING: &str = "must be free space such as 100M or 5%, or 0 for none";
    let value = text(value)?;
    let bad = || MEANING.to_owned();
    if let Some(percent) = value.strip_suffix('%') {
        let percent = percent.parse().ok().filter(|percent| *percent <= 100);
        return percent.map(FreeSpace::Percent).ok_or_else(bad);
    }
    let (digits, unit) = match value.char_indices().next_back() {
        Some((at, 'K')) => (&value[..at], 1 << 10),
        Some((at, 'M')) => (&value[..at], 1 << 20),
        Some((at, 'G')) => (&value[..at], 1 << 30),
        _ => (value, 1),
    };
    let bytes = digits
        .parse::<u64>()
        .ok()
        .and_then(|n| n.checked_mul(unit))
        .ok_or_else(bad)?;
    Ok(if bytes == 0 {
        FreeSpace::Any
    } else {
        FreeSpace::Bytes(bytes)
    })
}

fn show_free_space(space: FreeSpace) -> String {
    match space {
        FreeSpace::Any => "0".to_owned(),
        FreeSpace::Bytes(bytes) => bytes.to_string(),
        FreeSpace::Percent(percent) => format!("{percent}%"),
    }
}

fn probability(value: &OsStr) -> Result<f64, String> {
    let parsed = text(value)?.parse().ok();
    parsed
        .filter(|p| (0.0..=1.0).contains(p))
        .ok_or_else(|| "must be a number from 0 to 1".to_owned())
}

/// A time span; nothing (`0`) is `None`.
fn duration(value: &OsStr) -> Result<Option<Duration>, String> {
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

fn positive(value: &OsStr) -> Result<Duration, String> {
    duration(value)?.ok_or_else(|| "must be more than nothing".to_owned())
}

fn show_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    [(24 * 3600, 'd'), (3600, 'h'), (60, 'm')]
        .into_iter()
        .find(|(unit, _)| seconds >= 2 * unit && seconds.is_multiple_of(*unit))
        .map_or_else(
            || format!("{seconds}s"),
            |(unit, suffix)| format!("{}{suffix}", seconds / unit),
        )
}

fn show_optional(duration: Option<Duration>, none: &str) -> String {
    duration.map_or_else(|| none.to_owned(), show_duration)
}

fn absolute(value: &OsStr) -> Result<PathBuf, String> {
    let path = Path::new(value);
    if path.is_absolute() {
        Ok(path.to_owned())
    } else {
        Err("must be an absolute path, as it stands, without quotes".to_owned())
    }
}

fn show_path(path: Option<&Path>) -> String {
    path.map(|path| path.display().to_string())
        .unwrap_or_default()
}

/// A token of RFC 9110, 5.6.2: what a cookie's name may be (RFC 6265, 4.1.1).
fn token(value: &OsStr) -> Result<String, String> {
    let name = text(value)?;
    let allowed = |c: u8| c.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&c);
    if name.is_empty() || name.len() > 256 || !name.bytes().all(allowed) {
        return Err("must be a token: letters, digits and !#$%&'*+-.^_`|~, at most 256".to_owned());
    }
    Ok(name.to_owned())
}

fn cookie_path(value: &OsStr) -> Result<String, String> {
    let path = text(value)?;
    if !path.starts_with('/') || path.len() > 1024 || !path.bytes().all(is_attribute_byte) {
        return Err("must begin with / and hold no ; and no control characters".to_owned());
    }
    Ok(path.to_owned())
}

fn cookie_domain(value: &OsStr) -> Result<Option<String>, String> {
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

fn application(value: &OsStr) -> Result<String, String> {
    let name = text(value)?;
    match name_fault(name) {
        None => Ok(name.to_owned()),
        Some(reason) => Err(reason.to_owned()),
    }
}

/// `cookie`, or a list of it with `query` and `form`.
fn id_from(value: &OsStr) -> Result<IdFrom, String> {
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

fn show_id_from(from: IdFrom) -> String {
    let query = if from.query { ", query" } else { "" };
    let form = if from.form { ", form" } else { "" };
    format!("cookie{query}{form}")
}

fn table(value: &OsStr) -> Result<String, String> {
    let name = text(value)?;
    let allowed = |c: u8| c.is_ascii_alphanumeric() || c == b'_';
    if name.is_empty() || name.len() > 63 || !name.bytes().all(allowed) {
        return Err("must be letters, digits and _, at most 63".to_owned());
    }
    Ok(name.to_owned())
}
