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
#[cfg(feature = "tls")]
use tokio_postgres_rustls::MakeRustlsConnect;

use super::SqlStore;
use super::address::{Address, Place, Scheme};
use super::engine::{Connection, Dialect, Engine, Failure, Script};
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
        let tls = (address.is_encrypted).then(|| tls::client(config).map(MakeRustlsConnect::new));
        let engine = Postgres {
            address,
            #[cfg(feature = "tls")]
            tls: tls.transpose()?,
        };
        SqlStore::new(config, engine)
    }
}

struct Postgres {
    address: Address,
    #[cfg(feature = "tls")]
    tls: Option<MakeRustlsConnect>,
}

impl Postgres {
    /// What a server is told of us.
    fn login(&self) -> Result<tokio_postgres::Config, Failure> {
        let mut login = tokio_postgres::Config::new();
        login.dbname(&self.address.database);
        login.application_name(format!("{NAME}{}", name_of_process()));
        if let Some(user) = &self.address.user {
            login.user(user);
        }
        if let Some(password) = self.address.password()? {
            login.password(password);
        }
        if let Some(options) = &self.address.options {
            login.options(options);
        }
        if self.address.is_primary {
            login.target_session_attrs(TargetSessionAttrs::ReadWrite);
        }
        Ok(login)
    }

    #[cfg_attr(
        not(feature = "tls"),
        expect(clippy::unused_self, reason = "with TLS it is used")
    )]
    fn connect_to(
        &self,
        place: &Place,
        mut login: tokio_postgres::Config,
        patience: Duration,
    ) -> Result<Wire, Failure> {
        match place {
            Place::Tcp { host, port } => login.host(host).port(*port),
            Place::Socket { path, port } => login.host_path(path).port(*port),
        };
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            login.ssl_mode(SslMode::Require);
            return Wire::connect(&login, tls, patience);
        }
        login.ssl_mode(SslMode::Disable);
        Wire::connect(&login, &tokio_postgres::NoTls, patience)
    }
}

impl Engine for Postgres {
    fn address(&self) -> &Address {
        &self.address
    }

    /// Of several servers the first that lets us in; one that takes long leaves time for the others.
    fn connect(&self, patience: Duration) -> Result<Box<dyn Connection>, Failure> {
        let deadline = Instant::now() + patience;
        let login = self.login()?;
        let mut failed = failure::late();
        let mut left = u32::try_from(self.address.places.len()).unwrap_or(u32::MAX);
        for place in &self.address.places {
            let time = deadline.saturating_duration_since(Instant::now()) / left;
            left -= 1;
            match self.connect_to(place, login.clone(), time) {
                Ok(wire) => return Ok(Box::new(wire)),
                Err(failure) => failed = failure,
            }
        }
        Err(failed)
    }

    fn settings(&self, lease: Duration) -> Script {
        let millis = milliseconds(lease);
        let settings = [
            (IS_USED, "yes"),
            // A host that is gone frees its locks before that.
            ("tcp_keepalives_idle", "15"),
            ("tcp_keepalives_interval", "5"),
            ("tcp_keepalives_count", "4"),
            ("idle_session_timeout", &millis),
        ];
        let set = settings.map(|(name, value)| format!("set_config('{name}', '{value}', false)"));
        let is_used = format!("SELECT CAST(current_setting('{IS_USED}', true) = 'yes' AS int)");
        let mut script = Script::of(&is_used);
        script.push(&format!("SELECT {}", set.join(", ")));
        script
    }

    /// With the isolation of its own: under a stricter one the statement behind a lock would see what was before it.
    fn transaction(&self, script: &mut Script, wait: Duration, statements: &[String]) -> usize {
        script.push("BEGIN ISOLATION LEVEL READ COMMITTED");
        let limit = milliseconds(wait);
        let first = 1 + script.push(&format!("SET LOCAL lock_timeout = {limit}"));
        for statement in statements {
            script.push(statement);
        }
        script.push("COMMIT");
        first
    }

    fn lock(&self, key: &str, wait: Duration) -> String {
        if wait.is_zero() {
            return format!("SELECT {}", (DIALECT.try_lock)(key));
        }
        format!("SELECT 1 FROM pg_advisory_lock({key})")
    }

    fn dialect(&self) -> &'static Dialect {
        &DIALECT
    }
}

const DIALECT: Dialect = Dialect {
    key: |name| format!("hashtextextended(concat(current_schema(), '/{name}'), 0)"),
    try_lock: |key| format!("CAST(pg_try_advisory_lock({key}) AS int)"),
    unlock: |key| format!("CAST(pg_advisory_unlock({key}) AS int)"),
    unlock_all: "pg_advisory_unlock_all()",
    holder: |key| {
        format!(
            "SELECT replace(application_name, '{NAME}', '') FROM pg_stat_activity JOIN pg_locks USING (pid) \
             WHERE locktype = 'advisory' AND granted AND objsubid = 1 \
             AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
             AND CAST(classid AS bigint) << 32 | CAST(objid AS bigint) = {key}"
        )
    },
    around_digits: ["convert_from(decode('", "', 'hex'), 'UTF8')"],
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
    let is_old = found.parse::<u64>().is_ok_and(|found| found < OLDEST);
    is_old.then(|| format!("PostgreSQL {number} is too old, it must be {OLDEST} or later"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_is_old_or_only_similar_is_unfit() {
        for (version, reason) in [
            ("PostgreSQL 13.22 (Debian 13.22-1) on x86_64", "too old"),
            ("PostgreSQL 9.6.24 on x86_64", "too old"),
            ("PostgreSQL 15.2-YB-2.25.2.0-b0 on x86_64", "locks"),
            ("CockroachDB CCL v24.1.0 (x86_64)", "locks"),
        ] {
            let found = unfit(version).unwrap();
            assert!(found.contains(reason), "{found}");
        }
        for version in [
            "PostgreSQL 14.0 on x86_64",
            "PostgreSQL 15.18 (Debian 15.18-0+deb12u1) on x86_64",
            "PostgreSQL 19beta1 on aarch64",
        ] {
            assert_eq!(unfit(version), None);
        }
    }
}
