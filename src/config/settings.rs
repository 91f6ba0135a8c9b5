//! [`Config`]: the one table of keys, with their types, defaults and kinds; and where each value came from.

use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cookie::SameSite;

use super::choice::{
    CacheLimiter, ClearSiteData, Durability, ErrorLog, ExpiredBy, FreeSpace, IdFrom, ProxyHeader,
    Secure, StorageType, WhenFull,
};
use super::networks::Networks;
use super::secret::{HIDDEN, Secret, without_passwords};
use super::value::{
    APPLICATION, BOOLEAN, BUFFER, CLEAR_SITE_DATA, COOKIE_DOMAIN, COOKIE_PATH, DATABASE, ERROR_LOG,
    FORM_FIELDS, FREE_SPACE, ID_FROM, KEY_LENGTH, MAX_AGE, MAX_KEY_LENGTH, NETWORKS, OPTIONAL_TIME,
    PASSWORD, PATH, PROBABILITY, RATE, RECORD_BYTES, SECURE, SESSIONS, SHARDS, TABLE, TIME, TOKEN,
    choice, has_comment,
};
use crate::error::{Error, Result, printable};

/// What `maxFormFields` is unless it is set.
pub(crate) const MAX_FORM_FIELDS: usize = 1000;
/// The defaults of `bodyBuffer`, `bodyTimeout`, and the two least rates, in bytes/s.
pub(crate) const BODY_BUFFER: usize = 1 << 20;
pub(crate) const BODY_TIMEOUT: Duration = Duration::from_secs(20);
pub(crate) const MIN_RATE: u64 = 500;

const MINUTE: Duration = Duration::from_secs(60);

/// One key of section `[session]`.
struct Key {
    name: &'static str,
    set: fn(&mut Config, &OsStr) -> Result<(), &'static str>,
    show: fn(&Config) -> String,
}

