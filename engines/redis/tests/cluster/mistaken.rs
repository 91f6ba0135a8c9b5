//! A cluster that is taken for a server, a server for a cluster, and nodes that are not there.

use cgi_session_redis::RedisStore;

use crate::counting::{Counter, store, store_at};
use testkit::prelude::*;
use testkit::redis_cluster::RedisCluster;

#[track_caller]
fn fails(store: &RedisStore, counter: &Counter, status: u16, words: impl Words) {
    let read = store.read(&counter.session, SystemTime::now());
    testkit::stores::fails(read, status, words);
}

#[test]
fn what_is_taken_for_something_else_is_told() {
    let Some(cluster) = RedisCluster::start() else {
        return;
    };
    let right = store(&cluster, &[]);
    let counters = Counter::on_each(&cluster, &right, 1);
    let elsewhere = counters.iter().find(|counter| counter.primary != 0);
    let elsewhere = elsewhere.unwrap();
    let one = store_at(&format!("redis://127.0.0.1:{}", cluster.port(0)), &[]);
    fails(&one, elsewhere, 500, "MOVED*write redis+cluster://");
    says(&one.install()[0], "it is part of a cluster");

    let port = free_port().to_string();
    let _server = RedisServer::start(["--port", &port, "--bind", "127.0.0.1"]).unwrap();
    let alone = store_at(&format!("redis+cluster://127.0.0.1:{port}"), &[]);
    fails(
        &alone,
        elsewhere,
        500,
        "cluster support disabled*write redis:// in database",
    );
}

#[test]
fn some_of_the_nodes_that_are_named_may_be_away() {
    let Some(mut cluster) = RedisCluster::start() else {
        return;
    };
    let counters = Counter::on_each(&cluster, &store(&cluster, &[]), 1);
    let hosts = format!("127.0.0.1:1,127.0.0.1:{}", cluster.port(0));
    let url = format!("redis+cluster://{hosts}");
    for _ in 0..6 {
        // A program of one request, which knows nothing yet.
        let store = store_at(&url, &[]);
        assert!(counters.iter().all(|counter| counter.value(&store) == 0));
    }
    let examined = store_at(&url, &[]).examine();
    assert!(examined.problems.is_empty(), "{examined:?}");
    let engine = examined.engine.unwrap();
    assert!(
        ["Redis ", "Valkey "]
            .iter()
            .any(|name| engine.starts_with(name))
    );
    let is_said = || {
        let warnings = store_at(&url, &[]).examine().warnings;
        let word = "set cluster-require-full-coverage no";
        warnings.iter().any(|warning| warning.contains(word))
    };
    assert!(!is_said());
    cluster
        .node(0)
        .tell("CONFIG SET cluster-require-full-coverage yes");
    assert!(is_said());

    (0..6).for_each(|at| cluster.kill(at));
    let started = Instant::now();
    let words = ["cannot read a session in", &hosts, "is the server running"];
    let patient = store_at(&url, &[("lockTimeout", "90s")]);
    fails(&patient, &counters[0], 503, words);
    assert!(started.elapsed() < Duration::from_secs(30));
}
