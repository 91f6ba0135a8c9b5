//! The table of old settings: each is refused with its successor's name, or means what it meant.

use cgi_session::Config;

#[test]
fn an_old_setting_is_answered_with_its_successor() {
    for (old, words) in [
        ("persistent_session", "storageType = file"),
        ("storage", "storageType"),
        ("expires", "1440s"),
        ("cleanup", "cleanUpProbability"),
        ("sessionID", "in code"),
        ("seed", "random generator"),
        ("comment", "RFC 2109"),
        ("version", "RFC 2109"),
        ("path", "cookiePath"),
        ("domain", "cookieDomain"),
        ("secure", "cookieSecure"),
        ("max-age", "cookieMaxAge"),
    ] {
        let error = Config::new().set(old, "1").unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn an_unknown_setting_is_answered_with_the_nearest() {
    for (wrong, right) in [
        ("storagetype", "storageType"),
        ("cleanupDelay", "cleanUpDelay"),
        ("cookie_name", "cookieName"),
        ("maxSession", "maxSessions"),
    ] {
        let error = Config::new().set(wrong, "1").unwrap_err().to_string();
        assert!(error.contains(&format!("did you mean {right}?")), "{error}");
    }
}

#[test]
fn lemons_cookie_settings_are_answered_with_their_successors() {
    for (old, words) in [
        ("cookie.path", "cookiePath"),
        ("cookie.domain", "cookieDomain"),
        ("cookie.secure", "cookieSecure"),
        ("cookie.max-age", "cookieMaxAge"),
        ("cookie.comment", "RFC 2109"),
        ("cookie.version", "RFC 2109"),
    ] {
        let error = Config::new().set(old, "1").unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}
