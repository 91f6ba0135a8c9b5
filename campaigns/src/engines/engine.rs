//! [`Engine`]: a server of the test's own, which hosts reach by the network.

mod galera;
mod mysql;
mod postgres;
mod redis;

use std::net::{Ipv4Addr, SocketAddr};

pub(crate) use galera::Galera;
pub(crate) use mysql::{Mysql, ReplicatedMysql};
pub(crate) use postgres::{Postgres, ReplicatedPostgres};
pub(crate) use redis::{Redis, ReplicatedRedis};

/// Where sessions are kept.
pub(crate) trait Engine {
    /// What the programs of a host are configured with.
    fn settings(&self, host: usize) -> Vec<(&'static str, String)>;
}

/// What a single server can be made to suffer.
pub(crate) trait Server: Engine {
    /// Ends it as its administrator would.
    fn stop(&mut self);
    fn kill(&mut self);
    fn start(&mut self);
    fn freeze(&self);
    fn resume(&self);
}

fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

pub(crate) fn settings(storage_type: &str, url: &str) -> Vec<(&'static str, String)> {
    vec![
        ("storageType", storage_type.to_owned()),
        ("database", url.to_owned()),
    ]
}
