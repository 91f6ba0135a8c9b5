//! A primary dies, and its replica takes its place: with `durability = data` nothing is lost that was
//! acknowledged, and the sessions of the others feel nothing.

use std::time::{Duration, Instant, SystemTime};

use cgi_session::{Error, SessionDigest, SessionId, Store};

use crate::counting::{Counter, count_meanwhile, record, store};
use testkit::redis_cluster::RedisCluster;
use testkit::wait_until;

/// The node that fails, and who takes its place.
const VICTIM: usize = 1;
const HEIR: usize = 4;
/// What a primary has not sent to its replica after this time is not on its way any more.
const ON_ITS_WAY: Duration = Duration::from_secs(1);
/// No replica takes a place so soon.
const AT_LEAST: Duration = Duration::from_millis(500);

/// Counts while a primary fails, and until its sessions count again. Returns when it failed.
fn fail_while_counting(
    cluster: &mut RedisCluster,
    settings: &[(&str, &str)],
    fail: impl FnOnce(&mut RedisCluster),
) -> (Vec<Counter>, Instant) {
    let store = store(cluster, settings);
    let counters = Counter::on_each(cluster, &store, 2);
    let failed = count_meanwhile(&counters, &store, || {
        wait_until("all count", || {
            counters.iter().all(|counter| counter.told() > 50)
        });
        fail(cluster);
        let failed = Instant::now();
        wait_until("all count again", || {
            let mut all = counters.iter();
            all.all(|counter| counter.first_after(failed + AT_LEAST).is_some())
        });
        failed
    });
    assert!(cluster.is_primary(HEIR));
    (counters, failed)
}

/// Whether all is stored that was acknowledged, and the sessions of other nodes counted on meanwhile.
#[track_caller]
fn nothing_is_lost(cluster: &RedisCluster, counters: &[Counter], failed: Instant) {
    let store = store(cluster, &[]);
    let victims = counters.iter().filter(|it| it.primary == VICTIM);
    let back = victims.filter_map(|it| it.first_after(failed + AT_LEAST));
    let back = back.min().unwrap();
    for counter in counters {
        let (value, told) = (counter.value(&store), counter.told());
        let (refused, unsure) = (counter.refused(), counter.unsure());
        assert!(
            told <= value && value <= told + unsure,
            "{told} <= {value} <= {told} + {unsure}"
        );
        if counter.primary == VICTIM {
            let away = counter.first_after(failed + AT_LEAST).unwrap() - failed;
            eprintln!(
                "away for {away:?}: {told} acknowledged, {value} stored, {refused} refused, {unsure} unsure"
            );
        } else {
            assert!(counter.first_after(failed).unwrap() < back);
        }
    }
}

#[test]
fn with_durability_a_failover_loses_nothing_that_was_acknowledged() {
    let Some(mut cluster) = RedisCluster::that_fails_over_soon() else {
        return;
    };
    let durable = [("durability", "data")];
    let (counters, failed) =
        fail_while_counting(&mut cluster, &durable, |cluster| cluster.kill(VICTIM));
    nothing_is_lost(&cluster, &counters, failed);
    // Who comes back has to follow.
    cluster.run(VICTIM);
    wait_until("it is a replica", || !cluster.is_primary(VICTIM));
    let other = crate::counting::store(&cluster, &[]);
    for counter in &counters {
        let before = counter.value(&other);
        counter.count(&other).unwrap();
        assert_eq!(counter.value(&other), before + 1);
    }
}

#[test]
fn a_primary_that_stands_still_is_replaced_and_nothing_is_lost() {
    let Some(mut cluster) = RedisCluster::that_fails_over_soon() else {
        return;
    };
    let settings = [("durability", "data"), ("lockTimeout", "2s")];
    let (counters, failed) = fail_while_counting(&mut cluster, &settings, |cluster| {
        cluster.node(VICTIM).freeze();
    });
    cluster.node(VICTIM).resume();
    wait_until("it is a replica", || !cluster.is_primary(VICTIM));
    nothing_is_lost(&cluster, &counters, failed);
}

#[test]
fn without_durability_a_failover_loses_no_more_than_what_was_on_its_way() {
    let Some(mut cluster) = RedisCluster::that_fails_over_soon() else {
        return;
    };
    let (counters, killed) = fail_while_counting(&mut cluster, &[], |cluster| cluster.kill(VICTIM));
    let store = store(&cluster, &[]);
    for counter in &counters {
        let (value, told) = (counter.value(&store), counter.told());
        let unsure = counter.unsure();
        assert!(value <= told + unsure, "{value} <= {told} + {unsure}");
        if counter.primary == VICTIM {
            let on_its_way = counter.told_near(killed, ON_ITS_WAY);
            assert!(
                value + on_its_way >= told,
                "{value} + {on_its_way} >= {told}"
            );
            eprintln!("{told} acknowledged, {value} stored, {on_its_way} near the end");
        } else {
            assert!(told <= value, "{told} <= {value}");
        }
    }
}

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
    let line = error.one_line();
    assert!(line.contains("no replica has confirmed"), "{line}");
    let news = std::iter::repeat_with(|| SessionId::generate().unwrap().digest());
    let is_victims =
        |new: &SessionDigest| cluster.primary_of(&format!("Session:{{{new}}}")) == VICTIM;
    let new = news.into_iter().find(is_victims).unwrap();
    let created = durable.create(&new, &record(1), SystemTime::now());
    assert!(matches!(created.map(drop), Err(Error::Unavailable { .. })));

    // Else it would find on the line what was sent to it.
    cluster
        .node(VICTIM)
        .tell(&["CLIENT", "KILL", "TYPE", "replica"]);
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
