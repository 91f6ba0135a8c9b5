//! The database servers that hold sessions, as the tests see them.

use std::sync::OnceLock;

use cgi_session_sql::SqlStore;
use mysql::prelude::Queryable as _;

use cgi_session::store_contract::{count, record};
use testkit::mysql::MysqlServer;
use testkit::postgres;
use testkit::prelude::*;

/// A server of any kind, with a database of the programs.
pub(crate) trait Server: DatabaseServer + Sync {
    fn socket_url(&self) -> String;
    fn socket(&self) -> PathBuf;
    fn port(&self) -> u16;

    /// Carries out statements of another program, one after the other on one connection.
    fn run_all(&self, statements: &[&str]);

    /// The first column of the first row that another program is shown, as text.
    fn ask(&self, question: &str) -> Option<String>;

    /// A statement of the server's owner.
    fn tell(&self, statement: &str);

    /// A connection of another program, with an open transaction that has done this.
    fn holding(&self, statement: &str) -> Box<dyn Send>;

    /// Ends every connection of the programs, and waits until the server has done it.
    fn end_connections(&self);
}

impl dyn Server + '_ {
    pub(crate) fn execute(&self, statement: &str) {
        self.run_all(&[statement]);
    }

    /// A store in a table of this name, which may not be there.
    pub(crate) fn store(&self, table: &str, settings: &[(&str, &str)]) -> Arc<dyn Store> {
        let url = self.url();
        let mut all = vec![("database", url.as_str()), ("table", table)];
        all.extend(settings);
        open(self.kind(), &all).unwrap()
    }

    /// A store in a new table of this name.
    pub(crate) fn installed(&self, table: &str, settings: &[(&str, &str)]) -> Arc<dyn Store> {
        let store = self.store(table, settings);
        let problems = store.install();
        assert!(problems.is_empty(), "{problems:?}");
        store
    }
}

/// A store of this kind.
pub(crate) fn open(kind: &str, settings: &[(&str, &str)]) -> Result<Arc<dyn Store>, Error> {
    open_with(kind, &set(Config::new(), settings))
}

pub(crate) fn open_with(kind: &str, config: &Config) -> Result<Arc<dyn Store>, Error> {
    Ok(match kind {
        "postgres" => Arc::new(SqlStore::postgres(config)?),
        _ => Arc::new(SqlStore::mysql(config)?),
    })
}

/// The address of the server of this kind that all tests of this process share, and the processes that they start.
pub(crate) fn shared_url(kind: &str) -> Option<String> {
    if let Ok(url) = std::env::var(variable(kind)) {
        return Some(url);
    }
    match kind {
        "postgres" => shared_postgres().map(DatabaseServer::url),
        _ => shared_mysql().map(DatabaseServer::url),
    }
}

/// Names the server to the processes that a test starts.
pub(crate) fn variable(kind: &str) -> String {
    format!("CONTRACT_{}", kind.to_uppercase())
}

fn shared_postgres() -> Option<&'static PostgresServer> {
    static SERVER: OnceLock<Option<PostgresServer>> = OnceLock::new();
    SERVER.get_or_init(|| PostgresServer::start(&[])).as_ref()
}

fn shared_mysql() -> Option<&'static MysqlServer> {
    static SERVER: OnceLock<Option<MysqlServer>> = OnceLock::new();
    SERVER.get_or_init(|| MysqlServer::start(&[])).as_ref()
}

/// The servers that the tests share: each uses tables of its own, and stops none of them.
pub(crate) fn shared_servers() -> impl Iterator<Item = &'static dyn Server> {
    let postgres = shared_postgres().map(|server| server as &dyn Server);
    postgres
        .into_iter()
        .chain(shared_mysql().map(|server| server as &dyn Server))
}

/// Servers for one test alone.
pub(crate) fn own_servers() -> Vec<Box<dyn Server>> {
    own_servers_with(&[], &[])
}

/// The same, the one of `PostgreSQL` and the one of `MariaDB` with these settings.
pub(crate) fn own_servers_with(postgres: &[&str], mysql: &[&str]) -> Vec<Box<dyn Server>> {
    let mut servers: Vec<Box<dyn Server>> = Vec::new();
    let postgres = PostgresServer::start(postgres);
    servers.extend(postgres.map(|server| Box::new(server) as Box<dyn Server>));
    let mysql = MysqlServer::start(mysql);
    servers.extend(mysql.map(|server| Box::new(server) as Box<dyn Server>));
    servers
}

