//! Sessions in a table of a `MySQL` or `MariaDB` database.

mod failure;

#[cfg(feature = "tls")]
use std::path::Path;
use std::time::Duration;

use cgi_session::{Config, Result, StoreKind};
use cgi_session_kit::push_hex;
use mysql::prelude::Queryable as _;
use mysql::{Conn, OptsBuilder, Value};

use super::SqlStore;
use super::address::{Address, Place, Scheme};
use super::engine::{Answer, Answers, Connection, Engine, Failure, Row, Schema, Script};

const SCHEME: Scheme = Scheme {
    storage_type: "mysql",
    names: &["mysql", "mariadb"],
    port: 3306,
    socket: "socket",
    example: "mysql://user@host:3306/name, or mysql://user@localhost/name?socket=/run/mysqld/mysqld.sock",
};
/// The server waits for a lock for a second, which is the shortest that it can count, and sometimes for
/// two. Whoever has not as long asks without waiting.
const SHORTEST_WAIT: Duration = Duration::from_secs(2);
/// One of the servers of a cluster.
const SERVER: &str = "@@hostname, ':', @@port";
/// `FOR UPDATE SKIP LOCKED` came with these.
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
        if address.is_encrypted {
            super::tls::own_authorities(config)?;
        }
        let engine = Mysql {
            address,
            #[cfg(feature = "tls")]
            ca_file: config.database_ca_file().map(Path::to_owned),
        };
        SqlStore::new(config, engine)
    }
}

#[derive(Debug)]
struct Mysql {
    address: Address,
    #[cfg(feature = "tls")]
    ca_file: Option<std::path::PathBuf>,
}

impl Mysql {
    fn options(&self, patience: Duration) -> OptsBuilder {
        let address = &self.address;
        let options = OptsBuilder::new()
            .user(address.user.as_deref())
            .pass(address.password.as_deref())
            .db_name(Some(&address.database))
            // The server may say of a socket that is not ours.
            .prefer_socket(false)
            .stmt_cache_size(0)
            .max_allowed_packet(Some(1 << 30))
            .tcp_connect_timeout(Some(patience))
            .read_timeout(Some(patience))
            .write_timeout(Some(patience));
        match &address.place {
            Place::Tcp { host, port } => {
                self.encrypted(options.ip_or_hostname(Some(host)).tcp_port(*port))
            }
            Place::Socket { path, .. } => options.socket(path.to_str()),
        }
    }

    #[cfg(feature = "tls")]
    fn encrypted(&self, options: OptsBuilder) -> OptsBuilder {
        if !self.address.is_encrypted {
            return options;
        }
        let tls = mysql::SslOpts::default().with_root_cert_path(self.ca_file.clone());
        options.ssl_opts(tls)
    }

    #[cfg(not(feature = "tls"))]
    #[expect(clippy::unused_self, reason = "with TLS it is used")]
    fn encrypted(&self, options: OptsBuilder) -> OptsBuilder {
        options
    }
}

impl Engine for Mysql {
    fn address(&self) -> &Address {
        &self.address
    }

    fn connect(&self, patience: Duration) -> Result<Box<dyn Connection>, Failure> {
        let mut connection = Conn::new(self.options(patience)).map_err(failure::of_login)?;
        let longest = connection
            .query_first::<usize, _>("SELECT @@max_allowed_packet")
            .map_err(failure::of_login)?;
        // Not every server knows the variable: only where there can be other nodes.
        let is_node = connection.query_first::<bool, _>("SELECT @@wsrep_on");
        let is_node = matches!(is_node, Ok(Some(true)));
        if is_node {
            // Whoever comes from another node finds here what he was told there.
            connection
                .query_drop("SET SESSION wsrep_sync_wait = 1")
                .map_err(failure::of_login)?;
        }
        // The command's own byte is part of the packet.
        let longest_script = longest.unwrap_or_default().saturating_sub(16);
        Ok(Box::new(Wire {
            connection,
            longest_script,
            is_node,
        }))
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

    fn begin(&self, script: &mut Script, _: Duration) {
        script.push("START TRANSACTION");
    }

    fn for_update(&self, wait: Duration) -> &'static str {
        if wait < SHORTEST_WAIT {
            "FOR UPDATE NOWAIT"
        } else {
            "FOR UPDATE"
        }
    }

    fn by_index(&self, table: &str, index: Option<&str>) -> String {
        let index = index.unwrap_or("PRIMARY");
        format!("\"{table}\" FORCE INDEX (\"{index}\")")
    }

    fn text(&self, text: &str) -> String {
        let mut literal = String::with_capacity(2 * text.len() + 16);
        literal.push_str("_utf8mb4 X'");
        push_hex(&mut literal, text.as_bytes());
        literal.push('\'');
        literal
    }

