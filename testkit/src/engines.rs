//! Engines of the tests' own, one of each kind for all tests of a program.

use std::sync::OnceLock;

use mysql::prelude::Queryable as _;

use crate::mysql::MysqlServer;
use crate::postgres;
use crate::prelude::*;

/// The password of the tables' user, which a URL of [`url`] holds.
pub const PASSWORD: &str = postgres::PASSWORD;

/// The kinds of engines that are installed.
pub fn installed() -> impl Iterator<Item = &'static str> {
    let kinds = ["redis", "postgres", "mysql"].into_iter();
    kinds.filter(|kind| url(kind).is_some())
}

/// Where the engine of this kind is; `None` where there is none and nobody insists on one.
pub fn url(kind: &str) -> Option<String> {
    match kind {
        "redis" => redis_server().map(DatabaseServer::url),
        "postgres" => postgres_server().map(DatabaseServer::url),
        "mysql" => mysql_server().map(DatabaseServer::url),
        kind => panic!("no engine {kind}"),
    }
}

/// The names of all tables in an engine of tables.
pub fn tables(kind: &str) -> String {
    let question = |schema: &str, list: &str| {
        format!(
            "SELECT coalesce({list}, '') FROM information_schema.tables \
             WHERE table_schema = {schema}"
        )
    };
    let answer = match kind {
        "postgres" => {
            let list = "string_agg(table_name, ' ')";
            postgres_server().and_then(|it| it.ask(&question("'public'", list)))
        }
        "mysql" => {
            let list = "group_concat(table_name separator ' ')";
            let mut client = mysql_server().unwrap().client();
            client.query_first(question("database()", list)).unwrap()
        }
        kind => panic!("no tables in {kind}"),
    };
    answer.unwrap()
}

fn redis_server() -> Option<&'static RedisServer> {
    static SERVER: OnceLock<Option<RedisServer>> = OnceLock::new();
    SERVER.get_or_init(redis).as_ref()
}

fn postgres_server() -> Option<&'static PostgresServer> {
    static SERVER: OnceLock<Option<PostgresServer>> = OnceLock::new();
    SERVER.get_or_init(|| PostgresServer::start(&[])).as_ref()
}

fn mysql_server() -> Option<&'static MysqlServer> {
    static SERVER: OnceLock<Option<MysqlServer>> = OnceLock::new();
    SERVER.get_or_init(|| MysqlServer::start(&[])).as_ref()
}
