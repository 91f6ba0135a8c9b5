//! A primary dies, and its replica takes its place: with `durability = data` nothing is acknowledged that no replica
//! has. What goes on meanwhile is a campaign.

use cgi_session::store_contract::record;

use crate::counting::{Counter, store};
use testkit::prelude::*;
use testkit::redis_cluster::RedisCluster;

/// The node that fails, and the one that takes its place.
const VICTIM: usize = 1;
const HEIR: usize = 4;

#[test]
fn what_no_replica_has_is_lost_in_a_failover_and_with_durability_is_not_acknowledged() {
    let Some(mut cluster) = RedisCluster::that_fails_over_soon() else {
        return;
    };
    let fast = store(&cluster, &[]);
    let patient = store(&cluster, &[("durability", "data")]);
    let durable = store(&cluster, &[("durability", "data"), ("lockTimeout", "3s")]);
    let of_victim = |store| loop {
        let counter = Counter::new(&cluster, store);
        if counter.primary == VICTIM {
            return counter;
        }
    };
    let (fast_counter, durable_counter) = (of_victim(&fast), of_victim(&patient));
    durable_counter.count(&patient).unwrap();
    cluster.node(HEIR).freeze();
    let error = durable_counter.count(&durable).unwrap_err();
    assert_eq!(error.status(), 503);
    says(&error, "a replica has not confirmed");
    let news = std::iter::repeat_with(|| SessionId::generate().unwrap().digest());
    let is_victims =
        |new: &SessionDigest| cluster.primary_of(&format!("Session:{{{new}}}")) == VICTIM;
    let new = news.into_iter().find(is_victims).unwrap();
    let now = SystemTime::now();
    let created = durable.create(&new, &record(1, now), now);
    assert!(matches!(created.map(drop), Err(Error::Unavailable { .. })));

    // Else it would find on the line what was sent to it.
    cluster.node(VICTIM).tell("CLIENT KILL TYPE replica");
    for _ in 0..10 {
        fast_counter.count(&fast).unwrap();
    }
    cluster.kill(VICTIM);
    cluster.node(HEIR).resume();
    wait_until("the replica is a primary", || cluster.is_primary(HEIR));
    let serves = || fast.read(&fast_counter.session, SystemTime::now()).is_ok();
    wait_until("it serves", serves);
    let value = fast_counter.value(&fast);
    assert!(value < fast_counter.told(), "nothing was lost: {value}");
    let value = durable_counter.value(&durable);
    assert!(
        durable_counter.told() <= value,
        "{value} is less than acknowledged"
    );
}