    fn clock(&self) -> &'static str {
        "CAST(UNIX_TIMESTAMP(SYSDATE(3)) * 1000 AS SIGNED)"
    }

    fn mark(&self, name: &str) -> String {
        let name = self.text(name);
        format!("CONCAT({name}, ', connection ', CONNECTION_ID(), ' of ', {SERVER})")
    }

    /// Of the connections to another server of a cluster nothing is known.
    fn is_marked(&self) -> String {
        format!(
            "held_until > {} AND (held_by NOT LIKE CONCAT('% of ', {SERVER}) OR EXISTS (\
             SELECT 1 FROM information_schema.processlist \
             WHERE held_by LIKE CONCAT('%, connection ', id, ' of ', {SERVER})))",
            self.clock()
        )
    }

    fn schema(&self, table: &str) -> Schema {
        let lock = format!("SHA1(CONCAT(DATABASE(), '.{table}'))");
        Schema {
            version: "SELECT VERSION()",
            shown: |version| {
                let name = name_of(version);
                let number = version.split('-').next().unwrap_or_default();
                format!("{name} {number}")
            },
            is_too_old,
            alone: format!("SELECT GET_LOCK({lock}, 60)"),
            done: format!("SELECT RELEASE_LOCK({lock})"),
            tables: [
                (
                    table.to_owned(),
                    format!(
                        "CREATE TABLE \"{table}\" (\
                         session char(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY, \
                         record longtext CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL, \
                         expires bigint NOT NULL, used bigint NOT NULL, \"user\" varbinary(1020), \
                         version bigint NOT NULL DEFAULT 0, \
                         held_by varchar(255) CHARACTER SET utf8mb4, held_until bigint) ENGINE=InnoDB"
                    ),
                ),
                (
                    format!("{table}_state"),
                    format!(
                        "CREATE TABLE \"{table}_state\" (\
                         name varchar(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY, \
                         value bigint NOT NULL) ENGINE=InnoDB"
                    ),
                ),
            ],
            columns: vec![
                ("version", "bigint NOT NULL DEFAULT 0"),
                ("held_by", "varchar(255) CHARACTER SET utf8mb4"),
                ("held_until", "bigint"),
            ],
            indexes: ["expires", "used", "user"]
                .map(|column| {
                    let name = format!("{table}_{column}");
                    let index = format!("CREATE INDEX \"{name}\" ON \"{table}\" (\"{column}\")");
                    (name, index)
                })
                .into(),
            columns_of: |table| question("column_name", "columns", table),
            indexes_of: |table| question("DISTINCT index_name", "statistics", table),
            storage_of: Some(|table| question("engine", "tables", table)),
        }
    }
}

/// What the server knows of a table. Its names are compared byte by byte, as those of files are.
fn question(what: &str, view: &str, table: &str) -> String {
    format!(
        "SELECT {what} FROM information_schema.{view} \
         WHERE table_schema = DATABASE() AND CAST(table_name AS BINARY) = '{table}'"
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

fn is_too_old(version: &str) -> Option<String> {
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

/// One connection.
struct Wire {
    connection: Conn,
    longest_script: usize,
    /// Of a Galera cluster.
    is_node: bool,
}

impl Wire {
    /// Runs statements that are sent as one.
    fn run_at_once(&mut self, text: &str, answers: &mut Answers) {
        let mut results = match self.connection.query_iter(text) {
            Ok(results) => results,
            Err(error) => {
                answers.failure = Some(failure::of_statement(error));
                return;
            }
        };
        while let Some(set) = results.iter() {
            let changed = set.affected_rows();
            match set.map(|row| row.map(as_text)).collect() {
                Ok(rows) => answers.done.push(Answer { rows, changed }),
                Err(error) => {
                    answers.failure = Some(failure::of_statement(error));
                    break;
                }
            }
        }
    }
}

impl Connection for Wire {
    /// How long answers may take was settled when it was connected.
    fn run(&mut self, script: &Script, _: Duration) -> Answers {
        let mut answers = Answers::default();
        if !self.is_node {
            self.run_at_once(script.text(), &mut answers);
            return answers;
        }
        // A node can acknowledge a COMMIT that another node's has overruled, if it was sent together
        // with its UPDATE (seen with MariaDB 10.11); sent alone, it fails as it should.
        for statement in script.statements() {
            self.run_at_once(statement, &mut answers);
            if answers.failure.is_some() {
                break;
            }
        }
        answers
    }

    fn is_alive(&mut self) -> bool {
        self.connection.ping().is_ok()
    }

    fn longest_script(&self) -> usize {
        self.longest_script
    }
}

fn as_text(row: mysql::Row) -> Row {
    let column = |value| match value {
        Value::Bytes(bytes) => Some(bytes),
        // Others are not sent in answer to a text.
        _ => None,
    };
    Row(row.unwrap().into_iter().map(column).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_without_skip_locked_is_too_old() {
        for old in ["5.7.44-log", "10.5.29-MariaDB-1", "5.5.5"] {
            let reason = is_too_old(old).unwrap();
            assert!(
                reason.contains(old) && reason.contains("too old"),
                "{reason}"
            );
        }
        for new in [
            "8.0.36",
            "8.4.3",
            "9.1.0",
            "10.6.1-MariaDB",
            "10.11.19-MariaDB-0+deb12u1",
            "11.4.2-MariaDB",
        ] {
            assert_eq!(is_too_old(new), None);
        }
    }
}
