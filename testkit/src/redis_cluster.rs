//! A Redis cluster of a test's own: three primaries, each with a replica.

use crate::outside::wait_until;
use crate::prelude::*;
use crate::redis::USER;

const PRIMARIES: usize = 3;
const SLOTS: usize = 16384;
/// A node that is silent for so long is taken for failed, in milliseconds: longer than any of a slow
/// machine that runs.
const NODE_TIMEOUT: &str = "15000";
/// As long as a slow machine needs, where a node is to fail.
const SOON: &str = "2500";
const HOST: &str = "127.0.0.1";

/// A cluster that does not outlive its test. Its first three nodes are primaries, and each of the others is
/// the replica of the one three places before it, until one of them fails.
pub struct RedisCluster {
    nodes: Vec<RedisServer>,
    ports: Vec<[u16; 2]>,
}

impl RedisCluster {
    /// A cluster that has begun to serve; `None` where no server is installed.
    #[track_caller]
    pub fn start() -> Option<Self> {
        RedisCluster::with("--port", &[])
    }

    /// The same, whose nodes are soon missed.
    #[track_caller]
    pub fn that_fails_over_soon() -> Option<Self> {
        RedisCluster::with("--port", &["--cluster-node-timeout", SOON])
    }

    /// The same with more settings, and another one for the port of each node.
    #[track_caller]
    pub fn with(port_name: &str, settings: &[&str]) -> Option<Self> {
        let ports = (0..2 * PRIMARIES).map(|_| [free_port(), free_port()]);
        let ports: Vec<_> = ports.collect();
        let nodes = ports.iter().map(|[port, bus]| {
            let (port, bus) = (port.to_string(), bus.to_string());
            RedisServer::start(
                [
                    &[port_name, &port, "--bind", HOST, "--cluster-port", &bus],
                    &["--cluster-enabled", "yes"][..],
                    &["--cluster-node-timeout", NODE_TIMEOUT],
                    &["--cluster-require-full-coverage", "no"],
                    &["--cluster-replica-validity-factor", "0"],
                    &["--repl-diskless-sync-delay", "0", "--appendonly", "no"],
                    settings,
                ]
                .concat(),
            )
        });
        let nodes = nodes.collect::<Option<Vec<_>>>()?;
        let cluster = RedisCluster { nodes, ports };
        cluster.join();
        Some(cluster)
    }

    fn join(&self) {
        for (at, node) in self.nodes.iter().enumerate() {
            node.tell(["CLUSTER", "SET-CONFIG-EPOCH", &(at + 1).to_string()]);
        }
        for (at, node) in self.nodes[..PRIMARIES].iter().enumerate() {
            let [first, end] = [at, at + 1].map(|part| part * SLOTS / PRIMARIES);
            let (first, last) = (first.to_string(), (end - 1).to_string());
            node.tell(["CLUSTER", "ADDSLOTSRANGE", &first, &last]);
        }
        for [port, bus] in &self.ports[1..] {
            let (port, bus) = (port.to_string(), bus.to_string());
            self.nodes[0].tell(["CLUSTER", "MEET", HOST, &port, &bus]);
        }
        for (at, replica) in self.nodes[PRIMARIES..].iter().enumerate() {
            let primary = self.nodes[at].tell("CLUSTER MYID");
            wait_until("a replica knows its primary", || {
                let done = replica.ask(["CLUSTER", "REPLICATE", &primary]);
                done.is_some_and(|answer| answer == "OK")
            });
        }
        for node in &self.nodes {
            wait_until("the cluster serves", || {
                let state = node.tell("CLUSTER INFO");
                let signs = [
                    "cluster_state:ok".to_owned(),
                    "cluster_known_nodes:6".to_owned(),
                    format!("cluster_slots_ok:{SLOTS}"),
                ];
                signs.iter().all(|sign| state.contains(sign))
            });
        }
        for replica in &self.nodes[PRIMARIES..] {
            wait_until("a replica has what its primary has", || {
                let state = replica.tell("INFO replication");
                state.contains("master_link_status:up")
            });
        }
    }

    pub fn url(&self) -> String {
        format!("redis+cluster://{}/", self.hosts())
    }

    /// Where a user is let in at every node who may do no more than docs/engines.md tells, to these keys.
    #[track_caller]
    pub fn url_of_user(&self, keys: &str) -> String {
        self.nodes.iter().for_each(|node| node.let_in(keys));
        format!("redis+cluster://{USER}@{}/", self.hosts())
    }

    /// The nodes that are primaries at the beginning, as they stand in a URL.
    pub fn hosts(&self) -> String {
        let hosts = self.ports[..PRIMARIES].iter();
        let hosts: Vec<_> = hosts.map(|[port, _]| format!("{HOST}:{port}")).collect();
        hosts.join(",")
    }

    pub fn node(&self, at: usize) -> &RedisServer {
        &self.nodes[at]
    }

    pub fn port(&self, at: usize) -> String {
        self.ports[at][0].to_string()
    }

    /// Kills a node as if its machine had stopped.
    pub fn kill(&mut self, at: usize) {
        self.nodes[at].kill();
    }

    /// Starts a node again that was killed.
    pub fn run(&mut self, at: usize) {
        self.nodes[at].run();
    }

    pub fn slot(&self, key: &str) -> usize {
        let slot = self.nodes[0].tell(["CLUSTER", "KEYSLOT", key]);
        slot.parse().unwrap()
    }

    /// The primary that has had this key from the beginning.
    pub fn primary_of(&self, key: &str) -> usize {
        let slot = self.slot(key);
        let is_in =
            |at: &usize| (at * SLOTS / PRIMARIES..(at + 1) * SLOTS / PRIMARIES).contains(&slot);
        (0..PRIMARIES).find(is_in).unwrap()
    }

    pub fn is_primary(&self, at: usize) -> bool {
        self.nodes[at].tell("ROLE").starts_with("master")
    }
}
