//! The types of settings that are one of a few names.

use cookie::SameSite;
use http::HeaderName;

/// A type whose values have names in a configuration.
pub(super) trait Named: Copy + PartialEq + 'static {
    const NAMES: &'static [(&'static str, Self)];
    /// What is said of another name.
    const WRONG: &'static str;
}

/// A type and the names of its values.
macro_rules! named {
    (
        $(#[$doc:meta])* $type:ident
        $(#[$first_doc:meta])* $first:ident = $first_name:literal,
        $($(#[$variant_doc:meta])* $variant:ident = $name:literal,)*
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum $type { $(#[$first_doc])* $first, $($(#[$variant_doc])* $variant,)* }

        impl Named for $type {
            const NAMES: &'static [(&'static str, Self)] =
                &[($first_name, $type::$first), $(($name, $type::$variant)),*];
            const WRONG: &'static str = concat!("must be one of ", $first_name $(, ", ", $name)*);
        }
    };
}

named! {
    /// `storageType`: where sessions live.
    StorageType
    File = "file",
    Ram = "ram",
    Cookie = "cookie",
    Custom = "custom",
    Sqlite = "sqlite",
    Mysql = "mysql",
    Postgres = "postgres",
    Redis = "redis",
}

impl StorageType {
    /// Whether expired sessions can stay until a clean-up: redis deletes them itself, and no clean-up of another
    /// program reaches the others.
    pub(super) fn can_keep_expired(self) -> bool {
        use StorageType::{File, Mysql, Postgres, Sqlite};
        matches!(self, File | Sqlite | Postgres | Mysql)
    }
}

named! {
    /// `whenFull`, `whenUserFull`: what happens to a new session when there are `maxSessions`, or to one more of a
    /// user with `maxSessionsPerUser`.
    WhenFull
    EvictOldest = "evictOldest",
    Refuse = "refuse",
}

named! {
    /// `durability`: what a commit waits for.
    Durability
    /// The kernel has it: it survives the death of every process.
    None = "none",
    /// The disk has it: it survives power loss.
    Data = "data",
}

named! {
    /// `cacheLimiter`: the cache headers of a response whose session was used.
    CacheLimiter
    Nocache = "nocache",
    /// The browser may keep the page, for its own history, and asks before it shows it again.
    PrivateNoCache = "private, no-cache",
    Private = "private",
    Public = "public",
    None = "none",
}

named! {
    /// `expiredBy`: what deletes expired sessions.
    ExpiredBy
    /// A clean-up of any process, and whatever comes upon one.
    Any = "any",
    /// `cgi-session cleanup` alone.
    Cleanup = "cleanup",
}

named! {
    /// `trustedProxyHeader`: where a trusted proxy says from where a request comes.
    ProxyHeader
    XForwarded = "x-forwarded",
    Forwarded = "forwarded",
}

impl Named for SameSite {
    const NAMES: &'static [(&'static str, Self)] = &[
        ("Lax", SameSite::Lax),
        ("Strict", SameSite::Strict),
        ("None", SameSite::None),
    ];
    const WRONG: &'static str = "must be one of Lax, Strict, None";
}

/// `cookieSecure`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Secure {
    /// As the request came.
    Auto,
    Always,
    Never,
}

/// `minFreeSpace`: below how much free space no new session is created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FreeSpace {
    /// With 0, however little is free.
    Bytes(u64),
    /// Of the file system's space, and of its inodes.
    Percent(u8),
}

/// `idFrom`: where an id may come from besides a cookie, or in its place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct IdFrom {
    /// A parameter of the query string, named as the cookie is.
    pub(crate) query: bool,
    /// A field of a posted form, named as the cookie is.
    pub(crate) form: bool,
    /// This header field, and nothing else.
    pub(crate) header: Option<HeaderName>,
}

/// `clearSiteData`: what a browser is to delete at a logout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ClearSiteData {
    pub(crate) cache: bool,
    pub(crate) cookies: bool,
    pub(crate) storage: bool,
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
