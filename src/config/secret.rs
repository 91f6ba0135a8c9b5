//! [`Secret`]: a text that nothing shows, and the name of a database without its password.

use std::fmt;

/// The ends of the names of parameters that hold a password.
const PASSWORDS: [&str; 6] = ["pass", "passwd", "password", "pwd", "auth", "secret"];

/// Stands where a password was.
pub(crate) const HIDDEN: &str = "***";

/// A text that may hold a password.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(String);

impl Secret {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Secret(text.into())
    }

    /// The text itself, to connect with.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

/// The URL of a database as it may be shown: without the password of its user, and without those in
/// its parameters. Of a URL that is wrong rather too much is hidden than too little.
pub(super) fn without_passwords(url: &str) -> String {
    let mut shown = match url.split_once("://") {
        Some((scheme, rest)) => format!("{scheme}://{}", without_password(rest)),
        // Of a path of SQLite's nothing is a password.
        None if url.starts_with('/') || url.starts_with("sqlite:") => url.to_owned(),
        None => without_password(url),
    };
    let mut at = 0;
    while let Some(found) = shown[at..].find('=') {
        let name = shown[at..at + found].trim_end().to_ascii_lowercase();
        at += found + 1;
        if PASSWORDS.iter().any(|end| name.ends_with(end)) {
            let end = shown[at..]
                .find('&')
                .map_or(shown.len(), |length| at + length);
            shown.replace_range(at..end, HIDDEN);
        }
    }
    shown
}

/// What stands behind the scheme of a URL: `name:password@host:port/database`.
fn without_password(rest: &str) -> String {
    if let Some((user, host)) = rest.rsplit_once('@') {
        return match user.split_once(':') {
            Some((name, _)) => format!("{name}:{HIDDEN}@{host}"),
            None => rest.to_owned(),
        };
    }
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (hosts, path) = rest.split_at(end);
    let is_port = |port: &str| port.ends_with(']') || port.bytes().all(|it| it.is_ascii_digit());
    let is_host = |host: &str| host.rsplit_once(':').is_none_or(|(_, port)| is_port(port));
    match hosts.split_once(':') {
        // The host was forgotten.
        Some((name, _)) if !hosts.split(',').all(is_host) => format!("{name}:{HIDDEN}{path}"),
        _ => rest.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_shown_without_its_passwords() {
        for (url, shown) in [
            ("redis://host:6379/0", "redis://host:6379/0"),
            ("redis://:pass@host/0", "redis://:***@host/0"),
            ("mysql://ada:p:a@ss/@host/x", "mysql://ada:***@host/x"),
            ("postgres://ada@host/x", "postgres://ada@host/x"),
            (
                "postgres://h/x?password=secret&sslmode=require&sslpassword=too",
                "postgres://h/x?password=***&sslmode=require&sslpassword=***",
            ),
            (
                "redis+unix:///r.sock?db=1&pass=s3cret&user=ada",
                "redis+unix:///r.sock?db=1&pass=***&user=ada",
            ),
            // Mistakes.
            ("postgres:/ada:pass@host/x", "postgres:***@host/x"),
            ("ada:pass@host/x", "ada:***@host/x"),
            ("redis://:pass", "redis://:***"),
            ("redis://ada:pass/0?db=1", "redis://ada:***/0?db=1"),
            ("redis://a:1,b:2/0", "redis://a:1,b:2/0"),
            ("redis://[::1]:6379/0", "redis://[::1]:6379/0"),
            ("redis://[::1]/0", "redis://[::1]/0"),
            ("sqlite:/a:b@c.db", "sqlite:/a:b@c.db"),
            ("host=h Password='a b' user=ada", "host=h Password=***"),
            (
                "host=h user=a password = s3cret",
                "host=h user=a password =***",
            ),
            ("host=h passwd=s3cret", "host=h passwd=***"),
            ("Server=h;Uid=a;Pwd=s3cret", "Server=h;Uid=a;Pwd=***"),
            (
                "tcp://[::1]:1?auth=s3cret&db=1",
                "tcp://[::1]:1?auth=***&db=1",
            ),
            ("/var/lib/app/sessions.db", "/var/lib/app/sessions.db"),
        ] {
            assert_eq!(without_passwords(url), shown);
        }
    }
}
