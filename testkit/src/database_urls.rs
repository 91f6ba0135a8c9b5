//! The URLs that no engine understands.

use cgi_session::Result;

use crate::prelude::*;

/// What stands for the scheme, and for all behind the hosts.
const MALFORMED: &[(&str, &str)] = &[
    ("", "database is not set"),
    ("/run/server.sock", "must begin with"),
    ("SCHEME", "must begin with"),
    ("SCHEME:", "must begin with"),
    ("SCHEME:/ada:s3cret@h/PATH", "must begin with"),
    ("://ada:s3cret@h/PATH", "must begin with"),
    ("ada:s3cret@h/PATH", "must begin with"),
    ("gopher://ada:s3cret@h/PATH", "must begin with"),
    ("SCHEMEs+ss://ada:s3cret@h/PATH", "must begin with"),
    ("SCHEME+unix+cluster://ada:s3cret@h/PATH", "must begin with"),
    ("SCHEME://", "no host"),
    ("SCHEME:///PATH", "no host"),
    ("SCHEME://ada:s3cret@/PATH", "no host"),
    ("SCHEME://ada:s3cret@:1/PATH", "empty host"),
    ("SCHEME://ada:s3cret@h,/PATH", "host"),
    ("SCHEME://ada:s3cret@,h/PATH", "host"),
    ("SCHEME://ada:s3cret@h,:1/PATH", "host"),
    ("SCHEME://ada:s3cret@h:99999/PATH", "invalid port number"),
    ("SCHEME://ada:s3cret@h:-1/PATH", "invalid port number"),
    ("SCHEME://ada:s3cret@h:x/PATH", "invalid port number"),
    ("SCHEME://ada:s3cret@h,k:x/PATH", "invalid port number"),
    ("SCHEME://ada:12s3cret/PATH", "invalid port number"),
    ("SCHEME://ada:s3cret/more@h/PATH", "invalid port number"),
    ("SCHEME://ada:s3cret@[::1/PATH", "invalid IPv6 address"),
    ("SCHEME://ada:s3cret@[::x]/PATH", "invalid IPv6 address"),
    ("SCHEME://ada:s3cret@a b/PATH", "invalid"),
    ("SCHEME://ada:s3cret@0.0.0.0/PATH", "wildcard address"),
    ("SCHEME://ada:s3cret@[::]/PATH", "wildcard address"),
    ("SCHEME://%FF:s3cret@h/PATH", "not UTF-8"),
    ("SCHEME://ada:s3cret%FF@h/PATH", "not UTF-8"),
    ("SCHEME://ada:s3cret@%FF/PATH", "not UTF-8"),
    ("SCHEME://ada:s3cret%00@h/PATH", "a NUL"),
    ("SCHEME://ada:s3cret@h%00/PATH", "a NUL"),
    ("SCHEME://ada:s3cret@h/PATH%00", "a NUL"),
    ("SCHEME://ada:s3cret@h/PATH#insecure", "behind a #"),
    ("SCHEME://ada:12#s3cret@h/PATH", "behind a #"),
    (
        "SCHEME://ada:s3cret@h/PATH?colour=red",
        "no parameter colour",
    ),
    ("SCHEME://ada:s3cret@h/PATH?colour", "no parameter colour"),
    (
        "SCHEME://ada:s3cret@h/PATH?PASS=s3cret",
        "no parameter PASS",
    ),
    (
        "SCHEME://ada:s3cret@h/PATH?password=s3cret",
        "no parameter password",
    ),
    ("SCHEME://ada:12?s3cret@h/PATH", "percent-encoded"),
];

/// Opens a store with each of them, and with two passwords: an error that says what is wrong and what the engine
/// takes, and no password. `path` is what the engine needs behind the hosts.
#[track_caller]
pub fn are_refused(scheme: &str, path: &str, example: &str, open: impl Fn(&Config) -> Result<()>) {
    let refused = |config: Config, words: &[&str]| {
        let shown = config.get("database").unwrap_or_default();
        let Err(error) = open(&config) else {
            panic!("{shown} is taken");
        };
        assert!(matches!(error, Error::Config(_)), "{shown}: {error:?}");
        for said in [error.one_line(), format!("{error:?}")] {
            assert!(!said.contains("s3cret"), "{said}");
        }
        for word in words {
            let said = error.one_line();
            assert!(said.contains(word), "no {word:?} in {said}");
        }
    };
    let with = |url: &str| {
        let url = url.replace("SCHEME", scheme).replace("PATH", path);
        Config::new().set("database", &url).unwrap()
    };
    refused(Config::new(), &["database is not set", example]);
    for (url, word) in MALFORMED {
        refused(with(url), &[word, example]);
    }
    let two = with("SCHEME://ada:s3cret@h/PATH").set("databasePassword", "s3cret");
    refused(two.unwrap(), &["take one away"]);
}