/// Defines [`Config`], its defaults and its keys: each row is a key, its field with type and default, and
/// its kind.
macro_rules! settings {
    ($(#[$doc:meta])* $($key:literal $field:ident: $type:ty = $default:expr, $kind:expr;)*) => {
        $(#[$doc])*
        #[derive(Clone, Debug)]
        pub struct Config {
            $(pub(crate) $field: $type,)*
            origins: Vec<(&'static str, Origin)>,
            pub(super) file: Option<PathBuf>,
        }

        impl Default for Config {
            fn default() -> Self {
                Config { $($field: $default,)* origins: Vec::new(), file: None }
            }
        }

        /// Every key, in the order of the documentation.
        const KEYS: &[Key] = &[$(Key {
            name: $key,
            set: |config, text| $kind.read(text).map(|value| config.$field = value),
            show: |config| $kind.show(&config.$field),
        }),*];
    };
}

settings! {
    /// The settings of section `[session]`.
    ///
    /// The keys are CherryPy's, verbatim; a bare number in a time is minutes, the suffixes `s`, `m`,
    /// `h` and `d` are understood. [`Config::find`] looks where every program of a site looks;
    /// [`Config::set`] sets a key in the program itself.
    ///
    /// ```
    /// use cgi_session::Config;
    ///
    /// let config = Config::new().set("storageFileDir", "/var/lib/cgi-session")?.set("timeout", "30")?;
    /// assert_eq!(config.get("timeout").as_deref(), Some("30m"));
    ///
    /// let mistake = Config::new().set("timeuot", "30").unwrap_err();
    /// assert!(mistake.to_string().contains("did you mean timeout?"));
    /// # Ok::<(), cgi_session::Error>(())
    /// ```
    "storageType" storage_type: StorageType = StorageType::File, choice();
    "storageFileDir" storage_file_dir: Option<PathBuf> = None, PATH;
    "timeout" timeout: Duration = 60 * MINUTE, TIME;
    "touchAfter" touch_after: Option<Duration> = None, MAX_AGE;
    "lifetime" lifetime: Option<Duration> = Some(30 * 24 * 60 * MINUTE), OPTIONAL_TIME;
    "rotateAfter" rotate_after: Option<Duration> = None, OPTIONAL_TIME;
    "cleanUpDelay" clean_up_delay: Option<Duration> = Some(60 * MINUTE), OPTIONAL_TIME;
    "cleanUpProbability" clean_up_probability: f64 = 0.0, PROBABILITY;
    "expiredBy" expired_by: ExpiredBy = ExpiredBy::Any, choice();
    "cookieName" cookie_name: String = "sessionId".to_owned(), TOKEN;
    "cookiePath" cookie_path: String = "/".to_owned(), COOKIE_PATH;
    "cookieDomain" cookie_domain: Option<String> = None, COOKIE_DOMAIN;
    "cookieSameSite" cookie_same_site: SameSite = SameSite::Lax, choice();
    "cookieHttpOnly" cookie_http_only: bool = true, BOOLEAN;
    "cookiePartitioned" cookie_partitioned: bool = false, BOOLEAN;
    "cookieSecure" cookie_secure: Secure = Secure::Auto, SECURE;
    "cookieMaxAge" cookie_max_age: Option<Duration> = None, MAX_AGE;
    "lockTimeout" lock_timeout: Duration = Duration::from_secs(10), TIME;
    "lockLease" lock_lease: Duration = MINUTE, TIME;
    "maxSessions" max_sessions: u64 = 0, SESSIONS;
    "whenFull" when_full: WhenFull = WhenFull::EvictOldest, choice();
    "recordClient" record_client: bool = false, BOOLEAN;
    "maxSessionsPerUser" max_sessions_per_user: u64 = 0, SESSIONS;
    "whenUserFull" when_user_full: WhenFull = WhenFull::EvictOldest, choice();
    "maxRecordBytes" max_record_bytes: usize = 1 << 20, RECORD_BYTES;
    "maxKeyLength" max_key_length: usize = MAX_KEY_LENGTH, KEY_LENGTH;
    "maxFormFields" max_form_fields: usize = MAX_FORM_FIELDS, FORM_FIELDS;
    "minFreeSpace" min_free_space: FreeSpace = FreeSpace::Percent(1), FREE_SPACE;
    "durability" durability: Durability = Durability::None, choice();
    "app" app: String = String::new(), APPLICATION;
    "cacheLimiter" cache_limiter: CacheLimiter = CacheLimiter::Nocache, choice();
    "clearSiteData" clear_site_data: ClearSiteData = ClearSiteData::default(), CLEAR_SITE_DATA;
    "allowCrossSiteStart" allow_cross_site_start: bool = false, BOOLEAN;
    "idFrom" id_from: IdFrom = IdFrom::default(), ID_FROM;
    "trustedProxies" trusted_proxies: Networks = Networks::default(), NETWORKS;
    "trustedProxyHeader" trusted_proxy_header: ProxyHeader = ProxyHeader::XForwarded, choice();
    "database" database: Option<Secret> = None, DATABASE;
    "databasePassword" database_password: Option<Secret> = None, PASSWORD;
    "databasePasswordFile" database_password_file: Option<PathBuf> = None, PATH;
    "databaseCaFile" database_ca_file: Option<PathBuf> = None, PATH;
    "databaseCertFile" database_cert_file: Option<PathBuf> = None, PATH;
    "databaseKeyFile" database_key_file: Option<PathBuf> = None, PATH;
    "table" table: String = "Session".to_owned(), TABLE;
    "secretKeyFile" secret_key_file: Option<PathBuf> = None, PATH;
    "shards" shards: u16 = 1, SHARDS;
    "snapshotFile" snapshot_file: Option<PathBuf> = None, PATH;
    "snapshotDelay" snapshot_delay: Duration = MINUTE, TIME;
    "bodyBuffer" body_buffer: usize = BODY_BUFFER, BUFFER;
    "bodyTimeout" body_timeout: Duration = BODY_TIMEOUT, TIME;
    "bodyMinRate" body_min_rate: u64 = MIN_RATE, RATE;
    "responseMinRate" response_min_rate: u64 = MIN_RATE, RATE;
    "errorLog" error_log: ErrorLog = ErrorLog::default(), ERROR_LOG;
}

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// It is the default.
    Default,
    /// A line of a configuration file.
    File {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
    },
    /// An environment variable of this name.
    Environment(String),
    /// [`Config::set`].
    Program,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File { path, line } => write!(f, "{}:{line}", path.display()),
            Origin::Environment(name) => write!(f, "environment {name}"),
            Origin::Program => f.write_str("program"),
        }
    }
}

impl From<&Config> for Arc<Config> {
    fn from(config: &Config) -> Self {
        Arc::new(config.clone())
    }
}

impl Config {
    /// All defaults. `storageFileDir` has none and must be set.
    #[must_use]
    pub fn new() -> Self {
        Config::default()
    }

    /// Sets one key from its text, as a configuration file would.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for an unknown key or a bad value.
    pub fn set(mut self, key: &str, value: impl AsRef<OsStr>) -> Result<Self> {
        self.assign(key, value.as_ref(), Origin::Program)?;
        Ok(self)
    }

