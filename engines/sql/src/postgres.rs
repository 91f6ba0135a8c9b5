//! Sessions in a table of a `PostgreSQL` database.

mod failure;
mod socket;
#[cfg(feature = "tls")]
mod tls;
mod wire;

use std::time::{Duration, Instant};

use cgi_session::{Config, Result, SessionDigest, StoreKind};
use cgi_session_kit::{name_of_process, push_hex};

use super::SqlStore;
use super::address::{Address, Place, Scheme};
use super::engine::{Connection, Engine, Failure, Schema, Script};
use socket::Socket;
#[cfg(feature = "tls")]
use tls::Tls;
use wire::Wire;

const SCHEME: Scheme = Scheme {
    storage_type: "postgres",
    names: &["postgres", "postgresql"],
    port: 5432,
    socket: "host",
    example: "postgres://user@host:5432/name, or postgres://user@/name?host=/run/postgresql",
};
/// What a connection is called begins with this; the name of the process follows.
const NAME: &str = "cgi-session: ";
/// `FOR UPDATE SKIP LOCKED` came with it.
const OLDEST: u64 = 90500;

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
        let engine = Postgres::new(config)?;
        SqlStore::new(config, engine)
    }
}

#[derive(Debug)]
struct Postgres {
    address: Address,
    #[cfg(feature = "tls")]
    tls: Option<Tls>,
}

impl Postgres {
    fn new(config: &Config) -> Result<Self> {
        let address = Address::of(config, &SCHEME)?;
        #[cfg(feature = "tls")]
        let tls = address.is_encrypted.then(|| Tls::new(config)).transpose()?;
        Ok(Postgres {
            address,
            #[cfg(feature = "tls")]
            tls,
        })
    }

    /// What the server is told of us.
    fn login(&self) -> tokio_postgres::Config {
        let mut login = tokio_postgres::Config::new();
        login.dbname(&self.address.database);
        login.application_name(format!("{NAME}{}", name_of_process()));
        if let Some(user) = &self.address.user {
            login.user(user);
        }
        if let Some(password) = &self.address.password {
            login.password(password);
        }
        login
    }
}

impl Engine for Postgres {
    fn address(&self) -> &Address {
        &self.address
    }

    fn connect(&self, patience: Duration) -> Result<Box<dyn Connection>, Failure> {
        let deadline = Instant::now() + patience;
        let socket = match &self.address.place {
            Place::Tcp { host, port } => Socket::tcp(host, *port, deadline),
            Place::Socket { path, port } => {
                Socket::unix(&path.join(format!(".s.PGSQL.{port}")), deadline)
            }
        };
        let socket = socket.map_err(|error| failure::unreachable(error.into()))?;
        let mut login = self.login();
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            login.ssl_mode(tokio_postgres::config::SslMode::Require);
            let wire = Wire::connect(
                socket,
                &login,
                tls.connector(self.address.host())?,
                deadline,
            )?;
            return Ok(Box::new(wire));
        }
        login.ssl_mode(tokio_postgres::config::SslMode::Disable);
        let wire = Wire::connect(socket, &login, tokio_postgres::NoTls, deadline)?;
        Ok(Box::new(wire))
    }

    fn settings(&self, lease: Duration) -> Script {
        let mut script = Script::new();
        // A host that is gone frees its locks before that.
        script.push("SET tcp_keepalives_idle = 15");
        script.push("SET tcp_keepalives_interval = 5");
        script.push("SET tcp_keepalives_count = 4");
        let millis = milliseconds(lease);
        script.push(&format!(
            "SET idle_in_transaction_session_timeout = {millis}"
        ));
        script
    }

    fn begin(&self, script: &mut Script, wait: Duration) {
        script.push("BEGIN ISOLATION LEVEL READ COMMITTED");
        // Who does not wait says so in every statement that locks.
        if !wait.is_zero() {
            script.push(&format!("SET LOCAL lock_timeout = {}", milliseconds(wait)));
        }
    }

    fn for_update(&self, wait: Duration) -> &'static str {
        if wait.is_zero() {
            "FOR UPDATE NOWAIT"
        } else {
            "FOR UPDATE"
        }
    }

    fn text(&self, text: &str) -> String {
        let mut literal = String::with_capacity(2 * text.len() + 40);
        literal.push_str("convert_from(decode('");
        push_hex(&mut literal, text.as_bytes());
        literal.push_str("', 'hex'), 'UTF8')");
        literal
    }

    fn clock(&self) -> &'static str {
        "CAST(extract(epoch FROM clock_timestamp()) * 1000 AS bigint)"
    }

    fn mark(&self, name: &str) -> String {
        let name = self.text(name);
        format!("concat({name}, ', connection ', pg_backend_pid())")
    }

    fn is_marked(&self) -> String {
        format!(
            "held_until > {} AND EXISTS (SELECT 1 FROM pg_stat_get_activity(\
             CAST(substring(held_by FROM ', connection ([0-9]+)$') AS integer)))",
            self.clock()
        )
    }

    /// A row names the transaction that has locked it.
    fn holder(&self, table: &str, session: &SessionDigest) -> Option<String> {
        Some(format!(
            "SELECT replace(application_name, '{NAME}', '') FROM \"{table}\" AS held \
             JOIN pg_locks ON transactionid = held.xmax AND locktype = 'transactionid' AND granted \
             JOIN pg_stat_activity USING (pid) WHERE session = '{session}'"
        ))
    }

    fn schema(&self, table: &str) -> Schema {
        Schema {
            version: "SHOW server_version_num",
            shown: |version| {
                let number = version.parse().unwrap_or(0_u64);
                // Before version 10 two numbers made the great one.
                let second = match number {
                    ..100_000 => number / 100 % 100,
                    _ => number % 10_000,
                };
                format!("PostgreSQL {}.{second}", number / 10_000)
            },
            is_too_old: |version| {
                let is_old = version.parse::<u64>().is_ok_and(|version| version < OLDEST);
                is_old.then(|| format!("PostgreSQL {version} is too old, it must be 9.5 or later"))
            },
            alone: format!("BEGIN; SELECT pg_advisory_xact_lock(hashtext('cgi-session {table}'))"),
            done: "COMMIT".to_owned(),
            tables: [
                (
                    table.to_owned(),
                    format!(
                        "CREATE TABLE \"{table}\" (session char(64) NOT NULL PRIMARY KEY, record text NOT NULL, \
                         expires bigint NOT NULL, used bigint NOT NULL, \"user\" text, \
                         version bigint NOT NULL DEFAULT 0, held_by text, held_until bigint)"
                    ),
                ),
                (
                    format!("{table}_state"),
                    format!(
                        "CREATE TABLE \"{table}_state\" (name varchar(64) NOT NULL PRIMARY KEY, \
                         value bigint NOT NULL)"
                    ),
                ),
            ],
            columns: vec![
                ("version", "bigint NOT NULL DEFAULT 0"),
                ("held_by", "text"),
                ("held_until", "bigint"),
            ],
            indexes: ["expires", "used", "user"]
                .map(|column| {
                    let name = format!("{table}_{column}");
                    let condition = match column {
                        "user" => " WHERE \"user\" IS NOT NULL",
                        _ => "",
                    };
                    let index =
                        format!("CREATE INDEX \"{name}\" ON \"{table}\" (\"{column}\"){condition}");
                    (name, index)
                })
                .into(),
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
        }
    }
}

/// A time limit. None at all would be 0.
fn milliseconds(limit: Duration) -> u128 {
    limit.as_millis().clamp(1, 1 << 30)
}
