//! [`Secret`]: a text that nothing shows, and the name of a database without its password.

use std::fmt;

/// Parameters that hold a password.
const PARAMETERS: [&str; 2] = ["pass=", "password="];

/// Stands where a password was.
pub(crate) const HIDDEN: &str = "***";

/// A text that may hold a password.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(String);

impl Secret {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Secret(text.into())
    }

    /// The text itself, for whoever connects.
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
    let mut shown = url.to_owned();
    if let Some((before, after)) = url.split_once("://")
        && let Some((user, host)) = after.rsplit_once('@')
        && let Some((name, _)) = user.split_once(':')
    {
        shown = format!("{before}://{name}:{HIDDEN}@{host}");
    }
    if !url.contains("://")
        && !url.starts_with('/')
        && let Some((_, host)) = url.rsplit_once('@')
    {
        shown = format!("{HIDDEN}@{host}");
    }
    for parameter in PARAMETERS {
        let mut at = 0;
        while let Some(found) = shown[at..].to_ascii_lowercase().find(parameter) {
            let start = at + found + parameter.len();
            let length = shown[start..].find('&');
            let end = length.map_or(shown.len(), |length| start + length);
            shown.replace_range(start..end, HIDDEN);
            at = start;
        }
    }
    shown
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
            ("host=h Password='a b' user=ada", "host=h Password=***"),
            ("ada:secret@host/x", "***@host/x"),
            ("/var/lib/a@b/sessions.db", "/var/lib/a@b/sessions.db"),
            ("/var/lib/app/sessions.db", "/var/lib/app/sessions.db"),
        ] {
            assert_eq!(without_passwords(url), shown);
        }
    }

    #[test]
    fn a_secret_is_not_shown() {
        assert_eq!(format!("{:?}", Secret::new("pass")), "***");
    }
}
