//! A Redis primary with a replica, and three sentinels that watch them.

use crate::outside::wait_until;
use crate::prelude::*;

/// The name under which the sentinels know the primary.
pub const SERVICE: &str = "mymaster";
const SENTINELS: usize = 3;
const HOST: &str = "127.0.0.1";
/// After this silence a server is taken for failed, in milliseconds: longer than any of a slow machine that
/// runs.
pub const PATIENT: u32 = 20_000;
/// As long as a slow machine needs, where a server is to fail.
pub const SOON: u32 = 2500;

/// Two servers and their sentinels, which do not outlive their test. The first server is the primary until
/// the other takes over.
pub struct RedisSentinels {
    servers: Vec<RedisServer>,
    sentinels: Vec<RedisServer>,
    ports: Vec<u16>,
    sentinel_ports: Vec<u16>,
}

impl RedisSentinels {
    /// Servers that are missed after this time; `None` where none is installed.
    #[track_caller]
    pub fn start(down_after: u32) -> Option<Self> {
        let ports: Vec<_> = (0..2).map(|_| free_port()).collect();
        let first = ports[0].to_string();
        let of_replica = [
            "--repl-diskless-sync-delay",
            "0",
            "--replicaof",
            HOST,
            &first,
        ];
        let servers = ports.iter().enumerate().map(|(at, port)| {
            let (port, replica) = (port.to_string(), &of_replica[..5 * at]);
            RedisServer::start([&["--port", &port, "--bind", HOST][..], replica].concat())
        });
        let servers = servers.collect::<Option<Vec<_>>>()?;
        let replica = &servers[1];
        wait_until("the replica has what its primary has", || {
            let state = replica.tell("INFO replication");
            state.contains("master_link_status:up")
        });
        let sentinel_ports: Vec<_> = (0..SENTINELS).map(|_| free_port()).collect();
        let file = format!(
            "sentinel monitor {SERVICE} {HOST} {first} 2\n\
             sentinel down-after-milliseconds {SERVICE} {down_after}\n"
        );
        let sentinels = sentinel_ports.iter();
        let sentinels = sentinels.map(|port| RedisServer::sentinel(&file, *port, &[]));
        let sentinels = sentinels.collect::<Option<Vec<_>>>()?;
        for sentinel in &sentinels {
            wait_until("a sentinel knows the servers and the others", || {
                let knows = |question: &[&str], number| {
                    let answer = sentinel.ask([&["SENTINEL"], question, &[SERVICE]].concat());
                    let names = answer.unwrap_or_default();
                    names.lines().filter(|line| *line == "runid").count() == number
                };
                knows(&["SENTINELS"], SENTINELS - 1) && knows(&["REPLICAS"], 1)
            });
        }
        Some(RedisSentinels {
            servers,
            sentinels,
            ports,
            sentinel_ports,
        })
    }

    pub fn url(&self) -> String {
        let hosts = self.sentinel_ports.iter();
        let hosts: Vec<_> = hosts.map(|port| format!("{HOST}:{port}")).collect();
        format!("redis+sentinel://{}/{SERVICE}/0", hosts.join(","))
    }

    pub fn sentinel(&mut self, at: usize) -> &mut RedisServer {
        &mut self.sentinels[at]
    }

    /// Makes the replica the primary while both run. The old primary is paused, for it would acknowledge what
    /// is lost until the sentinels make it a replica.
    pub fn fail_over(&self) {
        let (old, replica) = (&self.servers[0], &self.servers[1]);
        old.tell("CLIENT PAUSE 60000 WRITE");
        let offset = |server: &RedisServer| {
            let told = server.tell("INFO replication");
            let line = told
                .lines()
                .find(|line| line.starts_with("master_repl_offset:"));
            line.map(str::to_owned)
        };
        wait_until("the replica has everything", || {
            offset(old) == offset(replica)
        });
        let ask = || self.sentinels[0].ask(["SENTINEL", "FAILOVER", SERVICE]);
        wait_until("the sentinels begin", || {
            ask().is_some_and(|answer| answer == "OK")
        });
        self.is_taken_over();
    }

    /// Kills the primary, and waits until the sentinels have made the replica one.
    pub fn kill_primary(&mut self) {
        self.servers[0].kill();
        self.is_taken_over();
    }

    fn is_taken_over(&self) {
        let old = self.ports[0].to_string();
        for sentinel in &self.sentinels {
            wait_until("a sentinel names the new primary", || {
                let told = sentinel.tell(["SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE]);
                told.lines().nth(1) != Some(&old)
            });
        }
    }
}
