//! The lock of a row, waiting for it, and keeping it from one save to the next.

use std::iter;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use cgi_session::{Error, SessionId, Store, Sweep};

use crate::server::{Server, shared_servers};
use crate::store::says;
use cgi_session::store_contract::{WAIT, count, counted, create, later, record};
use testkit::wait_until;

/// So often a slow machine is given a chance to be in time.
const TRIES: usize = 10;

#[test]
fn a_request_that_takes_its_time_holds_up_no_other_session_and_no_reader() {
    for server in shared_servers() {
        let store = server.installed("slow", &[("lockTimeout", "90s")]);
        let now = SystemTime::now();
        let (held, mut slow) = create(&*store, 1, now);
        let (other, lease) = create(&*store, 1, now);
        drop(lease);
        slow.commit(&record(2, now), now).unwrap();
        let (_, mut quick) = store
            .lock(&other.digest(), Duration::ZERO, now)
            .unwrap()
            .unwrap();
        quick.commit(&record(2, now), now).unwrap();
        quick.destroy().unwrap();
        // That it was read would have to be noted by now.
        let started = Instant::now();
        assert!(
            store
                .read(&held.digest(), later(now, 30))
                .unwrap()
                .is_some()
        );
        // Whoever waits for a lock gives up no sooner.
        assert!(started.elapsed() < Duration::from_secs(8));
        let report = store
            .delete_expired(&Sweep::new(), later(now, 100))
            .unwrap();
        assert_eq!((report.deleted, report.busy), (0, 1));
        slow.finish(&record(3, now), now).unwrap();
        assert_eq!(counted(&*store, &held.digest()), Some(3));
    }
}

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
                assert!(matches!(busy, Err(Error::Busy { .. })));
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
            assert!(
                late < Duration::from_secs(20),
                "{}: {late:?}",
                server.kind()
            );
        });
    }
}

/// Saves over and over while others want the session. Returns how often one of them had it in between,
/// and how often the saver lost it.
fn saves_among_waiters(store: &dyn Store) -> (u64, u64) {
    let now = SystemTime::now();
    let (id, lease) = create(store, 0, now);
    drop(lease);
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
        is_done.store(true, Ordering::SeqCst);
    });
    (intrusions.into_inner().unwrap(), lost)
}

#[test]
fn nobody_has_a_session_between_two_saves_of_one_request() {
    for server in shared_servers() {
        // Some wait for longer than the one who saves.
        for (table, timeout) in [("saves", "60s"), ("saves_soon", "1s")] {
            let store = server.installed(table, &[("lockTimeout", timeout)]);
            assert_eq!(saves_among_waiters(&*store), (0, 0), "{}", server.kind());
        }
    }
}

#[test]
fn without_the_mark_somebody_would_have_it_and_it_is_noticed() {
    for server in shared_servers() {
        let store = server.installed("unmarked", &[("lockTimeout", "60s")]);
        match server.kind() {
            "postgres" => server.run_all(&[
                "CREATE FUNCTION unmark() RETURNS trigger LANGUAGE plpgsql AS \
                 'BEGIN NEW.held_until := NULL; RETURN NEW; END'",
                "CREATE TRIGGER unmark BEFORE UPDATE ON \"unmarked\" FOR EACH ROW EXECUTE FUNCTION unmark()",
            ]),
            _ => server.run("CREATE TRIGGER unmark BEFORE UPDATE ON \"unmarked\" FOR EACH ROW SET NEW.held_until = NULL"),
        }
        let noticed = (0..20).any(|_| {
            let (intrusions, lost) = saves_among_waiters(&*store);
            intrusions + lost > 0
        });
        assert!(noticed, "{}: nothing was noticed", server.kind());
    }
}

/// Marks the only row of a table as somebody's who is connected, for some milliseconds.
fn mark(server: &dyn Server, table: &str, millis: u64) -> Box<dyn Send> {
    let (clock, connection) = match server.kind() {
        "postgres" => (
            "CAST(extract(epoch FROM clock_timestamp()) * 1000 AS bigint)",
            "concat('process 1 of elsewhere, connection ', pg_backend_pid())",
        ),
        _ => (
            "CAST(UNIX_TIMESTAMP() * 1000 AS SIGNED)",
            "concat('process 1 of elsewhere, connection ', connection_id(), ' of ', @@hostname, ':', @@port)",
        ),
    };
    server.holding(&format!(
        "UPDATE \"{table}\" SET held_by = {connection}, held_until = {clock} + {millis}; COMMIT"
    ))
}

#[test]
fn a_mark_holds_a_session_until_it_runs_out() {
    for server in shared_servers() {
        let store = server.installed("marks", &[]);
        let now = SystemTime::now();
        let (id, lease) = create(&*store, 1, now);
        drop(lease);
        let _other = mark(server, "marks", 3_600_000);
        let busy = store.lock(&id.digest(), Duration::ZERO, now).map(drop);
        says(&busy.unwrap_err(), &["process 1 of elsewhere"]);
        let report = store
            .delete_expired(&Sweep::new(), later(now, 100))
            .unwrap();
        assert_eq!((report.deleted, report.busy), (0, 1));
        let _another = mark(server, "marks", 1000);
        let (_, mut lease) = store.lock(&id.digest(), WAIT, now).unwrap().unwrap();
        lease.finish(&record(2, now), now).unwrap();
        assert_eq!(server.ask("SELECT held_until FROM \"marks\""), None);
    }
}

