//! Clean-up, and the greatest number of sessions.

use std::sync::Mutex;
use std::thread;
use std::time::{Duration, SystemTime};

use cgi_session::{Error, SessionId, Sweep, SweepEvent};

use crate::sql_server::shared_servers;
use crate::subjects::{count, create, later, record};

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
        let mut rows = Vec::new();
        for _ in 0..250 {
            let session = SessionId::generate().unwrap().digest();
            rows.push(format!("('{session}', '{{}}', 5, 5)"));
        }
        server.run(&format!(
            "INSERT INTO \"many\" (session, record, expires, used) VALUES {}",
            rows.join(", ")
        ));
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
        let report = store.delete_expired(&Sweep::new(), now).unwrap();
        assert!(!report.already_running);
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