impl Server for PostgresServer {
    fn socket_url(&self) -> String {
        PostgresServer::socket_url(self)
    }

    fn socket(&self) -> PathBuf {
        self.directory()
            .join(format!(".s.PGSQL.{}", PostgresServer::port(self)))
    }

    fn port(&self) -> u16 {
        PostgresServer::port(self)
    }

    fn run_all(&self, statements: &[&str]) {
        let mut client = self.client();
        for statement in statements {
            client.batch_execute(statement).unwrap();
        }
    }

    fn ask(&self, question: &str) -> Option<String> {
        postgres::answer(&mut self.client(), question)
    }

    fn tell(&self, statement: &str) {
        PostgresServer::tell(self, statement);
    }

    fn holding(&self, statement: &str) -> Box<dyn Send> {
        let mut client = self.client();
        client.batch_execute("BEGIN").unwrap();
        client.batch_execute(statement).unwrap();
        Box::new(client)
    }

    fn end_connections(&self) {
        let others = format!("usename = '{}' AND pid <> pg_backend_pid()", postgres::USER);
        self.tell(&format!(
            "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE {others}"
        ));
    }
}

impl Server for MysqlServer {
    fn socket_url(&self) -> String {
        MysqlServer::socket_url(self)
    }

    fn socket(&self) -> PathBuf {
        self.directory().join("socket")
    }

    fn port(&self) -> u16 {
        MysqlServer::port(self)
    }

    fn run_all(&self, statements: &[&str]) {
        let mut client = self.client();
        client
            .query_drop("SET SESSION sql_mode = 'ANSI_QUOTES'")
            .unwrap();
        for statement in statements {
            client.query_drop(statement).unwrap();
        }
    }

    fn ask(&self, question: &str) -> Option<String> {
        let mut client = self.client();
        client
            .query_drop("SET SESSION sql_mode = 'ANSI_QUOTES'")
            .unwrap();
        let answer: Option<Option<String>> = client.query_first(question).unwrap();
        answer.flatten()
    }

    fn tell(&self, statement: &str) {
        MysqlServer::tell(self, statement);
    }

    fn holding(&self, statement: &str) -> Box<dyn Send> {
        let mut client = self.client();
        client
            .query_drop("SET SESSION sql_mode = 'ANSI_QUOTES'")
            .unwrap();
        client.query_drop("START TRANSACTION").unwrap();
        client.query_drop(statement).unwrap();
        Box::new(client)
    }

    fn end_connections(&self) {
        let others =
            "FROM information_schema.processlist WHERE user = 'shop' AND id <> connection_id()";
        let mut client = self.client();
        let found: Vec<u64> = client.query(format!("SELECT id {others}")).unwrap();
        for id in found {
            // It may have ended by itself.
            let _ = client.query_drop(format!("KILL CONNECTION {id}"));
        }
        testkit::wait_until("the connections are gone", || {
            let left: Option<u64> = client
                .query_first(format!("SELECT count(*) {others}"))
                .unwrap();
            left == Some(0)
        });
    }
}

/// Counts as the library does, but for the lock and the version.
pub(crate) fn counting_without_lock(
    kind: &str,
    table: &str,
    session: &SessionDigest,
) -> Box<dyn FnMut()> {
    let url = shared_url(kind).unwrap();
    let question = format!("SELECT record FROM \"{table}\" WHERE session = '{session}'");
    let change = format!("UPDATE \"{table}\" SET record = 'RECORD' WHERE session = '{session}'");
    let next = move |text: &str| {
        let stored = Record::from_json(text.as_bytes().to_vec()).unwrap();
        let next = record(count(&stored) + 1, SystemTime::now()).to_json();
        change.replace("RECORD", &String::from_utf8(next).unwrap())
    };
    if kind == "postgres" {
        let mut client = ::postgres::Client::connect(&url, ::postgres::NoTls).unwrap();
        return Box::new(move || {
            let text = postgres::answer(&mut client, &question).unwrap();
            client.batch_execute(&next(&text)).unwrap();
        });
    }
    let mut client = mysql::Conn::new(mysql::Opts::from_url(&url).unwrap()).unwrap();
    client
        .query_drop("SET SESSION sql_mode = 'ANSI_QUOTES'")
        .unwrap();
    Box::new(move || {
        let text: String = client.query_first(&question).unwrap().unwrap();
        client.query_drop(next(&text)).unwrap();
    })
}
