//! The way to a server: through a socket, and encrypted, to one that its certificate names.

use crate::server::{open, own_servers_with, shared_servers};
use cgi_session::store_contract::{counted, create};
use testkit::certificates::{Certificates, wrong_ones_are_told};
use testkit::haproxy::HaProxy;
use testkit::postgres::give;
use testkit::prelude::*;

#[test]
fn a_server_is_found_on_its_socket() {
    for server in shared_servers() {
        server.installed("socket", &[]);
        let url = server.socket_url();
        let settings = [("database", &*url), ("table", "socket")];
        let store = open(server.kind(), &settings).unwrap();
        let id = stored(&*store, 3);
        assert_eq!(counted(&*store, &id.digest()), Some(3));
    }
    for (kind, url) in [
        ("postgres", "postgres://ada@/shop?host=/nowhere"),
        ("mysql", "mysql://ada@localhost/shop?socket=/nowhere"),
    ] {
        let store = open(kind, &[("database", url)]).unwrap();
        let session = SessionId::generate().unwrap().digest();
        let read = store.read(&session, SystemTime::now());
        fails(read, 503, "/nowhere/shop*is the server running");
    }
}

#[test]
fn a_server_is_believed_for_whom_the_certificates_vouch_and_no_other() {
    let Some(certificates) = Certificates::make() else {
        return;
    };
    let text = |name: &str| certificates.path(name);
    for path in [".", "server.key", "server.pem"] {
        give(&certificates.directory().join(path));
    }
    fs::write(text("none.pem"), "nothing").unwrap();
    let (certificate, key) = (text("server.pem"), text("server.key"));
    let servers = own_servers_with(
        &[
            "ssl=on",
            &format!("ssl_cert_file={certificate}"),
            &format!("ssl_key_file={key}"),
        ],
        &[
            &format!("--ssl-cert={certificate}"),
            &format!("--ssl-key={key}"),
        ],
    );
    for server in servers {
        let kind = server.kind();
        server.installed("Session", &[]);
        // What HAProxy passes on is encrypted from end to end.
        let proxy = HaProxy::start(&[server.port()], "1h");
        let direct = server.url();
        let port =
            |port: u16| direct.replace(&format!(":{}/", server.port()), &format!(":{port}/"));
        let by_proxy = proxy.as_ref().map(|proxy| port(proxy.port()));
        for url in [Some(direct.clone()), by_proxy].into_iter().flatten() {
            let encrypted = format!("{url}?sslmode=verify-full");
            let store = |url: &str, ca: &str| {
                let settings = [("database", url), ("databaseCaFile", ca)];
                open(kind, &settings[..if ca.is_empty() { 1 } else { 2 }])
            };
            let own = store(&encrypted, &text("ca.pem")).unwrap();
            let now = SystemTime::now();
            let (id, lease) = create(&*own, 1, now);
            if kind == "postgres" {
                // The one that has made the table may be about to end.
                let question = "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
                            WHERE application_name LIKE 'cgi-session%'";
                wait_until("what is open is encrypted", || {
                    server.ask(question).as_deref() == Some("t")
                });
            }
            drop(lease);
            assert_eq!(counted(&*own, &id.digest()), Some(1));

            let refused = |url: &str, ca: &str, words: &str| {
                let error = store(url, ca).unwrap().read(&id.digest(), now).unwrap_err();
                assert_eq!(error.status(), 500, "{error:?}");
                says(&error, words);
            };
            refused(
                &encrypted,
                &text("other.pem"),
                "certificate*check databaseCaFile",
            );
            refused(&encrypted, "", "certificate*check databaseCaFile");
            let by_name = encrypted.replace("127.0.0.1", "localhost");
            refused(&by_name, &text("ca.pem"), "certificate*names the host");
            for (ca, word) in [
                (text("none.pem"), "no certificates"),
                ("/nonexistent.pem".into(), "No such file"),
            ] {
                let error = store(&encrypted, &ca).map(drop).unwrap_err();
                assert!(matches!(error, Error::Config(_)));
                says(&error, ["databaseCaFile", &ca, word]);
            }
            if kind == "mysql" {
                // Who does not encrypt learns nothing, and who does is let in.
                server.tell("ALTER USER 'shop'@'%' REQUIRE SSL");
                let plain = store(&url, "").unwrap();
                assert!(plain.read(&id.digest(), now).is_err());
                let own = store(&encrypted, &text("ca.pem")).unwrap();
                assert_eq!(counted(&*own, &id.digest()), Some(1));
            }
        }
    }
}

