//! `redis+sentinel://`: a program stays with the primary that the sentinels name, and a wrong URL is told.

use cgi_session_redis::RedisStore;

use cgi_session::store_contract::{counted, create};
use testkit::fastcgi::counting::begin_session;
use testkit::fastcgi::server::until;
use testkit::prelude::*;
use testkit::redis_sentinel::{PATIENT, RedisSentinels, SERVICE, SOON};

use crate::fastcgi::{count_again, count_until, setup};
use crate::store::config;

/// Counts without pause over FastCGI while another server takes over, and says how that was noticed.
fn take_over(servers: &mut RedisSentinels, what: &str, how: impl FnOnce(&mut RedisSentinels)) {
    let program = setup(&servers.url())
        .variable("CGI_SESSION_DURABILITY", "data")
        .start();
    let cookie = begin_session(&program);
    let (is_over, answered) = (AtomicBool::new(false), AtomicU64::new(1));
    let (refused, pause) = thread::scope(|scope| {
        let over = Over(&is_over);
        let visitors: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| count_until(&program, &cookie, &is_over, &answered)))
            .collect();
        let watch = scope.spawn(|| longest_pause(&is_over, &answered));
        let counts_on = || {
            let before = answered.load(Ordering::Relaxed);
            until("it counts", || {
                answered.load(Ordering::Relaxed) > before + 20
            });
        };
        counts_on();
        how(servers);
        counts_on();
        drop(over);
        let refused = visitors.into_iter().map(|it| it.join().unwrap());
        (refused.sum::<u64>(), watch.join().unwrap())
    });
    let answered = answered.load(Ordering::Relaxed);
    println!("{what}: {answered} answered, {refused} refused, {pause:.1?} without an answer");
    // What was refused may have been done.
    let end = count_again(&program, &cookie) - 1;
    assert!(
        answered <= end && end <= answered + refused,
        "{answered} <= {end} <= {answered} + {refused}"
    );
}

fn longest_pause(is_over: &AtomicBool, answered: &AtomicU64) -> Duration {
    let (mut seen, mut since, mut longest) = (0, Instant::now(), Duration::ZERO);
    while !is_over.load(Ordering::Relaxed) {
        let now = answered.load(Ordering::Relaxed);
        longest = longest.max(since.elapsed());
        if now != seen {
            (seen, since) = (now, Instant::now());
        }
        thread::yield_now();
    }
    longest
}

#[test]
fn a_planned_change_of_the_primary_loses_nothing_and_needs_no_restart() {
    let Some(mut servers) = RedisSentinels::start(PATIENT) else {
        return;
    };
    take_over(&mut servers, "planned", |servers| servers.fail_over());
}

#[test]
fn a_primary_that_is_killed_is_followed_by_its_replica_and_needs_no_restart() {
    let Some(mut servers) = RedisSentinels::start(SOON) else {
        return;
    };
    take_over(&mut servers, "killed", RedisSentinels::kill_primary);
}

#[test]
fn sentinels_that_are_away_are_passed_over_and_a_wrong_name_is_told() {
    let Some(mut servers) = RedisSentinels::start(PATIENT) else {
        return;
    };
    let store = |url: &str| RedisStore::new(&config(url, &[])).unwrap();
    let now = SystemTime::now();
    let (id, lease) = create(&store(&servers.url()), 1, now);
    drop(lease);
    let read = |url: &str| store(url).read(&id.digest(), now).map(drop).unwrap_err();
    let wrong = servers.url().replace(SERVICE, "other");
    let error = read(&wrong);
    assert_eq!(error.status(), 500);
    let words = "cannot read a session in redis+sentinel://*of the name other*sentinel masters";
    says(&error, words);
    let problems = store(&wrong).install();
    let words = "of the name other*redis+sentinel://HOST:26379/NAME/0";
    says(&problems[0], words);
    assert!(store(&servers.url()).install().is_empty());

    servers.sentinel(0).kill();
    servers.sentinel(1).freeze();
    for _ in 0..3 {
        assert_eq!(counted(&store(&servers.url()), &id.digest()), Some(1));
    }
    servers.sentinel(1).resume();
    for at in 1..3 {
        servers.sentinel(at).kill();
    }
    let error = read(&servers.url());
    assert_eq!(error.status(), 503);
    says(&error, "Connection refused*are the sentinels running");
}

#[test]
fn sentinels_and_servers_have_passwords_of_their_own() {
    let (port, sentinel_port) = (free_port(), free_port());
    let own = ["--port", &port.to_string(), "--bind", "127.0.0.1"];
    let Some(server) = RedisServer::start([&own[..], &["--requirepass", "s3cret"]].concat()) else {
        return;
    };
    let file = format!(
        "sentinel monitor {SERVICE} 127.0.0.1 {port} 1\nsentinel auth-pass {SERVICE} s3cret\n"
    );
    let password = ["--requirepass", "s3cret2"];
    let _sentinel = RedisServer::sentinel(&file, sentinel_port, &password).unwrap();
    let url = |user: &str, port: u16, query: &str| {
        format!("redis+sentinel://{user}127.0.0.1:{port}/{SERVICE}/0{query}")
    };
    let store = |url: &str| RedisStore::new(&config(url, &[])).unwrap();
    let right = store(&url(":s3cret@", sentinel_port, "?sentinelPass=s3cret2"));
    let id = stored(&right, 1);
    assert_eq!(server.tell("DBSIZE"), "1");
    let session = SessionId::generate().unwrap().digest();
    let own = ":s3cret@";
    for (user, port, pass, words) in [
        (own, sentinel_port, "", "NOAUTH*?sentinelPass="),
        (
            own,
            sentinel_port,
            "s3cretX",
            "authentication failed*?sentinelPass=",
        ),
        ("", sentinel_port, "s3cret2", "NOAUTH*databasePasswordFile"),
        (own, port, "s3cret", "SENTINEL*must name sentinels"),
    ] {
        let query = format!("?sentinelPass={pass}");
        let url = url(user, port, if pass.is_empty() { "" } else { &query });
        fails(store(&url).read(&session, SystemTime::now()), 500, words);
    }
    assert_eq!(counted(&right, &id.digest()), Some(1));
}
