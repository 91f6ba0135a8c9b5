//! `PostgreSQL`: a server.

use super::{Engine, Server};
use crate::support::postgres::PostgresServer;

pub(crate) struct Postgres {
    server: PostgresServer,
    url: String,
}

impl Postgres {
    pub(crate) fn start(address: &str) -> Option<Self> {
        let server = PostgresServer::start(&[&format!("listen_addresses={address}")])?;
        let url = server.url().replace("127.0.0.1", address);
        Some(Postgres { server, url })
    }
}

impl Engine for Postgres {
    fn settings(&self) -> Vec<(&'static str, String)> {
        vec![
            ("storageType", "postgres".to_owned()),
            ("database", self.url.clone()),
        ]
    }
}

impl Server for Postgres {
    fn stop(&mut self) {
        self.server.stop();
    }

    fn kill(&mut self) {
        self.server.kill();
    }

    fn start(&mut self) {
        self.server.run();
    }

    fn freeze(&self) {
        self.server.freeze();
    }

    fn resume(&self) {
        self.server.resume();
    }
}
