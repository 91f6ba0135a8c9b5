//! [`Engine`]: a server of the test's own, which hosts reach by the network.

mod galera;
mod mysql;
mod postgres;
mod redis;

use std::net::{Ipv4Addr, SocketAddr};

use testkit::database::DatabaseServer;

pub(crate) use galera::Galera;
pub(crate) use mysql::{ReplicatedMysql, mysql};
pub(crate) use postgres::{ReplicatedPostgres, postgres};
pub(crate) use redis::{ReplicatedRedis, forgetful_redis, redis};

/// Where sessions are kept.
pub(crate) trait Engine {
    /// What the programs of a host are configured with.
    fn settings(&self, host: usize) -> Vec<(&'static str, String)>;
}

/// A single server.
pub(crate) struct Single {
    pub(crate) server: Box<dyn DatabaseServer>,
    url: String,
}

impl Single {
    fn new(server: impl DatabaseServer + 'static, url: String) -> Self {
        let server = Box::new(server);
        Single { server, url }
    }
}

impl Engine for Single {
    fn settings(&self, _: usize) -> Vec<(&'static str, String)> {
        settings(self.server.kind(), &self.url)
    }
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
