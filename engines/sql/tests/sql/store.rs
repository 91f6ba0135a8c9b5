//! What is particular to tables of a database server, of whatever kind: the tables themselves, and what
//! is in their rows.

use std::cell::RefCell;

use cgi_session_sql::SqlStore;

use crate::server::{open, open_with, shared_servers};
use cgi_session::store_contract::{WAIT, count, counted, create, record};
use testkit::database_urls;
use testkit::prelude::*;

/// A lock, a read, a creation, a listing and a clean-up each fail with this status and these words.
#[track_caller]
pub(crate) fn all_fail(store: &dyn Store, status: u16, words: impl Words) {
    let (digest, now) = (SessionId::generate().unwrap().digest(), SystemTime::now());
    let outcomes = [
        store.lock(&digest, WAIT, now).map(drop),
        store.read(&digest, now).map(drop),
        store.create(&digest, &record(1, now), now).map(drop),
        store.sessions_of("ada", now).map(drop),
        store.delete_expired(&Sweep::new(), now).map(drop),
        store.for_each(&mut |_, _| ControlFlow::Continue(()), now),
    ];
    for outcome in outcomes {
        fails(outcome, status, &words);
    }
}

#[test]
fn without_its_table_a_store_says_what_to_do_and_makes_none() {
    for server in shared_servers() {
        let store = server.store("missing", &[]);
        all_fail(&*store, 500, "127.0.0.1*/shop*run `cgi-session init`");
        let tables =
            "SELECT count(*) FROM information_schema.tables WHERE table_name LIKE 'missing%'";
        assert_eq!(server.ask(tables).as_deref(), Some("0"));
    }
}

#[test]
fn a_table_that_is_not_complete_is_refused_until_it_is_and_keeps_its_rows() {
    for server in shared_servers() {
        let now = SystemTime::now();
        let id = stored(&*server.installed("partial", &[]), 7);
        let on_table = match server.kind() {
            "postgres" => "",
            _ => "ON \"partial\"",
        };
        server.run_all(&[
            &format!("DROP INDEX \"partial_user\" {on_table}"),
            "DELETE FROM \"partial_state\"",
        ]);
        let store = server.store("partial", &[]);
        all_fail(&*store, 500, "not complete*run `cgi-session init`");
        assert!(store.install().is_empty());
        assert!(store.install().is_empty(), "twice does no harm");
        let (stored, mut lease) = store.lock(&id.digest(), WAIT, now).unwrap().unwrap();
        assert_eq!(count(&stored.record), 7);
        lease.finish(&record(8, now), now).unwrap();
        assert_eq!(counted(&*store, &id.digest()), Some(8));
    }
}

#[test]
fn a_table_of_a_later_version_is_refused_and_left_as_it_is() {
    for server in shared_servers() {
        let id = stored(&*server.installed("later", &[]), 7);
        server.execute("UPDATE \"later_state\" SET value = 2 WHERE name = 'schema'");
        let store = server.store("later", &[]);
        all_fail(&*store, 500, "a later release*version 2");
        let problems = store.install();
        assert_eq!(problems.len(), 1);
        says(&problems[0], "a later release*left as it is");
        server.execute("UPDATE \"later_state\" SET value = 1 WHERE name = 'schema'");
        assert_eq!(counted(&*server.store("later", &[]), &id.digest()), Some(7));
    }
}

#[test]
fn a_table_of_another_program_is_neither_made_ours_nor_removed() {
    for server in shared_servers() {
        server.run_all(&[
            "CREATE TABLE \"notes\" (session char(64), note text)",
            "INSERT INTO \"notes\" VALUES ('a', 'b')",
        ]);
        let store = server.store("notes", &[]);
        for problems in [store.install(), store.uninstall().errors] {
            assert_eq!(problems.len(), 1);
            says(&problems[0], "notes*another program*another table");
        }
        let note = server.ask("SELECT note FROM \"notes\"");
        assert_eq!(note.as_deref(), Some("b"));
    }
}

