//! [`Place`]: where the server is, and how it is spoken to.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;
use std::{io, thread};

use cgi_session::{Config, Error, Result};
use cgi_session_kit::access;
#[cfg(feature = "tls")]
use cgi_session_kit::tls;
use redis::{
    Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _, RedisConnectionInfo,
    RedisError, RedisResult, parse_redis_url,
};

use super::sentinel::Sentinels;

const FORMS: &str = "redis://127.0.0.1:6379/0, redis+unix:///run/redis/redis.sock?db=0, for a cluster \
                     redis+cluster://127.0.0.1:7001,127.0.0.1:7002/, with sentinels \
                     redis+sentinel://127.0.0.1:26379,127.0.0.1:26380/NAME/0 or, with TLS, rediss://redis.example/0, \
                     rediss+cluster:// and rediss+sentinel://";
/// The limit of time for an answer, and for a connection.
const PATIENCE: Duration = Duration::from_secs(5);
const SENTINEL_PORT: u16 = 26379;
const WRONG: &str = "it is no URL of a Redis server";
const NO_TLS: &str = "this program was built without the feature tls of cgi-session-redis";

/// A server, a cluster or a service with sentinels, and how it is connected to.
pub(super) struct Place {
    /// The server, or one of several.
    pub(super) server: ConnectionInfo,
    /// The nodes of a cluster or the sentinels that `database` names.
    pub(super) hosts: Vec<Address>,
    pub(super) is_cluster: bool,
    pub(super) sentinels: Option<Sentinels>,
    /// What may be said of it.
    pub(super) shown: Arc<str>,
    /// How long an answer or a connection is waited for.
    pub(super) patience: Duration,
    has_connected: AtomicBool,
    config: Config,
    #[cfg(feature = "tls")]
    certificates: Option<redis::TlsCertificates>,
}

type Parsed = (ConnectionInfo, Vec<Address>, Option<Sentinels>);

/// Host and port.
pub(super) type Address = (String, u16);

/// What `database` names.
#[derive(Clone, Copy)]
enum Kind {
    Server,
    Cluster,
    Sentinels,
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
        let parsed = parse(database).map_err(|reason| wrong(&reason))?;
        let (server, hosts, sentinels) = parsed;
        access::password(config, server.redis_settings().password().is_some())?;
        let is_encrypted = matches!(server.addr(), ConnectionAddr::TcpTls { .. });
        access::check_encryption(config, is_encrypted, "write rediss:// in database")?;
        let place = Place {
            is_cluster: sentinels.is_none() && !hosts.is_empty(),
            sentinels,
            #[cfg(feature = "tls")]
            certificates: certificates(config)?,
            shown: Arc::from(&*shown),
            patience: config.lock_timeout().min(PATIENCE),
            has_connected: AtomicBool::new(false),
            config: config.clone(),
            server,
            hosts,
        };
        // Certificates that cannot be used are found out here.
        let client = place.client(place.server.clone());
        client.map_err(|error| wrong(&told(&error)))?;
        Ok(place)
    }

    /// The server of several that is there.
    pub(super) fn at(&self, address: &Address) -> ConnectionInfo {
        moved(&self.server, address)
    }

    /// The same server with the password of the configuration, which may have changed since.
    pub(super) fn let_in(&self, server: ConnectionInfo) -> Result<ConnectionInfo> {
        Ok(match self.config.database_password()? {
            Some(password) => {
                let settings = server.redis_settings().clone();
                server.set_redis_settings(settings.set_password(password))
            }
            None => server,
        })
    }

    /// A connection that is there in this time, or an error.
    pub(super) fn connect(
        &self,
        server: ConnectionInfo,
        limit: Duration,
    ) -> RedisResult<redis::Connection> {
        let is_first = !self.has_connected.swap(true, Ordering::Relaxed);
        let has_limit = match address(&server) {
            Some((host, _)) => host == "localhost" || host.parse::<IpAddr>().is_ok(),
            // A program of one request would pay for the thread as much as for the rest.
            None => is_first,
        };
        let client = self.client(server)?;
        if has_limit {
            return client.get_connection_with_timeout(limit);
        }
        // The system has no limit for the address of a name, nor for a socket whose queue is full.
        let (sender, receiver) = mpsc::channel();
        thread::Builder::new().spawn(move || {
            // The receiver may have given up.
            let _ = sender.send(client.get_connection_with_timeout(limit));
        })?;
        let connected = receiver.recv_timeout(limit);
        connected.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into()))
    }

    /// What connects to a server.
    #[cfg_attr(
        not(feature = "tls"),
        expect(clippy::unused_self, reason = "only TLS needs more than the address")
    )]
    fn client(&self, node: ConnectionInfo) -> RedisResult<Client> {
        #[cfg(feature = "tls")]
        if let Some(certificates) = &self.certificates
            && matches!(node.addr(), ConnectionAddr::TcpTls { .. })
        {
            return Client::build_with_tls(node, certificates.clone());
        }
        Client::open(node)
    }
}

fn address(of: &ConnectionInfo) -> Option<Address> {
    match of.addr() {
        ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
            Some((host.clone(), *port))
        }
        _ => None,
    }
}

