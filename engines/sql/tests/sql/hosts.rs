//! Which server is connected to, for how long that is tried, and from where.

use std::net::UdpSocket;

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use testkit::mysql::MysqlServer;

use crate::server::{Server, open, own_servers_with, shared_servers};
use cgi_session::store_contract::{WAIT, count, counted, create, record};
use testkit::prelude::*;

/// The URL of the first server, with these hosts in the place of its own.
fn url_of(servers: &[&PostgresServer], ports: &[u16]) -> String {
    let own = format!("127.0.0.1:{}", servers[0].port());
    let hosts: Vec<_> = ports
        .iter()
        .map(|port| format!("127.0.0.1:{port}"))
        .collect();
    servers[0].url().replace(&own, &hosts.join(","))
}

fn postgres(url: &str) -> Arc<dyn Store> {
    open("postgres", &[("database", url)]).unwrap()
}

#[test]
fn of_several_hosts_the_first_is_used_that_is_up_and_takes_writes() {
    let Some(mut primary) = PostgresServer::start(&[]) else {
        return;
    };
    (&primary as &dyn Server).installed("Session", &[]);
    let standby = primary.standby();
    let down = testkit::outside::free_port();
    let ports = [down, standby.port(), primary.port()];
    let store = postgres(&url_of(&[&primary], &ports));
    let now = SystemTime::now();
    let (id, mut lease) = create(&*store, 1, now);
    lease.finish(&record(2, now), now).unwrap();
    assert_eq!(counted(&*store, &id.digest()), Some(2));

    let no_primary = postgres(&url_of(&[&primary], &[down, standby.port()]));
    let outcome = no_primary.read(&id.digest(), now);
    fails(outcome, 503, "must name the primary");

    // One that stands still leaves time for the others.
    standby.freeze();
    let patient = postgres(&url_of(&[&primary], &ports));
    assert_eq!(counted(&*patient, &id.digest()), Some(2));
    standby.resume();

    let replicated = "SELECT bool_and(replay_lsn = pg_current_wal_lsn()) FROM pg_stat_replication";
    primary.tell("GRANT pg_monitor TO shop");
    testkit::wait_until("the standby has everything", || {
        PostgresServer::ask(&primary, replicated).as_deref() == Some("t")
    });
    primary.kill();
    standby.tell("SELECT pg_promote()");
    let (stored, mut lease) = store.lock(&id.digest(), WAIT, now).unwrap().unwrap();
    assert_eq!(count(&stored.record), 2);
    lease.finish(&record(3, now), now).unwrap();
    assert_eq!(counted(&*store, &id.digest()), Some(3));
}

/// A program that shares its database has its tables in a schema of its own.
#[test]
fn tables_are_made_and_found_in_the_schema_that_the_url_names() {
    let Some(server) = PostgresServer::start(&[]) else {
        return;
    };
    Server::run_all(&server, &["CREATE SCHEMA app"]);
    let own: &dyn Server = &server;
    let public = own.installed("Session", &[]);
    let url = format!("{}?options=-csearch_path%3Dapp", own.url());
    let app = postgres(&url);
    says(&app.examine().problems[0], "run `cgi-session init`");
    assert!(app.install().is_empty());
    let id = stored(&*app, 1);
    assert_eq!(counted(&*app, &id.digest()), Some(1));
    assert_eq!(counted(&*public, &id.digest()), None);
}

/// In the place of the server's own is a function of the schema that the URL names.
#[test]
fn a_postgres_that_is_old_or_only_similar_is_refused() {
    let Some(server) = PostgresServer::start(&[]) else {
        return;
    };
    let own: &dyn Server = &server;
    let store = postgres(&format!(
        "{}?options=-csearch_path%3Dapp%2Cpg_catalog",
        own.url()
    ));
    own.execute("CREATE SCHEMA app");
    for (version, reason) in [
        ("PostgreSQL 13.22 (Debian 13.22-1) on x86_64", "too old"),
        ("PostgreSQL 9.6.24 on x86_64", "too old"),
        ("PostgreSQL 15.2-YB-2.25.2.0-b0 on x86_64", "locks"),
        ("CockroachDB CCL v24.1.0 (x86_64)", "locks"),
        ("PostgreSQL 14.0 on x86_64", ""),
        ("PostgreSQL 19beta1 on aarch64", ""),
    ] {
        own.execute(&format!(
            "CREATE OR REPLACE FUNCTION app.version() RETURNS text LANGUAGE sql AS \
             $$SELECT '{version}'$$"
        ));
        is_refused_for(&*store, reason);
    }
}

#[test]
fn a_postgresql_database_that_has_not_all_letters_is_refused() {
    let Some(server) = PostgresServer::start(&[]) else {
        return;
    };
    for (encoding, reason) in [("latin1", "encoding is LATIN1"), ("sql_ascii", "")] {
        server.tell(&format!(
            "CREATE DATABASE {encoding} ENCODING '{encoding}' TEMPLATE template0 \
             LC_COLLATE 'C' LC_CTYPE 'C' OWNER shop"
        ));
        let url = server.url();
        let (front, _) = url.rsplit_once('/').unwrap();
        let store = postgres(&format!("{front}/{encoding}"));
        if reason.is_empty() {
            assert!(store.install().is_empty());
            let now = SystemTime::now();
            let id = SessionId::generate().unwrap().digest();
            let record = record(1, now).with_user(Some("Łukasz 😀"));
            drop(store.create(&id, &record, now).unwrap().unwrap());
            let found = store.read(&id, now).unwrap().unwrap();
            assert_eq!(found.record.user(), record.user());
            assert_eq!(store.sessions_of("Łukasz 😀", now).unwrap(), [id]);
        } else {
            is_refused_for(&*store, reason);
            says(&store.examine().problems[0], reason);
        }
    }
}

