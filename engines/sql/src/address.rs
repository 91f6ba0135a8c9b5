//! [`Address`]: where a database server is, from the URL in `database`.

use std::fmt;

use cgi_session::{Config, Result};
use cgi_session_kit::access;
use cgi_session_kit::url::{DatabaseUrl, Grammar, of_a_server};

use super::dialect::{Failure, Kind};

/// What a kind of server is named by.
pub(super) struct Scheme {
    pub(super) grammar: Grammar,
    pub(super) port: u16,
    /// Whether a URL may name several servers.
    pub(super) several_hosts: bool,
}

/// The address of a database, and what one needs to be let in.
pub(super) struct Address {
    scheme: &'static str,
    /// Hosts or sockets, and their ports, at least one.
    pub(super) places: Vec<(String, u16)>,
    /// Whether it must be a server that takes writes.
    pub(super) is_primary: bool,
    /// What the server is started with for us, such as `-csearch_path=app`.
    pub(super) options: Option<String>,
    pub(super) user: Option<String>,
    /// That of the URL.
    password: Option<String>,
    pub(super) database: String,
    /// Where another password is.
    pub(super) config: Config,
    pub(super) is_encrypted: bool,
}

/// Whether a host is the path of a socket, or of its directory.
pub(super) fn is_socket(host: &str) -> bool {
    host.starts_with('/')
}

impl Address {
    /// The address that the configuration names.
    pub(super) fn of(config: &Config, scheme: &Scheme) -> Result<Self> {
        let understand = |url| understand(url, config, scheme);
        let address = scheme.grammar.read(config, understand)?;
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

fn understand(url: DatabaseUrl, config: &Config, scheme: &Scheme) -> Result<Address, String> {
    let mut hosts = url.hosts;
    let has_several = hosts.len() > 1;
    if has_several && !scheme.several_hosts {
        return Err("it names several hosts".to_owned());
    }
    for (one, other) in [("sslmode", "ssl-mode"), ("host", "socket")] {
        let has = |name| url.parameters.iter().any(|(known, _)| known == name);
        if has(one) && has(other) {
            return Err(format!("{one} and {other} are one parameter"));
        }
    }
    let mut address = Address {
        scheme: scheme.grammar.schemes[0],
        places: Vec::new(),
        is_primary: has_several,
        options: None,
        user: url.user,
        password: url.password,
        database: url.path.join("/"),
        config: config.clone(),
        is_encrypted: false,
    };
    for (name, value) in url.parameters {
        match &*name {
            "sslmode" | "ssl-mode" => address.is_encrypted = encryption(&value)?,
            "socket" if !value.starts_with('/') => return Err("socket must be a path".to_owned()),
            "options" => address.options = Some(value),
            "target_session_attrs" if !["read-write", "primary"].contains(&&*value) => {
                return Err("target_session_attrs must be read-write".to_owned());
            }
            "target_session_attrs" => address.is_primary = true,
            _ if has_several => {
                return Err(format!("with several hosts there is no parameter {name}"));
            }
            _ => {
                // As libpq has it, they take the place of those before the path.
                let mut place = hosts.pop().unwrap_or_default();
                match &*name {
                    "port" => place.1 = Some(value.parse().map_err(|_| "the port is no number")?),
                    _ => place.0 = of_a_server(value)?,
                }
                hosts.push(place);
            }
        }
    }
    if hosts.is_empty() || hosts.iter().any(|(host, _)| host.is_empty()) {
        return Err("it names no host".to_owned());
    }
    if address.is_encrypted && hosts.iter().any(|(host, _)| is_socket(host)) {
        return Err("a Unix socket needs no sslmode".to_owned());
    }
    if address.database.is_empty() {
        return Err("it names no database".to_owned());
    }
    let place = |(host, port): (String, Option<u16>)| (host, port.unwrap_or(scheme.port));
    address.places = hosts.into_iter().map(place).collect();
    Ok(address)
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

/// What may be said of it: no password.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://", self.scheme)?;
        if let Some(user) = &self.user {
            write!(f, "{user}@")?;
        }
        for (number, (host, port)) in self.places.iter().enumerate() {
            f.write_str(if number == 0 { "" } else { "," })?;
            match host {
                host if is_socket(host) => f.write_str(host)?,
                host if host.contains(':') => write!(f, "[{host}]:{port}")?,
                host => write!(f, "{host}:{port}")?,
            }
        }
        write!(f, "/{}", self.database)
    }
}
