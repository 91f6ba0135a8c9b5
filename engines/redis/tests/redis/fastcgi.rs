//! Sessions in a Redis server over FastCGI: connections that are kept, and made again.

use testkit::fastcgi::client::{PATIENCE, visit};
use testkit::fastcgi::counting::{
    CONNECTIONS, INCREMENTS, begin_session, count, count_from_everywhere,
};
use testkit::fastcgi::server::{Server, Setup, Socket, until};
use testkit::prelude::*;

fn program(redis: &RedisServer) -> Server {
    setup(&redis.url())
        .variable("CGI_SESSION_LOCK_TIMEOUT", "60s")
        .start()
}

/// A program whose sessions are there.
pub(crate) fn setup(url: &str) -> Setup {
    Setup::new("redis_pages", Socket::StdinUnix)
        .variable("CGI_SESSION_STORAGE_TYPE", "redis")
        .variable("CGI_SESSION_DATABASE", url)
}

fn connections(redis: &RedisServer) -> u64 {
    let told = redis.tell("INFO stats");
    let name = "total_connections_received:";
    let line = told.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap().trim().parse().unwrap()
}

#[test]
fn two_programs_that_count_in_one_session_lose_nothing_and_keep_their_connections() {
    let Some(redis) = redis() else { return };
    let programs = [program(&redis), program(&redis)];
    let cookie = begin_session(&programs[0]);
    let before = connections(&redis);
    let counts = count_from_everywhere(&[&programs[0], &programs[1]], &cookie);
    assert!(counts.into_iter().eq(2..=CONNECTIONS * INCREMENTS + 1));
    let made = connections(&redis) - before;
    assert!(made <= 2 * CONNECTIONS + 1, "{made} connections");
}

#[test]
fn a_server_that_is_killed_again_and_again_loses_nothing_that_was_answered() {
    let Some(mut redis) = redis() else { return };
    let program = program(&redis);
    let cookie = begin_session(&program);
    let (is_over, answered) = (AtomicBool::new(false), AtomicU64::new(1));
    let tried = thread::scope(|scope| {
        let over = Over(&is_over);
        let visitors: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| count_until(&program, &cookie, &is_over, &answered)))
            .collect();
        for _ in 0..8 {
            let before = answered.load(Ordering::Relaxed);
            until("it counts", || {
                answered.load(Ordering::Relaxed) > before + 20
            });
            redis.kill();
            redis.run();
        }
        drop(over);
        visitors
            .into_iter()
            .map(|visitor| visitor.join().unwrap())
            .sum::<u64>()
    });
    let answered = answered.load(Ordering::Relaxed);
    // Of what was answered with 503 the server may have heard, and have died before it said so.
    let end = count_again(&program, &cookie) - 1;
    assert!(
        answered <= end && end <= answered + tried,
        "{answered} <= {end} <= {answered} + {tried}"
    );
    assert!(tried > 0, "nobody noticed that the server was killed");
}

/// Counts, and returns how often that was refused.
pub(crate) fn count_until(
    program: &Server,
    cookie: &str,
    is_over: &AtomicBool,
    answered: &AtomicU64,
) -> u64 {
    let mut refused = 0;
    while !is_over.load(Ordering::Relaxed) {
        let reply = program.ask(&visit(1, 0, "mode=count", cookie));
        match reply.status() {
            200 => {
                let number: u64 = reply.text().parse().unwrap();
                assert!(number > 1, "it began a new session");
                answered.fetch_add(1, Ordering::Relaxed);
            }
            503 => refused += 1,
            other => panic!("{other}: {reply:?}"),
        }
    }
    refused
}

/// The count when the server is found again.
pub(crate) fn count_again(program: &Server, cookie: &str) -> u64 {
    let started = Instant::now();
    loop {
        let reply = program.ask(&visit(1, 0, "mode=count", cookie));
        if reply.status() == 200 {
            return reply.text().parse().unwrap();
        }
        assert!(started.elapsed() < PATIENCE, "{reply:?}");
    }
}

#[test]
fn a_program_that_stands_still_is_waited_for_no_longer_than_its_lease() {
    let Some(redis) = redis() else { return };
    let slow = setup(&redis.url())
        .variable("CGI_SESSION_LOCK_LEASE", "2s")
        .start();
    let other = program(&redis);
    let cookie = begin_session(&slow);
    thread::scope(|scope| {
        let visitor = scope.spawn(|| slow.ask(&visit(1, 0, "mode=count-and-wait", &cookie)));
        until("it has the lock", || slow.started() == 1);
        slow.signal(rustix::process::Signal::STOP);
        let before = count(&other, &cookie);
        slow.go();
        slow.signal(rustix::process::Signal::CONT);
        // It has what was stored before, and cannot save it over what is stored now.
        assert_eq!(visitor.join().unwrap().status(), 503);
        assert_eq!(count(&other, &cookie), before + 1);
    });
}
