//! [`Address`]: where a database server is, from the URL in `database`.

use std::fmt;
use std::path::PathBuf;

use cgi_session::{Config, Error, Result};
use cgi_session_kit::access;
use url::{Host, ParseError, Url};

/// What a kind of server is named by.
pub(super) struct Scheme {
    pub(super) storage_type: &'static str,
    /// The names that a URL may begin with, the one for messages first.
    pub(super) names: &'static [&'static str],
    pub(super) port: u16,
    /// The parameter that names a Unix socket.
    pub(super) socket: &'static str,
    /// What a URL looks like.
    pub(super) example: &'static str,
}

/// The address of a database, and what one needs to be let in.
pub(super) struct Address {
    scheme: &'static str,
    pub(super) place: Place,
    pub(super) user: Option<String>,
    pub(super) password: Option<String>,
    pub(super) database: String,
    #[cfg(feature = "tls")]
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
        let text = config.database().unwrap_or_default();
        let mut address = parse(text, scheme).map_err(|reason| wrong(config, scheme, &reason))?;
        if let Some(password) = access::password(config, address.password.is_some())? {
            address.password = Some(password);
        }
        Ok(address)
    }

    /// The name that a certificate must vouch for.
    #[cfg(all(feature = "postgres", feature = "tls"))]
    pub(super) fn host(&self) -> &str {
        match &self.place {
            Place::Tcp { host, .. } => host,
            Place::Socket { .. } => "localhost",
        }
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

fn parse(text: &str, scheme: &Scheme) -> Result<Address, String> {
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
    let mut host = match url.host() {
        Some(Host::Ipv6(address)) => address.to_string(),
        Some(host) if !is_hostless => decoded(&host.to_string())?,
        _ => String::new(),
    };
    let mut port = url.port().unwrap_or(scheme.port);
    let mut socket = None;
    let mut is_encrypted = false;
    for (name, value) in url.query_pairs() {
        match &*name {
            "sslmode" => is_encrypted = encryption(&value)?,
            "port" => port = value.parse().map_err(|_| "the port is no number")?,
            name if name == scheme.socket && value.starts_with('/') => {
                socket = Some(PathBuf::from(&*value));
            }
            "host" => host = value.into_owned(),
            name => return Err(format!("there is no parameter {name}")),
        }
    }
    let place = match socket {
        Some(_) if is_encrypted => return Err("a Unix socket needs no sslmode".to_owned()),
        Some(path) => Place::Socket { path, port },
        None if host.is_empty() => return Err("it names no host".to_owned()),
        None => Place::Tcp { host, port },
    };
    let database = decoded(url.path().strip_prefix('/').unwrap_or_default())?;
    if database.is_empty() {
        return Err("it names no database".to_owned());
    }
    let user = decoded(url.username())?;
    Ok(Address {
        scheme: scheme.names[0],
        place,
        user: Some(user).filter(|user| !user.is_empty()),
        password: url.password().map(decoded).transpose()?,
        database,
        #[cfg(feature = "tls")]
        is_encrypted,
    })
}

/// With encryption, the server's certificate is verified in every mode.
fn encryption(mode: &str) -> Result<bool, String> {
    match mode {
        "disable" => Ok(false),
        "require" | "verify-ca" | "verify-full" if cfg!(feature = "tls") => Ok(true),
        "require" | "verify-ca" | "verify-full" => {
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
        match &self.place {
            Place::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}")?,
            Place::Tcp { host, port } => write!(f, "{host}:{port}")?,
            Place::Socket { path, .. } => write!(f, "{}", path.display())?,
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
        ] {
            assert_eq!(address(url).unwrap().to_string(), shown);
        }
        let socket = address("postgres:///app?host=/run/pg&port=5433").unwrap();
        let path = PathBuf::from("/run/pg");
        assert_eq!(socket.place, Place::Socket { path, port: 5433 });
        let own = address("postgres://ada:p%40ss@h/app").unwrap();
        assert_eq!(own.password.as_deref(), Some("p@ss"));
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
        assert_eq!(address.password.as_deref(), Some("word"));
        let error = with("postgres://ada:secret@h/app").unwrap_err().to_string();
        assert!(
            error.contains("take one away") && !error.contains("secret"),
            "{error}"
        );
    }
}
