//! `MariaDB`: a server, and one with a replica that has everything before a commit is acknowledged.

use super::{Engine, Single, local, settings};
use crate::engines::relay::Relay;
use testkit::mysql::{MysqlServer, PASSWORD, USER};
use testkit::prelude::*;

pub(crate) fn mysql(address: &str) -> Option<Single> {
    let server = MysqlServer::start(&[&format!("--bind-address={address}")])?;
    let url = server.url().replace("127.0.0.1", address);
    Some(Single::new(server, url))
}

/// A server with a replica, behind one address.
pub(crate) struct ReplicatedMysql {
    source: MysqlServer,
    replica: MysqlServer,
    relay: Relay,
}

/// The source waits for the replica before it acknowledges anything: semi-synchronous replication.
const SOURCE: [&str; 4] = [
    "--server-id=1",
    "--log-bin=log",
    "--rpl-semi-sync-master-wait-point=AFTER_SYNC",
    "--rpl-semi-sync-master-timeout=3600000",
];
const REPLICA: [&str; 4] = [
    "--server-id=2",
    "--log-bin=log",
    "--rpl-semi-sync-slave-enabled=1",
    "--read-only=1",
];

impl ReplicatedMysql {
    pub(crate) fn start(address: &str) -> Option<Self> {
        let replica = MysqlServer::start(&REPLICA)?;
        let source = MysqlServer::start(&SOURCE)?;
        // Both were made the same; what comes now goes to both.
        source.tell("RESET MASTER");
        replica.tell("RESET MASTER");
        replica.tell(&format!(
            "CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT={}, MASTER_USER='{USER}', \
             MASTER_PASSWORD='{PASSWORD}', MASTER_USE_GTID=slave_pos",
            source.port()
        ));
        source.tell(&format!("GRANT REPLICATION SLAVE ON *.* TO '{USER}'@'%'"));
        source.tell("SET GLOBAL rpl_semi_sync_master_enabled = 1");
        replica.tell("START SLAVE");
        wait_until("the replica follows", || {
            let clients = source.ask("SHOW STATUS LIKE 'Rpl_semi_sync_master_clients'");
            clients.as_deref() == Some("1")
        });
        let relay = Relay::open(address, local(source.port()));
        Some(ReplicatedMysql {
            source,
            replica,
            relay,
        })
    }

    /// The server dies, and its replica takes over once it has done all that it was sent.
    pub(crate) fn fail_over(&mut self) {
        self.source.kill();
        self.take_over();
        self.relay.turn_to(local(self.replica.port()));
    }

    /// The same with a server that stays up, and may only read.
    pub(crate) fn hand_over(&mut self) {
        self.source.tell("SET GLOBAL read_only = 1");
        let position = self
            .source
            .ask("SELECT @@gtid_binlog_pos")
            .unwrap_or_default();
        let done = format!("SELECT MASTER_GTID_WAIT('{position}', 100)");
        assert_eq!(self.replica.ask(&done).as_deref(), Some("0"));
        self.take_over();
        self.relay.lead_to(local(self.replica.port()));
    }

    fn take_over(&self) {
        wait_until("the replica has done everything", || {
            let waiting = self.replica.ask(
                "SELECT COUNT(*) FROM information_schema.PROCESSLIST \
                 WHERE STATE LIKE 'Slave has read all relay log%'",
            );
            waiting.as_deref() == Some("1")
        });
        self.replica.tell("STOP SLAVE");
        self.replica.tell("RESET SLAVE ALL");
        self.replica.tell("SET GLOBAL read_only = 0");
    }
}

impl Engine for ReplicatedMysql {
    fn settings(&self, _: usize) -> Vec<(&'static str, String)> {
        let local = local(self.source.port()).to_string();
        let address = self.relay.address().to_string();
        settings("mysql", &self.source.url().replace(&local, &address))
    }
}
