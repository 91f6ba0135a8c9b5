//! [`Place`]: where the server is, and how it is spoken to.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;
use std::{io, thread};

use cgi_session::{Config, Error, Result};
use cgi_session_kit::access;
use cgi_session_kit::url::{DatabaseUrl, Grammar};
use redis::{
    Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _, RedisConnectionInfo,
    RedisResult,
};

use super::sentinel::Sentinels;

const GRAMMAR: Grammar = Grammar {
    storage_type: "redis",
    schemes: &[
        "redis",
        "rediss",
        "redis+unix",
        "redis+cluster",
        "rediss+cluster",
        "redis+sentinel",
        "rediss+sentinel",
        "valkey",
        "valkeys",
        "valkey+unix",
        "valkey+cluster",
        "valkeys+cluster",
        "valkey+sentinel",
        "valkeys+sentinel",
    ],
    parameters: |scheme| match scheme.split_once('+') {
        Some((_, "unix")) => &["db", "user", "pass"],
        Some((_, "sentinel")) => &["sentinelUser", "sentinelPass"],
        _ => &[],
    },
    example: "redis://127.0.0.1:6379/0, redis+unix:///run/redis/redis.sock?db=0, for a cluster \
              redis+cluster://127.0.0.1:7001,127.0.0.1:7002/, with sentinels \
              redis+sentinel://127.0.0.1:26379,127.0.0.1:26380/NAME/0 or, with TLS, rediss://redis.example/0, \
              rediss+cluster:// and rediss+sentinel://",
};
/// The limit of time for an answer, and for a connection.
const PATIENCE: Duration = Duration::from_secs(5);

/// A server, a cluster or a service with sentinels, and how it is connected to.
pub(super) struct Place {
    /// The server, or one of several.
    pub(super) server: ConnectionInfo,
    /// The sentinels that `database` names, or the nodes of a cluster; none for a server that is alone.
    pub(super) hosts: Vec<Address>,
    pub(super) sentinels: Option<Sentinels>,
    /// What may be said of it.
    pub(super) shown: Arc<str>,
    /// How long an answer or a connection is waited for.
    pub(super) patience: Duration,
    has_connected: AtomicBool,
    config: Config,
}

/// Host and port.
pub(super) type Address = (String, u16);

impl Place {
    /// The server that `database` names.
    pub(super) fn of(config: &Config) -> Result<Self> {
        let (server, mut hosts, sentinels) = GRAMMAR.read(config, understand)?;
        access::password(config, server.redis_settings().password().is_some())?;
        let is_encrypted = matches!(server.addr(), ConnectionAddr::TcpTls { .. });
        access::check_encryption(config, is_encrypted, "write rediss:// in database")?;
        #[cfg(feature = "tls")]
        let server = with_certificates(config, server)?;
        // A program that serves one request is not to wait each time for the first one, if that is away.
        let first = rand::random_range(0..hosts.len().max(1));
        hosts.rotate_left(first);
        Ok(Place {
            sentinels,
            shown: Arc::from(config.get("database").unwrap_or_default()),
            patience: config.lock_timeout().min(PATIENCE),
            has_connected: AtomicBool::new(false),
            config: config.clone(),
            server,
            hosts,
        })
    }

    /// The server of several that is there.
    pub(super) fn at(&self, (host, port): &Address) -> ConnectionInfo {
        let mut address = self.server.addr().clone();
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
        self.server.clone().set_addr(address)
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
        let has_limit = match server.addr() {
            ConnectionAddr::Tcp(host, _) | ConnectionAddr::TcpTls { host, .. } => {
                host == "localhost" || host.parse::<IpAddr>().is_ok()
            }
            // A program of one request would pay for the thread as much as for the rest.
            _ => !self.has_connected.swap(true, Ordering::Relaxed),
        };
        let client = Client::open(server)?;
        if has_limit {
            return client.get_connection_with_timeout(limit);
        }
        // The system has no limit for finding a name's addresses, of which one may be away, nor for a full socket.
        let (sender, receiver) = mpsc::channel();
        thread::Builder::new().spawn(move || {
            // The receiver may have given up.
            let _ = sender.send(client.get_connection_with_timeout(limit / 2));
        })?;
        let connected = receiver.recv_timeout(limit);
        connected.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into()))
    }
}

/// What the first of several servers answers that can. One that answers otherwise knows more than one that is away.
pub(super) fn first_answer<S, T>(
    servers: impl Iterator<Item = S>,
    mut ask: impl FnMut(S) -> Result<T>,
) -> Result<T> {
    let mut failure = None;
    for server in servers {
        match ask(server) {
            Ok(answer) => return Ok(answer),
            Err(_) if matches!(failure, Some(Error::Store { .. })) => {}
            Err(error) => failure = Some(error),
        }
    }
    Err(failure.unwrap_or_else(|| Error::unavailable("cannot find a server", "none is known")))
}

