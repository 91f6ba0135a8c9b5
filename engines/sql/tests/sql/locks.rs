//! The lock of a session: waiting for it, keeping it from one save to the next, and giving it up.

use std::iter;

use crate::server::{Server, own_servers, own_servers_with, shared_servers};
use cgi_session::store_contract::{WAIT, count, counted, create, later, record};
use testkit::prelude::*;

/// So often a slow machine is given a chance to be in time.
const TRIES: usize = 10;

#[test]
fn a_wait_is_as_long_as_it_was_asked_for() {
    for server in shared_servers() {
        let store = server.installed("waits", &[]);
        let now = SystemTime::now();
        let (id, _lease) = create(&*store, 1, now);
        for millis in [0, 20, 300, 2500] {
            let wait = Duration::from_millis(millis);
            let waits = || {
                let started = Instant::now();
                let busy = store.lock(&id.digest(), wait, now).map(drop);
                let Err(Error::Busy { holder, .. }) = busy else {
                    panic!("{busy:?}");
                };
                let named = match server.kind() {
                    "postgres" => format!("process {} on ", std::process::id()),
                    _ => "connection ".to_owned(),
                };
                let is_named = holder.is_some_and(|holder| holder.contains(&named));
                assert_eq!(is_named, !wait.is_zero());
                let waited = started.elapsed();
                assert!(waited >= wait, "{}: {waited:?} of {wait:?}", server.kind());
                waited
            };
            // A machine may be slow now and then, but a lock timeout of a second or more for 20 ms is
            // none.
            let most = wait + Duration::from_millis(900);
            let mut all = iter::repeat_with(waits).take(TRIES);
            assert!(
                all.any(|waited| waited < most),
                "{}: always more than {most:?} for {wait:?}",
                server.kind()
            );
        }
    }
}

#[test]
fn a_waiter_has_the_session_as_soon_as_it_is_let_go() {
    for server in shared_servers() {
        let store = server.installed("prompt", &[("lockTimeout", "60s")]);
        let now = SystemTime::now();
        let (id, mut lease) = create(&*store, 1, now);
        thread::scope(|scope| {
            let waiter = scope.spawn(|| {
                let (stored, lease) = store.lock(&id.digest(), WAIT, now).unwrap().unwrap();
                drop(lease);
                (count(&stored.record), Instant::now())
            });
            // It is in the server's queue, or will be in a moment; either is right.
            thread::yield_now();
            lease.finish(&record(2, now), now).unwrap();
            let finished = Instant::now();
            let (seen, had) = waiter.join().unwrap();
            assert_eq!(seen, 2);
            let late = had.saturating_duration_since(finished);
            // It does not wait to the end.
            assert!(late < Duration::from_secs(20), "{late:?}");
        });
    }
}

/// Saves over and over while others want the session. Returns how often one of them had it in between,
/// and how often the saver lost it.
fn saves_among_waiters(store: &dyn Store) -> (u64, u64) {
    let now = SystemTime::now();
    let id = stored(store, 0);
    let (is_held, is_done) = (AtomicBool::new(false), AtomicBool::new(false));
    let intrusions = Mutex::new(0);
    let mut lost = 0;
    thread::scope(|scope| {
        for wait in [0, 0, 5, 5000, 5000] {
            let (is_held, is_done, intrusions) = (&is_held, &is_done, &intrusions);
            let session = id.digest();
            scope.spawn(move || {
                while !is_done.load(Ordering::SeqCst) {
                    match store.lock(&session, Duration::from_millis(wait), now) {
                        Ok(Some((_, lease))) => {
                            if is_held.load(Ordering::SeqCst) {
                                *intrusions.lock().unwrap() += 1;
                            }
                            drop(lease);
                        }
                        Ok(None) => panic!("it is gone"),
                        Err(Error::Busy { .. }) => {}
                        Err(error) => panic!("{error:?}"),
                    }
                }
            });
        }
        let _done = Over(&is_done);
        for _ in 0..10 {
            let (stored, mut lease) = store.lock(&id.digest(), WAIT, now).unwrap().unwrap();
            is_held.store(true, Ordering::SeqCst);
            let next = count(&stored.record) + 1;
            for _ in 0..20 {
                if lease.commit(&record(next, now), now).is_err() {
                    lost += 1;
                    break;
                }
            }
            is_held.store(false, Ordering::SeqCst);
            drop(lease);
        }
    });
    (intrusions.into_inner().unwrap(), lost)
}

