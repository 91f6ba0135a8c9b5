//! The Redis store keeps the contract, on a server and on a cluster, as a user who may do what the documentation
//! says and no more.

use std::sync::OnceLock;

use cgi_session::Origin;
use cgi_session::store_contract::StoreContract;
use cgi_session_redis::RedisStore;

use testkit::prelude::*;
use testkit::redis::USER;
use testkit::redis_cluster::RedisCluster;

/// Names the server or the cluster to the processes that a test starts.
const URL: &str = "CONTRACT_REDIS";

/// `None` where what it needs is not installed.
fn contract(name: &str) -> Option<StoreContract> {
    let url = url(name)?;
    let at = url.clone();
    let contract = StoreContract::new(name, move |config: Config, directory: &Path| {
        let config = config.set("database", &at)?;
        let config = config.set("table", table(directory))?;
        // So long that a request fails that waits for the end of a lock.
        let config = match config.origin("lockLease") {
            Origin::Default => config.set("lockLease", "10")?,
            _ => config,
        };
        Ok(Box::new(RedisStore::new(&config)?))
    });
    let contract = contract.without_cap().with_lock_lease();
    Some(contract.with_variable(URL, &url))
}

/// The server or the cluster that all tests share.
fn url(name: &str) -> Option<String> {
    static SERVER: OnceLock<Option<RedisServer>> = OnceLock::new();
    static CLUSTER: OnceLock<Option<RedisCluster>> = OnceLock::new();
    if let Ok(url) = std::env::var(URL) {
        return Some(url);
    }
    if name == "redis" {
        let server = SERVER.get_or_init(|| redis()).as_ref()?;
        server.let_in(KEYS);
        let (user, password) = USER.split_once(':').unwrap();
        return Some(format!("{}?user={user}&pass={password}", server.url()));
    }
    let cluster = CLUSTER.get_or_init(RedisCluster::start);
    Some(cluster.as_ref()?.url_of_user(KEYS))
}

/// The keys of all tables of these tests.
const KEYS: &str = "~ttmp*";

/// What the keys begin with that belong to this directory.
fn table(directory: &Path) -> String {
    let name = directory.file_name().unwrap().to_str().unwrap();
    name.replace('.', "t")
}

#[test]
fn a_server_keeps_the_contract() {
    contract("redis").iter().for_each(StoreContract::check);
}

#[test]
fn a_cluster_keeps_the_contract() {
    contract("redis cluster")
        .iter()
        .for_each(StoreContract::check);
}

#[test]
fn processes_share_a_server() {
    if let Some(contract) = contract("redis") {
        contract.check_processes("contract::processes_share_a_server");
    }
}

#[test]
fn processes_share_a_cluster() {
    if let Some(contract) = contract("redis cluster") {
        contract.check_processes("contract::processes_share_a_cluster");
    }
}
