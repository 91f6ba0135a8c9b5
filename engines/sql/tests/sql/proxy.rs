//! `PgBouncer` and `HAProxy` between the programs and the server.

use testkit::haproxy::HaProxy;
use testkit::pgbouncer::PgBouncer;

use crate::server::{Server, open, own_servers};
use cgi_session::store_contract::{WAIT, counted, create, record};
use testkit::prelude::*;

#[test]
fn a_proxy_that_keeps_a_connection_for_each_client_is_no_hindrance() {
    let Some((server, proxy)) = with_proxy("session") else {
        return;
    };
    let now = SystemTime::now();
    let url = proxy.url();
    let stores = [(); 2].map(|()| open("postgres", &[("database", &url)]).unwrap());
    let examined = stores[0].examine();
    assert!(examined.problems.is_empty(), "{:?}", examined.problems);
    let (id, mut lease) = create(&*stores[0], 1, now);
    lease.commit(&record(2, now), now).unwrap();
    let busy = stores[1].lock(&id.digest(), Duration::ZERO, now).map(drop);
    assert!(matches!(busy, Err(Error::Busy { .. })));
    lease.finish(&record(3, now), now).unwrap();
    let (_, lease) = stores[1].lock(&id.digest(), WAIT, now).unwrap().unwrap();
    // What ends the connection ends the lock, which the next client of the same one must not have.
    Server::end_connections(&server);
    drop(lease);
    saves(&*stores[0], &id.digest(), 4);
}

#[test]
fn a_proxy_that_passes_connections_on_is_refused_by_check_and_by_the_next_connection() {
    let Some((_server, proxy)) = with_proxy("transaction") else {
        return;
    };
    let url = proxy.url();
    let open = || open("postgres", &[("database", &url)]).unwrap();
    let words = ["passes connections on", "pool_mode = session"];
    let examined = open().examine();
    let [problem] = &examined.problems[..] else {
        panic!("{:?}", examined.problems);
    };
    says(problem, words);
    let session = cgi_session::SessionId::generate().unwrap().digest();
    fails(open().read(&session, SystemTime::now()), 500, words);
}

/// A server with a table, and a proxy before it; `None` where one of them is not installed.
fn with_proxy(pool_mode: &str) -> Option<(PostgresServer, PgBouncer)> {
    let server = PostgresServer::start(&[])?;
    let proxy = PgBouncer::start(&server, pool_mode)?;
    let store: &dyn Server = &server;
    let _: Arc<dyn Store> = store.installed("Session", &[]);
    Some((server, proxy))
}

/// A store that reaches this server by a proxy.
fn behind(proxy: &HaProxy, server: &dyn Server) -> Arc<dyn Store> {
    let [own, other] = [server.port(), proxy.port()].map(|port| format!(":{port}/"));
    let url = server.url().replace(&own, &other);
    open(server.kind(), &[("database", &url)]).unwrap()
}

#[test]
fn a_connection_that_haproxy_ends_for_its_silence_is_made_anew_and_costs_only_the_request_that_holds_it()
 {
    for server in own_servers() {
        let direct = server.installed("Session", &[]);
        let Some(proxy) = HaProxy::start(&[server.port()], "8s") else {
            return;
        };
        let now = SystemTime::now();
        let (id, lease) = create(&*direct, 1, now);
        drop((lease, direct));
        let session = id.digest();
        let has_ended = || {
            let question = match server.kind() {
                "postgres" => {
                    "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'cgi-session%'"
                }
                _ => {
                    "SELECT count(*) FROM information_schema.processlist \
                     WHERE user = 'shop' AND id <> connection_id()"
                }
            };
            wait_until("HAProxy has ended the connection", || {
                server.ask(question).as_deref() == Some("0")
            });
        };
        let store = behind(&proxy, &*server);
        assert_eq!(counted(&*store, &session), Some(1));
        has_ended();
        let (_, mut lease) = store.lock(&session, WAIT, now).unwrap().unwrap();
        has_ended();
        let lost = lease.finish(&record(9, now), now);
        is_lost(lost);
        assert_eq!(counted(&*store, &session), Some(1));
    }
}

#[test]
fn a_server_that_haproxy_puts_in_the_place_of_another_is_used_from_then_on() {
    for (mut first, second) in own_servers().into_iter().zip(own_servers()) {
        let now = SystemTime::now();
        let session = cgi_session::SessionId::generate().unwrap().digest();
        let direct = [&first, &second].map(|server| {
            let store = server.installed("Session", &[]);
            drop(store.create(&session, &record(1, now), now).unwrap());
            store
        });
        for is_killed in [false, true] {
            let Some(proxy) = HaProxy::start(&[first.port(), second.port()], "1h") else {
                return;
            };
            let store = behind(&proxy, &*first);
            let save = |value| {
                let (_, mut lease) = store.lock(&session, WAIT, now)?.unwrap();
                lease.finish(&record(value, now), now)
            };
            save(2).unwrap();
            assert_eq!(counted(&*direct[0], &session), Some(2));
            if is_killed {
                first.kill();
            } else {
                proxy.retire(0);
                match first.kind() {
                    "postgres" => first.end_connections(),
                    // It is up, and may only read.
                    _ => first.tell("SET GLOBAL read_only = 1"),
                }
            }
            let value = 3 + u64::from(is_killed);
            wait_until("the second server is used", || match save(value) {
                Ok(()) => true,
                Err(error) => {
                    assert_eq!(error.status(), 503, "{error:?}");
                    false
                }
            });
            assert_eq!(counted(&*direct[1], &session), Some(value));
            if !is_killed {
                assert_eq!(counted(&*direct[0], &session), Some(2));
                if first.kind() == "mysql" {
                    first.tell("SET GLOBAL read_only = 0");
                }
            }
        }
    }
}
