//! `PgBouncer` between the programs and the server.

use std::time::{Duration, SystemTime};

use cgi_session::{Error, Store};
use testkit::pgbouncer::PgBouncer;
use testkit::postgres::PostgresServer;

use crate::server::{Server, open};
use crate::store::says;
use cgi_session::store_contract::{WAIT, counted, create, record};

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
    let (_, mut lease) = stores[0].lock(&id.digest(), WAIT, now).unwrap().unwrap();
    lease.finish(&record(4, now), now).unwrap();
    assert_eq!(counted(&*stores[0], &id.digest()), Some(4));
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
    says(problem, &words);
    let session = cgi_session::SessionId::generate().unwrap().digest();
    let error = open().read(&session, SystemTime::now()).unwrap_err();
    assert_eq!(error.status(), 500, "{error:?}");
    says(&error, &words);
}

/// A server with a table, and a proxy before it; `None` where one of them is not installed.
fn with_proxy(pool_mode: &str) -> Option<(PostgresServer, PgBouncer)> {
    let server = PostgresServer::start(&[])?;
    let proxy = PgBouncer::start(&server, pool_mode)?;
    let store: &dyn Server = &server;
    let _: std::sync::Arc<dyn Store> = store.installed("Session", &[]);
    Some((server, proxy))
}
