//! Engines that several hosts share: programs on two hosts, which are network namespaces with a
//! bridge between them and the engine, count in the same sessions while the engine is restarted, killed and
//! frozen, and hosts are cut off. Whatever was acknowledged must be there once, and nothing else but what
//! was under way when an answer failed to come.
#![cfg(feature = "redis")]

mod engine;
mod hosts;
mod relay;
mod traffic;
mod worker;

use std::thread;
use std::time::Duration;

use engine::Server;
use hosts::Network;
use traffic::Traffic;

/// Longer than any program waits for an answer.
const LONG: Duration = Duration::from_secs(7);
const SHORT: Duration = Duration::from_secs(2);

/// Troubles the engine in every way that all engines know.
fn trouble(engine: &mut dyn Server, network: &Network, traffic: &mut Traffic) {
    traffic.goes_on("before any trouble");
    engine.stop();
    engine.start();
    traffic.goes_on("after the engine was restarted");
    engine.kill();
    engine.start();
    traffic.goes_on("after the engine was killed");
    for pause in [SHORT, LONG] {
        engine.freeze();
        thread::sleep(pause);
        engine.resume();
        traffic.goes_on("after the engine stood still");
    }
    for host in network.hosts() {
        host.cut_off();
        traffic.goes_on_elsewhere(host, "while one host is cut off");
        thread::sleep(LONG);
        host.reconnect();
        traffic.goes_on("after a host was cut off");
    }
    engine.kill();
    network.hosts().iter().for_each(hosts::Host::cut_off);
    thread::sleep(SHORT);
    network.hosts().iter().for_each(hosts::Host::reconnect);
    thread::sleep(SHORT);
    engine.start();
    traffic.goes_on("after everything failed");
    traffic.loses_workers();
    traffic.goes_on("after programs were killed");
}

#[test]
fn two_hosts_that_count_in_a_redis_server_lose_nothing_in_any_trouble() {
    let Some(network) = Network::open(2) else {
        return;
    };
    let Some(mut engine) = engine::Redis::start(network.address()) else {
        return;
    };
    let mut traffic = Traffic::start(&network, &engine);
    trouble(&mut engine, &network, &mut traffic);
    let tally = traffic.end();
    eprintln!("redis: {tally}");
    tally.is_right();
}

#[test]
fn two_hosts_that_count_in_a_redis_server_lose_nothing_when_its_replica_takes_over() {
    let Some(network) = Network::open(2) else {
        return;
    };
    let Some(engine) = engine::ReplicatedRedis::start(network.address()) else {
        return;
    };
    let mut traffic = Traffic::start(&network, &engine);
    for turn in 0..4 {
        traffic.goes_on("before the replica takes over");
        engine.fail_over(turn % 2);
        traffic.goes_on("after the replica has taken over");
    }
    traffic.loses_workers();
    let tally = traffic.end();
    eprintln!("redis, replicated: {tally}");
    tally.is_right();
}

#[test]
fn programs_that_count_from_what_they_read_before_lose_and_it_is_noticed() {
    let Some(network) = Network::open(2) else {
        return;
    };
    let Some(engine) = engine::Redis::start(network.address()) else {
        return;
    };
    let traffic = Traffic::start_careless(&network, &engine);
    for _ in 0..10 {
        traffic.goes_on("without trouble");
    }
    let tally = traffic.end();
    assert!(tally.lost() > 0, "nothing was noticed: {tally}");
}

#[cfg(feature = "postgres")]
#[test]
fn two_hosts_that_count_in_a_postgres_server_lose_nothing_in_any_trouble() {
    let Some(network) = Network::open(2) else {
        return;
    };
    let Some(mut engine) = engine::Postgres::start(network.address()) else {
        return;
    };
    let mut traffic = Traffic::start(&network, &engine);
    trouble(&mut engine, &network, &mut traffic);
    let tally = traffic.end();
    eprintln!("postgres: {tally}");
    tally.is_right();
}

#[cfg(feature = "postgres")]
#[test]
fn two_hosts_that_count_in_a_postgres_server_lose_nothing_when_its_standby_takes_over() {
    let Some(network) = Network::open(2) else {
        return;
    };
    let Some(mut engine) = engine::ReplicatedPostgres::start(network.address()) else {
        return;
    };
    let traffic = Traffic::start(&network, &engine);
    traffic.goes_on("before the standby takes over");
    engine.fail_over();
    traffic.goes_on("after the standby has taken over");
    let tally = traffic.end();
    eprintln!("postgres, replicated: {tally}");
    tally.is_right();
}

#[cfg(feature = "mysql")]
#[test]
fn two_hosts_that_count_in_a_mariadb_server_lose_nothing_in_any_trouble() {
    let Some(network) = Network::open(2) else {
        return;
    };
    let Some(mut engine) = engine::Mysql::start(network.address()) else {
        return;
    };
    let mut traffic = Traffic::start(&network, &engine);
    trouble(&mut engine, &network, &mut traffic);
    let tally = traffic.end();
    eprintln!("mysql: {tally}");
    tally.is_right();
}

#[cfg(feature = "mysql")]
#[test]
fn two_hosts_that_count_in_a_mariadb_server_lose_nothing_when_its_replica_takes_over() {
    let Some(network) = Network::open(2) else {
        return;
    };
    let Some(mut engine) = engine::ReplicatedMysql::start(network.address()) else {
        return;
    };
    let traffic = Traffic::start(&network, &engine);
    traffic.goes_on("before the replica takes over");
    engine.fail_over();
    traffic.goes_on("after the replica has taken over");
    let tally = traffic.end();
    eprintln!("mysql, replicated: {tally}");
    tally.is_right();
}

#[cfg(feature = "mysql")]
#[test]
fn two_hosts_that_count_at_two_nodes_of_galera_lose_nothing_while_nodes_fail() {
    let Some(network) = Network::open(2) else {
        return;
    };
    let Some(mut engine) = engine::Galera::start(network.address()) else {
        return;
    };
    let traffic = Traffic::start(&network, &engine);
    traffic.goes_on("at two nodes");
    let second = &network.hosts()[1];
    engine.freeze(1);
    thread::sleep(SHORT);
    engine.resume(1);
    traffic.goes_on("after a node stood still");
    engine.kill(1);
    traffic.goes_on_elsewhere(second, "while a node is away");
    engine.join(1);
    traffic.goes_on("after a node came back");
    let tally = traffic.end();
    eprintln!("galera: {tally}");
    tally.is_right();
}
