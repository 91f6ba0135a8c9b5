//! The keys of section `[session]`: what each sets, and how it is shown.

use std::ffi::OsStr;

use cookie::SameSite;

use super::secret::{HIDDEN, without_passwords};
use super::value::{
    absolute, application, boolean, buffer, cookie_domain, cookie_path, duration, error_log,
    form_fields, free_space, id_from, key_length, name_of, number, one_of, positive, probability,
    record_bytes, secret, secure, show_buffer, show_duration, show_error_log, show_free_space,
    show_id_from, show_optional, show_path, table, token,
};
use super::{CacheLimiter, Config, Durability, Secure, StorageType, WhenFull};

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
const RATE: &str = "a number of bytes per second, or 0 for any";
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
        name: "maxFormFields",
        set: |c, t| form_fields(t).map(|v| c.max_form_fields = v),
        show: |c| c.max_form_fields.to_string(),
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
    Key {
        name: "bodyBuffer",
        set: |c, t| buffer(t).map(|v| c.body_buffer = v),
        show: |c| show_buffer(c.body_buffer),
    },
    Key {
        name: "bodyTimeout",
        set: |c, t| positive(t).map(|v| c.body_timeout = v),
        show: |c| show_duration(c.body_timeout),
    },
    Key {
        name: "bodyMinRate",
        set: |c, t| number(t, RATE).map(|v| c.body_min_rate = v),
        show: |c| c.body_min_rate.to_string(),
    },
    Key {
        name: "responseMinRate",
        set: |c, t| number(t, RATE).map(|v| c.response_min_rate = v),
        show: |c| c.response_min_rate.to_string(),
    },
    Key {
        name: "errorLog",
        set: |c, t| error_log(t).map(|v| c.error_log = v),
        show: |c| show_error_log(c.error_log),
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
