//! [`Address`]: where a database server is, from the URL in `database`.

use std::fmt;
use std::path::PathBuf;

use cgi_session::{Config, Error, Result};
use cgi_session_kit::access;
use url::{Host, ParseError, Url};

use super::engine::{Failure, Kind};

/// What a kind of server is named by.
pub(super) struct Scheme {
    pub(super) storage_type: &'static str,
    /// The names that a URL may begin with, the one for messages first.
    pub(super) names: &'static [&'static str],
    pub(super) port: u16,
    /// The parameter that names a Unix socket.
    pub(super) socket: &'static str,
    /// Whether a URL may name several servers, and have the parameters of libpq that belong to that.
    pub(super) several_hosts: bool,
    /// What a URL looks like.
    pub(super) example: &'static str,
}

/// The address of a database, and what one needs to be let in.
pub(super) struct Address {
    scheme: &'static str,
    /// Where its servers are, at least one.
    pub(super) places: Vec<Place>,
    /// Whether it must be a server that takes writes.
    #[cfg_attr(
        not(feature = "postgres"),
        expect(dead_code, reason = "MySQL has one host")
    )]
    pub(super) is_primary: bool,
    /// What the server is started with for us, such as `-csearch_path=app`.
    #[cfg_attr(
        not(feature = "postgres"),
        expect(dead_code, reason = "MySQL has none")
    )]
    pub(super) options: Option<String>,
    pub(super) user: Option<String>,
    /// That of the URL.
    password: Option<String>,
    pub(super) database: String,
    /// Where another password is.
    config: Config,
    pub(super) is_encrypted: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Place {
    Tcp { host: String, port: u16 },
    Socket { path: PathBuf, port: u16 },
}

impl Address {
    /// The address that the configuration names.
    pub(super) fn of(config: &Config, scheme: &Scheme) -> Result<Self> {
        let parsed = parse(config, scheme).map_err(|reason| wrong(config, scheme, &reason));
        let address = parsed?;
        access::password(config, address.password.is_some())?;
        let remedy = "add ?sslmode=verify-full to database";
        access::check_encryption(config, address.is_encrypted, remedy)?;
        Ok(address)
    }

    /// The password as it is now: another program may write a new one into the file.
    pub(super) fn password(&self) -> Result<Option<String>, Failure> {
        let password = access::password(&self.config, self.password.is_some());
        let password = password.map_err(|error| Failure::new(Kind::Refused, error))?;
        Ok(password.or_else(|| self.password.clone()))
    }
}

fn wrong(config: &Config, scheme: &Scheme, reason: &str) -> Error {
    let shown = config.get("database").unwrap_or_default();
    let told = if shown.is_empty() {
        "database is not set".to_owned()
    } else {
        format!(
            "database = {shown} ({}): {reason}",
            config.origin("database")
        )
    };
    Error::Config(format!(
        "{told}; storageType = {} needs a URL such as {}",
        scheme.storage_type, scheme.example
    ))
}

/// Takes the other hosts out of a URL that names several.
fn split(text: &str) -> (String, Vec<&str>) {
    let begin = text.find("://").map_or(0, |at| at + 3);
    let end = text[begin..].find(['/', '?', '#']);
    let end = end.map_or(text.len(), |at| begin + at);
    let begin = text[begin..end]
        .rfind('@')
        .map_or(begin, |at| begin + at + 1);
    let mut hosts = text[begin..end].split(',');
    let first = hosts.next().unwrap_or_default();
    let url = format!("{}{first}{}", &text[..begin], &text[end..]);
    (url, hosts.collect())
}

/// A server by its host and port.
fn place(url: &Url, scheme: &Scheme) -> Result<Place, String> {
    let host = match url.host() {
        Some(Host::Ipv6(address)) => address.to_string(),
        Some(host) => decoded(&host.to_string())?,
        None => String::new(),
    };
    let port = url.port().unwrap_or(scheme.port);
    Ok(Place::Tcp { host, port })
}

fn parse(config: &Config, scheme: &Scheme) -> Result<Address, String> {
    let (text, others) = split(config.database().unwrap_or_default());
    let text = text.as_str();
    let (url, is_hostless) = match Url::parse(text) {
        // As libpq has it, a user may stand before no host where there is a socket.
        Err(ParseError::EmptyHost) => (Url::parse(&text.replacen("@/", "@localhost/", 1)), true),
        parsed => (parsed, false),
    };
    let url = url.map_err(|error| error.to_string())?;
    if !scheme.names.contains(&url.scheme()) {
        return Err(format!("it must begin with {}://", scheme.names[0]));
    }
    if url.fragment().is_some() {
        return Err("nothing may stand behind a #".to_owned());
    }
    let Place::Tcp { mut host, mut port } = place(&url, scheme)? else {
        return Err("it names no host".to_owned());
    };
    if is_hostless {
        host.clear();
    }
    let mut socket = None;
    let mut options = None;
    let mut is_encrypted = false;
    let mut is_primary = !others.is_empty();
    if is_primary && !scheme.several_hosts {
        return Err("it names several hosts".to_owned());
    }
    for (name, value) in url.query_pairs() {
        match &*name {
            "sslmode" | "ssl-mode" => is_encrypted = encryption(&value)?,
            "options" if scheme.several_hosts => options = Some(value.into_owned()),
            "target_session_attrs" if scheme.several_hosts => {
                if !["read-write", "primary"].contains(&&*value) {
                    return Err("target_session_attrs must be read-write".to_owned());
                }
                is_primary = true;
            }
            "host" | "port" if !others.is_empty() => {
                return Err(format!("with several hosts there is no parameter {name}"));
            }
            "port" => port = value.parse().map_err(|_| "the port is no number")?,
            name if name == scheme.socket && value.starts_with('/') => {
                socket = Some(PathBuf::from(&*value));
            }
            "host" => host = value.into_owned(),
            name => return Err(format!("there is no parameter {name}")),
        }
    }
    let first = match socket {
        Some(_) if is_encrypted => return Err("a Unix socket needs no sslmode".to_owned()),
        Some(path) => Place::Socket { path, port },
        None if host.is_empty() => return Err("it names no host".to_owned()),
        None => Place::Tcp { host, port },
    };
    let mut places = vec![first];
    for other in others {
        let url = Url::parse(&format!("{}://{other}", scheme.names[0]));
        places.push(place(&url.map_err(|error| error.to_string())?, scheme)?);
    }
    let database = decoded(url.path().strip_prefix('/').unwrap_or_default())?;
    if database.is_empty() {
        return Err("it names no database".to_owned());
    }
    let user = decoded(url.username())?;
    Ok(Address {
        scheme: scheme.names[0],
        places,
        is_primary,
        options,
        user: Some(user).filter(|user| !user.is_empty()),
        password: url.password().map(decoded).transpose()?,
        database,
        config: config.clone(),
        is_encrypted,
    })
}

