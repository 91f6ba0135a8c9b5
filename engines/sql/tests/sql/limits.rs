//! What a server does not take: too large a value, too many connections.

use crate::server::{Server, own_servers_with, shared_servers};
use cgi_session::store_contract::{counted, create, record};
use testkit::mysql::MysqlServer;
use testkit::prelude::*;

/// Longer than a key of an index may be, and so various that it cannot be made smaller.
pub(crate) fn too_long_user() -> String {
    (0..200)
        .map(|_| SessionId::generate().unwrap().digest().to_string())
        .collect()
}

#[test]
fn a_value_that_the_server_refuses_leaves_the_record_before() {
    for server in shared_servers() {
        let store = server.installed("refuses", &[]);
        let now = SystemTime::now();
        let (id, mut lease) = create(&*store, 1, now);
        let refused = record(2, now).with_user(Some(&too_long_user()));
        fails(lease.finish(&refused, now), 500, "cannot save a session in");
        assert_eq!(counted(&*store, &id.digest()), Some(1));
        // The lock outlives the transaction.
        lease.finish(&record(3, now), now).unwrap();
        let other = SessionId::generate().unwrap().digest();
        let error = store.create(&other, &refused, now).map(drop).unwrap_err();
        assert_eq!(error.status(), 500, "{error:?}");
        assert_eq!(counted(&*store, &id.digest()), Some(3));
        assert_eq!(counted(&*store, &other), None);
        saves(&*store, &id.digest(), 4);
    }
}

#[test]
fn a_record_that_is_larger_than_a_packet_is_not_sent_and_the_lock_is_kept() {
    for server in own_servers_with(&[], &["--max-allowed-packet=1M"]) {
        if server.kind() == "postgres" {
            // It takes as much as maxRecordBytes allows.
            continue;
        }
        let store = server.installed("Session", &[("maxRecordBytes", "8388608")]);
        let now = SystemTime::now();
        let (id, mut lease) = create(&*store, 1, now);
        let text = format!(r#"{{"":{{"count":2,"x":"{}"}}}}"#, "x".repeat(600_000));
        let large = record(2, now).with_values(text.into_bytes());
        let other = SessionId::generate().unwrap().digest();
        for outcome in [
            lease.commit(&large, now),
            lease.finish(&large, now),
            store.create(&other, &large, now).map(drop),
        ] {
            fails(
                outcome,
                500,
                "takes no statement of more than*max_allowed_packet",
            );
        }
        assert_eq!(counted(&*store, &id.digest()), Some(1));
        lease.commit(&record(3, now), now).unwrap();
        lease.finish(&record(4, now), now).unwrap();
        assert_eq!(counted(&*store, &id.digest()), Some(4));
    }
}

#[test]
fn where_there_are_too_many_connections_a_request_is_503_until_one_ends() {
    for server in own_servers_with(&["max_connections=12"], &["--max-connections=10"]) {
        let store = server.installed("Session", &[]);
        let warnings = store.examine().warnings;
        let is_told = |it: &String| it.contains("max_connections");
        assert!(warnings.iter().any(is_told));
        let now = SystemTime::now();
        let mut held = Vec::new();
        let error = loop {
            assert!(held.len() < 20, "{}: no limit", server.kind());
            let session = SessionId::generate().unwrap().digest();
            match store.create(&session, &record(1, now), now) {
                Ok(lease) => held.push(lease.unwrap()),
                Err(error) => break error,
            }
        };
        assert_eq!(error.status(), 503);
        says(&error, "raise max_connections");
        let mut lease = held.pop().unwrap();
        lease.finish(&record(2, now), now).unwrap();
        drop(lease);
        // Its connection is the next one's.
        let id = stored(&*store, 3);
        assert_eq!(counted(&*store, &id.digest()), Some(3));
    }
}

#[test]
fn a_server_that_knows_tables_in_lower_case_alone_is_as_good() {
    let Some(server) = MysqlServer::start(&["--lower-case-table-names=1"]) else {
        return;
    };
    let server: &dyn Server = &server;
    drop(server.installed("Session", &[]));
    let store = server.installed("Session", &[]);
    let id = stored(&*store, 1);
    assert_eq!(counted(&*store, &id.digest()), Some(1));
    let removed = store.uninstall();
    assert_eq!((removed.sessions, removed.errors.len()), (1, 0));
    assert_eq!(server.ask("SHOW TABLES"), None);
}

#[test]
fn a_server_that_logs_statements_says_what_to_set() {
    let Some(server) = MysqlServer::start(&[
        "--server-id=1",
        "--log-bin=log",
        "--binlog-format=STATEMENT",
    ]) else {
        return;
    };
    let server: &dyn Server = &server;
    let problems = server.store("Session", &[]).install();
    assert_eq!(problems.len(), 1);
    says(&problems[0], "binlog_format to ROW or MIXED");
}

#[test]
fn what_a_server_does_not_do_for_a_while_is_503() {
    for server in shared_servers() {
        let store = server.installed("passing", &[("lockTimeout", "1s")]);
        let trigger = "TRIGGER passing BEFORE INSERT ON \"passing\" FOR EACH ROW";
        let codes: &[&str] = match server.kind() {
            // transaction_timeout, statement_timeout
            "postgres" => &["25P04", "57014"],
            // Offline mode, no thread, no room for locks, ProxySQL's limit of time, a host that is blocked, and the
            // limits of time for a statement, of MariaDB and of MySQL
            _ => &["3032", "1135", "1206", "9001", "1129", "1969", "3024"],
        };
        for code in codes {
            match server.kind() {
                "postgres" => server.run_all(&[
                    &format!(
                        "CREATE OR REPLACE FUNCTION passing() RETURNS trigger LANGUAGE plpgsql AS \
                         'BEGIN RAISE EXCEPTION $$no$$ USING ERRCODE = $${code}$$; END'"
                    ),
                    &format!("CREATE OR REPLACE {trigger} EXECUTE FUNCTION passing()"),
                ]),
                _ => server.run_all(&[
                    "DROP TRIGGER IF EXISTS passing",
                    &format!("CREATE {trigger} SIGNAL SQLSTATE '45000' SET MYSQL_ERRNO = {code}"),
                ]),
            }
            let now = SystemTime::now();
            let id = SessionId::generate().unwrap();
            let error = store
                .create(&id.digest(), &record(1, now), now)
                .err()
                .unwrap();
            assert_eq!(error.status(), 503, "{code}: {error}");
        }
    }
}

#[test]
fn a_mysql_server_whose_rows_are_compact_has_a_table_all_the_same() {
    let Some(server) = MysqlServer::start(&["--innodb-default-row-format=compact"]) else {
        return;
    };
    let server: &dyn Server = &server;
    let store = server.installed("Session", &[]);
    let id = stored(&*store, 1);
    assert_eq!(counted(&*store, &id.digest()), Some(1));
}
