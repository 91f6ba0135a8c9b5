//! `HAProxy` between the programs and the server.

use cgi_session::store_contract::{WAIT, counted, record};
use cgi_session_redis::RedisStore;
use testkit::haproxy::HaProxy;
use testkit::prelude::*;

use crate::store::{config, store};

/// A server on a port.
fn server() -> Option<(RedisServer, u16)> {
    let port = free_port();
    let server = RedisServer::start(["--bind", "127.0.0.1", "--port", &port.to_string()])?;
    Some((server, port))
}

/// A store that reaches its server by a proxy.
fn behind(proxy: &HaProxy) -> RedisStore {
    let url = format!("redis://127.0.0.1:{}/0", proxy.port());
    RedisStore::new(&config(&url, &[])).unwrap()
}

#[test]
fn a_connection_that_haproxy_ends_for_its_silence_is_made_anew_and_costs_no_request() {
    let Some((server, port)) = server() else {
        return;
    };
    let Some(proxy) = HaProxy::start(&[port], "8s") else {
        return;
    };
    let now = SystemTime::now();
    let id = stored(&store(&server, &[]), 1);
    let session = id.digest();
    let has_ended = || {
        wait_until("HAProxy has ended the connection", || {
            !server.tell("CLIENT LIST").contains("addr=127.0.0.1:")
        });
    };
    let store = behind(&proxy);
    assert_eq!(counted(&store, &session), Some(1));
    has_ended();
    let (_, mut lease) = store.lock(&session, WAIT, now).unwrap().unwrap();
    has_ended();
    lease.finish(&record(2, now), now).unwrap();
    assert_eq!(counted(&store, &session), Some(2));
}

#[test]
fn a_server_that_haproxy_puts_in_the_place_of_another_is_used_from_then_on() {
    let (Some((mut first, port)), Some((second, other_port))) = (server(), server()) else {
        return;
    };
    let now = SystemTime::now();
    let session = SessionId::generate().unwrap().digest();
    let direct = [&first, &second].map(|server| {
        let store = store(server, &[]);
        drop(store.create(&session, &record(1, now), now).unwrap());
        store
    });
    for is_killed in [false, true] {
        let Some(proxy) = HaProxy::start(&[port, other_port], "1h") else {
            return;
        };
        let store = behind(&proxy);
        let save = |value| {
            let (_, mut lease) = store.lock(&session, WAIT, now)?.unwrap();
            lease.finish(&record(value, now), now)
        };
        save(2).unwrap();
        assert_eq!(counted(&direct[0], &session), Some(2));
        if is_killed {
            first.kill();
        } else {
            // It is up, and may only read.
            proxy.retire(0);
            first.tell("REPLICAOF 127.0.0.1 1");
        }
        let value = 3 + u64::from(is_killed);
        wait_until("the second server is used", || match save(value) {
            Ok(()) => true,
            Err(error) => {
                assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
                false
            }
        });
        assert_eq!(counted(&direct[1], &session), Some(value));
        if !is_killed {
            assert_eq!(counted(&direct[0], &session), Some(2));
            first.tell("REPLICAOF NO ONE");
        }
    }
}