#[test]
fn no_other_request_has_a_session_between_two_saves_of_one() {
    for server in shared_servers() {
        // Some wait for longer than the one who saves.
        for (table, timeout) in [("saves", "60s"), ("saves_soon", "1s")] {
            let store = server.installed(table, &[("lockTimeout", timeout)]);
            assert_eq!(saves_among_waiters(&*store), (0, 0), "{}", server.kind());
        }
    }
}

/// Lets whatever stores a session wait for a second before the row is there.
fn dawdle(server: &dyn Server, table: &str) {
    match server.kind() {
        "postgres" => server.run_all(&[
            "CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS \
             'BEGIN PERFORM pg_sleep(1); RETURN NEW; END'",
            &format!(
                "CREATE TRIGGER dawdle BEFORE INSERT ON \"{table}\" \
                 FOR EACH ROW EXECUTE FUNCTION dawdle()"
            ),
        ]),
        _ => server.execute(&format!(
            "CREATE TRIGGER dawdle BEFORE INSERT ON \"{table}\" \
             FOR EACH ROW SET NEW.version = NEW.version + SLEEP(1)"
        )),
    }
}

/// Where the lock is given at the moment at which the wait for it ends, it must not stay behind.
#[test]
fn no_connection_keeps_a_lock_for_which_the_wait_is_over() {
    for server in shared_servers() {
        let store = server.installed("over", &[("lockTimeout", "60s")]);
        let now = SystemTime::now();
        let id = stored(&*store, 1);
        let lock = |wait: u64| store.lock(&id.digest(), Duration::from_millis(wait), now);
        thread::scope(|scope| {
            for wait in [1, 1, 2, 3] {
                scope.spawn(move || (0..200).for_each(|_| drop(lock(wait))));
            }
        });
        // The server would end a silent connection after `lockLease`, a minute.
        let (other, wait) = (server.store("over", &[]), Duration::from_secs(20));
        drop(other.lock(&id.digest(), wait, now).unwrap());
    }
}

#[test]
fn a_new_session_is_locked_before_another_request_sees_it() {
    for server in shared_servers() {
        let store = server.installed("gap", &[]);
        dawdle(server, "gap");
        let now = SystemTime::now();
        let session = SessionId::generate().unwrap().digest();
        let lock = || store.lock(&session, Duration::ZERO, now);
        let lease = thread::scope(|scope| {
            let maker = scope.spawn(|| store.create(&session, &record(1, now), now));
            let mut seen = lock();
            while matches!(seen, Ok(None)) {
                seen = lock();
            }
            assert!(matches!(seen.map(drop), Err(Error::Busy { .. })));
            maker.join().unwrap().unwrap().unwrap()
        });
        drop(lease);
        assert_eq!(counted(&*store, &session), Some(1));
        lock().unwrap().unwrap().1.destroy().unwrap();
    }
}

/// A snapshot that is taken before the lock is had, or a lock that ends before the change is committed, would have the
/// next holder load an old record and lose its session.
#[test]
fn a_new_holder_loads_what_was_saved_last_whatever_the_isolation_of_the_server_is() {
    let postgres = "default_transaction_isolation=serializable";
    for server in own_servers_with(&[postgres], &["--transaction-isolation=SERIALIZABLE"]) {
        let store = server.installed("strict", &[("lockTimeout", "60s")]);
        let now = SystemTime::now();
        let id = stored(&*store, 0);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..25 {
                        let found = store.lock(&id.digest(), WAIT, now).unwrap();
                        let (stored, mut lease) = found.unwrap();
                        let next = record(count(&stored.record) + 1, now);
                        lease.finish(&next, now).unwrap();
                    }
                });
            }
        });
        assert_eq!(counted(&*store, &id.digest()), Some(100));
    }
}