#[test]
fn a_server_that_does_not_encrypt_is_not_trusted_with_anything() {
    for server in shared_servers() {
        let url = format!("{}?sslmode=require", server.url());
        let store = open(server.kind(), &[("database", &url)]).unwrap();
        let session = cgi_session::SessionId::generate().unwrap().digest();
        fails(store.read(&session, SystemTime::now()), 500, "TLS");
    }
}

#[test]
fn a_server_that_asks_for_a_certificate_is_shown_one_and_what_is_wrong_with_it_is_told() {
    let Some(certificates) = Certificates::make() else {
        return;
    };
    let text = |name: &str| certificates.path(name);
    let access = "local all all trust\nhostssl all all all scram-sha-256 clientcert=verify-ca\n";
    fs::write(text("access"), access).unwrap();
    for path in [".", "server.key", "server.pem", "ca.pem", "access"] {
        give(&certificates.directory().join(path));
    }
    let files = ["server.pem", "server.key", "ca.pem", "access"].map(text);
    let [certificate, key, authority, access] = files;
    let servers = own_servers_with(
        &[
            "ssl=on",
            &format!("ssl_cert_file={certificate}"),
            &format!("ssl_key_file={key}"),
            &format!("ssl_ca_file={authority}"),
            &format!("hba_file={access}"),
        ],
        &[
            &format!("--ssl-cert={certificate}"),
            &format!("--ssl-key={key}"),
            &format!("--ssl-ca={authority}"),
        ],
    );
    for server in servers {
        if server.kind() == "mysql" {
            server.tell("ALTER USER 'shop'@'%' REQUIRE X509");
        }
        let plain = server.url();
        let encrypted = format!("{plain}?sslmode=verify-full");
        let open_at = |url: &str, files: &[(&str, String)]| {
            let mut settings = vec![("database", url), ("databaseCaFile", &*authority)];
            settings.extend(files.iter().map(|(key, path)| (*key, path.as_str())));
            open(server.kind(), &settings)
        };
        let files = |certificate: &str, key: &str| {
            let certificate = ("databaseCertFile", text(certificate));
            [certificate, ("databaseKeyFile", text(key))]
        };
        let store = |certificate: &str, key: &str| open_at(&encrypted, &files(certificate, key));
        let own = store("client.pem", "client.key").unwrap();
        let problems = own.install();
        assert!(problems.is_empty(), "{problems:?}");
        let now = SystemTime::now();
        let id = stored(&*own, 1);
        assert_eq!(counted(&*own, &id.digest()), Some(1));
        let unknown = store("other.pem", "other.key");
        for refused in [open_at(&encrypted, &[]), unknown] {
            let outcome = refused.unwrap().read(&id.digest(), now);
            fails(outcome, 500, "databaseCertFile");
        }
        wrong_ones_are_told(&certificates, store);
        let alone = files("client.pem", "client.key");
        for (url, files, word) in [
            (&plain, &alone[..], "sslmode=verify-full"),
            (&encrypted, &alone[..1], "databaseKeyFile is not set"),
            (&encrypted, &alone[1..], "databaseCertFile is not set"),
        ] {
            says(&open_at(url, files).map(drop).unwrap_err(), [word]);
        }
    }
}
