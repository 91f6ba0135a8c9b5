//! [`Config`]: the `[session]` section, key by key, and where each value came from.

mod database;
mod ini;
mod key;
pub(crate) mod secret;
pub(crate) mod secret_file;
mod source;
mod value;

use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::FileType;

use crate::error::{Error, Result, printable};
use secret::{HIDDEN, Secret};

pub(crate) use source::{Variable, is_setting};

/// What `maxFormFields` is unless it is set.
pub(crate) const MAX_FORM_FIELDS: usize = 1000;

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
#[derive(Clone, Debug)]
pub struct Config {
    pub(crate) storage_type: StorageType,
    pub(crate) storage_file_dir: Option<PathBuf>,
    pub(crate) timeout: Duration,
    pub(crate) lifetime: Option<Duration>,
    pub(crate) clean_up_delay: Option<Duration>,
    pub(crate) clean_up_probability: f64,
    pub(crate) cookie_name: String,
    pub(crate) cookie_path: String,
    pub(crate) cookie_domain: Option<String>,
    pub(crate) cookie_same_site: cookie::SameSite,
    pub(crate) cookie_http_only: bool,
    pub(crate) cookie_partitioned: bool,
    pub(crate) cookie_secure: Secure,
    pub(crate) cookie_max_age: Option<Duration>,
    pub(crate) lock_timeout: Duration,
    pub(crate) lock_lease: Duration,
    pub(crate) max_sessions: u64,
    pub(crate) when_full: WhenFull,
    pub(crate) max_record_bytes: usize,
    pub(crate) max_key_length: usize,
    pub(crate) max_form_fields: usize,
    pub(crate) min_free_space: FreeSpace,
    pub(crate) durability: Durability,
    pub(crate) app: String,
    pub(crate) cache_limiter: CacheLimiter,
    pub(crate) id_from: IdFrom,
    pub(crate) database: Option<Secret>,
    pub(crate) database_password: Option<Secret>,
    pub(crate) database_password_file: Option<PathBuf>,
    pub(crate) database_ca_file: Option<PathBuf>,
    pub(crate) table: String,
    pub(crate) secret_key_file: Option<PathBuf>,
    pub(crate) shards: u16,
    pub(crate) snapshot_file: Option<PathBuf>,
    pub(crate) snapshot_delay: Duration,
    pub(crate) body_buffer: usize,
    pub(crate) body_timeout: Duration,
    pub(crate) body_min_rate: u64,
    pub(crate) response_min_rate: u64,
    pub(crate) error_log: ErrorLog,
    origins: Vec<(&'static str, Origin)>,
    file: Option<PathBuf>,
}

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// Nobody set it.
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

/// `cookieSecure`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Secure {
    /// As the request came.
    Auto,
    Always,
    Never,
}

/// `idFrom`: where an id may come from besides a cookie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct IdFrom {
    /// A parameter of the query string, named as the cookie is.
    pub(crate) query: bool,
    /// A field of a posted form, named as the cookie is.
    pub(crate) form: bool,
}

/// `whenFull`: what happens to a new session when there are `maxSessions`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WhenFull {
    EvictOldest,
    Refuse,
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

/// `minFreeSpace`: below how much free space no new session is made.
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

/// `cacheLimiter`: the cache headers of a response whose session was used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CacheLimiter {
    Nocache,
    Private,
    Public,
    None,
}

