//! Sessions in a table of a `MySQL` or `MariaDB` database.

mod failure;
mod wire;

use std::time::Duration;

use cgi_session::{Config, Result, StoreKind};
#[cfg(feature = "tls")]
use cgi_session_kit::tls;
use cgi_session_kit::url::Grammar;
use mysql_async::{Opts, OptsBuilder};

use super::SqlStore;
use super::address::{Address, Place, Scheme};
use super::engine::{Connection, Dialect, Engine, Failure, Script};
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
/// The server counts the time that it waits for a lock in whole seconds.
const SECOND: Duration = Duration::from_secs(1);
/// The oldest that are supported.
const OLDEST_MARIADB: [u64; 2] = [10, 6];
const OLDEST_MYSQL: [u64; 2] = [8, 0];

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
        #[cfg(feature = "tls")]
        let tls = (address.is_encrypted).then(|| encryption(config));
        let engine = Mysql {
            address,
            #[cfg(feature = "tls")]
            tls: tls.transpose()?,
        };
        SqlStore::new(config, engine)
    }
}

struct Mysql {
    address: Address,
    #[cfg(feature = "tls")]
    tls: Option<mysql_async::SslOpts>,
}

impl Mysql {
    fn options(&self) -> Result<Opts, Failure> {
        let address = &self.address;
        let options = OptsBuilder::default()
            .user(address.user.as_deref())
            .pass(address.password()?)
            .db_name(Some(&address.database))
            // The server may say of a socket that is not ours.
            .prefer_socket(false)
            .stmt_cache_size(0)
            // So that it is not asked for them.
            .max_allowed_packet(Some(1 << 30))
            .wait_timeout(Some(1 << 30));
        #[cfg(feature = "tls")]
        let options = options.ssl_opts(self.tls.clone());
        let options = match &address.places[0] {
            Place::Tcp { host, port } => options.ip_or_hostname(host).tcp_port(*port),
            Place::Socket { path, .. } => options.socket(path.to_str()),
        };
        Ok(options.into())
    }
}

impl Engine for Mysql {
    fn address(&self) -> &Address {
        &self.address
    }

    fn connect(&self, patience: Duration) -> Result<Box<dyn Connection>, Failure> {
        Ok(Box::new(Wire::connect(&self.options()?, patience)?))
    }

    fn settings(&self, lease: Duration) -> Script {
        let mut script = Script::of("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED");
        let seconds = lease.as_secs().clamp(1, 1 << 20);
        script.push(&format!(
            "SET SESSION sql_mode = 'ANSI_QUOTES,STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', autocommit = 1, \
             innodb_lock_wait_timeout = 1, time_zone = '+00:00', wait_timeout = {seconds}"
        ));
        script
    }

    fn transaction(&self, script: &mut Script, _: Duration, statements: &[String]) -> usize {
        // One alone is a transaction by itself.
        if let [statement] = statements {
            return script.push(statement);
        }
        let first = 1 + script.push("START TRANSACTION");
        for statement in statements {
            script.push(statement);
        }
        script.push("COMMIT");
        first
    }

    fn lock(&self, key: &str, wait: Duration) -> String {
        format!("SELECT GET_LOCK({key}, {})", u8::from(wait >= SECOND))
    }

    /// Without a transaction each statement sees what was committed before.
    fn lock_and_ask(
        &self,
        script: &mut Script,
        key: &str,
        wait: Duration,
        question: &str,
    ) -> usize {
        let lock = script.push(&self.lock(key, wait));
        script.push(question);
        lock
    }

    fn dialect(&self) -> &'static Dialect {
        &DIALECT
    }
}

const DIALECT: Dialect = Dialect {
    key: |name| format!("SHA1(CONCAT(DATABASE(), '/{name}'))"),
    try_lock: |key| format!("GET_LOCK({key}, 0)"),
    unlock: |key| format!("RELEASE_LOCK({key})"),
    unlock_all: "RELEASE_ALL_LOCKS()",
    holder: |key| {
        format!(
            "SELECT CONCAT('connection ', id, ' from ', host) FROM information_schema.processlist \
             WHERE id = IS_USED_LOCK({key})"
        )
    },
    around_digits: ["_utf8mb4 X'", "'"],
    shown: |version| {
        let number = version.split('-').next().unwrap_or_default();
        format!("{} {number}", name_of(version))
    },
    unfit,
    sessions: "(session char(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY, \
               record longtext CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL, expires bigint NOT NULL, \
               used bigint NOT NULL, \"user\" varbinary(1020), version bigint NOT NULL DEFAULT 0) ENGINE=InnoDB",
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

const MARIADB: &str = "MariaDB";

fn name_of(version: &str) -> &'static str {
    if version.contains(MARIADB) {
        MARIADB
    } else {
        "MySQL"
    }
}

fn unfit(version: &str) -> Option<String> {
    if version.contains("TiDB") {
        return Some("TiDB does not keep locks as MySQL does".to_owned());
    }
    let name = name_of(version);
    let oldest = if name == MARIADB {
        OLDEST_MARIADB
    } else {
        OLDEST_MYSQL
    };
    let mut numbers = version
        .split(['.', '-'])
        .map(|part| part.parse().unwrap_or(0));
    let found = [numbers.next()?, numbers.next()?];
    let [major, minor] = oldest;
    (found < oldest)
        .then(|| format!("{name} {version} is too old, it must be {major}.{minor} or later"))
}

/// What encrypts.
#[cfg(feature = "tls")]
fn encryption(config: &Config) -> Result<mysql_async::SslOpts> {
    tls::provide();
    let certificates = tls::authorities_or_those_of_the_system(config)?;
    let certificates = certificates.iter().map(|one| one.to_vec().into());
    let identity = tls::identity(config)?.map(|own| {
        let [certificate, key] = own.pem.map(|text| text.into_bytes().into());
        mysql_async::ClientIdentity::new(certificate, key)
    });
    // Each of them is a list in the library.
    Ok(mysql_async::SslOpts::default()
        .with_root_certs(certificates.collect())
        .with_client_identity(identity)
        .with_disable_built_in_roots(true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_without_skip_locked_unfit() {
        for old in ["5.7.44-log", "10.5.29-MariaDB-1", "5.5.5"] {
            let reason = unfit(old).unwrap();
            assert!(
                reason.contains(old) && reason.contains("too old"),
                "{reason}"
            );
        }
        for new in ["8.0.36", "9.1.0", "10.6.1-MariaDB", "11.4.2-MariaDB"] {
            assert_eq!(unfit(new), None);
        }
    }
}
