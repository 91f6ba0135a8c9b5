//! A server that is killed, stands still, is full or may only read: one clear error each, and nothing
//! that was saved is lost, nor anything saved of which the opposite was said.

use cgi_session_redis::RedisStore;

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use crate::store::{config, store};
use cgi_session::store_contract::{WAIT, count, counted, create, record};
use testkit::prelude::*;

/// A commit, a lock, a read and a creation each fail as if the server will be back.
#[track_caller]
pub(crate) fn is_away<T>(outcome: Result<T, Error>, words: impl Words) {
    let error = outcome.map(drop).unwrap_err();
    assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
    assert_eq!(error.status(), 503);
    says(&error, words);
}

#[test]
fn a_server_that_is_killed_has_kept_what_was_saved_and_is_found_again() {
    let Some(mut server) = redis() else { return };
    let store = store(&server, &[]);
    let now = SystemTime::now();
    let (id, mut lease) = create(&store, 1, now);
    lease.commit(&record(2, now), now).unwrap();
    let other = stored(&store, 7);
    server.kill();

    let session = id.digest();
    let outcome = lease.commit(&record(3, now), now);
    is_away(outcome, "redis.sock*is the server running");
    is_away(store.read(&session, now), "cannot read a session in");
    let outcome = store.lock(&other.digest(), WAIT, now);
    is_away(outcome, "cannot open a session in");
    let new = SessionId::generate().unwrap().digest();
    let outcome = store.create(&new, &record(1, now), now);
    is_away(outcome, "cannot store a session in");

    server.run();
    // After a failure nobody tries for a while.
    wait_until("the server is found again", || {
        store.read(&session, now).is_ok()
    });
    assert_eq!(counted(&store, &session), Some(2));
    // The lock came back with the server, and its holder still has it.
    lease.commit(&record(4, now), now).unwrap();
    drop(lease);
    assert_eq!(counted(&store, &session), Some(4));
    assert_eq!(counted(&store, &other.digest()), Some(7));
}

#[test]
fn a_socket_that_takes_no_more_connections_is_given_up_in_time() {
    let Some(server) = RedisServer::start("--tcp-backlog 1") else {
        return;
    };
    let store = store(&server, &[("lockTimeout", "2s")]);
    let session = SessionId::generate().unwrap().digest();
    let read = || store.read(&session, SystemTime::now()).map(drop);
    read().unwrap();
    server.freeze();
    let address = SocketAddrUnix::new(server.socket()).unwrap();
    let open = || {
        let (family, kind) = (AddressFamily::UNIX, SocketType::STREAM);
        let socket = socket_with(family, kind, SocketFlags::NONBLOCK, None).unwrap();
        connect(&socket, &address).is_ok().then_some(socket)
    };
    let waiting: Vec<_> = std::iter::from_fn(open).collect();
    assert!(!waiting.is_empty());
    let started = Instant::now();
    // First on the connection that is kept.
    for _ in 0..2 {
        is_away(read(), "no answer in time*is the server running");
    }
    assert!(started.elapsed() < Duration::from_secs(30));
    drop(waiting);
    server.resume();
    wait_until("the server is found again", || read().is_ok());
}

#[test]
fn a_restart_between_two_requests_is_not_noticed() {
    let port = free_port().to_string();
    let Some(mut server) = RedisServer::start(["--port", &port, "--bind", "127.0.0.1"]) else {
        return;
    };
    // What is said on a socket whose other end is closed does not always fail at once.
    for url in [server.url(), format!("redis://127.0.0.1:{port}/0")] {
        let store = RedisStore::new(&config(&url, &[])).unwrap();
        let mut restart = || {
            server.kill();
            server.run();
        };
        let now = SystemTime::now();
        let (id, mut lease) = create(&store, 1, now);
        let kept: Vec<_> = (0..4).map(|number| create(&store, number, now)).collect();
        drop(kept);
        restart();
        lease.commit(&record(2, now), now).unwrap();
        drop(lease);
        let (stored, lease) = store.lock(&id.digest(), WAIT, now).unwrap().unwrap();
        assert_eq!(count(&stored.record), 2);
        // The next one begins with the connection of this one.
        drop(lease);
        restart();
        let (id, lease) = create(&store, 3, now);
        assert_eq!(counted(&store, &id.digest()), Some(3));
        restart();
        lease.destroy().unwrap();
        assert_eq!(counted(&store, &id.digest()), None);
    }
}

