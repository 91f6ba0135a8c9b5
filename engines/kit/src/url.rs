//! [`Grammar`] and [`DatabaseUrl`]: how `database` names servers, the same for every kind of them.

use std::net::IpAddr;

use cgi_session::{Config, Error, Result};
use percent_encoding::percent_decode_str;
use url::{Host, Url};

/// What the URLs of a kind of server may hold: `scheme://user:password@host:port,host:port/path?name=value`.
pub struct Grammar {
    /// What the kind is called in `storageType`.
    pub storage_type: &'static str,
    /// What a URL may begin with, the one for messages first.
    pub schemes: &'static [&'static str],
    /// The names of the parameters that a scheme has.
    pub parameters: fn(scheme: &str) -> &'static [&'static str],
    /// What URLs look like.
    pub example: &'static str,
}

/// The parts of a URL, decoded.
pub struct DatabaseUrl {
    /// One of [`Grammar::schemes`].
    pub scheme: &'static str,
    /// The user, if it names one.
    pub user: Option<String>,
    /// The password, if it holds one.
    pub password: Option<String>,
    /// The hosts and their ports, none where nothing stands between `//` and `/`.
    pub hosts: Vec<(String, Option<u16>)>,
    /// What stands behind the first `/`, and between each further two.
    pub path: Vec<String>,
    /// Each parameter once.
    pub parameters: Vec<(String, String)>,
}

impl Grammar {
    /// What `understand` makes of the URL that `database` holds.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] when there is none, or it is malformed, or `understand` refuses it; without the password.
    pub fn read<T>(
        &self,
        config: &Config,
        understand: impl FnOnce(DatabaseUrl) -> Result<T, String>,
    ) -> Result<T> {
        let wrong = |what: &str| {
            let (kind, example) = (self.storage_type, self.example);
            Error::Config(format!(
                "{what}; storageType = {kind} needs a URL such as {example}"
            ))
        };
        let Some(text) = config.database().filter(|text| !text.is_empty()) else {
            return Err(wrong("database is not set"));
        };
        self.parse(text).and_then(understand).map_err(|reason| {
            let (shown, origin) = (config.get("database"), config.origin("database"));
            let shown = shown.unwrap_or_default();
            wrong(&format!("database = {shown} ({origin}): {reason}"))
        })
    }

    fn parse(&self, text: &str) -> Result<DatabaseUrl, String> {
        let no_scheme = || format!("it must begin with {}://", self.schemes[0]);
        let (scheme, rest) = text.split_once("://").ok_or_else(no_scheme)?;
        let mut known = self.schemes.iter();
        let scheme = known.find(|known| known.eq_ignore_ascii_case(scheme));
        let scheme = scheme.ok_or_else(no_scheme)?;
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, behind) = rest.split_at(end);
        let at = authority.rfind('@').map_or(0, |at| at + 1);
        let (user, hosts) = authority.split_at(at);
        // All but the hosts, of which the crate knows one.
        let behind = behind.replace('+', "%2B");
        let url = parsed(&format!("{scheme}://{user}host{behind}"))?;
        if url.fragment().is_some() {
            return Err("nothing may stand behind a #".to_owned());
        }
        let user = decoded(url.username())?;
        let path = url.path().strip_prefix('/').unwrap_or_default();
        Ok(DatabaseUrl {
            scheme,
            user: Some(user).filter(|user| !user.is_empty()),
            password: url.password().map(decoded).transpose()?,
            hosts: match hosts {
                "" => Vec::new(),
                _ => hosts.split(',').map(host).collect::<Result<_, _>>()?,
            },
            path: path.split('/').map(decoded).collect::<Result<_, _>>()?,
            parameters: parameters(&url, (self.parameters)(scheme))?,
        })
    }
}

fn parameters(url: &Url, known: &[&str]) -> Result<Vec<(String, String)>, String> {
    let mut found: Vec<(String, String)> = Vec::new();
    for (name, value) in url.query_pairs() {
        if !known.contains(&&*name) {
            // It may be the end of a password.
            if url.query().is_some_and(|query| query.contains('@')) {
                let reason =
                    "what has a / ? or # in it, such as a password, must be percent-encoded";
                return Err(reason.to_owned());
            }
            return Err(format!("there is no parameter {name}"));
        }
        if found.iter().any(|(other, _)| *other == name) {
            return Err(format!("it has two parameters {name}"));
        }
        let value = without_nul(value.into_owned())?;
        found.push((name.into_owned(), value));
    }
    Ok(found)
}

/// One of the hosts, and its port.
fn host(text: &str) -> Result<(String, Option<u16>), String> {
    let url = parsed(&format!("host://{text}"))?;
    let host = match url.host() {
        Some(Host::Ipv6(address)) => address.to_string(),
        Some(host) => decoded(&host.to_string())?,
        None => return Err("one of its hosts is empty".to_owned()),
    };
    Ok((of_a_server(host)?, url.port()))
}

/// A host, unless its address is that of no server.
///
/// # Errors
///
/// When it is a wildcard address.
pub fn of_a_server(host: String) -> Result<String, String> {
    let address = host.parse::<IpAddr>();
    if address.is_ok_and(|address| address.is_unspecified()) {
        return Err("a wildcard address is no address of a server".to_owned());
    }
    Ok(host)
}

/// The crate's words for what is wrong quote nothing.
fn parsed(url: &str) -> Result<Url, String> {
    Url::parse(url).map_err(|error| error.to_string())
}

fn decoded(text: &str) -> Result<String, String> {
    let decoded = percent_decode_str(text).decode_utf8();
    without_nul(decoded.map_err(|_| "it is not UTF-8")?.into_owned())
}

fn without_nul(text: String) -> Result<String, String> {
    if text.contains('\0') {
        return Err("it holds a NUL".to_owned());
    }
    Ok(text)
}
