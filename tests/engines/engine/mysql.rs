//! `MariaDB`: a server.

use super::{Engine, Server};
use crate::support::mysql::MysqlServer;

pub(crate) struct Mysql {
    server: MysqlServer,
    url: String,
}

impl Mysql {
    pub(crate) fn start(address: &str) -> Option<Self> {
        let server = MysqlServer::start(&[&format!("--bind-address={address}")])?;
        let url = server.url().replace("127.0.0.1", address);
        Some(Mysql { server, url })
    }
}

impl Engine for Mysql {
    fn settings(&self) -> Vec<(&'static str, String)> {
        vec![
            ("storageType", "mysql".to_owned()),
            ("database", self.url.clone()),
        ]
    }
}

impl Server for Mysql {
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