#[test]
fn a_commit_that_a_server_without_its_memory_does_not_know_saves_nothing() {
    let Some(mut server) = RedisServer::start("--appendonly no") else {
        return;
    };
    let store = store(&server, &[]);
    let now = SystemTime::now();
    let (id, mut lease) = create(&store, 1, now);
    server.kill();
    server.run();
    is_lost(lease.commit(&record(2, now), now));
    drop(lease);
    assert_eq!(counted(&store, &id.digest()), None);
    assert_eq!(server.tell("DBSIZE"), "0");
}

#[test]
fn a_server_that_stands_still_is_given_up_in_time_and_does_nothing_when_it_goes_on() {
    let Some(server) = redis() else { return };
    let store = store(&server, &[("lockTimeout", "3s")]);
    let now = SystemTime::now();
    // The scripts are known to the server, and there is a connection for another request.
    let (id, mut lease) = create(&store, 0, now);
    lease.commit(&record(1, now), now).unwrap();
    drop(create(&store, 0, now));
    let session = id.digest();
    server.freeze();
    let started = Instant::now();
    is_away(lease.commit(&record(2, now), now), "no answer in time");
    let new = SessionId::generate().unwrap().digest();
    let outcome = store.create(&new, &record(1, now), now);
    is_away(outcome, "no answer in time");
    assert!(started.elapsed() < Duration::from_secs(30));
    drop(lease);
    server.resume();
    // Commands are carried out in the order in which they came: by now those of before were.
    let ask = || server.ask(["HGET", &format!("Session:{{{session}}}"), "version"]);
    assert!(ask().is_some());
    wait_until("the server is found again", || {
        store.read(&session, now).is_ok()
    });
    assert_eq!(counted(&store, &session), Some(1));
    assert_eq!(counted(&store, &new), None);
    assert_eq!(server.tell(["EXISTS", &format!("Session:{{{new}}}")]), "0");
}

/// Names the server to [`program`].
const SERVER: &str = "CONTRACT_AWAY";

#[test]
fn a_program_that_is_stopped_while_it_waits_for_an_answer_goes_on_waiting() {
    let Some(server) = redis() else { return };
    let mut program = Command::new(std::env::current_exe().unwrap())
        .args(["away::program", "--exact", "--nocapture"])
        .env(SERVER, server.url())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(program.stdout.take().unwrap()).lines();
    let session = said.find_map(|line| Some(line.unwrap().split_once("session ")?.1.to_owned()));
    let session = SessionDigest::parse(session.unwrap().as_bytes()).unwrap();
    server.freeze();
    program.stdin.take().unwrap().write_all(b"\n").unwrap();
    // A wait that has a limit is ended by this, as by a signal that is handled.
    let stops = format!(
        "sleep 0.2; kill -STOP {0}; sleep 0.2; kill -CONT {0}",
        program.id()
    );
    let stopped = Command::new("sh").args(["-c", &stops]).status();
    assert!(stopped.unwrap().success());
    server.resume();
    assert!(program.wait().unwrap().success());
    assert_eq!(counted(&store(&server, &[]), &session), Some(3));
}

/// The program that is stopped: of no use when it runs as a test.
#[test]
fn program() {
    let Ok(url) = std::env::var(SERVER) else {
        return;
    };
    let store = RedisStore::new(&config(&url, &[])).unwrap();
    let now = SystemTime::now();
    let (id, mut lease) = create(&store, 1, now);
    println!("session {}", id.digest());
    std::io::stdin().read_line(&mut String::new()).unwrap();
    lease.commit(&record(2, now), now).unwrap();
    assert_eq!(counted(&store, &id.digest()), Some(2));
    lease.finish(&record(3, now), now).unwrap();
}

#[test]
fn a_server_whose_memory_is_full_saves_nothing_and_keeps_what_it_has() {
    let Some(server) = RedisServer::start("--maxmemory-policy noeviction") else {
        return;
    };
    let store = store(&server, &[]);
    let now = SystemTime::now();
    let (id, mut lease) = create(&store, 1, now);
    server.tell("CONFIG SET maxmemory 1");
    is_away(lease.commit(&record(2, now), now), "OOM*raise maxmemory");
    let new = SessionId::generate().unwrap().digest();
    is_away(store.create(&new, &record(1, now), now), "OOM");
    assert_eq!(counted(&store, &id.digest()), Some(1));
    assert_eq!(counted(&store, &new), None);
    drop(lease);
    let key = format!("Session:{{{}}}", id.digest());
    assert_eq!(server.tell(["HEXISTS", &key, "lock"]), "0");
    server.tell("CONFIG SET maxmemory 0");
    saves(&store, &id.digest(), 3);
}