    /// The effective value of a key as text, or `None` for a key that does not exist. Passwords are
    /// replaced by `***`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<String> {
        let known = KEYS.iter().find(|known| known.name == key)?;
        Some((known.show)(self))
    }

    /// Where the value of a key came from.
    #[must_use]
    pub fn origin(&self, key: &str) -> Origin {
        let last = self.origins.iter().rev().find(|(name, _)| *name == key);
        last.map_or(Origin::Default, |(_, origin)| origin.clone())
    }

    /// The configuration file that was read; `None` when there was none.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// The names of all keys, in the order of the documentation.
    pub fn keys() -> impl Iterator<Item = &'static str> {
        KEYS.iter().map(|key| key.name)
    }

    /// How long an unused session lives.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// How long a session lives however much it is used; `None` when there is no such limit.
    #[must_use]
    pub fn lifetime(&self) -> Option<Duration> {
        self.lifetime
    }

    /// How long a request waits for its session.
    #[must_use]
    pub fn lock_timeout(&self) -> Duration {
        self.lock_timeout
    }

    /// How often a program cleans up by itself; `None` when only cron does.
    #[must_use]
    pub fn clean_up_delay(&self) -> Option<Duration> {
        self.clean_up_delay
    }

    /// How often a program writes a snapshot of the sessions that it holds in memory.
    #[must_use]
    pub fn snapshot_delay(&self) -> Duration {
        self.snapshot_delay
    }

    /// The name of the cookie.
    #[must_use]
    pub fn cookie_name(&self) -> &str {
        &self.cookie_name
    }

    pub(super) fn assign(&mut self, key: &str, text: &OsStr, origin: Origin) -> Result<()> {
        let fail = |reason: &str| {
            let place = match &origin {
                Origin::Program | Origin::Default => String::new(),
                other => format!("{other}: "),
            };
            Err(Error::Config(printable(&format!("{place}{key}{reason}"))))
        };
        let Some(known) = KEYS.iter().find(|known| known.name == key) else {
            return fail(&format!(": {}", explain_unknown(key)));
        };
        let set = match control_character(text) {
            Some(found) => Err(format!("holds the control character {found}")),
            None => (known.set)(self, text).map_err(str::to_owned),
        };
        if let Err(reason) = set {
            let text = text.to_string_lossy();
            let comment = if has_comment(&text) {
                "; a comment has a line of its own"
            } else {
                ""
            };
            let shown = match key {
                "databasePassword" => HIDDEN.to_owned(),
                "database" => without_passwords(&text),
                _ => text.into_owned(),
            };
            return fail(&format!(" = {shown}: {reason}{comment}"));
        }
        self.origins.push((known.name, origin));
        Ok(())
    }
}

/// A control character, escaped; a value may hold none but a tab.
fn control_character(text: &OsStr) -> Option<String> {
    let text = text.to_string_lossy();
    let found = text.chars().find(|it| it.is_control() && *it != '\t')?;
    Some(found.escape_default().to_string())
}

/// Names that the four older systems used, and what became of them.
const FORMER: [&str; 12] = [
    "seed is gone: ids come only from the operating system's random generator",
    "comment is gone: it belongs to the obsolete RFC 2109",
    "version is gone: it belongs to the obsolete RFC 2109",
    "persistent_session is now storageType = file",
    "storage is now storageType",
    "expires is now timeout (idle) or lifetime (absolute); lemon's seconds are written 1440s",
    "cleanup is now cleanUpProbability",
    "sessionID is not a setting: a program gives an id in code",
    "path is now cookiePath",
    "domain is now cookieDomain",
    "secure is now cookieSecure",
    "max-age is now cookieMaxAge",
];

/// Why a key is unknown, and what to write instead.
fn explain_unknown(key: &str) -> String {
    // lemon.session kept those of its cookie in a dictionary of that name.
    let former = key.strip_prefix("cookie.").unwrap_or(key);
    let mut rows = FORMER.iter().filter_map(|row| row.split_once(' '));
    if let Some((_, fate)) = rows.find(|(name, _)| *name == former) {
        return fate.to_owned();
    }
    let distance = |name: &str| strsim::levenshtein(&name.to_lowercase(), &key.to_lowercase());
    match Config::keys().min_by_key(|name| distance(name)) {
        Some(name) if distance(name) <= 1 + name.len() / 3 => {
            format!("unknown key; did you mean {name}?")
        }
        _ => "unknown key; `cgi-session config` lists the keys".to_owned(),
    }
}
