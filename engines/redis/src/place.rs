//! [`Place`]: where the server is, and how it is spoken to.

use cgi_session::{Config, Error, Result};
use cgi_session_kit::access;
use redis::{
    Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _, RedisError, RedisResult,
    parse_redis_url,
};

const FORMS: &str = "redis://127.0.0.1:6379/0, redis+unix:///run/redis/redis.sock?db=0, for a cluster \
                     redis+cluster://127.0.0.1:7001,127.0.0.1:7002/ or, with TLS, rediss://redis.example/0 \
                     and rediss+cluster://";
const NO_TLS: &str = "this program was built without the feature tls of cgi-session-redis";

/// A server that can be connected to, or a cluster, and what may be said of it.
pub(super) struct Place {
    /// The server, or those nodes of a cluster that are named.
    pub(super) seeds: Vec<ConnectionInfo>,
    pub(super) is_cluster: bool,
    pub(super) shown: String,
    #[cfg(feature = "tls")]
    certificates: Option<redis::TlsCertificates>,
}

impl Place {
    /// The server that `database` names.
    pub(super) fn of(config: &Config) -> Result<Self> {
        let Some(database) = config.database() else {
            let text = format!("database is not set: storageType = redis needs {FORMS}");
            return Err(Error::Config(text));
        };
        let shown = config.get("database").unwrap_or_default();
        let wrong = |reason: &str| {
            let origin = config.origin("database");
            Error::Config(format!(
                "database = {shown} ({origin}): {reason}; storageType = redis needs {FORMS}"
            ))
        };
        let urls = of_nodes(database);
        let is_cluster = urls.is_some();
        let urls = urls.unwrap_or_else(|| vec![database.to_owned()]);
        let infos = urls.iter().map(|url| info(url, is_cluster));
        let infos = infos.collect::<Result<Vec<_>, _>>();
        let infos = infos.map_err(|reason| wrong(&reason))?;
        let has_password = |info: &ConnectionInfo| info.redis_settings().password().is_some();
        let password = access::password(config, infos.iter().any(has_password))?;
        let with_password = |info: ConnectionInfo| match &password {
            Some(password) => {
                let settings = info.redis_settings().clone();
                info.set_redis_settings(settings.set_password(password))
            }
            None => info,
        };
        Ok(Place {
            seeds: infos.into_iter().map(with_password).collect(),
            is_cluster,
            #[cfg(feature = "tls")]
            certificates: certificates(config)?,
            shown,
        })
    }

    /// What connects to a server that is alone.
    pub(super) fn only_client(&self) -> Result<Client> {
        let server = self.seeds.first().cloned();
        let client = server.map(|server| self.client(server));
        let told = |reason: &str| Error::Config(format!("database = {}: {reason}", self.shown));
        client
            .ok_or_else(|| told("it names no server"))?
            .map_err(|error| told(&self::told(&error)))
    }

    /// What connects to a node.
    #[cfg_attr(
        not(feature = "tls"),
        expect(clippy::unused_self, reason = "only TLS needs more than the address")
    )]
    pub(super) fn client(&self, node: ConnectionInfo) -> RedisResult<Client> {
        #[cfg(feature = "tls")]
        if let Some(certificates) = &self.certificates
            && matches!(node.addr(), ConnectionAddr::TcpTls { .. })
        {
            return Client::build_with_tls(node, certificates.clone());
        }
        Client::open(node)
    }
}

/// A node of the same cluster.
pub(super) fn neighbour(of: &ConnectionInfo, host: &str, port: u16) -> ConnectionInfo {
    let mut address = of.addr().clone();
    match &mut address {
        ConnectionAddr::Tcp(its_host, its_port)
        | ConnectionAddr::TcpTls {
            host: its_host,
            port: its_port,
            ..
        } => {
            host.clone_into(its_host);
            *its_port = port;
        }
        _ => {}
    }
    of.clone().set_addr(address)
}

/// Host and port of a node.
pub(super) fn address(of: &ConnectionInfo) -> Option<(&str, u16)> {
    match of.addr() {
        ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
            Some((host, *port))
        }
        _ => None,
    }
}

/// The URLs of the nodes of a cluster, each as of a single server; `None` when it is no cluster.
fn of_nodes(database: &str) -> Option<Vec<String>> {
    let (scheme, rest) = database.split_once("+cluster://")?;
    let at = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, rest) = rest.split_at(at);
    let (user, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
    let user = if user.is_empty() {
        String::new()
    } else {
        format!("{user}@")
    };
    let urls = hosts
        .split(',')
        .map(|host| format!("{scheme}://{user}{host}{rest}"));
    Some(urls.collect())
}

fn info(url: &str, is_cluster: bool) -> Result<ConnectionInfo, String> {
    const WRONG: &str = "it is no URL of a Redis server";
    let url = parse_redis_url(url).ok_or(WRONG)?;
    let known: &[&str] = match url.scheme() {
        "redis" | "valkey" => &[],
        "rediss" | "valkeys" if cfg!(feature = "tls") => &[],
        "rediss" | "valkeys" => return Err(NO_TLS.to_owned()),
        "redis+unix" | "valkey+unix" if !is_cluster => &["db", "user", "pass"],
        _ => return Err(WRONG.to_owned()),
    };
    if let Some((name, _)) = url
        .query_pairs()
        .find(|(name, _)| !known.contains(&&**name))
    {
        return Err(format!("there is no parameter {name}"));
    }
    if url.fragment().is_some() {
        return Err("nothing may stand behind a #".to_owned());
    }
    let info = url.into_connection_info().map_err(|error| told(&error))?;
    let settings = info.redis_settings().clone();
    if is_cluster && settings.db() != 0 {
        return Err("a cluster has no database but 0".to_owned());
    }
    // One answer less to be waited for.
    Ok(info.set_redis_settings(settings.set_skip_set_lib_name()))
}

/// The library's word for what is wrong, of which only a detail could quote the URL.
fn told(error: &RedisError) -> String {
    let text = error.to_string();
    text.split(" - ").next().unwrap_or_default().to_owned()
}

/// Those that a server is verified by, unless it is by those of the system.
#[cfg(feature = "tls")]
fn certificates(config: &Config) -> Result<Option<redis::TlsCertificates>> {
    let certificates = access::authorities(config)?;
    Ok(certificates.map(|root_cert| redis::TlsCertificates {
        client_tls: None,
        root_cert: Some(root_cert),
    }))
}