#[test]
fn a_lock_ends_behind_the_commit_of_the_last_save() {
    for server in shared_servers() {
        if server.kind() != "postgres" {
            // Its statements are committed one by one.
            continue;
        }
        let store = server.installed("commits", &[]);
        let now = SystemTime::now();
        let (id, mut lease) = create(&*store, 1, now);
        server.run_all(&[
            "CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS \
             'BEGIN PERFORM pg_sleep(1); RETURN NULL; END'",
            "CREATE CONSTRAINT TRIGGER late AFTER UPDATE ON \"commits\" DEFERRABLE INITIALLY DEFERRED \
             FOR EACH ROW EXECUTE FUNCTION late()",
        ]);
        thread::scope(|scope| {
            let waiter = scope.spawn(|| store.lock(&id.digest(), WAIT, now).unwrap().unwrap().0);
            lease.finish(&record(2, now), now).unwrap();
            assert_eq!(count(&waiter.join().unwrap().record), 2);
        });
    }
}

#[test]
fn no_transaction_is_open_while_a_request_has_its_session() {
    for server in own_servers() {
        let store = server.installed("Session", &[]);
        let now = SystemTime::now();
        let mut open = "SELECT count(*) FROM pg_stat_activity \
             WHERE usename = 'shop' AND xact_start IS NOT NULL AND pid <> pg_backend_pid()";
        if server.kind() == "mysql" {
            server.tell("GRANT PROCESS ON *.* TO shop");
            open = "SELECT count(*) FROM information_schema.innodb_trx";
        }
        let none_is_open = || assert_eq!(server.ask(open).as_deref(), Some("0"));
        let (id, mut lease) = create(&*store, 1, now);
        none_is_open();
        lease.commit(&record(2, now), now).unwrap();
        none_is_open();
        drop(lease);
        let (_, mut lease) = store.lock(&id.digest(), WAIT, now).unwrap().unwrap();
        none_is_open();
        lease.touch(later(now, 30)).unwrap();
        none_is_open();
        lease.check().unwrap();
        none_is_open();
    }
}

#[test]
fn a_request_that_takes_longer_than_the_lock_lasts_has_lost_it() {
    for server in shared_servers() {
        let store = server.installed("lasts", &[("lockLease", "1s")]);
        let now = SystemTime::now();
        let (id, mut lease) = create(&*store, 1, now);
        // A request that waits has it when the time is over.
        let patient = server.store("lasts", &[]);
        let (_, mut other) = patient.lock(&id.digest(), WAIT, now).unwrap().unwrap();
        other.finish(&record(2, now), now).unwrap();
        is_lost(lease.finish(&record(9, now), now));
        assert_eq!(counted(&*store, &id.digest()), Some(2));
    }
}

/// Between the question and the deletion of an expired session, another node of a cluster may have deleted or
/// renewed it.
#[test]
fn an_expired_session_that_cannot_be_deleted_is_none_or_live_again() {
    let Some(server) = PostgresServer::start(&[]) else {
        return;
    };
    let server: &dyn Server = &server;
    let (store, now) = (server.installed("Session", &[]), SystemTime::now());
    let id = stored(&*store, 7);
    let keep = |change: &str| {
        format!(
            "CREATE OR REPLACE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql \
             AS 'BEGIN {change} RETURN NULL; END'"
        )
    };
    server.run_all(&[
        "UPDATE \"Session\" SET expires = 5",
        &keep(""),
        "CREATE TRIGGER keep BEFORE DELETE ON \"Session\" FOR EACH ROW EXECUTE FUNCTION keep()",
    ]);
    let found = store.lock(&id.digest(), WAIT, now).unwrap();
    assert!(found.is_none());
    server.execute(&keep(
        "UPDATE \"Session\" SET expires = 9999999999, version = version + 1;",
    ));
    let (found, mut lease) = store.lock(&id.digest(), WAIT, now).unwrap().unwrap();
    assert_eq!(count(&found.record), 7);
    lease.finish(&record(8, now), now).unwrap();
}