#[test]
fn what_another_program_put_into_the_table_is_no_session_and_stays() {
    for server in shared_servers() {
        let store = server.installed("foreign", &[]);
        let now = SystemTime::now();
        let id = stored(&*store, 1);
        let (rubbish, future) = (id.digest(), SessionId::generate().unwrap().digest());
        server.run_all(&[
            "INSERT INTO \"foreign\" (session, record, expires, used) VALUES ('a note', 'x', 5, 5)",
            "INSERT INTO \"foreign\" (session, record, expires, used) VALUES ('it''s', 'x', 9999999999, 5)",
            &format!("UPDATE \"foreign\" SET record = 'rubbish' WHERE session = '{rubbish}'"),
            &format!(
                "INSERT INTO \"foreign\" (session, record, expires, used) \
                 VALUES ('{future}', '{{\"v\":2}}', 9999999999, 5)"
            ),
        ]);
        assert!(store.lock(&rubbish, WAIT, now).unwrap().is_none());
        assert!(store.read(&rubbish, now).unwrap().is_none());
        let error = store.lock(&future, WAIT, now).map(drop).unwrap_err();
        says(&error, "a later release*left as it is");
        let shown = RefCell::new(Vec::new());
        let mut visit = |session: &SessionDigest, stored: Result<_, Error>| {
            shown
                .borrow_mut()
                .push((*session, stored.map(drop).unwrap_err().one_line()));
            ControlFlow::Continue(())
        };
        store.for_each(&mut visit, now).unwrap();
        let shown = shown.into_inner();
        let reason = |session| shown.iter().find(|(shown, _)| *shown == session).unwrap();
        assert!(reason(rubbish).1.contains("no record"), "{shown:?}");
        assert!(reason(future).1.contains("later release"), "{shown:?}");
        assert_eq!(shown.len(), 2);
        let report = store.delete_expired(&Sweep::new(), now).unwrap();
        assert_eq!((report.deleted, report.foreign, report.busy), (0, 1, 0));
        let rows = server.ask("SELECT count(*) FROM \"foreign\"");
        assert_eq!(rows.as_deref(), Some("4"));
    }
}

#[test]
fn whatever_a_record_or_a_user_holds_comes_back_as_it_was() {
    for server in shared_servers() {
        let store = server.installed("texts", &[]);
        let now = SystemTime::now();
        let mut sessions = Vec::new();
        for text in [
            "it's",
            "a\\b",
            "\\'; DROP TABLE texts; --",
            "\"quoted\"",
            "$$ $1 ? ?1 :name @x",
            "b\u{fc}cher \u{1f36a}",
            "\u{0}\u{7}",
            "%_`",
            "ADA",
            "ada",
            "ada ",
            "",
        ] {
            let values = serde_json::json!({"": {"count": 1, "text": text}}).to_string();
            let user = text.replace('\u{0}', "");
            let record = Record::new(now)
                .with_values(values.clone().into_bytes())
                .with_user(Some(&user));
            let session = SessionId::generate().unwrap().digest();
            let mut lease = store.create(&session, &record, now).unwrap().unwrap();
            lease.commit(&record, now).unwrap();
            lease.finish(&record, now).unwrap();
            let found = store.read(&session, now).unwrap().unwrap().record;
            assert_eq!(std::str::from_utf8(found.values()).unwrap(), values);
            assert_eq!(found.user(), Some(&*user));
            sessions.push((user, session));
        }
        for (user, session) in sessions {
            let found = store.sessions_of(&user, now).unwrap();
            assert_eq!(found, [session], "{user:?}");
        }
    }
}

#[test]
fn who_is_not_let_in_is_told_so_without_his_password() {
    for server in shared_servers() {
        let url = server.url();
        let wrong = url.replace(":four-words-of-salt@", ":four-words-of-pepper@");
        let store = open(server.kind(), &[("database", &wrong)]).unwrap();
        let words = "check the user and the password*shop@127.0.0.1";
        all_fail(&*store, 500, words);
        let elsewhere = url.replace("/shop", "/elsewhere");
        let store = open(server.kind(), &[("database", &elsewhere)]).unwrap();
        all_fail(&*store, 500, "elsewhere");
        let encoded = url.replace(":four-words-of-salt@", ":four%2Dwords-of-salt@");
        let store = open(server.kind(), &[("database", &encoded), ("table", "given")]).unwrap();
        assert!(store.install().is_empty());
        let bare = url.replace(":four-words-of-salt@", "@");
        let given = [
            ("database", &*bare),
            ("databasePassword", "four-words-of-salt"),
            ("table", "given"),
        ];
        let store = open(server.kind(), &given).unwrap();
        assert!(store.install().is_empty());
        drop(create(&*store, 1, SystemTime::now()));
    }
}

