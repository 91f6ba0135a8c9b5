//! Sessions in a table of a `PostgreSQL` database.

mod failure;
mod wire;

use std::time::{Duration, Instant};

use cgi_session::{Config, Result, StoreKind};
use cgi_session_kit::name_of_process;
#[cfg(feature = "tls")]
use cgi_session_kit::tls;
use cgi_session_kit::url::Grammar;
use tokio_postgres::config::{SslMode, TargetSessionAttrs};
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres::{NoTls, Socket};
#[cfg(feature = "tls")]
use tokio_postgres_rustls::MakeRustlsConnect;

use super::SqlStore;
use super::address::{Address, Scheme};
use super::dialect::{Connection, Dialect, Failure, Kind, Script};
use super::driver::Driver;
use super::link::ROW_WAIT;
use wire::Wire;

const SCHEME: Scheme = Scheme {
    grammar: Grammar {
        storage_type: "postgres",
        schemes: &["postgres", "postgresql"],
        parameters: |_| {
            &[
                "sslmode",
                "ssl-mode",
                "host",
                "port",
                "options",
                "target_session_attrs",
            ]
        },
        example: "postgres://user@host:5432/name, postgres://user@host1,host2/name, or postgres://user@/name?host=/run/postgresql",
    },
    port: 5432,
    several_hosts: true,
};
/// What a connection is called begins with this; the name of the process follows.
const NAME: &str = "cgi-session: ";
/// Says of a connection that a client has had it. A proxy that gives each client its own resets it in between.
const IS_USED: &str = "cgi_session.is_used";
/// `idle_session_timeout` came with it.
const OLDEST: u64 = 14;

/// The store that `storageType = postgres` chooses: `Program::new().store(cgi_session_sql::POSTGRES)`.
pub const POSTGRES: StoreKind = StoreKind::new("postgres", |config| {
    Ok(Box::new(SqlStore::postgres(config)?))
});

impl SqlStore {
    /// A store in the configuration's `database`. Nothing is connected yet.
    ///
    /// # Errors
    ///
    /// [`Error::Config`](cgi_session::Error::Config) when `database` is no URL of a `PostgreSQL` database, or the
    /// certificates of `databaseCaFile` cannot be read.
    pub fn postgres(config: &Config) -> Result<Self> {
        let address = Address::of(config, &SCHEME)?;
        #[cfg(feature = "tls")]
        if address.is_encrypted {
            let tls = MakeRustlsConnect::new(tls::client(config)?);
            let connect = move |address: &_, time| connect(address, SslMode::Require, &tls, time);
            return SqlStore::new(address, &DIALECT, Box::new(connect));
        }
        let connect = |address: &_, time| connect(address, SslMode::Disable, &NoTls, time);
        SqlStore::new(address, &DIALECT, Box::new(connect))
    }
}

/// Of several servers the first that lets us in; one that takes long leaves time for the others.
fn connect<T>(
    address: &Address,
    mode: SslMode,
    tls: &T,
    patience: Duration,
) -> Result<Box<dyn Connection>, Failure>
where
    T: MakeTlsConnect<Socket> + Clone + Send + Sync,
    T::Stream: Send + 'static,
    T::TlsConnect: Send,
    <T::TlsConnect as TlsConnect<Socket>>::Future: Send,
{
    let deadline = Instant::now() + patience;
    let mut login = tokio_postgres::Config::new();
    login.dbname(&address.database).ssl_mode(mode);
    login.application_name(format!("{NAME}{}", name_of_process()));
    if let Some(user) = &address.user {
        login.user(user);
    }
    if let Some(password) = address.password()? {
        login.password(password);
    }
    if let Some(options) = &address.options {
        login.options(options);
    }
    if address.is_primary {
        login.target_session_attrs(TargetSessionAttrs::ReadWrite);
    }
    let mut failed = Failure::new(Kind::Refused, "database names no host");
    let mut left = u32::try_from(address.places.len()).unwrap_or(u32::MAX);
    for (host, port) in &address.places {
        let time = deadline.saturating_duration_since(Instant::now()) / left;
        left -= 1;
        let mut login = login.clone();
        login.host(host).port(*port).connect_timeout(time / 2);
        let connect = async || {
            let (client, work) = login.connect(tls.clone()).await?;
            Ok((client, Some(tokio::spawn(work))))
        };
        match Driver::connect(time, connect, failure::of_login) {
            Ok((driver, (client, work))) => {
                return Ok(Box::new(Wire {
                    driver,
                    client,
                    work,
                }));
            }
            Err(failure) => failed = failure,
        }
    }
    Err(failed)
}

