//! The types of settings that are one of a few names.

use cookie::SameSite;

/// A type whose values have names in a configuration.
pub(super) trait Named: Copy + PartialEq + 'static {
    const NAMES: &'static [(&'static str, Self)];
}

/// `storageType`: where sessions live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StorageType {
    File,
    Ram,
    Cookie,
    Custom,
    Sqlite,
    Mysql,
    Postgres,
    Redis,
}

impl Named for StorageType {
    const NAMES: &'static [(&'static str, Self)] = &[
        ("file", StorageType::File),
        ("ram", StorageType::Ram),
        ("cookie", StorageType::Cookie),
        ("custom", StorageType::Custom),
        ("sqlite", StorageType::Sqlite),
        ("mysql", StorageType::Mysql),
        ("postgres", StorageType::Postgres),
        ("redis", StorageType::Redis),
    ];
}

impl Named for SameSite {
    const NAMES: &'static [(&'static str, Self)] = &[
        ("Lax", SameSite::Lax),
        ("Strict", SameSite::Strict),
        ("None", SameSite::None),
    ];
}

/// `cookieSecure`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Secure {
    /// As the request came.
    Auto,
    Always,
    Never,
}

/// `whenFull`: what happens to a new session when there are `maxSessions`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WhenFull {
    EvictOldest,
    Refuse,
}

impl Named for WhenFull {
    const NAMES: &'static [(&'static str, Self)] = &[
        ("evictOldest", WhenFull::EvictOldest),
        ("refuse", WhenFull::Refuse),
    ];
}

/// `minFreeSpace`: below how much free space no new session is created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FreeSpace {
    /// However little there is.
    Any,
    Bytes(u64),
    /// Of the file system's space, and of its inodes.
    Percent(u8),
}

/// `durability`: what a commit waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Durability {
    /// The kernel has it: it survives the death of every process.
    None,
    /// The disk has it: it survives power loss.
    Data,
}

impl Named for Durability {
    const NAMES: &'static [(&'static str, Self)] =
        &[("none", Durability::None), ("data", Durability::Data)];
}

/// `cacheLimiter`: the cache headers of a response whose session was used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CacheLimiter {
    Nocache,
    Private,
    Public,
    None,
}

impl Named for CacheLimiter {
    const NAMES: &'static [(&'static str, Self)] = &[
        ("nocache", CacheLimiter::Nocache),
        ("private", CacheLimiter::Private),
        ("public", CacheLimiter::Public),
        ("none", CacheLimiter::None),
    ];
}

/// `idFrom`: where an id may come from besides a cookie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct IdFrom {
    /// A parameter of the query string, named as the cookie is.
    pub(crate) query: bool,
    /// A field of a posted form, named as the cookie is.
    pub(crate) form: bool,
}

/// `errorLog`: where a FastCGI responder reports the errors of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ErrorLog {
    pub(crate) stderr: bool,
    /// The web server's own log, by `FCGI_STDERR`.
    pub(crate) server: bool,
}

impl Default for ErrorLog {
    fn default() -> Self {
        ErrorLog {
            stderr: true,
            server: true,
        }
    }
}
