//! `rediss://`: a server is believed when a certificate of `databaseCaFile` vouches for it, and else not.

use cgi_session_redis::RedisStore;

use crate::store::config;
use cgi_session::store_contract::counted;
use testkit::certificates::{Certificates, wrong_ones_are_told};
use testkit::haproxy::HaProxy;
use testkit::prelude::*;
use testkit::redis_sentinel::SERVICE;

/// A server that encrypts, and asks for a certificate or does not; its port and its URL.
fn encrypted(certificates: &Certificates, asks: &str) -> Option<(RedisServer, String, String)> {
    let port = free_port().to_string();
    let [certificate, key, authority] =
        ["server.pem", "server.key", "ca.pem"].map(|name| certificates.path(name));
    let server = RedisServer::start([
        "--tls-port",
        &port,
        "--tls-cert-file",
        &certificate,
        "--tls-key-file",
        &key,
        "--tls-ca-cert-file",
        &authority,
        "--tls-auth-clients",
        asks,
    ])?;
    let url = format!("rediss://127.0.0.1:{port}/0");
    Some((server, port, url))
}

#[test]
fn a_server_is_believed_for_whom_the_certificates_vouch_and_no_other() {
    let Some(certificates) = Certificates::make() else {
        return;
    };
    let text = |name: &str| certificates.path(name);
    let authority = text("ca.pem");
    let Some((server, port, url)) = encrypted(&certificates, "no") else {
        return;
    };
    let store = |ca: &str| RedisStore::new(&config(&url, &[("databaseCaFile", ca)]));
    let id = stored(&store(&authority).unwrap(), 1);
    assert_eq!(server.tell("DBSIZE"), "1");

    let now = SystemTime::now();
    // Whatever the program has chosen, or nothing.
    assert!(rustls::crypto::CryptoProvider::get_default().is_some());
    // What HAProxy passes on is encrypted from end to end.
    let proxy = HaProxy::start(&[port.parse().unwrap()], "1h");
    let by_proxy = proxy.as_ref().map(|proxy| proxy.port().to_string());
    for port in [Some(port.clone()), by_proxy].into_iter().flatten() {
        let url = format!("rediss://127.0.0.1:{port}/0");
        let by_name = format!("rediss://localhost:{port}/0");
        let store = |url: &str, ca: Option<&str>| {
            let ca = ca.map(|ca| ("databaseCaFile", ca));
            RedisStore::new(&config(url, ca.as_slice())).unwrap()
        };
        let own = store(&url, Some(&authority));
        assert_eq!(counted(&own, &id.digest()), Some(1));
        for (url, ca, word) in [
            (&url, Some(&*text("other.pem")), "check databaseCaFile"),
            (&url, None, "check databaseCaFile"),
            (&by_name, Some(&*authority), "names the host"),
        ] {
            let error = store(url, ca).read(&id.digest(), now).unwrap_err();
            says(&error, ["certificate", word, url]);
        }
    }

    fs::write(text("none.pem"), "nothing").unwrap();
    let error = store(&text("none.pem")).map(drop).unwrap_err();
    says(&error, "databaseCaFile*none.pem");
    let error = store("/nonexistent.pem").map(drop).unwrap_err();
    says(&error, "databaseCaFile = /nonexistent.pem*No such file");
    // Who does not encrypt learns nothing.
    let plain = RedisStore::new(&config(&format!("redis://127.0.0.1:{port}/0"), &[])).unwrap();
    let session = SessionId::generate().unwrap().digest();
    assert!(plain.read(&session, now).is_err());
}

#[test]
fn sentinels_and_the_primary_that_they_name_are_both_spoken_to_with_tls() {
    let Some(certificates) = Certificates::make() else {
        return;
    };
    let text = |name: &str| certificates.path(name);
    let (certificate, key, authority) = (text("server.pem"), text("server.key"), text("ca.pem"));
    let common = [
        &["--port", "0", "--tls-replication", "yes"][..],
        &["--tls-cert-file", &certificate, "--tls-key-file", &key],
        &["--tls-ca-cert-file", &authority, "--tls-auth-clients", "no"],
    ]
    .concat();
    let (port, sentinel_port) = (free_port(), free_port());
    let [own, of_sentinel] = [port, sentinel_port].map(|port| port.to_string());
    let Some(server) = RedisServer::start([&["--tls-port", &own][..], &common].concat()) else {
        return;
    };
    let file = format!("sentinel monitor {SERVICE} 127.0.0.1 {port} 1\n");
    let settings = [&["--tls-port", &of_sentinel][..], &common].concat();
    let _sentinel = RedisServer::sentinel(&file, sentinel_port, &settings).unwrap();
    let url = format!("rediss+sentinel://127.0.0.1:{sentinel_port}/{SERVICE}/0");
    let store = |ca: &str| RedisStore::new(&config(&url, &[("databaseCaFile", ca)])).unwrap();
    let id = stored(&store(&authority), 1);
    assert_eq!(server.tell("DBSIZE"), "1");
    let deceived = store(&text("other.pem"));
    says(
        &deceived.read(&id.digest(), SystemTime::now()).unwrap_err(),
        "sentinel 127.0.0.1*certificate*check databaseCaFile",
    );
}

#[test]
fn a_server_that_asks_for_a_certificate_is_shown_one_and_what_is_wrong_with_it_is_told() {
    let Some(certificates) = Certificates::make() else {
        return;
    };
    let text = |name: &str| certificates.path(name);
    let authority = text("ca.pem");
    let Some((server, port, url)) = encrypted(&certificates, "yes") else {
        return;
    };
    let open = |settings: &[(&str, &str)]| {
        let settings = [settings, &[("databaseCaFile", &*authority)]].concat();
        RedisStore::new(&config(&url, &settings))
    };
    let store = |certificate: &str, key: &str| {
        let (certificate, key) = (text(certificate), text(key));
        open(&[
            ("databaseCertFile", &certificate),
            ("databaseKeyFile", &key),
        ])
    };
    let own = store("client.pem", "client.key").unwrap();
    let id = stored(&own, 1);
    assert_eq!(counted(&own, &id.digest()), Some(1));
    assert_eq!(server.tell("DBSIZE"), "1");
    for unknown in [open(&[]), store("other.pem", "other.key")] {
        let error = unknown.unwrap().read(&id.digest(), SystemTime::now());
        says(&error.unwrap_err(), "alert*databaseCertFile");
    }
    wrong_ones_are_told(&certificates, store);
    let plain = format!("redis://127.0.0.1:{port}/0");
    let settings = [
        ("databaseCertFile", &*text("client.pem")),
        ("databaseKeyFile", &*text("client.key")),
    ];
    let error = RedisStore::new(&config(&plain, &settings));
    says(&error.map(drop).unwrap_err(), "databaseCertFile*rediss://");
}
