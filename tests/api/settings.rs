//! Settings by themselves: how values are understood, and which are refused, alone or together.

use cgi_session::MemoryStore;
use testkit::prelude::*;

#[test]
fn a_value_is_shown_as_it_was_understood() {
    for (key, text, shown) in [
        ("timeout", "1440", "24h"),
        ("timeout", "1440s", "24m"),
        ("timeout", "2h", "2h"),
        ("timeout", "7d", "7d"),
        ("lifetime", "0", "0"),
        ("cookieMaxAge", "none", "none"),
        ("cookieSecure", "Yes", "true"),
        ("bodyBuffer", "64K", "64k"),
        ("minFreeSpace", "1k", "1024"),
        ("idFrom", "form cookie", "cookie, form"),
        ("errorLog", "server", "server"),
    ] {
        let config = Config::new().set(key, text).unwrap();
        assert_eq!(config.get(key).as_deref(), Some(shown), "{key} = {text}");
    }
}

#[test]
fn a_bad_value_is_refused_with_what_would_be_good() {
    for (key, text, expected) in [
        ("timeout", "soon", "30 (minutes)"),
        ("timeout", "٣٠", "not a time"),
        ("timeout", "-5", "not a time"),
        ("timeout", "0", "more than nothing"),
        ("maxSessions", "+5", "must be a number of sessions"),
        ("timeout", "99999999999999999999d", "at most 100 years"),
        ("storageType", "files", "file, ram, cookie"),
        ("cookieName", "a b", "token"),
        ("cookieName", "a;b", "token"),
        ("cookieName", "", "token"),
        ("cookieDomain", "a\nb", "control character \\n"),
        ("cookieDomain", "a/b", "host name"),
        ("cookieDomain", "-", "host name"),
        ("cookieDomain", "a.-b", "host name"),
        ("cookieDomain", "..", "host name"),
        ("cookieDomain", "a.b.", "host name"),
        ("cookiePath", "/a;b", "must begin with /"),
        ("cookieSecure", "perhaps", "auto, true or false"),
        ("storageFileDir", "sessions", "absolute"),
        ("cleanUpProbability", "2", "0 to 1"),
        ("cleanUpProbability", "NaN", "0 to 1"),
        ("shards", "16", "1 or 256"),
        ("maxRecordBytes", "-1", "number of bytes"),
        ("maxKeyLength", "129", "1 to 128"),
        ("maxFormFields", "0", "1 to 1000000"),
        ("minFreeSpace", "101%", "100M or 5%"),
        ("minFreeSpace", "much", "100M or 5%"),
        ("bodyBuffer", "2g", "at most 1g"),
        ("bodyBuffer", "1MB", "64k or 1m"),
        ("bodyMinRate", "500/s", "bytes per second"),
        ("errorLog", "", "stderr, server"),
        ("errorLog", "syslog", "stderr, server"),
        ("cookiename", "x", "did you mean cookieName?"),
        ("cookie_name", "x", "did you mean cookieName?"),
        ("storagetype", "x", "did you mean storageType?"),
        ("cleanupDelay", "x", "did you mean cleanUpDelay?"),
        ("maxSession", "x", "did you mean maxSessions?"),
    ] {
        let error = Config::new().set(key, text).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

/// Whether these settings fit together.
fn fit(settings: &[(&str, &str)]) -> Result<(), Error> {
    let directory = Config::new().set("storageFileDir", "/x").unwrap();
    let set = |config: Config, (key, value): &(&str, &str)| config.set(key, value).unwrap();
    let config = settings.iter().fold(directory, set);
    SessionManager::with_store(config, MemoryStore::new(Config::new())?).map(drop)
}

#[test]
fn what_a_session_at_the_client_cannot_have_is_refused() {
    for setting in [("idFrom", "cookie, query"), ("rotateAfter", "3h")] {
        let error = fit(&[("storageType", "cookie"), setting]).unwrap_err();
        assert!(error.to_string().contains(setting.0), "{error}");
        assert!(fit(&[setting]).is_ok());
    }
}

#[test]
fn prefixes_and_attributes_that_browsers_refuse_are_refused_first() {
    for setting in [
        ("cookieName", "__Host-id"),
        ("cookieName", "__HOST-id"),
        ("cookieName", "__secure-id"),
        ("cookieName", "__Http-id"),
        ("cookieName", "__hOsT-hTtP-id"),
        ("cookieSameSite", "None"),
        ("cookiePartitioned", "true"),
    ] {
        let error = fit(&[setting]).unwrap_err().to_string();
        assert!(error.contains("cookieSecure = true"), "{error}");
        assert!(fit(&[setting, ("cookieSecure", "true")]).is_ok());
    }
    for (name, refused) in [
        ("__SECURE-id", ""),
        ("__Http-id", "cookieHttpOnly"),
        ("__Host-id", "cookiePath cookieDomain"),
        ("__host-http-id", "cookiePath cookieDomain cookieHttpOnly"),
    ] {
        for (key, value) in [
            ("cookiePath", "/shop"),
            ("cookieDomain", "example.org"),
            ("cookieHttpOnly", "false"),
        ] {
            let settings = [("cookieName", name), ("cookieSecure", "true"), (key, value)];
            let is_refused = fit(&settings).is_err();
            assert_eq!(is_refused, refused.contains(key), "{name} {key}");
        }
    }
}