/// With encryption, the server's certificate is verified in every mode.
fn encryption(mode: &str) -> Result<bool, String> {
    match mode.to_ascii_lowercase().replace('_', "-").as_str() {
        "disable" | "disabled" => Ok(false),
        "require" | "required" | "verify-ca" | "verify-full" | "verify-identity" => {
            if cfg!(feature = "tls") {
                return Ok(true);
            }
            Err("this program was built without the feature tls of cgi-session-sql".to_owned())
        }
        _ => Err("sslmode must be disable or verify-full".to_owned()),
    }
}

fn decoded(text: &str) -> Result<String, String> {
    let decoded = percent_encoding::percent_decode_str(text).decode_utf8();
    let decoded = decoded.map_err(|_| "it is not UTF-8".to_owned())?;
    if decoded.contains('\0') {
        return Err("it holds a NUL".to_owned());
    }
    Ok(decoded.into_owned())
}

/// What may be said of it: no password.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://", self.scheme)?;
        if let Some(user) = &self.user {
            write!(f, "{user}@")?;
        }
        for (number, place) in self.places.iter().enumerate() {
            f.write_str(if number == 0 { "" } else { "," })?;
            match place {
                Place::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}")?,
                Place::Tcp { host, port } => write!(f, "{host}:{port}")?,
                Place::Socket { path, .. } => write!(f, "{}", path.display())?,
            }
        }
        write!(f, "/{}", self.database)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEME: Scheme = Scheme {
        storage_type: "postgres",
        names: &["postgres", "postgresql"],
        port: 5432,
        socket: "host",
        several_hosts: true,
        example: "postgres://user@host/name",
    };

    fn address(url: &str) -> Result<Address> {
        Address::of(&Config::new().set("database", url).unwrap(), &SCHEME)
    }

    #[test]
    fn a_url_names_a_host_or_a_socket() {
        for (url, shown) in [
            (
                "postgres://ada:pw@db.example/app",
                "postgres://ada@db.example:5432/app",
            ),
            ("postgresql://[::1]:5433/app", "postgres://[::1]:5433/app"),
            ("postgres://a%40b@h/x%20y", "postgres://a@b@h:5432/x y"),
            (
                "postgres:///app?host=/run/postgresql",
                "postgres:///run/postgresql/app",
            ),
            (
                "postgres://ada@/app?host=/run/pg&port=5433",
                "postgres://ada@/run/pg/app",
            ),
            (
                "postgres://ada:p,w@a,b:5433,[::1]/app?sslmode=disable",
                "postgres://ada@a:5432,b:5433,[::1]:5432/app",
            ),
        ] {
            assert_eq!(address(url).unwrap().to_string(), shown);
        }
        let socket = address("postgres:///app?host=/run/pg&port=5433").unwrap();
        let path = PathBuf::from("/run/pg");
        assert_eq!(socket.places, [Place::Socket { path, port: 5433 }]);
        let own = address("postgres://ada:p%40ss@h/app").unwrap();
        assert_eq!(own.password().unwrap().as_deref(), Some("p@ss"));
        assert!(!format!("{own:?}").contains("p@ss"));
    }

    #[test]
    fn a_wrong_url_is_told_without_its_password() {
        for (url, reason) in [
            ("", "is not set"),
            ("mysql://ada:secret@h/app", "must begin with postgres://"),
            ("postgres://ada:secret@h", "no database"),
            ("postgres://ada:secret@/app", "no host"),
            (
                "postgres://ada:secret@h/app?sslmode=prefer",
                "disable or verify-full",
            ),
            (
                "postgres://ada:secret@h/app?colour=red",
                "no parameter colour",
            ),
            ("postgres://ada:secret@h:port/app", "port"),
            ("postgres://ada:secret@h,b:port/app", "port"),
            ("postgres://ada:secret@a,b/app?host=c", "several hosts"),
            (
                "postgres://ada:secret@a,b/app?target_session_attrs=any",
                "read-write",
            ),
            ("ada:secret@h/app", "postgres://user@host/name"),
        ] {
            let error = address(url).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn a_password_of_its_own_setting_is_taken_and_two_are_refused() {
        let with = |url: &str| {
            let config = Config::new().set("database", url).unwrap();
            Address::of(&config.set("databasePassword", "word").unwrap(), &SCHEME)
        };
        let address = with("postgres://ada@h/app").unwrap();
        assert_eq!(address.password().unwrap().as_deref(), Some("word"));
        let error = with("postgres://ada:secret@h/app").unwrap_err().to_string();
        assert!(
            error.contains("take one away") && !error.contains("secret"),
            "{error}"
        );
    }
}
