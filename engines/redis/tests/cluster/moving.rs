//! Where the keys of a cluster are. That they are handed over in mid-traffic is a campaign.

use crate::counting::{Counter, store, store_at};
use cgi_session::store_contract::{WAIT, record};
use testkit::prelude::*;
use testkit::redis_cluster::RedisCluster;

/// Begins to hand a slot over to another node, whose name it returns.
fn begin(source: &RedisServer, target: &RedisServer, slot: &str) -> String {
    let [source_id, target_id] = [source, target].map(|node| node.tell("CLUSTER MYID"));
    target.tell(["CLUSTER", "SETSLOT", slot, "IMPORTING", &source_id]);
    source.tell(["CLUSTER", "SETSLOT", slot, "MIGRATING", &target_id]);
    target_id
}

#[test]
fn a_session_is_begun_and_ended_where_its_slot_is_about_to_be() {
    let Some(cluster) = RedisCluster::start() else {
        return;
    };
    let store = store_at(&cluster.url_of_user("~Session:*"), &[]);
    let now = SystemTime::now();
    let moved = Counter::new(&cluster, &store);
    let (_, lease) = store.lock(&moved.session, WAIT, now).unwrap().unwrap();
    lease.destroy().unwrap();
    let (source, target) = (moved.primary, (moved.primary + 1) % 3);
    let [source, target] = [source, target].map(|at| cluster.node(at));
    begin(source, target, &cluster.slot(&moved.key()).to_string());
    // The later ones on kept connections.
    for _ in 0..3 {
        let lease = store.create(&moved.session, &record(1, now), now).unwrap();
        assert_eq!(target.tell("DBSIZE"), "1");
        lease.unwrap().destroy().unwrap();
        assert_eq!(target.tell("DBSIZE"), "0");
    }
}

#[test]
fn every_key_is_looked_for_where_the_cluster_has_it() {
    let Some(cluster) = RedisCluster::start() else {
        return;
    };
    let store = store(&cluster, &[]);
    assert!(store.install().is_empty(), "{:?}", store.install());
    for counter in Counter::on_each(&cluster, &store, 5) {
        let node = cluster.node(counter.primary);
        assert_eq!(node.tell(["EXISTS", &counter.key()]), "1");
        counter.count(&store).unwrap();
        assert_eq!(counter.value(&store), 1);
    }
    // What is in the first braces says where a key is, unless that is nothing.
    for user in ["ada", "a{b}c", "a{b}{c}", "{}", "{}{a}", "}{a}}", "{"] {
        let sessions = store.sessions_of(user, SystemTime::now());
        assert!(sessions.unwrap().is_empty(), "{user}");
    }
    // No connection was sent on by a node: each was asked for what it has.
    let sent_on = (0..3).map(|at| cluster.node(at).tell("INFO errorstats"));
    assert!(sent_on.into_iter().all(|told| !told.contains("MOVED")));
    assert!(store.uninstall().sessions >= 15);
    assert!((0..3).all(|at| cluster.node(at).tell("DBSIZE") == "0"));
}