fn settings(lease: Duration, patience: Duration) -> Script {
    let wait = ROW_WAIT.max(patience / 10);
    let (lease, wait) = (milliseconds(lease), milliseconds(wait));
    let settings = [
        (IS_USED, "yes"),
        // A host that is gone frees its locks before that.
        ("tcp_keepalives_idle", "15"),
        ("tcp_keepalives_interval", "5"),
        ("tcp_keepalives_count", "4"),
        ("idle_session_timeout", &lease),
        ("lock_timeout", &wait),
        ("default_transaction_isolation", "read committed"),
    ];
    let set = settings.map(|(name, value)| format!("set_config('{name}', '{value}', false)"));
    let is_used = format!("CAST(current_setting('{IS_USED}', true) = 'yes' AS int)");
    let found = format!("SELECT {is_used}, current_schema()");
    vec![found, format!("SELECT {}", set.join(", "))]
}

const DIALECT: Dialect = Dialect {
    advice: "is the server running, and does this program reach it? try: pg_isready",
    settings,
    limit: |wait| Some(format!("SET LOCAL lock_timeout = {}", milliseconds(wait))),
    lock: |key, wait| match wait {
        Duration::ZERO => format!("SELECT {}", (DIALECT.try_lock)(key)),
        _ => format!("SELECT 1 FROM pg_advisory_lock({key})"),
    },
    // The transaction takes the lock over from the connection, and gives it up when others can see what it did.
    finish: |change, key| {
        let unlock = (DIALECT.unlock)(key);
        let unlock = format!("CASE WHEN pg_try_advisory_xact_lock({key}) THEN {unlock} END");
        vec![format!("{change} RETURNING {unlock}")]
    },
    key: |number| format!("'{number}'"),
    try_lock: |key| format!("CAST(pg_try_advisory_lock({key}) AS int)"),
    unlock: |key| format!("CAST(pg_advisory_unlock({key}) AS int)"),
    holder: |key| {
        format!(
            "SELECT replace(application_name, '{NAME}', '') FROM pg_stat_activity JOIN pg_locks USING (pid) \
             WHERE locktype = 'advisory' AND granted AND objsubid = 1 \
             AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
             AND CAST(classid AS bigint) << 32 | CAST(objid AS bigint) = {key}"
        )
    },
    around_digits: ["convert_from(decode('", "', 'hex'), 'UTF8')"],
    version: "SELECT concat(version(), ' ', current_setting('server_encoding'))",
    shown: |version| version.split(' ').take(2).collect::<Vec<_>>().join(" "),
    unfit,
    sessions: "(session char(64) NOT NULL PRIMARY KEY, record text NOT NULL, expires bigint NOT NULL, \
               used bigint NOT NULL, \"user\" text, version bigint NOT NULL DEFAULT 0)",
    states: "(name varchar(64) NOT NULL PRIMARY KEY, value bigint NOT NULL)",
    users: " WHERE \"user\" IS NOT NULL",
    columns_of: |table| {
        format!(
            "SELECT column_name FROM information_schema.columns \
             WHERE table_schema = current_schema() AND table_name = '{table}'"
        )
    },
    indexes_of: |table| {
        format!(
            "SELECT indexname FROM pg_indexes \
             WHERE schemaname = current_schema() AND tablename = '{table}'"
        )
    },
    storage_of: None,
    connections: "SELECT current_setting('max_connections')",
};

/// A time limit. None at all would be 0.
fn milliseconds(limit: Duration) -> String {
    limit.as_millis().clamp(1, 1 << 30).to_string()
}

/// Servers that speak as `PostgreSQL` does say so in their versions.
fn unfit(version: &str) -> Option<String> {
    let mut words = version.split(' ');
    let (name, number) = (words.next()?, words.next().unwrap_or_default());
    if name != "PostgreSQL" || number.contains("-YB-") {
        return Some(format!(
            "{name} {number} does not keep locks as PostgreSQL does"
        ));
    }
    let found = number.split(|sign: char| !sign.is_ascii_digit()).next()?;
    if found.parse::<u64>().is_ok_and(|found| found < OLDEST) {
        let reason = format!("PostgreSQL {number} is too old, it must be {OLDEST} or later");
        return Some(reason);
    }
    let encoding = words.next_back()?;
    (!["UTF8", "SQL_ASCII"].contains(&encoding))
        .then(|| format!("the database has not all letters: its encoding is {encoding}, not UTF8"))
}