/// The same server at another address.
fn moved(server: &ConnectionInfo, (host, port): &Address) -> ConnectionInfo {
    let mut address = server.addr().clone();
    if let ConnectionAddr::Tcp(its_host, its_port)
    | ConnectionAddr::TcpTls {
        host: its_host,
        port: its_port,
        ..
    } = &mut address
    {
        its_host.clone_from(host);
        *its_port = *port;
    }
    server.clone().set_addr(address)
}

/// What a URL names: a server, and the hosts where there are several.
fn parse(database: &str) -> Result<Parsed, String> {
    if let Some((scheme, rest)) = database.split_once("+cluster://") {
        let (server, hosts, _) = several(scheme, rest, Kind::Cluster)?;
        if server.redis_settings().db() != 0 {
            return Err("a cluster has no database but 0".to_owned());
        }
        return Ok((server, hosts, None));
    }
    if let Some((scheme, rest)) = database.split_once("+sentinel://") {
        // The name of the primary stands before the number of the database.
        let (hosts, path) = rest.split_once('/').unwrap_or((rest, ""));
        let end = path.find(['/', '?', '#']).unwrap_or(path.len());
        let (service, rest) = path.split_at(end);
        let rest = format!("{hosts}{rest}");
        let (server, hosts, settings) = several(scheme, &rest, Kind::Sentinels)?;
        if service.is_empty() {
            return Err(
                "it does not say under which name the sentinels know the primary".to_owned(),
            );
        }
        return Ok((server, hosts, Some(Sentinels::new(service, settings))));
    }
    let (server, _) = info(database, Kind::Server)?;
    Ok((server, Vec::new(), None))
}

/// The first of several hosts, all of them, and what lets in if they are sentinels.
fn several(
    scheme: &str,
    rest: &str,
    kind: Kind,
) -> Result<(ConnectionInfo, Vec<Address>, RedisConnectionInfo), String> {
    let at = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, rest) = rest.split_at(at);
    let at = authority.rfind('@').map_or(0, |at| at + 1);
    let (user, hosts) = authority.split_at(at);
    let infos = hosts
        .split(',')
        .map(|host| info(&format!("{scheme}://{user}{host}{rest}"), kind));
    let infos = infos.collect::<Result<Vec<_>, _>>()?;
    let hosts = infos.iter().filter_map(|(info, _)| address(info)).collect();
    let (server, settings) = infos.into_iter().next().ok_or(WRONG)?;
    Ok((server, hosts, settings))
}

fn info(url: &str, kind: Kind) -> Result<(ConnectionInfo, RedisConnectionInfo), String> {
    let url = parse_redis_url(url).ok_or(WRONG)?;
    let known: &[&str] = match (url.scheme(), kind) {
        ("rediss" | "valkeys", _) if !cfg!(feature = "tls") => return Err(NO_TLS.to_owned()),
        ("redis" | "valkey" | "rediss" | "valkeys", Kind::Sentinels) => {
            &["sentinelUser", "sentinelPass"]
        }
        ("redis" | "valkey" | "rediss" | "valkeys", _) => &[],
        ("redis+unix" | "valkey+unix", Kind::Server) => &["db", "user", "pass"],
        _ => return Err(WRONG.to_owned()),
    };
    // One answer less to be waited for.
    let mut of_sentinel = RedisConnectionInfo::default().set_skip_set_lib_name();
    for (name, value) in url.query_pairs() {
        of_sentinel = match &*name {
            name if !known.contains(&name) => return Err(format!("there is no parameter {name}")),
            "sentinelUser" => of_sentinel.set_username(value),
            "sentinelPass" => of_sentinel.set_password(value),
            _ => of_sentinel,
        };
    }
    if url.fragment().is_some() {
        return Err("nothing may stand behind a #".to_owned());
    }
    let has_port = url.port().is_some();
    let mut info = url.into_connection_info().map_err(|error| told(&error))?;
    if let (Kind::Sentinels, false, Some((host, _))) = (kind, has_port, address(&info)) {
        info = moved(&info, &(host, SENTINEL_PORT));
    }
    let settings = info.redis_settings().clone().set_skip_set_lib_name();
    if settings.db() < 0 {
        return Err("Invalid database number".to_owned());
    }
    Ok((info.set_redis_settings(settings), of_sentinel))
}

/// The library's word for what is wrong, of which only a detail could quote the URL.
fn told(error: &RedisError) -> String {
    let text = error.to_string();
    text.split(" - ").next().unwrap_or_default().to_owned()
}

/// What a server is verified by, unless that is what the system trusts, and what it may ask for.
#[cfg(feature = "tls")]
fn certificates(config: &Config) -> Result<Option<redis::TlsCertificates>> {
    tls::provide();
    let (root_cert, own) = (tls::authorities(config)?, tls::identity(config)?);
    let client_tls = own.map(|own| {
        let [client_cert, client_key] = own.pem.map(String::into_bytes);
        redis::ClientTlsConfig {
            client_cert,
            client_key,
        }
    });
    let is_any = root_cert.is_some() || client_tls.is_some();
    Ok(is_any.then_some(redis::TlsCertificates {
        client_tls,
        root_cert,
    }))
}
