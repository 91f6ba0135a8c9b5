//! Sessions in the memory of a responder, and the file that keeps them over its end.

use testkit::fastcgi::client::{get, visit};
use testkit::fastcgi::counting::{
    CONNECTIONS, INCREMENTS, begin_session, count, count_from_everywhere,
};
use testkit::fastcgi::server::{Server, Socket, echo, until};
use testkit::outside::is_waited_for;
use testkit::prelude::*;

/// A responder whose sessions live in its memory.
fn responder(snapshot: &Path, delay: &str) -> Server {
    let setup = echo(Socket::StdinUnix);
    let setup = setup.variable("CGI_SESSION_STORAGE_TYPE", "ram");
    let setup = setup.variable("CGI_SESSION_SNAPSHOT_FILE", snapshot.display());
    let setup = setup.variable("CGI_SESSION_LOCK_TIMEOUT", "90s");
    setup.variable("CGI_SESSION_SNAPSHOT_DELAY", delay).start()
}

/// Ends a responder as its server would.
#[track_caller]
fn end(mut server: Server) {
    server.signal(Signal::TERM);
    assert!(server.end().success(), "{}", server.log());
    assert_eq!(server.log(), "");
}

fn holds(snapshot: &Path, text: &str) -> bool {
    fs::read_to_string(snapshot).is_ok_and(|found| found.contains(text))
}

#[test]
fn a_responder_that_is_started_again_goes_on_with_its_sessions() {
    let place = TempDir::new().unwrap();
    let snapshot = place.path().join("snapshot");
    let server = responder(&snapshot, "1d");
    let cookie = begin_session(&server);
    assert_eq!(count(&server, &cookie), 2);
    assert!(!snapshot.exists(), "nobody has asked for one");
    end(server);
    let mode = fs::metadata(&snapshot).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    let id = cookie.rsplit('=').next().unwrap();
    assert!(!holds(&snapshot, id), "an id is on the disk");
    for expected in 3..6 {
        let server = responder(&snapshot, "1d");
        assert_eq!(count(&server, &cookie), expected);
        end(server);
    }
}

#[test]
fn sixteen_connections_that_count_in_memory_lose_nothing_over_a_restart() {
    let place = TempDir::new().unwrap();
    let snapshot = place.path().join("snapshot");
    let server = responder(&snapshot, "1s");
    let cookie = begin_session(&server);
    let counts = count_from_everywhere(&[&server], &cookie);
    assert!(counts.into_iter().eq(2..=CONNECTIONS * INCREMENTS + 1));
    end(server);
    let server = responder(&snapshot, "1s");
    assert_eq!(count(&server, &cookie), CONNECTIONS * INCREMENTS + 2);
}

#[test]
fn a_killed_responder_loses_only_what_came_after_its_last_snapshot() {
    let place = TempDir::new().unwrap();
    let snapshot = place.path().join("snapshot");
    let mut server = responder(&snapshot, "1s");
    let cookie = begin_session(&server);
    for expected in 2..=5 {
        assert_eq!(count(&server, &cookie), expected);
    }
    until("the fifth is kept", || holds(&snapshot, "\"count\":5"));
    assert_eq!(count(&server, &cookie), 6);
    server.signal(Signal::KILL);
    server.end();
    // As it dies while it writes the next one.
    fs::write(place.path().join("snapshot.tmp"), "{\"v\":1}\n{\"sess").unwrap();
    let server = responder(&snapshot, "1s");
    let next = count(&server, &cookie);
    assert!(next == 6 || next == 7, "{next}");
    end(server);
    assert!(!place.path().join("snapshot.tmp").exists());
}

#[test]
fn a_second_responder_with_the_same_snapshot_serves_when_the_first_has_ended() {
    let place = TempDir::new().unwrap();
    let snapshot = place.path().join("snapshot");
    let server = responder(&snapshot, "1d");
    let cookie = begin_session(&server);
    let second = echo(Socket::StdinUnix)
        .variable("CGI_SESSION_STORAGE_TYPE", "ram")
        .variable("CGI_SESSION_SNAPSHOT_FILE", snapshot.display());
    let second = second.variable("CGI_SESSION_LOCK_TIMEOUT", "1s").start();
    let reply = second.ask(&visit(1, 0, "mode=count", &cookie));
    assert_eq!(reply.status(), 503);
    let log = second.log();
    assert!(log.contains("is the snapshot of"), "{log}");
    assert!(log.contains("storageType = file"), "{log}");
    assert_eq!(count(&server, &cookie), 2);
    end(server);
    let mut reply = reply;
    until("the second has the sessions", || {
        reply = second.ask(&visit(1, 0, "mode=count", &cookie));
        reply.status() == 200
    });
    assert_eq!(reply.text(), "3");
}

#[test]
fn a_successor_that_is_started_early_waits_for_the_sessions() {
    let place = TempDir::new().unwrap();
    let snapshot = place.path().join("snapshot");
    let server = responder(&snapshot, "1d");
    let cookie = begin_session(&server);
    let successor = std::thread::scope(|scope| {
        let successor = scope.spawn(|| responder(&snapshot, "1d"));
        until("the successor waits", || {
            is_waited_for(&place.path().join("snapshot.lock"))
        });
        assert_eq!(count(&server, &cookie), 2);
        end(server);
        successor.join().unwrap()
    });
    assert_eq!(count(&successor, &cookie), 3);
}

#[test]
fn a_snapshot_that_cannot_be_written_is_reported_and_requests_go_on() {
    let place = TempDir::new().unwrap();
    let snapshot = place.path().join("snapshot");
    let server = responder(&snapshot, "1s");
    // Nothing can be written over it, not even by root.
    fs::create_dir(place.path().join("snapshot.tmp")).unwrap();
    let cookie = begin_session(&server);
    until("the failure is told", || {
        server.log().contains("snapshot.tmp")
    });
    assert_eq!(count(&server, &cookie), 2);
    fs::remove_dir(place.path().join("snapshot.tmp")).unwrap();
    until("the next one succeeds", || holds(&snapshot, "\"count\":2"));
    assert_eq!(server.ask(&get(1, 0, "")).status(), 200);
}
