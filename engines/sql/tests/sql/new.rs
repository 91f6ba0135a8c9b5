//! New sessions, and new ids, when another program is in the way.

use crate::server::{Server, own_servers, shared_servers};
use cgi_session::store_contract::count;
use testkit::prelude::*;
use testkit::sessions::log_in_at_once;

fn manager(server: &dyn Server, table: &str, settings: &[(&str, &str)]) -> SessionManager {
    let url = server.url();
    let mut all = vec![("storageType", server.kind()), ("database", url.as_str())];
    all.push(("table", table));
    all.extend(settings);
    let kinds = [cgi_session_sql::POSTGRES, cgi_session_sql::MYSQL];
    SessionManager::with_kinds(set(Config::new(), &all), &kinds).unwrap()
}

fn rows(server: &dyn Server, table: &str) -> String {
    let question = format!("SELECT count(*) FROM \"{table}\"");
    server.ask(&question).unwrap()
}

#[test]
fn where_another_program_holds_the_table_a_new_session_is_503_after_a_while() {
    for server in shared_servers() {
        drop(server.installed("blocked", &[]));
        let manager = manager(server, "blocked", &[("lockTimeout", "2s")]);
        let lock = match server.kind() {
            "postgres" => "LOCK TABLE \"blocked\" IN SHARE MODE",
            // All that could be between the rows.
            _ => "SELECT * FROM \"blocked\" WHERE session > '' FOR UPDATE",
        };
        let other = server.holding(lock);
        let begin = || {
            let mut session = manager.start(b"").unwrap();
            session.insert("n", 1).unwrap();
            session.commit()
        };
        let started = Instant::now();
        let busy = begin().unwrap_err();
        assert!(matches!(busy, Error::Busy { .. }), "{busy:?}");
        assert!(busy.one_line().contains("the table blocked"), "{busy:?}");
        let waited = started.elapsed();
        assert!(waited >= Duration::from_secs(2), "{waited:?}");
        drop(other);
        begin().unwrap();
        assert_eq!(rows(server, "blocked"), "1");
    }
}

/// Who has held a session for too long, or whose connection has ended, has lost it.
#[test]
fn a_new_id_brings_back_no_session_that_was_destroyed_meanwhile() {
    for server in &own_servers() {
        let server = &**server;
        for (grace, is_cut) in [(None, false), (Some(60), false), (None, true)] {
            let store = server.installed("revived", &[]);
            let id = stored(&*store, 1);
            let slow = manager(server, "revived", &[("lockLease", "1s")]);
            let mut session = slow.start(format!("sessionId={}", id.secret())).unwrap();
            if is_cut {
                server.end_connections();
            }
            let other = manager(server, "revived", &[("lockTimeout", "60s")]);
            assert!(other.destroy_by_digest(&id.digest()).unwrap());
            match grace {
                Some(seconds) => session.regenerate_id_with_grace(Duration::from_secs(seconds)),
                None => session.regenerate_id(),
            }
            is_lost(session.commit());
            assert_eq!(rows(server, "revived"), "0", "{}", server.kind());
        }
    }
}

#[test]
fn a_new_id_takes_along_what_was_saved_last() {
    for server in shared_servers() {
        let store = server.installed("moved", &[]);
        let id = stored(&*store, 1);
        let manager = manager(server, "moved", &[]);
        let mut session = manager.start(format!("sessionId={}", id.secret())).unwrap();
        session.insert("count", 2).unwrap();
        session.save().unwrap();
        session.regenerate_id();
        session.insert("count", 3).unwrap();
        session.save().unwrap();
        let new = session.id().unwrap().clone();
        session.commit().unwrap();
        let stored = store.read(&new.digest(), SystemTime::now()).unwrap();
        assert_eq!(count(&stored.unwrap().record), 3);
        let old = store.read(&id.digest(), SystemTime::now()).unwrap();
        assert!(old.unwrap().record.is_marker());
        assert_eq!(rows(server, "moved"), "2");
    }
}

#[test]
fn however_many_log_in_at_once_a_user_never_has_more_sessions() {
    for server in shared_servers() {
        for full in ["evictOldest", "refuse"] {
            let settings = [("maxSessionsPerUser", "3"), ("whenUserFull", full)];
            let settings = [&settings[..], &[("lockTimeout", "600s")]].concat();
            let table = format!("users_{full}");
            drop(server.installed(&table, &[]));
            let managers = [(); 2].map(|()| manager(server, &table, &settings));
            log_in_at_once([&managers[0], &managers[1]], full == "refuse");
        }
    }
}