#[test]
fn a_record_that_is_larger_than_the_server_takes_leaves_the_old_one() {
    let Some(server) = RedisServer::start("--proto-max-bulk-len 1mb") else {
        return;
    };
    let store = store(&server, &[("maxRecordBytes", "4194304")]);
    let now = SystemTime::now();
    let (id, mut lease) = create(&store, 1, now);
    let values = format!(r#"{{"":{{"text":"{}"}}}}"#, "x".repeat(2 << 20));
    let large = record(2, now).with_values(values.into_bytes());
    is_away(lease.commit(&large, now), "cannot save a session in");
    assert_eq!(counted(&store, &id.digest()), Some(1));
    lease.commit(&record(3, now), now).unwrap();
    assert_eq!(counted(&store, &id.digest()), Some(3));
}

#[test]
fn a_replica_is_read_and_never_written() {
    let Some(server) = RedisServer::start("--replica-serve-stale-data yes") else {
        return;
    };
    let store = store(&server, &[]);
    let now = SystemTime::now();
    let (id, mut lease) = create(&store, 1, now);
    // Of a primary that is never there.
    server.tell("REPLICAOF 127.0.0.1 1");
    let outcome = lease.commit(&record(2, now), now);
    is_away(outcome, "READONLY*database must name the primary");
    is_away(store.lock(&id.digest(), Duration::ZERO, now), "READONLY");
    assert_eq!(counted(&store, &id.digest()), Some(1));
    server.tell("REPLICAOF NO ONE");
    lease.commit(&record(3, now), now).unwrap();
    assert_eq!(counted(&store, &id.digest()), Some(3));
}

/// A name or a proxy leads to another server now, and nobody has ended the connections to the old one.
#[test]
fn after_a_switch_over_no_request_stays_with_the_server_that_may_only_read() {
    let ports = [(); 2].map(|()| free_port().to_string());
    let start = |port: &str| RedisServer::start(["--port", port, "--bind", "127.0.0.1"]);
    let Some(old) = start(&ports[0]) else { return };
    let new = start(&ports[1]).unwrap();
    let name = old.directory().join("primary");
    let lead_to = |server: &RedisServer| {
        let next = old.directory().join("next");
        std::os::unix::fs::symlink(server.socket(), &next).unwrap();
        std::fs::rename(next, &name).unwrap();
    };
    let follow = |replica: &RedisServer, primary: &str| {
        replica.tell(["REPLICAOF", "127.0.0.1", primary]);
        wait_until("the replica follows", || {
            let told = replica.tell("INFO replication");
            told.contains("master_link_status:up")
        });
    };
    lead_to(&old);
    let url = format!("redis+unix://{}", name.display());
    let store = RedisStore::new(&config(&url, &[])).unwrap();
    let now = SystemTime::now();
    let kept: Vec<_> = (0..6).map(|number| create(&store, number, now)).collect();
    let ids: Vec<_> = kept.iter().map(|(id, _)| id.digest()).collect();
    drop(kept);
    // In use while it happens.
    let (_, mut lease) = store.lock(&ids[0], WAIT, now).unwrap().unwrap();
    follow(&new, &ports[0]);
    new.tell("REPLICAOF NO ONE");
    follow(&old, &ports[1]);
    lead_to(&new);

    let (_, mut other) = store.lock(&ids[1], WAIT, now).unwrap().unwrap();
    other.finish(&record(11, now), now).unwrap();
    lease.finish(&record(10, now), now).unwrap();
    drop((lease, other));
    drop(create(&store, 12, now));
    let (_, lease) = store.lock(&ids[2], WAIT, now).unwrap().unwrap();
    lease.destroy().unwrap();
    assert_eq!(new.tell("DBSIZE"), "6");
    // Nor does a reader.
    old.tell("REPLICAOF 127.0.0.1 1");
    let (_, mut lease) = store.lock(&ids[3], WAIT, now).unwrap().unwrap();
    lease.finish(&record(13, now), now).unwrap();
    drop(lease);
    for (session, expected) in ids.iter().zip([Some(10), Some(11), None, Some(13)]) {
        assert_eq!(counted(&store, session), expected);
    }
}