#[test]
fn a_mark_ends_with_the_connection_of_whoever_made_it() {
    for server in shared_servers() {
        let store = server.installed("orphans", &[]);
        let now = SystemTime::now();
        let (id, lease) = create(&*store, 1, now);
        drop(lease);
        let other = mark(server, "orphans", 3_600_000);
        assert!(store.lock(&id.digest(), Duration::ZERO, now).is_err());
        drop(other);
        let (_, mut lease) = store.lock(&id.digest(), WAIT, now).unwrap().unwrap();
        lease.finish(&record(2, now), now).unwrap();
        assert_eq!(counted(&*store, &id.digest()), Some(2));
    }
}

/// Lets whoever stores a session wait some time before the row is there.
fn dawdle(server: &dyn Server, table: &str) {
    match server.kind() {
        "postgres" => server.run_all(&[
            "CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS \
             'BEGIN PERFORM pg_sleep(5); RETURN NEW; END'",
            &format!(
                "CREATE TRIGGER dawdle BEFORE INSERT ON \"{table}\" \
                 FOR EACH ROW EXECUTE FUNCTION dawdle()"
            ),
        ]),
        _ => server.run(&format!(
            "CREATE TRIGGER dawdle BEFORE INSERT ON \"{table}\" \
             FOR EACH ROW SET NEW.version = NEW.version + SLEEP(5)"
        )),
    }
}

/// Whether somebody dawdles.
fn is_dawdling(server: &dyn Server) -> bool {
    let question = match server.kind() {
        "postgres" => {
            "SELECT CAST(count(*) AS text) FROM pg_stat_activity \
             WHERE wait_event = 'PgSleep' AND query NOT LIKE '%pg_stat_activity%'"
        }
        _ => {
            "SELECT CAST(count(*) AS char) FROM information_schema.processlist \
             WHERE state = 'User sleep'"
        }
    };
    server.ask(question).is_some_and(|number| number != "0")
}

/// Who waits for the whole table has it between the row and its lock.
#[test]
fn a_session_that_is_destroyed_before_its_maker_has_the_lock_is_not_stored_again() {
    for server in shared_servers() {
        let store = server.installed("gap", &[]);
        dawdle(server, "gap");
        let now = SystemTime::now();
        let session = SessionId::generate().unwrap().digest();
        thread::scope(|scope| {
            let maker = scope.spawn(|| {
                store
                    .create(&session, &record(1, now), now)
                    .map(|lease| lease.is_some())
            });
            wait_until("the row is about to be stored", || is_dawdling(server));
            let [lock, unlock] = match server.kind() {
                "postgres" => ["BEGIN; LOCK TABLE \"gap\" IN EXCLUSIVE MODE", "COMMIT"],
                _ => ["LOCK TABLES \"gap\" WRITE", "UNLOCK TABLES"],
            };
            server.run_all(&[lock, "DELETE FROM \"gap\"", unlock]);
            assert!(maker.join().unwrap().unwrap(), "{}", server.kind());
        });
        assert_eq!(counted(&*store, &session), None, "{}", server.kind());
    }
}

#[test]
fn a_request_that_takes_longer_than_the_lock_lasts_has_lost_it() {
    for server in shared_servers() {
        let store = server.installed("lasts", &[("lockLease", "1s")]);
        let now = SystemTime::now();
        let (id, mut lease) = create(&*store, 1, now);
        // Whoever waits has it when the time is over.
        let (_, mut other) = store.lock(&id.digest(), WAIT, now).unwrap().unwrap();
        other.finish(&record(2, now), now).unwrap();
        let lost = lease.finish(&record(9, now), now).unwrap_err();
        assert!(
            matches!(lost, Error::LeaseLost),
            "{}: {lost:?}",
            server.kind()
        );
        assert_eq!(counted(&*store, &id.digest()), Some(2));
    }
}

#[test]
fn a_lease_that_was_saved_leaves_no_mark_behind() {
    for server in shared_servers() {
        let store = server.installed("clean", &[]);
        let now = SystemTime::now();
        let marks = || {
            server
                .ask("SELECT count(held_until) + count(held_by) FROM \"clean\"")
                .unwrap()
        };
        let (id, mut lease) = create(&*store, 1, now);
        assert_eq!(marks(), "0");
        lease.commit(&record(2, now), now).unwrap();
        drop(lease);
        assert_eq!(marks(), "0");
        let lock = || {
            store
                .lock(&id.digest(), Duration::ZERO, now)
                .unwrap()
                .unwrap()
                .1
        };
        let mut lease = lock();
        lease.touch(later(now, 30)).unwrap();
        drop(lease);
        assert_eq!(marks(), "0");
        let mut lease = lock();
        lease.commit(&record(3, now), now).unwrap();
        lease.finish(&record(4, now), now).unwrap();
        drop(lease);
        assert_eq!(marks(), "0");
        assert_eq!(counted(&*store, &id.digest()), Some(4));
    }
}
