//! Redis: a server, and two of which one follows the other.

use testkit::prelude::*;

use super::{Engine, Single, local, settings};
use crate::engines::relay::Relay;

pub(crate) fn redis(address: &str) -> Option<Single> {
    redis_with(address, "yes")
}

/// One that has nothing on disk.
pub(crate) fn forgetful_redis(address: &str) -> Option<Single> {
    redis_with(address, "no")
}

fn redis_with(address: &str, log: &str) -> Option<Single> {
    let port = free_port();
    let settings = format!("--bind {address} --port {port} --appendonly {log}");
    let server = RedisServer::start(format!("{settings} --protected-mode no").as_str())?;
    let url = format!("redis://{address}:{port}/0");
    Some(Single::new(server, url))
}

/// Two servers, of which one follows the other, behind one address.
pub(crate) struct ReplicatedRedis {
    servers: [(RedisServer, SocketAddr); 2],
    relay: Relay,
}

impl ReplicatedRedis {
    pub(crate) fn start(address: &str) -> Option<Self> {
        let servers = [start_local()?, start_local()?];
        let port = servers[0].1.port().to_string();
        servers[1].0.tell(["REPLICAOF", "127.0.0.1", &port]);
        wait_until("the replica has everything", || {
            let state = servers[1].0.tell("INFO replication");
            state.contains("master_link_status:up")
        });
        let relay = Relay::open(address, servers[0].1);
        Some(ReplicatedRedis { servers, relay })
    }

    /// Hands over from this server to the other, as an administrator does it: the server stops writing
    /// until the other has everything (FAILOVER, Redis 6.2).
    pub(crate) fn fail_over(&self, from: usize, turn: fn(&Relay, SocketAddr)) {
        let (old, (new, address)) = (&self.servers[from].0, &self.servers[1 - from]);
        // Only a replica that is in step can take over.
        wait_until("the replica is in step", || {
            old.tell("INFO replication").contains("state=online")
        });
        old.tell("FAILOVER");
        wait_until("the replica takes over", || {
            let role = |server: &RedisServer| server.tell("ROLE");
            role(new).starts_with("master") && role(old).starts_with("slave")
        });
        turn(&self.relay, *address);
    }
}

impl Engine for ReplicatedRedis {
    fn settings(&self, _: usize) -> Vec<(&'static str, String)> {
        settings("redis", &format!("redis://{}/0", self.relay.address()))
    }
}

fn start_local() -> Option<(RedisServer, SocketAddr)> {
    let address = local(free_port());
    let server = RedisServer::start(["--port", &address.port().to_string()])?;
    Some((server, address))
}