#[test]
fn a_mysql_or_mariadb_that_is_old_is_refused() {
    let Some(mut server) = MysqlServer::start(&[]) else {
        return;
    };
    for (version, reason) in [
        ("5.7.44-log", "too old"),
        ("10.5.29-MariaDB-1", "too old"),
        ("8.0.36", ""),
        ("10.6.1-MariaDB", ""),
    ] {
        server.kill();
        server.run_with(&[format!("--version={version}")]);
        is_refused_for(&*(&server as &dyn Server).store("Session", &[]), reason);
    }
}

/// No tables are made, for this reason; or they are, if there is none.
#[track_caller]
fn is_refused_for(store: &dyn Store, reason: &str) {
    match &store.install()[..] {
        [] if reason.is_empty() => assert!(store.uninstall().errors.is_empty()),
        [problem] if !reason.is_empty() => says(problem, ["cannot keep sessions in", reason]),
        problems => panic!("{problems:?}"),
    }
}

/// Connects until the server takes no more.
fn fill(path: &Path) -> Vec<OwnedFd> {
    let address = SocketAddrUnix::new(path).unwrap();
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let mut waiting = Vec::new();
    loop {
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).unwrap();
        if connect(&socket, &address).is_err() {
            return waiting;
        }
        waiting.push(socket);
    }
}

#[test]
fn a_server_whose_socket_takes_no_more_is_given_up_in_time_and_found_again() {
    for server in own_servers_with(&["max_connections=20"], &["--back-log=5"]) {
        drop(server.installed("Session", &[]));
        let url = server.socket_url();
        let settings = [("database", &*url), ("lockTimeout", "1s")];
        let store = open(server.kind(), &settings).unwrap();
        let now = SystemTime::now();
        let id = stored(&*store, 1);
        let store = open(server.kind(), &settings).unwrap();
        server.freeze();
        let waiting = fill(&server.socket());
        assert!(!waiting.is_empty());
        let started = Instant::now();
        fails(store.read(&id.digest(), now), 503, "no answer in time");
        assert!(started.elapsed() < Duration::from_secs(20));
        drop(waiting);
        server.resume();
        testkit::wait_until("the server is found again", || {
            store.read(&id.digest(), now).is_ok()
        });
        assert_eq!(counted(&*store, &id.digest()), Some(1));
    }
}

#[test]
fn a_program_that_has_a_runtime_of_its_own_can_use_the_store_in_it() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    for server in shared_servers() {
        runtime.block_on(async {
            let store = server.installed("runtime", &[]);
            let now = SystemTime::now();
            let (id, mut lease) = create(&*store, 1, now);
            lease.finish(&record(2, now), now).unwrap();
            drop(lease);
            assert_eq!(counted(&*store, &id.digest()), Some(2));
        });
    }
}

#[test]
fn a_password_that_changes_in_its_file_is_used_from_then_on() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("password");
    for server in own_servers_with(&[], &[]) {
        drop(server.installed("Session", &[]));
        fs::write(&path, "four-words-of-salt\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let url = server.url().replace(":four-words-of-salt@", "@");
        let file = path.to_str().unwrap();
        let settings = [("database", &*url), ("databasePasswordFile", file)];
        let store = open(server.kind(), &settings).unwrap();
        let id = stored(&*store, 1);
        server.tell(match server.kind() {
            "postgres" => "ALTER ROLE shop PASSWORD 'four-words-of-pepper'",
            _ => "ALTER USER 'shop'@'%' IDENTIFIED BY 'four-words-of-pepper'",
        });
        fs::write(&path, "four-words-of-pepper\n").unwrap();
        if server.kind() == "postgres" {
            server.end_connections();
        }
        let other = open(server.kind(), &settings).unwrap();
        for store in [store, other] {
            assert_eq!(counted(&*store, &id.digest()), Some(1));
        }
    }
}

/// Set in a process whose name server says nothing.
const IS_DEAF: &str = "TEST_NAME_SERVER";

#[test]
fn a_host_whose_name_server_says_nothing_is_given_up_in_time() {
    if std::env::var_os(IS_DEAF).is_some() {
        return is_given_up();
    }
    if !testkit::is_root() || !is_installed("unshare") || !is_installed("ip") {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("resolv.conf");
    fs::write(&path, "nameserver 127.0.0.1\noptions timeout:30\n").unwrap();
    let test = "a_host_whose_name_server_says_nothing_is_given_up_in_time";
    let this = testkit::again(module_path!(), test);
    let script = "mount --bind \"$0\" /etc/resolv.conf && ip link set lo up && exec \"$@\"";
    let mut alone = Command::new("unshare");
    alone
        .args(["--mount", "--net", "sh", "-c", script])
        .arg(path);
    alone.arg(this.get_program()).args(this.get_args());
    let output = alone.env(IS_DEAF, "1").output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    if said.starts_with("unshare: ") || said.starts_with("mount: ") {
        return testkit::skip("no namespaces can be made here");
    }
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}"
    );
}

fn is_given_up() {
    let _silent = UdpSocket::bind("127.0.0.1:53").unwrap();
    for kind in ["postgres", "mysql"] {
        let url = format!("{kind}://shop@db.example/shop");
        let started = Instant::now();
        let store = open(kind, &[("database", &url), ("lockTimeout", "1s")]).unwrap();
        let session = cgi_session::SessionId::generate().unwrap().digest();
        let outcome = store.read(&session, SystemTime::now());
        fails(outcome, 503, "no answer in time");
        drop(store);
        assert!(started.elapsed() < Duration::from_secs(20));
    }
}
