//! [`Place`]: where the server is, and how it is spoken to.

use redis::{Client, ConnectionInfo, IntoConnectionInfo as _, RedisError, parse_redis_url};

use crate::config::Config;
use crate::error::{Error, Result};

const FORMS: &str = "redis://127.0.0.1:6379/0, redis+unix:///run/redis/redis.sock?db=0 or, with TLS, rediss://redis.example/0";

/// A server that can be connected to, and what may be said of it.
pub(super) struct Place {
    pub(super) client: Client,
    pub(super) shown: String,
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
        let info = info(database).map_err(|reason| wrong(&reason))?;
        let info = with_password(config, info)?;
        let client = if database.starts_with("rediss:") {
            tls_client(config, info)?
        } else {
            Client::open(info).map_err(|error| wrong(&told(&error)))?
        };
        Ok(Place { client, shown })
    }
}

fn info(database: &str) -> Result<ConnectionInfo, String> {
    let url = parse_redis_url(database).ok_or("it is no URL of a Redis server")?;
    let known: &[&str] = match url.scheme() {
        "redis" => &[],
        "rediss" if cfg!(feature = "tls") => &[],
        "rediss" => {
            return Err("this program was built without the feature tls of cgi-session".to_owned());
        }
        "redis+unix" => &["db", "user", "pass"],
        _ => return Err("it is no URL of a Redis server".to_owned()),
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
    url.into_connection_info().map_err(|error| told(&error))
}

/// The library's word for what is wrong, of which only a detail could quote the URL.
fn told(error: &RedisError) -> String {
    let text = error.to_string();
    text.split(" - ").next().unwrap_or_default().to_owned()
}

/// The same with the password that does not stand in the URL, if there is one.
fn with_password(config: &Config, info: ConnectionInfo) -> Result<ConnectionInfo> {
    let Some(password) = config.database_password()? else {
        return Ok(info);
    };
    let settings = info.redis_settings().clone();
    if settings.password().is_some() {
        return Err(Error::Config(
            "there is a password in database, and another in databasePassword or databasePasswordFile; \
             take one away"
                .to_owned(),
        ));
    }
    Ok(info.set_redis_settings(settings.set_password(password)))
}

#[cfg(feature = "tls")]
fn tls_client(config: &Config, info: ConnectionInfo) -> Result<Client> {
    let Some(path) = config.database_ca_file.as_deref() else {
        return Client::open(info)
            .map_err(|error| Error::Config(format!("database: {}", told(&error))));
    };
    let fail = |reason: &str| Error::Config(format!("databaseCaFile {}: {reason}", path.display()));
    let certificates = std::fs::read(path).map_err(|error| fail(&error.to_string()))?;
    let is_pem = String::from_utf8_lossy(&certificates).contains("-----BEGIN CERTIFICATE-----");
    if !is_pem {
        return Err(fail("it holds no certificates (PEM)"));
    }
    let certificates = redis::TlsCertificates {
        client_tls: None,
        root_cert: Some(certificates),
    };
    let client = Client::build_with_tls(info, certificates);
    client.map_err(|error| fail(&told(&error)))
}

#[cfg(not(feature = "tls"))]
fn tls_client(_: &Config, _: ConnectionInfo) -> Result<Client> {
    Err(Error::Config(
        "this program was built without the feature tls of cgi-session".to_owned(),
    ))
}