#[test]
fn a_server_that_is_not_there_is_503_at_once_and_the_error_says_where() {
    let port = testkit::outside::free_port();
    for kind in ["postgres", "mysql"] {
        let url = format!("{kind}://shop:four-words@127.0.0.1:{port}/shop");
        let store = open(kind, &[("database", &url), ("lockTimeout", "90s")]).unwrap();
        let started = Instant::now();
        let place = format!("127.0.0.1:{port}/shop");
        let words = ["cannot connect to", &place, "is the server running"];
        all_fail(&*store, 503, words);
        // Six requests that wait for an answer give up after a minute.
        assert!(started.elapsed() < Duration::from_secs(40));
    }
}

#[test]
fn a_table_name_that_leaves_no_room_for_more_is_refused() {
    let long = "t".repeat(56);
    for kind in ["postgres", "mysql"] {
        let url = format!("{kind}://shop@127.0.0.1/shop");
        let error = open(kind, &[("database", &url), ("table", &long)])
            .map(drop)
            .unwrap_err();
        assert!(matches!(error, Error::Config(_)));
        says(&error, "table = ttt*at most 55");
    }
}

#[test]
fn a_store_shows_the_hosts_or_the_socket_of_its_url_without_the_password() {
    for (url, shown) in [
        ("//ada:pw@db.example/app", "//ada@db.example:5432/app"),
        ("//a%40b@h/x%20y", "//a@b@h:5432/x y"),
        ("//ada@/app?host=/run/pg&port=5433", "//ada@/run/pg/app"),
        ("//ada@%2Frun%2Fpg/app", "//ada@/run/pg/app"),
        ("//a,b:5433,[::1]/app", "//a:5432,b:5433,[::1]:5432/app"),
    ] {
        let url = format!("postgresql:{url}");
        let config = Config::new().set("database", &url).unwrap();
        let store = format!("{:?}", SqlStore::postgres(&config).unwrap());
        let shown = format!("database: \"postgres:{shown}\"");
        assert!(store.contains(&shown), "{store}");
    }
}

#[test]
fn a_url_that_is_malformed_is_told_without_its_password() {
    let sslmode = "disable or verify-full";
    for (kind, tails) in [
        (
            "postgres",
            &[
                ("a,b/app?host=c", "several hosts"),
                ("h/app?target_session_attrs=any", "read-write"),
            ][..],
        ),
        (
            "mysql",
            &[
                ("a,b/app", "several hosts"),
                ("h/app?socket=run", "socket must be a path"),
                ("h/app?socket=/run/s&host=h", "host and socket are one"),
            ],
        ),
    ] {
        let example = format!("{kind}://user@host");
        database_urls::are_refused(kind, "app", &example, |config| {
            open_with(kind, config).map(drop)
        });
        let shared = [
            ("h", "no database"),
            ("h/", "no database"),
            ("h/app?sslmode=prefer", sslmode),
            ("h/app?port=x", "no number"),
            ("h/app?port=1&port=2", "two parameters port"),
            ("h/app?ssl-mode=disable&sslmode=require", "one parameter"),
            ("h/app?host=0.0.0.0", "wildcard address"),
            ("%2Frun/app?sslmode=verify-full", "needs no sslmode"),
        ];
        for (tail, word) in shared.into_iter().chain(tails.iter().copied()) {
            let url = format!("{kind}://ada:four-words@{tail}");
            let error = open(kind, &[("database", &url)]).map(drop).unwrap_err();
            assert!(matches!(error, Error::Config(_)));
            says(&error, [word, &example]);
        }
    }
}
