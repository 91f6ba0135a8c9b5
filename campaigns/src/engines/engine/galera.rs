//! Galera: three nodes, each of which takes writes and has what the others have committed.

use super::{Engine, settings};
use testkit::mysql::MysqlServer;
use testkit::outside::user_of_root;
use testkit::prelude::*;

const NODES: usize = 3;
const PROVIDER: &str = "/usr/lib/galera/libgalera_smm.so";

pub(crate) struct Galera {
    nodes: Vec<Node>,
    address: String,
}

struct Node {
    server: MysqlServer,
    /// For the cluster, and the transfer of what is missing, a little and all.
    ports: [u16; 3],
    is_running: bool,
}

impl Galera {
    pub(crate) fn start(address: &str) -> Option<Self> {
        if !is_installed("rsync") || !Path::new(PROVIDER).is_file() {
            testkit::not_installed("Galera");
            return None;
        }
        // The programs that copy a node insist on the servers' own user.
        let user = user_of_root(&["mysql"]);
        let node = |_| {
            Some(Node {
                server: MysqlServer::install(&[], user)?,
                ports: [(); 3].map(|()| free_port()),
                is_running: false,
            })
        };
        let mut galera = Galera {
            nodes: (0..NODES).map(node).collect::<Option<_>>()?,
            address: address.to_owned(),
        };
        galera.run(0, "gcomm://");
        galera.nodes[0].server.create_database();
        for number in 1..NODES {
            galera.join(number);
        }
        Some(galera)
    }

    pub(crate) fn kill(&mut self, number: usize) {
        self.nodes[number].server.kill();
        self.nodes[number].is_running = false;
    }

    /// Starts a node that is to get from the others what it lacks.
    pub(crate) fn join(&mut self, number: usize) {
        let others = self.nodes.iter().filter(|node| node.is_running);
        let others = others.map(|node| format!("127.0.0.1:{}", node.ports[0]));
        let others: Vec<String> = others.collect();
        self.run(number, &format!("gcomm://{}", others.join(",")));
    }

    fn run(&mut self, number: usize, cluster: &str) {
        let node = &mut self.nodes[number];
        let [group, increment, whole] = node.ports;
        node.server.run_with(&[
            format!("--bind-address={}", self.address),
            "--binlog-format=ROW".to_owned(),
            "--innodb-autoinc-lock-mode=2".to_owned(),
            "--wsrep-on=ON".to_owned(),
            format!("--wsrep-provider={PROVIDER}"),
            format!("--wsrep-cluster-address={cluster}"),
            "--wsrep-node-address=127.0.0.1".to_owned(),
            "--wsrep-sst-method=rsync".to_owned(),
            format!("--wsrep-sst-receive-address=127.0.0.1:{whole}"),
            format!(
                "--wsrep-provider-options=gmcast.listen_addr=tcp://127.0.0.1:{group};\
                 ist.recv_addr=127.0.0.1:{increment};gcache.size=16M"
            ),
        ]);
        wait_until("the node has what the others have", || {
            let state = node
                .server
                .ask("SHOW STATUS LIKE 'wsrep_local_state_comment'");
            state.as_deref() == Some("Synced")
        });
        node.is_running = true;
    }

    pub(crate) fn freeze(&self, number: usize) {
        self.nodes[number].server.freeze();
    }

    pub(crate) fn resume(&self, number: usize) {
        self.nodes[number].server.resume();
    }
}

impl Engine for Galera {
    /// Every host has a node of its own.
    fn settings(&self, host: usize) -> Vec<(&'static str, String)> {
        let url = self.nodes[host].server.url();
        settings("mysql", &url.replace("127.0.0.1", &self.address))
    }
}
