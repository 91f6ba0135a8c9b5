//! [`Location`]: where the sessions of a configuration are, as it may be shown to anybody.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use cgi_session::{Config, Origin};

use crate::account::Account;

/// The kinds of stores that live in an engine, each with its usual port.
const ENGINES: [(&str, &str); 3] = [("mysql", "3306"), ("postgres", "5432"), ("redis", "6379")];

/// Where the sessions of a configuration are. It never holds a password.
#[derive(Clone, Debug)]
pub(crate) struct Location {
    kind: String,
    shown: String,
    /// The directory or database, for a store that has one.
    path: Option<PathBuf>,
    /// Two locations that have it in common are one.
    identity: String,
}

impl Location {
    /// That of the programs that read this configuration.
    pub(crate) fn of(config: &Config) -> Self {
        let value = |key| config.get(key).unwrap_or_default();
        let (kind, table) = (value("storageType"), value("table"));
        let path = match kind.as_str() {
            "file" => config.storage_file_dir().ok().map(Path::to_owned),
            // An empty path: what opens the store says that `database` is not set.
            "sqlite" => {
                Some(database_file(&value("database"))).filter(|path| path != Path::new(""))
            }
            _ => None,
        };
        let shown = match &path {
            Some(path) => path.display().to_string(),
            None if is_engine(&kind) => value("database"),
            None => format!("storageType = {kind}"),
        };
        let identity = match &path {
            Some(path) => resolved(path).display().to_string(),
            None => address(&kind, &shown),
        };
        let has_table = kind == "sqlite" || is_engine(&kind);
        let is_told = has_table && config.origin("table") != Origin::Default;
        Location {
            shown: if is_told {
                format!("{shown} (table {table})")
            } else {
                shown
            },
            identity: if has_table {
                format!("{identity} {table}")
            } else {
                identity
            },
            kind,
            path,
        }
    }

    /// The value of `storageType`.
    pub(crate) fn kind(&self) -> &str {
        &self.kind
    }

    /// Whether the sessions are in an engine, where other machines reach them too.
    pub(crate) fn is_in_engine(&self) -> bool {
        is_engine(&self.kind)
    }

    /// Whether this is the same store as another, as far as their names show.
    pub(crate) fn is(&self, other: &Location) -> bool {
        self.kind == other.kind && self.identity == other.identity
    }

    /// The directory or the database, for a store that has one.
    pub(crate) fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Whether nothing was ever stored there: the directory or the file of the database is missing.
    pub(crate) fn is_missing(&self) -> bool {
        self.path.as_ref().is_some_and(|path| !path.exists())
    }

    /// The user to whom the directory or the database belongs, or what lies in its place: as that user
    /// nothing can be reached through a link that would not be reached anyway. `None` when there is none yet.
    pub(crate) fn owner(&self) -> Option<Account> {
        Account::owning(self.path.as_deref()?)
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

fn is_engine(kind: &str) -> bool {
    ENGINES.iter().any(|(name, _)| *name == kind)
}

/// The path in a `database` of `storageType = sqlite`.
fn database_file(database: &str) -> PathBuf {
    let path = database.strip_prefix("sqlite:").unwrap_or(database);
    let path = path
        .strip_prefix("//")
        .filter(|path| path.starts_with('/'))
        .unwrap_or(path);
    PathBuf::from(path)
}

/// The path without links, as far as it exists.
pub(crate) fn resolved(path: &Path) -> PathBuf {
    let existing = path
        .ancestors()
        .find_map(|above| Some((above, fs::canonicalize(above).ok()?)));
    match existing {
        Some((above, real)) => match path.strip_prefix(above) {
            Ok(rest) if !rest.as_os_str().is_empty() => real.join(rest),
            _ => real,
        },
        None => path.components().collect(),
    }
}

/// Host, port and database of a URL, in one spelling of each.
fn address(kind: &str, url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let rest = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    let (rest, parameters) = rest.split_once('?').unwrap_or((rest, ""));
    // Of a socket the parameters say where it is.
    let mut place: Vec<_> = parameters.split('&').filter(|it| is_place(it)).collect();
    place.sort_unstable();
    let place = place.join("&");
    if scheme.contains("unix") {
        return url.to_owned();
    }
    let (host, database) = rest.split_once('/').unwrap_or((rest, ""));
    let port = host.rsplit_once(':').filter(|(_, port)| {
        let is_number = port.bytes().all(|digit| digit.is_ascii_digit());
        is_number && !port.is_empty()
    });
    let usual = ENGINES.iter().find(|(name, _)| *name == kind);
    let (host, port) = port.unwrap_or((host, usual.map_or("", |(_, port)| *port)));
    let host = match host.to_ascii_lowercase().as_str() {
        "localhost" | "[::1]" | "" => "127.0.0.1".to_owned(),
        host => host.to_owned(),
    };
    let database = match (kind, database) {
        ("redis", "") => "0",
        (_, database) => database,
    };
    format!("{host}:{port}/{database}?{place}")
}

fn is_place(parameter: &str) -> bool {
    let name = parameter.split('=').next().unwrap_or_default();
    matches!(name, "dbname" | "host" | "hostaddr" | "port" | "socket")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn location(settings: &[(&str, &str)]) -> Location {
        let set = |config: Config, (key, value): &(&str, &str)| config.set(key, value).unwrap();
        Location::of(&settings.iter().fold(Config::new(), set))
    }

    fn engine(kind: &str, url: &str) -> Location {
        location(&[("storageType", kind), ("database", url)])
    }

    #[test]
    fn one_store_is_known_by_all_its_names() {
        let files = |path: &str| location(&[("storageFileDir", path)]);
        let here = std::env::current_dir().unwrap().join("a");
        let sqlite = |path| engine("sqlite", path);
        let redis = |url| engine("redis", url);
        let socket = |place: &str| engine("postgres", &format!("postgres://u@/x?host={place}"));
        let table = |name| {
            let url = ("database", "mysql://h/x");
            location(&[("storageType", "mysql"), url, ("table", name)])
        };
        let one = redis("redis://LOCALHOST:6379/0");
        for (name, other, is_same) in [
            (files("/tmp/a/"), files("/tmp//a"), true),
            (
                files("/proc/self/cwd/a"),
                files(here.to_str().unwrap()),
                true,
            ),
            (files("/tmp/a"), files("/tmp/b"), false),
            (sqlite("sqlite:///tmp/a"), sqlite("/tmp/a"), true),
            (sqlite("/tmp/a"), files("/tmp/a"), false),
            (redis("redis://localhost"), one.clone(), true),
            (redis("redis://u:p@127.0.0.1:6379/0?x=1"), one.clone(), true),
            (redis("redis://127.0.0.1/1"), one.clone(), false),
            (redis("redis://127.0.0.1:6380"), one.clone(), false),
            (redis("redis://b"), one, false),
            (socket("/run/a"), socket("/run/a&connect_timeout=1"), true),
            (socket("/run/a"), socket("/run/b"), false),
            (table("a"), table("b"), false),
            (table("a"), table("a"), true),
        ] {
            assert_eq!(name.is(&other), is_same, "{name} and {other}");
        }
    }

    #[test]
    fn a_location_is_shown_without_its_password() {
        let shown = engine("redis", "redis://ada:secret@h/0");
        assert!(shown.is_in_engine());
        assert_eq!(shown.to_string(), "redis://ada:***@h/0");
        assert!(!format!("{shown:?}").contains("secret"));
        let ram = location(&[("storageType", "ram")]);
        assert_eq!(ram.to_string(), "storageType = ram");
        assert!(ram.owner().is_none() && !ram.is_in_engine());
    }
}