/// The server, or the first of several, all of several, and the sentinels if it is these.
fn understand(
    url: DatabaseUrl,
) -> Result<(ConnectionInfo, Vec<Address>, Option<Sentinels>), String> {
    let (base, kind) = url.scheme.split_once('+').unwrap_or((url.scheme, ""));
    let is_encrypted = base.ends_with("ss") || base.ends_with("ys");
    if is_encrypted && !cfg!(feature = "tls") {
        return Err(
            "this program was built without the feature tls of cgi-session-redis".to_owned(),
        );
    }
    let port = if kind == "sentinel" { 26379 } else { 6379 };
    let with_port = |(host, own): (String, Option<u16>)| (host, own.unwrap_or(port));
    let hosts: Vec<Address> = url.hosts.into_iter().map(with_port).collect();
    // One answer less to be waited for.
    let mut settings = RedisConnectionInfo::default().set_skip_set_lib_name();
    let mut of_sentinel = settings.clone();
    let (service, mut database) = match (kind, &url.path[..]) {
        ("unix", _) => ("", String::new()),
        ("sentinel", [service, path @ ..]) => (service.as_str(), path.join("/")),
        (_, path) => ("", path.join("/")),
    };
    let own = [("user", url.user), ("pass", url.password)];
    let own = own
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)));
    for (name, value) in url.parameters.into_iter().chain(own) {
        match name.as_str() {
            "db" => database = value,
            "user" => settings = settings.set_username(value),
            "pass" => settings = settings.set_password(value),
            "sentinelUser" => of_sentinel = of_sentinel.set_username(value),
            _ => of_sentinel = of_sentinel.set_password(value),
        }
    }
    let number: u32 = match database.trim_end_matches('/') {
        "" => 0,
        number => number.parse().map_err(|_| "Invalid database number")?,
    };
    settings = settings.set_db(number.into());
    let address = match (kind, &hosts[..]) {
        ("unix", []) => ConnectionAddr::Unix(format!("/{}", url.path.join("/")).into()),
        ("unix", _) => return Err("a Unix socket has no host".to_owned()),
        (_, []) => return Err("it names no host".to_owned()),
        ("", [_, _, ..]) => return Err("it names several hosts".to_owned()),
        ("cluster", _) if number != 0 => return Err("a cluster has no database but 0".to_owned()),
        ("sentinel", _) if service.is_empty() => {
            let reason = "it does not say under which name the sentinels know the primary";
            return Err(reason.to_owned());
        }
        (_, hosts) if hosts.iter().any(|(host, _)| host.starts_with('/')) => {
            return Err("a Unix socket is named by redis+unix:///PATH".to_owned());
        }
        (_, [(host, port), ..]) if is_encrypted => ConnectionAddr::TcpTls {
            host: host.clone(),
            port: *port,
            insecure: false,
            tls_params: None,
        },
        (_, [(host, port), ..]) => ConnectionAddr::Tcp(host.clone(), *port),
    };
    let server = address.into_connection_info();
    let server = server.map_err(|error| error.to_string())?;
    let sentinels = (kind == "sentinel").then(|| Sentinels::new(service, of_sentinel));
    let hosts = if kind.is_empty() { Vec::new() } else { hosts };
    Ok((server.set_redis_settings(settings), hosts, sentinels))
}

/// The server with what it is verified by, unless that is what the system trusts, and what it may ask for.
#[cfg(feature = "tls")]
fn with_certificates(config: &Config, server: ConnectionInfo) -> Result<ConnectionInfo> {
    use cgi_session_kit::tls;
    tls::provide();
    let (root_cert, own) = (tls::authorities(config)?, tls::identity(config)?);
    if !matches!(server.addr(), ConnectionAddr::TcpTls { .. }) {
        return Ok(server);
    }
    let client_tls = own.map(|own| {
        let [client_cert, client_key] = own.pem.map(String::into_bytes);
        redis::ClientTlsConfig {
            client_cert,
            client_key,
        }
    });
    let certificates = redis::TlsCertificates {
        client_tls,
        root_cert,
    };
    let shown = config.get("database").unwrap_or_default();
    let client = Client::build_with_tls(server, certificates);
    let client = client.map_err(|error| Error::Config(format!("no TLS to {shown}: {error}")))?;
    Ok(client.get_connection_info().clone())
}
