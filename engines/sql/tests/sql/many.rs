//! Clean-up, and the greatest number of sessions.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, SystemTime};

use cgi_session::{Error, SessionId, Sweep, SweepEvent};

use crate::server::{Server, own_servers, shared_servers};
use cgi_session::store_contract::{count, create, later, record};
use testkit::wait_until;

#[test]
fn a_clean_up_keeps_to_its_limits_and_reports_what_it_does() {
    for server in shared_servers() {
        let store = server.installed("limits", &[]);
        let now = SystemTime::now();
        for number in 0..5 {
            create(&*store, number, now);
        }
        let after = later(now, 61);
        let seen = Mutex::new((0, 0));
        let observer = |event: SweepEvent<'_>| {
            let mut seen = seen.lock().unwrap();
            match event {
                SweepEvent::Examined(number) => seen.0 += number,
                SweepEvent::Deleted {
                    name,
                    age,
                    bytes,
                    reason,
                } => {
                    assert_eq!((name.len(), reason), (64, "expired"));
                    assert!(age >= Duration::from_secs(3600) && bytes > 20);
                    seen.1 += 1;
                }
                _ => {}
            }
        };
        let limited = Sweep::new().max_files(2).observer(&observer);
        let report = store.delete_expired(&limited, after).unwrap();
        assert_eq!((report.deleted, report.stopped_early), (2, true));
        assert_eq!(*seen.lock().unwrap(), (2, 2));
        let no_time = Sweep::new().max_time(Duration::ZERO);
        let report = store.delete_expired(&no_time, after).unwrap();
        assert_eq!((report.deleted, report.stopped_early), (0, true));
        let report = store
            .delete_expired(&Sweep::new().max_files(3), after)
            .unwrap();
        assert_eq!((report.deleted, report.stopped_early), (3, false));
        let age = store.last_sweep(later(after, 1));
        assert_eq!(age.map(|age| age.as_secs() / 60), Some(1));
    }
}

#[test]
fn many_expired_sessions_go_in_one_clean_up() {
    for server in shared_servers() {
        let store = server.installed("many", &[]);
        let now = SystemTime::now();
        fill(server, "many", 250);
        let (_, _held) = create(&*store, 1, now);
        let report = store.delete_expired(&Sweep::new(), now).unwrap();
        assert_eq!(
            (report.deleted, report.live, report.examined),
            (250, 1, 251)
        );
    }
}

#[test]
fn one_clean_up_runs_at_a_time() {
    for server in shared_servers() {
        let store = server.installed("alone", &[]);
        let now = SystemTime::now();
        let other =
            server.holding("SELECT value FROM \"alone_state\" WHERE name = 'lastSweep' FOR UPDATE");
        let report = store.delete_expired(&Sweep::new(), now).unwrap();
        assert!(report.already_running);
        drop(other);
        // The server takes note in its own time.
        wait_until("the other is gone", || {
            let report = store.delete_expired(&Sweep::new(), now).unwrap();
            !report.already_running
        });
    }
}

/// Puts so many expired rows into a table.
fn fill(server: &dyn Server, table: &str, number: u64) {
    let rows = (0..number).map(|_| {
        let session = SessionId::generate().unwrap().digest();
        format!("('{session}', '{{}}', 5, 5)")
    });
    let rows: Vec<_> = rows.collect();
    server.run(&format!(
        "INSERT INTO \"{table}\" (session, record, expires, used) VALUES {}",
        rows.join(", ")
    ));
}

/// Whether a clean-up's connection that keeps others out has been silent for three seconds.
fn is_guard_silent(server: &dyn Server) -> bool {
    let silence = if server.kind() == "postgres" {
        "SELECT floor(extract(epoch FROM clock_timestamp() - state_change)) FROM pg_stat_activity \
         WHERE state = 'idle in transaction'"
    } else {
        // The newest.
        "SELECT time FROM information_schema.processlist WHERE id <> connection_id() \
         ORDER BY id DESC LIMIT 1"
    };
    let seconds: u64 = server.ask(silence).unwrap().parse().unwrap();
    seconds >= 3
}

#[test]
fn a_clean_up_that_takes_long_keeps_others_out_to_its_end() {
    for server in own_servers() {
        let store = server.installed("long", &[]);
        fill(&*server, "long", 250);
        let batches = AtomicU32::new(0);
        let observer = |event: SweepEvent<'_>| {
            let SweepEvent::Examined(_) = event else {
                return;
            };
            if batches.fetch_add(1, Ordering::Relaxed) == 0 {
                wait_until("it has taken long", || is_guard_silent(&*server));
            } else {
                assert!(!is_guard_silent(&*server), "{}", server.kind());
            }
        };
        let sweep = Sweep::new().observer(&observer);
        let report = store.delete_expired(&sweep, SystemTime::now()).unwrap();
        assert_eq!((report.deleted, report.failures.len()), (250, 0));
        assert_eq!(batches.into_inner(), 3);
    }
}

#[test]
fn a_clean_up_that_cannot_note_its_end_tells_what_it_has_deleted() {
    for server in own_servers() {
        let store = server.installed("unnoted", &[]);
        fill(&*server, "unnoted", 3);
        let is_first = AtomicBool::new(true);
        let observer = |_: SweepEvent<'_>| {
            if !is_first.swap(false, Ordering::Relaxed) {
                return;
            }
            if server.kind() == "postgres" {
                server.tell(
                    "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity \
                     WHERE state = 'idle in transaction'",
                );
                return;
            }
            let guard = "FROM information_schema.processlist WHERE id <> connection_id()";
            let guard = server.ask(&format!("SELECT max(id) {guard}")).unwrap();
            server.run(&format!("KILL CONNECTION {guard}"));
        };
        let sweep = Sweep::new().observer(&observer);
        let report = store.delete_expired(&sweep, SystemTime::now()).unwrap();
        assert_eq!(report.deleted, 3);
        let [failure] = &report.failures[..] else {
            panic!("{report:?}");
        };
        assert!(failure.contains("cannot note the clean-up in"), "{failure}");
        assert_eq!(store.last_sweep(SystemTime::now()), None);
    }
}

#[test]
fn at_the_cap_many_who_create_at_once_are_never_too_many() {
    for server in shared_servers() {
        let settings = [("maxSessions", "5"), ("lockTimeout", "60s")];
        let store = server.installed("cap", &settings);
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..10 {
                        drop(create(&*store, 1, SystemTime::now()));
                    }
                });
            }
        });
        let left: u64 = server
            .ask("SELECT count(*) FROM \"cap\"")
            .unwrap()
            .parse()
            .unwrap();
        assert!((1..=5).contains(&left), "{}: {left}", server.kind());
    }
}

#[test]
fn a_full_store_of_expired_sessions_refuses_nobody() {
    for server in shared_servers() {
        let store = server.installed("full", &[("maxSessions", "2"), ("whenFull", "refuse")]);
        let now = SystemTime::now();
        let ids = [1, 2].map(|number| create(&*store, number, now).0);
        let another = SessionId::generate().unwrap().digest();
        let full = store.create(&another, &record(3, now), now);
        assert!(matches!(full.map(drop), Err(Error::Full { limit: 2 })));
        let (new, _) = create(&*store, 3, later(now, 61));
        let left = ids
            .iter()
            .filter(|id| store.read(&id.digest(), now).unwrap().is_some());
        assert_eq!(left.count(), 1);
        let stored = store.read(&new.digest(), later(now, 61)).unwrap().unwrap();
        assert_eq!(count(&stored.record), 3);
    }
}
