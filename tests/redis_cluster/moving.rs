//! Keys go from node to node while their sessions are in use.

use std::time::SystemTime;

use cgi_session::Store;

use crate::counting::{Counter, WAIT, count_meanwhile, record, store};
use testkit::redis::RedisServer;
use testkit::redis_cluster::RedisCluster;
use testkit::wait_until;

/// Begins to hand a slot over to another node, whose name it returns.
fn begin(source: &RedisServer, target: &RedisServer, slot: &str) -> String {
    let [source_id, target_id] = [source, target].map(|node| node.tell(&["CLUSTER", "MYID"]));
    target.tell(&["CLUSTER", "SETSLOT", slot, "IMPORTING", &source_id]);
    source.tell(&["CLUSTER", "SETSLOT", slot, "MIGRATING", &target_id]);
    target_id
}

/// Hands a slot over to another node, key by key, as `redis-cli --cluster reshard` does.
fn hand_over(
    cluster: &RedisCluster,
    slot: &str,
    from: usize,
    to: usize,
    mut meanwhile: impl FnMut(),
) {
    let [source, target] = [from, to].map(|at| cluster.node(at));
    let target_id = begin(source, target, slot);
    meanwhile();
    // A node that has just come does not know the scripts.
    target.tell(&["SCRIPT", "FLUSH"]);
    loop {
        let keys = source.tell(&["CLUSTER", "GETKEYSINSLOT", slot, "1"]);
        if keys.is_empty() {
            break;
        }
        let port = cluster.port(to);
        source.tell(&["MIGRATE", "127.0.0.1", &port, &keys, "0", "5000"]);
        meanwhile();
    }
    for node in [target, source] {
        node.tell(&["CLUSTER", "SETSLOT", slot, "NODE", &target_id]);
    }
}

#[test]
fn a_session_whose_slot_is_handed_over_loses_no_update_and_nobody_is_refused() {
    let Some(cluster) = RedisCluster::start() else {
        return;
    };
    let store = store(&cluster, &[]);
    let counters = Counter::on_each(&cluster, &store, 1);
    let moved = &counters[0];
    let slot = cluster.slot(&moved.key()).to_string();
    count_meanwhile(&counters, &store, || {
        let counts_on = || {
            let before: Vec<_> = counters.iter().map(Counter::told).collect();
            wait_until("all count on", || {
                let mut both = counters.iter().zip(&before);
                both.all(|(counter, before)| counter.told() > before + 20)
            });
        };
        counts_on();
        for turn in 0..6 {
            let (from, to) = ((moved.primary + turn) % 3, (moved.primary + turn + 1) % 3);
            hand_over(&cluster, &slot, from, to, counts_on);
            counts_on();
        }
    });
    for counter in &counters {
        assert_eq!((counter.refused(), counter.unsure()), (0, 0));
        assert_eq!(counter.value(&store), counter.told());
    }
}

#[test]
fn a_session_is_begun_and_ended_where_its_slot_is_about_to_be() {
    let Some(cluster) = RedisCluster::start() else {
        return;
    };
    let store = store(&cluster, &[]);
    let now = SystemTime::now();
    let moved = Counter::new(&cluster, &store);
    let (_, lease) = store.lock(&moved.session, WAIT, now).unwrap().unwrap();
    lease.destroy().unwrap();
    let (source, target) = (moved.primary, (moved.primary + 1) % 3);
    let [source, target] = [source, target].map(|at| cluster.node(at));
    begin(source, target, &cluster.slot(&moved.key()).to_string());
    // The later ones on kept connections.
    for _ in 0..3 {
        let lease = store.create(&moved.session, &record(1), now).unwrap();
        assert_eq!(target.tell(&["DBSIZE"]), "1");
        lease.unwrap().destroy().unwrap();
        assert_eq!(target.tell(&["DBSIZE"]), "0");
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
        assert_eq!(node.tell(&["EXISTS", &counter.key()]), "1");
        counter.count(&store).unwrap();
        assert_eq!(counter.value(&store), 1);
    }
    // No connection was sent on by a node: each was asked for what it has.
    let sent_on = (0..3).map(|at| cluster.node(at).tell(&["INFO", "errorstats"]));
    assert!(sent_on.into_iter().all(|told| !told.contains("MOVED")));
    assert!(store.uninstall().sessions >= 15);
    assert!((0..3).all(|at| cluster.node(at).tell(&["DBSIZE"]) == "0"));
}
