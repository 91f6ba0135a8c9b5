//! Sessions in a table of a `MySQL` or `MariaDB` database.

mod failure;
mod wire;

use std::time::Duration;

use cgi_session::{Config, Result, StoreKind};
#[cfg(feature = "tls")]
use cgi_session_kit::tls;
use cgi_session_kit::url::Grammar;
use mysql_async::{Opts, OptsBuilder, SslOpts};

use super::SqlStore;
use super::address::{Address, Scheme, is_socket};
use super::dialect::{Dialect, Failure, Script};
use wire::Wire;

const SCHEME: Scheme = Scheme {
    grammar: Grammar {
        storage_type: "mysql",
        schemes: &["mysql", "mariadb"],
        parameters: |_| &["sslmode", "ssl-mode", "host", "port", "socket"],
        example: "mysql://user@host:3306/name, or mysql://user@localhost/name?socket=/run/mysqld/mysqld.sock",
    },
    port: 3306,
    several_hosts: false,
};
/// The store that `storageType = mysql` chooses: `Program::new().store(cgi_session_sql::MYSQL)`.
pub const MYSQL: StoreKind =
    StoreKind::new("mysql", |config| Ok(Box::new(SqlStore::mysql(config)?)));

impl SqlStore {
    /// A store in the configuration's `database`. Nothing is connected yet.
    ///
    /// # Errors
    ///
    /// [`Error::Config`](cgi_session::Error::Config) when `database` is no URL of a `MySQL` database.
    pub fn mysql(config: &Config) -> Result<Self> {
        let address = Address::of(config, &SCHEME)?;
        #[cfg(not(feature = "tls"))]
        let tls: Option<SslOpts> = None;
        #[cfg(feature = "tls")]
        let tls = (address.is_encrypted.then(|| encryption(config))).transpose()?;
        let connect = move |address: &_, time| Wire::connect(&options(address, tls.clone())?, time);
        SqlStore::new(address, &DIALECT, Box::new(connect))
    }
}

fn options(address: &Address, tls: Option<SslOpts>) -> Result<Opts, Failure> {
    let options = OptsBuilder::default()
        .user(address.user.as_deref())
        .pass(address.password()?)
        .db_name(Some(&address.database))
        .ssl_opts(tls)
        // The server may say of a socket that is not ours.
        .prefer_socket(false)
        .stmt_cache_size(0)
        // So that it is not asked for them.
        .max_allowed_packet(Some(1 << 30))
        .wait_timeout(Some(1 << 30));
    let (host, port) = &address.places[0];
    Ok(if is_socket(host) {
        options.socket(Some(host)).into()
    } else {
        options.ip_or_hostname(host).tcp_port(*port).into()
    })
}

fn settings(lease: Duration, _: Duration) -> Script {
    let seconds = lease.as_secs().clamp(1, 1 << 20);
    let settings = format!(
        "SET SESSION sql_mode = 'ANSI_QUOTES,STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', autocommit = 1, \
         innodb_lock_wait_timeout = 1, time_zone = '+00:00', wait_timeout = {seconds}"
    );
    let isolation = "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED";
    let found = "SELECT 0, DATABASE()".to_owned();
    vec![found, isolation.to_owned(), settings]
}

const DIALECT: Dialect = Dialect {
    advice: "is the server running, and does this program reach it? try: mariadb-admin ping",
    settings,
    limit: |_| None,
    // The server counts the time that it waits in whole seconds.
    lock: |key, wait| format!("SELECT GET_LOCK({key}, {})", wait.as_secs().min(1)),
    // A row of an answer costs more than to say that it is done.
    finish: |change, key| vec![change.to_owned(), format!("DO RELEASE_LOCK({key})")],
    key: |number| format!("'cgi-session {number}'"),
    try_lock: |key| format!("GET_LOCK({key}, 0)"),
    unlock: |key| format!("RELEASE_LOCK({key})"),
    holder: |key| {
        format!(
            "SELECT CONCAT('connection ', id, ' from ', host) FROM information_schema.processlist \
             WHERE id = IS_USED_LOCK({key})"
        )
    },
    around_digits: ["_utf8mb4 X'", "'"],
    version: "SELECT version()",
    shown: |version| {
        let number = version.split('-').next().unwrap_or_default();
        format!("{} {number}", kind_of(version).0)
    },
    unfit,
    sessions: "(session char(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY, \
               record longtext CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL, expires bigint NOT NULL, \
               used bigint NOT NULL, \"user\" varbinary(1020), version bigint NOT NULL DEFAULT 0) ENGINE=InnoDB ROW_FORMAT=DYNAMIC",
    states: "(name varchar(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY, \
             value bigint NOT NULL) ENGINE=InnoDB",
    users: "",
    columns_of: |table| question("column_name", "columns", table),
    indexes_of: |table| question("DISTINCT index_name", "statistics", table),
    storage_of: Some(|table| question("engine", "tables", table)),
    connections: "SELECT @@max_connections",
};

/// What the server knows of a table. Its names are compared byte by byte, as those of files are, unless the server
/// has them in lower case.
fn question(what: &str, view: &str, table: &str) -> String {
    format!(
        "SELECT {what} FROM information_schema.{view} WHERE table_schema = DATABASE() \
         AND IF(@@lower_case_table_names, LOWER(table_name) = LOWER('{table}'), CAST(table_name AS BINARY) = '{table}')"
    )
}

/// The name of a server, and the oldest of its versions that is supported.
fn kind_of(version: &str) -> (&'static str, [u64; 2]) {
    if version.contains("MariaDB") {
        return ("MariaDB", [10, 6]);
    }
    ("MySQL", [8, 0])
}

fn unfit(version: &str) -> Option<String> {
    if version.contains("TiDB") {
        return Some("TiDB does not keep locks as MySQL does".to_owned());
    }
    let (name, oldest) = kind_of(version);
    let numbers = version.split(['.', '-']);
    let mut numbers = numbers.map(|part| part.parse().unwrap_or(0));
    let found = [numbers.next()?, numbers.next()?];
    let [major, minor] = oldest;
    (found < oldest)
        .then(|| format!("{name} {version} is too old, it must be {major}.{minor} or later"))
}

/// What encrypts.
#[cfg(feature = "tls")]
fn encryption(config: &Config) -> Result<SslOpts> {
    tls::provide();
    let certificates = tls::authorities_or_those_of_the_system(config)?;
    let certificates = certificates.iter().map(|one| one.to_vec().into());
    let identity = tls::identity(config)?.map(|own| {
        let [certificate, key] = own.pem.map(|text| text.into_bytes().into());
        mysql_async::ClientIdentity::new(certificate, key)
    });
    // Each of them is a list in the library.
    Ok(SslOpts::default()
        .with_root_certs(certificates.collect())
        .with_client_identity(identity)
        .with_disable_built_in_roots(true))
}
