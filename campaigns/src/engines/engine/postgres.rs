//! `PostgreSQL`: a server, and one with a standby that has everything before a commit is acknowledged.

use testkit::prelude::*;

use super::{Engine, Single, local, settings};
use crate::engines::relay::Relay;

pub(crate) fn postgres(address: &str) -> Option<Single> {
    let server = PostgresServer::start(&[&format!("listen_addresses={address}")])?;
    let url = server.url().replace("127.0.0.1", address);
    Some(Single::new(server, url))
}

/// A server with a standby, behind one address.
pub(crate) struct ReplicatedPostgres {
    primary: PostgresServer,
    standby: PostgresServer,
    relay: Relay,
}

impl ReplicatedPostgres {
    pub(crate) fn start(address: &str) -> Option<Self> {
        let primary = PostgresServer::start(&[])?;
        let standby = primary.standby();
        primary.tell("GRANT pg_monitor TO shop");
        primary.tell("ALTER SYSTEM SET synchronous_standby_names = '*'");
        primary.tell("SELECT pg_reload_conf()");
        wait_until("the standby is needed for every commit", || {
            let state = primary.ask("SELECT sync_state FROM pg_stat_replication");
            state.as_deref() == Some("sync")
        });
        let relay = Relay::open(address, local(primary.port()));
        Some(ReplicatedPostgres {
            primary,
            standby,
            relay,
        })
    }

    /// The two by their own addresses, which a URL names both.
    pub(crate) fn hosts(&self) -> Vec<(&'static str, String)> {
        let own = local(self.primary.port()).to_string();
        let both = format!("{own},{}", local(self.standby.port()));
        settings("postgres", &self.primary.url().replace(&own, &both))
    }

    /// The server may only read from now on, and its standby takes over when it has everything.
    pub(crate) fn hand_over(&mut self) {
        self.primary
            .tell("ALTER SYSTEM SET default_transaction_read_only = on");
        self.primary.tell("SELECT pg_reload_conf()");
        wait_until("the standby has everything", || {
            let question = "SELECT current_setting('default_transaction_read_only') = 'on' \
                            AND replay_lsn = pg_current_wal_lsn() FROM pg_stat_replication";
            self.primary.ask(question).as_deref() == Some("t")
        });
        self.take_over();
    }

    /// The server dies, and its standby takes over.
    pub(crate) fn fail_over(&mut self) {
        self.primary.kill();
        self.take_over();
    }

    fn take_over(&self) {
        self.standby.tell("SELECT pg_promote()");
        // Nobody follows it yet.
        self.standby
            .tell("ALTER SYSTEM RESET synchronous_standby_names");
        self.standby.tell("SELECT pg_reload_conf()");
        self.relay.turn_to(local(self.standby.port()));
    }
}

impl Engine for ReplicatedPostgres {
    fn settings(&self, _: usize) -> Vec<(&'static str, String)> {
        let local = local(self.primary.port()).to_string();
        let address = self.relay.address().to_string();
        settings("postgres", &self.primary.url().replace(&local, &address))
    }
}