impl Default for Config {
    fn default() -> Self {
        const MINUTE: Duration = Duration::from_secs(60);
        Config {
            storage_type: StorageType::File,
            storage_file_dir: None,
            timeout: 60 * MINUTE,
            lifetime: Some(30 * 24 * 60 * MINUTE),
            clean_up_delay: Some(60 * MINUTE),
            clean_up_probability: 0.0,
            cookie_name: "sessionId".to_owned(),
            cookie_path: "/".to_owned(),
            cookie_domain: None,
            cookie_same_site: cookie::SameSite::Lax,
            cookie_http_only: true,
            cookie_partitioned: false,
            cookie_secure: Secure::Auto,
            cookie_max_age: None,
            lock_timeout: Duration::from_secs(10),
            lock_lease: MINUTE,
            max_sessions: 0,
            when_full: WhenFull::EvictOldest,
            max_record_bytes: 1 << 20,
            max_key_length: crate::record::MAX_KEY_LENGTH,
            max_form_fields: MAX_FORM_FIELDS,
            min_free_space: FreeSpace::Percent(1),
            durability: Durability::None,
            app: String::new(),
            cache_limiter: CacheLimiter::Nocache,
            id_from: IdFrom::default(),
            database: None,
            database_password: None,
            database_password_file: None,
            database_ca_file: None,
            table: "Session".to_owned(),
            secret_key_file: None,
            shards: 1,
            snapshot_file: None,
            snapshot_delay: MINUTE,
            body_buffer: 1 << 20,
            body_timeout: Duration::from_secs(20),
            body_min_rate: 500,
            response_min_rate: 500,
            error_log: ErrorLog::default(),
            origins: Vec::new(),
            file: None,
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

    /// Finds the configuration as every program of the site does.
    ///
    /// The first of these files that exists is the file: the one that `CGI_SESSION_CONFIG` names,
    /// `cgi-session.ini` beside the executable, `/etc/cgi-session.ini`. Then a variable
    /// `CGI_SESSION_` + key in upper snake case (`CGI_SESSION_STORAGE_FILE_DIR`) overrides its key.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for a file that cannot be read, an unknown key, a bad value, or a missing
    /// `storageFileDir`.
    pub fn find() -> Result<Self> {
        source::find(None, &[])
    }

    /// [`Config::find`] among variables of the environment that [`is_setting`] chose.
    pub(crate) fn find_among(environment: &[Variable]) -> Result<Self> {
        source::find_among(None, environment, &[])
    }

    /// Reads this file instead of looking for one; the environment overrides its keys.
    ///
    /// # Errors
    ///
    /// As [`Config::find`]; the file must exist.
    pub fn load(file: &Path) -> Result<Self> {
        source::find(Some(file), &[])
    }

    /// Reads `file`, or looks for one when it is `None`; the environment overrides its keys, and
    /// `settings` override both before the whole is checked. This is for programs that take
    /// settings on their command line.
    ///
    /// # Errors
    ///
    /// As [`Config::find`] and [`Config::load`], and as [`Config::set`] for a setting.
    pub fn find_with(file: Option<&Path>, settings: &[(&str, &OsStr)]) -> Result<Self> {
        source::find(file, settings)
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
        key::KEYS
            .iter()
            .find(|known| known.name == key)
            .map(|known| (known.show)(self))
    }

    /// Where the value of a key came from.
    #[must_use]
    pub fn origin(&self, key: &str) -> Origin {
        let last = self.origins.iter().rev().find(|(name, _)| *name == key);
        last.map_or(Origin::Default, |(_, origin)| origin.clone())
    }

    /// The configuration file that was read; `None` when none was there.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// The names of all keys, in the order of the documentation.
    pub fn keys() -> impl Iterator<Item = &'static str> {
        key::KEYS.iter().map(|key| key.name)
    }

    /// The directory of the session files.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] when `storageFileDir` is not set.
    pub fn storage_file_dir(&self) -> Result<&Path> {
        self.storage_file_dir.as_deref().ok_or_else(|| {
            let place = if let Some(file) = &self.file {
                format!("of {}", file.display())
            } else if let Some(beside) = source::beside().filter(|_| is_started_by_server()) {
                // Not the variable: under suexec it never arrives.
                format!("of {} or {}", beside.display(), source::SYSTEM_FILE)
            } else {
                format!("of {}, or set CGI_SESSION_STORAGE_FILE_DIR", source::SYSTEM_FILE)
            };
            Error::Config(format!(
                "storageFileDir is not set: write `storageFileDir = /var/lib/cgi-session` into section [session] {place}"
            ))
        })
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

    fn assign(&mut self, key: &str, text: &OsStr, origin: Origin) -> Result<()> {
        let place = match &origin {
            Origin::Program | Origin::Default => String::new(),
            other => format!("{other}: "),
        };
        let Some(known) = key::KEYS.iter().find(|known| known.name == key) else {
            let reason = key::explain_unknown(key);
            return Err(Error::Config(printable(&format!("{place}{key}: {reason}"))));
        };
        let set = match control_character(text) {
            Some(found) => Err(format!("holds the control character {found}")),
            None => (known.set)(self, text),
        };
        set.map_err(|mut reason| {
            let text = text.to_string_lossy();
            if value::has_comment(&text) {
                reason += "; a comment has a line of its own";
            }
            let shown = match key {
                "databasePassword" => HIDDEN.to_owned(),
                "database" => secret::without_passwords(&text),
                _ => text.into_owned(),
            };
            Error::Config(printable(&format!("{place}{key} = {shown}: {reason}")))
        })?;
        self.origins.push((known.name, origin));
        Ok(())
    }

    /// Checks what no key can check alone: the rules of cookie prefixes, which browsers know in any case
    /// of letters (RFC 6265bis, 4.1.3), and the attributes that browsers accept only together with `Secure`.
    pub(crate) fn check(&self) -> Result<()> {
        let fail = |key: &str, reason: &str| {
            Err(Error::Config(format!(
                "{} ({}): {reason}",
                key,
                self.origin(key)
            )))
        };
        let secure = self.cookie_secure == Secure::Always;
        let name = self.cookie_name.to_ascii_lowercase();
        let has = |prefix: &str| name.starts_with(prefix);
        let (host, http) = (has("__host-"), has("__http-") || has("__host-http-"));
        if (host || http || has("__secure-")) && !secure {
            return fail(
                "cookieName",
                "a name with __Secure-, __Host- or __Http- needs cookieSecure = true",
            );
        }
        if host && (self.cookie_path != "/" || self.cookie_domain.is_some()) {
            return fail(
                "cookieName",
                "a name with __Host- needs cookiePath = / and no cookieDomain",
            );
        }
        if http && !self.cookie_http_only {
            return fail(
                "cookieName",
                "a name with __Http- or __Host-Http- needs cookieHttpOnly = true",
            );
        }
        if self.cookie_same_site == cookie::SameSite::None && !secure {
            return fail("cookieSameSite", "None needs cookieSecure = true");
        }
        if self.cookie_partitioned && !secure {
            return fail("cookiePartitioned", "true needs cookieSecure = true");
        }
        if self.storage_type == StorageType::Cookie && self.id_from != IdFrom::default() {
            return fail(
                "idFrom",
                "with storageType = cookie only a cookie can hold the session",
            );
        }
        if self.storage_type == StorageType::File {
            self.storage_file_dir()?;
        }
        Ok(())
    }
}

/// Whether a web server started this process, for one request or as a responder.
fn is_started_by_server() -> bool {
    let stdin = rustix::fs::fstat(rustix::stdio::stdin());
    let is_socket = |stat: rustix::fs::Stat| FileType::from_raw_mode(stat.st_mode).is_socket();
    std::env::var_os("REQUEST_METHOD").is_some() || stdin.is_ok_and(is_socket)
}

/// A control character, escaped; a value may hold none but a tab.
fn control_character(text: &OsStr) -> Option<String> {
    let text = text.to_string_lossy();
    let found = text.chars().find(|it| it.is_control() && *it != '\t')?;
    Some(found.escape_default().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(key: &str, text: &str, expected: &str) {
        let error = Config::new().set(key, text).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn every_default_can_be_shown_and_set_again() {
        let config = Config::new();
        for key in Config::keys() {
            let shown = config.get(key).unwrap();
            let again = Config::new().set(key, &shown);
            assert!(
                shown.is_empty() || again.is_ok(),
                "{key} = {shown}: {again:?}"
            );
        }
    }

    #[test]
    fn a_bare_number_is_minutes_and_suffixes_are_understood() {
        let seconds = |text: &str| {
            Config::new()
                .set("timeout", text)
                .unwrap()
                .timeout
                .as_secs()
        };
        assert_eq!(
            (
                seconds("1440"),
                seconds("1440s"),
                seconds("2h"),
                seconds("7d")
            ),
            (86400, 1440, 7200, 604_800)
        );
    }

    #[test]
    fn a_bad_value_is_refused_with_what_would_be_good() {
        refused("timeout", "soon", "30 (minutes)");
        refused("timeout", "0", "more than nothing");
        refused("timeout", "99999999999999999d", "at most");
        refused("storageType", "files", "file, ram, cookie");
        refused("cookieName", "a b", "token");
        refused("cookieName", "a;b", "token");
        refused("cookieName", "", "token");
        refused("cookieDomain", "a\nb", "control character \\n");
        refused("cookieDomain", "a/b", "host name");
        refused("cookiePath", "/a;b", "must begin with /");
        refused("cookieSecure", "perhaps", "auto, true or false");
        refused("storageFileDir", "sessions", "absolute");
        refused("cleanUpProbability", "2", "0 to 1");
        refused("cleanUpProbability", "NaN", "0 to 1");
        refused("shards", "16", "1 or 256");
        refused("maxRecordBytes", "-1", "number of bytes");
        refused("maxKeyLength", "129", "1 to 128");
        refused("maxFormFields", "0", "1 to 1000000");
        refused("minFreeSpace", "101%", "100M or 5%");
        refused("bodyBuffer", "2g", "at most 1g");
        refused("bodyBuffer", "1MB", "64k or 1m");
        refused("bodyMinRate", "500/s", "bytes per second");
        refused("errorLog", "", "stderr, server");
        refused("errorLog", "syslog", "stderr, server");
        refused("minFreeSpace", "much", "100M or 5%");
    }

    #[test]
    fn an_unknown_key_names_its_neighbour_and_an_old_one_its_successor() {
        refused("cookiename", "x", "did you mean cookieName?");
        refused("seed", "x", "random generator");
        refused("persistent_session", "1", "storageType");
    }

    #[test]
    fn prefixes_and_attributes_that_browsers_refuse_are_refused_first() {
        let config = || Config::new().set("storageFileDir", "/x").unwrap();
        for (key, value) in [
            ("cookieName", "__Host-id"),
            ("cookieName", "__HOST-id"),
            ("cookieName", "__secure-id"),
            ("cookieName", "__Http-id"),
            ("cookieName", "__hOsT-hTtP-id"),
            ("cookieSameSite", "None"),
            ("cookiePartitioned", "true"),
        ] {
            let config = config().set(key, value).unwrap();
            assert!(
                config
                    .check()
                    .unwrap_err()
                    .to_string()
                    .contains("cookieSecure = true")
            );
            assert!(config.set("cookieSecure", "true").unwrap().check().is_ok());
        }
        for (prefix, refused) in [
            ("__SECURE-", &[][..]),
            ("__Http-", &["cookieHttpOnly"]),
            ("__Host-", &["cookiePath", "cookieDomain"]),
            (
                "__host-http-",
                &["cookiePath", "cookieDomain", "cookieHttpOnly"],
            ),
        ] {
            for (key, value) in [
                ("cookiePath", "/shop"),
                ("cookieDomain", "example.org"),
                ("cookieHttpOnly", "false"),
            ] {
                let config = config().set("cookieName", format!("{prefix}id"));
                let config = config.and_then(|config| config.set("cookieSecure", "true"));
                let checked = config.unwrap().set(key, value).unwrap().check();
                assert_eq!(checked.is_err(), refused.contains(&key), "{prefix} {key}");
            }
        }
    }

    #[test]
    fn the_file_store_needs_a_directory() {
        let error = Config::new().check().unwrap_err().to_string();
        assert!(error.contains("storageFileDir is not set"), "{error}");
    }
}
