//! Clean-up, and the greatest number of sessions.

use cgi_session::SweepEvent;

use crate::limits::too_long_user;
use crate::server::{Server, shared_servers};
use cgi_session::store_contract::{create, record};
use testkit::prelude::*;

#[test]
fn many_expired_sessions_go_in_one_clean_up() {
    for server in shared_servers() {
        let store = server.installed("many", &[]);
        let now = SystemTime::now();
        fill(server, "many", 250);
        let (_, _held) = create(&*store, 1, now);
        let report = store.delete_expired(&Sweep::new(), now).unwrap();
        let seen = (report.deleted, report.live, report.examined);
        assert_eq!(seen, (250, 1, 251));
    }
}

#[test]
fn one_clean_up_runs_at_a_time() {
    for server in shared_servers() {
        let store = server.installed("alone", &[]);
        let now = SystemTime::now();
        fill(server, "alone", 250);
        let is_running = || {
            let report = store.delete_expired(&Sweep::new(), now).unwrap();
            report.already_running
        };
        let batches = AtomicU32::new(0);
        let observer = |event: SweepEvent<'_>| {
            if matches!(event, SweepEvent::Examined(_)) {
                batches.fetch_add(1, Ordering::Relaxed);
                assert!(is_running(), "{}", server.kind());
            }
        };
        let sweep = Sweep::new().observer(&observer);
        let report = store.delete_expired(&sweep, now).unwrap();
        assert_eq!((report.deleted, report.failures.len()), (250, 0));
        assert_eq!(batches.into_inner(), 3);
        assert!(!is_running(), "{}", server.kind());
    }
}

/// Puts so many expired rows into a table.
fn fill(server: &dyn Server, table: &str, number: u64) {
    let rows = (0..number).map(|_| {
        let session = SessionId::generate().unwrap().digest();
        format!("('{session}', '{{}}', 5, 5)")
    });
    let rows: Vec<_> = rows.collect();
    server.execute(&format!(
        "INSERT INTO \"{table}\" (session, record, expires, used) VALUES {}",
        rows.join(", ")
    ));
}

#[test]
fn a_clean_up_that_cannot_note_its_end_tells_what_it_has_deleted() {
    for server in shared_servers() {
        let store = server.installed("unnoted", &[]);
        fill(server, "unnoted", 3);
        let trigger = "CREATE TRIGGER refuse BEFORE UPDATE ON \"unnoted_state\" FOR EACH ROW";
        match server.kind() {
            "postgres" => server.run_all(&[
                "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS \
                 'BEGIN RAISE EXCEPTION $$no$$; END'",
                &format!("{trigger} EXECUTE FUNCTION refuse()"),
            ]),
            _ => server.execute(&format!("{trigger} SIGNAL SQLSTATE '45000'")),
        }
        let now = SystemTime::now();
        let report = store.delete_expired(&Sweep::new(), now).unwrap();
        assert_eq!(report.deleted, 3);
        let [failure] = &report.failures[..] else {
            panic!("{report:?}");
        };
        assert!(failure.contains("cannot note the clean-up in"), "{failure}");
        assert_eq!(store.last_sweep(now), None);
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
        let left = server.ask("SELECT count(*) FROM \"cap\"").unwrap();
        let left: u64 = left.parse().unwrap();
        assert!((1..=5).contains(&left), "{}: {left}", server.kind());
    }
}

#[test]
fn the_table_is_not_counted_for_each_new_session() {
    for server in shared_servers() {
        let store = server.installed("counted", &[("maxSessions", "10")]);
        let now = SystemTime::now();
        let count = || {
            drop(create(&*store, 1, now));
            server.ask("SELECT value FROM \"counted_state\" WHERE name = 'count'")
        };
        assert_eq!(count().as_deref(), Some("1"));
        server.execute("DELETE FROM \"counted\"");
        assert_eq!(count().as_deref(), Some("2"));
        server.execute("UPDATE \"counted_state\" SET value = 10 WHERE name = 'count'");
        // The number says that it is full, so that one goes.
        assert_eq!(count().as_deref(), Some("10"));
        server.execute("DELETE FROM \"counted\"");
        server.execute("UPDATE \"counted_state\" SET value = value - 60 WHERE name = 'counted'");
        assert_eq!(count().as_deref(), Some("1"), "it is a minute old");
    }
}

#[test]
fn sessions_that_cannot_be_stored_evict_no_more_than_one_of_them_would() {
    for server in shared_servers() {
        let store = server.installed("unstored", &[("maxSessions", "9")]);
        let now = SystemTime::now();
        for _ in 0..9 {
            create(&*store, 1, now);
        }
        let refused = record(1, now).with_user(Some(&too_long_user()));
        for _ in 0..4 {
            let id = SessionId::generate().unwrap().digest();
            assert!(store.create(&id, &refused, now).is_err());
        }
        let left = server.ask("SELECT count(*) FROM \"unstored\"");
        assert_eq!(left.as_deref(), Some("8"), "{}", server.kind());
    }
}

#[test]
fn the_table_is_not_counted_for_each_new_session_that_is_refused() {
    for server in shared_servers() {
        let settings = [("maxSessions", "2"), ("whenFull", "refuse")];
        let store = server.installed("refused", &settings);
        let now = SystemTime::now();
        let is_refused = |now| {
            let id = SessionId::generate().unwrap().digest();
            let created = store.create(&id, &record(1, now), now).map(drop);
            matches!(created, Err(Error::Full { limit: 2 }))
        };
        for _ in 0..2 {
            let refusals = [now; 4].map(is_refused);
            assert_eq!(refusals, [false, false, true, true], "{}", server.kind());
            server.execute("DELETE FROM \"refused\"");
            assert!(is_refused(now), "{}: it was counted", server.kind());
            // Or a minute later, but no refusal makes it later.
            store.delete_expired(&Sweep::new(), now).unwrap();
        }
        let refusals = [0, 0, 0, 59].map(|age| is_refused(now + Duration::from_secs(age)));
        assert_eq!(refusals, [false, false, true, true], "{}", server.kind());
        server.execute("DELETE FROM \"refused\"");
        assert!(!is_refused(now + Duration::from_secs(60)));
    }
}
