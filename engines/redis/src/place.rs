//! [`Place`]: where the server is, and how it is spoken to.

use std::net::IpAddr;
use std::sync::{Arc, mpsc};
use std::time::Duration;
use std::{io, thread};

use cgi_session::{Config, Error, Result};
use cgi_session_kit::access;
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
const NO_TLS: &str = "this program was built without the feature tls of cgi-session-redis";

/// A server, a cluster or a service with sentinels, and how it is connected to.
pub(super) struct Place {
    /// The server, or the nodes of a cluster or the sentinels that `database` names.
    pub(super) seeds: Vec<ConnectionInfo>,
    pub(super) kind: Kind,
    /// What may be said of it.
    pub(super) shown: Arc<str>,
    /// How long an answer or a connection is waited for.
    pub(super) patience: Duration,
    config: Config,
    #[cfg(feature = "tls")]
    certificates: Option<redis::TlsCertificates>,
}

/// Host and port.
pub(super) type Address = (String, u16);

/// What `database` names.
pub(super) enum Kind {
    Server,
    Cluster,
    Sentinels(Sentinels),
}

/// The same, while its URL is read.
#[derive(Clone, Copy)]
enum Form {
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
        let (kind, seeds) = parse(database).map_err(|reason| wrong(&reason))?;
        let has_password = |info: &ConnectionInfo| info.redis_settings().password().is_some();
        access::password(config, seeds.iter().any(has_password))?;
        let place = Place {
            kind,
            #[cfg(feature = "tls")]
            certificates: certificates(config)?,
            shown: Arc::from(&*shown),
            patience: config.lock_timeout().min(PATIENCE),
            config: config.clone(),
            seeds,
        };
        // Certificates that cannot be used are found out here.
        for seed in &place.seeds {
            let client = place.client(seed.clone());
            client.map_err(|error| wrong(&told(&error)))?;
        }
        Ok(place)
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
        let has_limit = address(&server).is_some_and(|(host, _)| host.parse::<IpAddr>().is_ok());
        let client = self.client(server)?;
        if has_limit {
            return client.get_connection_with_timeout(limit);
        }
        // The system has no limit for the address of a name, nor for a socket whose queue is full.
        let (sender, receiver) = mpsc::channel();
        thread::Builder::new().spawn(move || {
            // Nobody may wait any more.
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

/// The servers that a URL names, and whether they are nodes of a cluster or sentinels.
fn parse(database: &str) -> Result<(Kind, Vec<ConnectionInfo>), String> {
    if let Some((scheme, rest)) = database.split_once("+cluster://") {
        let (seeds, _) = infos(scheme, rest, Form::Cluster)?;
        if seeds.iter().any(|seed| seed.redis_settings().db() != 0) {
            return Err("a cluster has no database but 0".to_owned());
        }
        return Ok((Kind::Cluster, seeds));
    }
    if let Some((scheme, rest)) = database.split_once("+sentinel://") {
        // The name of the primary stands before the number of the database.
        let (hosts, path) = rest.split_once('/').unwrap_or((rest, ""));
        let end = path.find(['/', '?', '#']).unwrap_or(path.len());
        let (service, rest) = path.split_at(end);
        let (seeds, settings) = infos(scheme, &format!("{hosts}{rest}"), Form::Sentinels)?;
        if service.is_empty() {
            return Err(
                "it does not say under which name the sentinels know the primary".to_owned(),
            );
        }
        let sentinels = Sentinels::new(service, settings);
        return Ok((Kind::Sentinels(sentinels), seeds));
    }
    let (seed, _) = info(database, Form::Server)?;
    Ok((Kind::Server, vec![seed]))
}

/// Each of several hosts as if it were the only one, and what they let in if they are sentinels.
fn infos(
    scheme: &str,
    rest: &str,
    form: Form,
) -> Result<(Vec<ConnectionInfo>, RedisConnectionInfo), String> {
    let at = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, rest) = rest.split_at(at);
    let at = authority.rfind('@').map_or(0, |at| at + 1);
    let (user, hosts) = authority.split_at(at);
    let mut infos = Vec::new();
    let mut settings = RedisConnectionInfo::default();
    for host in hosts.split(',') {
        let (info, its_settings) = info(&format!("{scheme}://{user}{host}{rest}"), form)?;
        infos.push(info);
        settings = its_settings;
    }
    Ok((infos, settings))
}

fn info(url: &str, form: Form) -> Result<(ConnectionInfo, RedisConnectionInfo), String> {
    const WRONG: &str = "it is no URL of a Redis server";
    let url = parse_redis_url(url).ok_or(WRONG)?;
    let known: &[&str] = match (url.scheme(), form) {
        ("rediss" | "valkeys", _) if !cfg!(feature = "tls") => return Err(NO_TLS.to_owned()),
        ("redis" | "valkey" | "rediss" | "valkeys", Form::Sentinels) => {
            &["sentinelUser", "sentinelPass"]
        }
        ("redis" | "valkey" | "rediss" | "valkeys", _) => &[],
        ("redis+unix" | "valkey+unix", Form::Server) => &["db", "user", "pass"],
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
    if let (Form::Sentinels, false, Some((host, _))) = (form, has_port, address(&info)) {
        info = neighbour(&info, host, SENTINEL_PORT);
    }
    let settings = info.redis_settings().clone().set_skip_set_lib_name();
    Ok((info.set_redis_settings(settings), of_sentinel))
}

/// The library's word for what is wrong, of which only a detail could quote the URL.
fn told(error: &RedisError) -> String {
    let text = error.to_string();
    text.split(" - ").next().unwrap_or_default().to_owned()
}

/// Those that a server is verified by, unless it is by those of the system.
#[cfg(feature = "tls")]
fn certificates(config: &Config) -> Result<Option<redis::TlsCertificates>> {
    // The client panics where there is none, or several to choose from.
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // Another thread may have been faster.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
    let certificates = access::authorities(config)?;
    Ok(certificates.map(|root_cert| redis::TlsCertificates {
        client_tls: None,
        root_cert: Some(root_cert),
    }))
}
