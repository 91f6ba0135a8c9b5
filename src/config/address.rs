//! [`Address`]: where a database is, shown without the password that may stand in it.

use std::fmt;
use std::ops::Deref;

/// What the key `database` holds: a path or a URL. `Debug` hides the password.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Address(String);

/// What is shown of a password.
const HIDDEN: &str = "***";
/// Parameters of a URL that hold a password.
const SECRETS: [&str; 2] = ["pass", "password"];

impl Address {
    pub(crate) fn new(text: &str) -> Self {
        Address(text.to_owned())
    }

    /// The address with `***` in place of a password. Rather too much is hidden than too little: a
    /// password that nobody has encoded may itself hold the characters that a URL is divided by.
    pub(crate) fn shown(&self) -> String {
        let Some((scheme, rest)) = self.0.split_once("://") else {
            return self.0.clone();
        };
        let (user, rest) = match rest.rsplit_once('@') {
            Some((user, rest)) => (hide_password(user), rest),
            None => (String::new(), rest),
        };
        let (place, query) = match rest.split_once('?') {
            Some((place, query)) => (place, hide_parameters(query)),
            None => (rest, String::new()),
        };
        format!("{scheme}://{user}{place}{query}")
    }
}

fn hide_password(user: &str) -> String {
    match user.split_once(':') {
        Some((name, _)) => format!("{name}:{HIDDEN}@"),
        None => format!("{user}@"),
    }
}

fn hide_parameters(query: &str) -> String {
    let mut shown = String::from("?");
    for (index, parameter) in query.split('&').enumerate() {
        if index > 0 {
            shown.push('&');
        }
        match parameter.split_once('=') {
            Some((name, _)) if SECRETS.contains(&name.to_ascii_lowercase().as_str()) => {
                shown.push_str(name);
                shown.push('=');
                shown.push_str(HIDDEN);
            }
            _ => shown.push_str(parameter),
        }
    }
    shown
}

impl Deref for Address {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown())
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    #[test]
    fn no_password_of_a_database_is_shown() {
        for (address, shown) in [
            ("redis://ada:s3cret@h:1/0", "redis://ada:***@h:1/0"),
            ("redis://:s3cret@h", "redis://:***@h"),
            ("redis://ada:s3/c@r?e#t@h/1", "redis://ada:***@h/1"),
            (
                "redis+unix:///r.sock?db=1&pass=s3cret&user=ada",
                "redis+unix:///r.sock?db=1&pass=***&user=ada",
            ),
            ("mysql://ada@h/name", "mysql://ada@h/name"),
            ("/var/lib/a@b:c.db", "/var/lib/a@b:c.db"),
        ] {
            let config = Config::new().set("database", address).unwrap();
            assert_eq!(config.shown("database").as_deref(), Some(shown));
            assert_eq!(config.get("database").as_deref(), Some(address));
            assert_eq!(format!("{config:?}").matches("s3").count(), 0, "{config:?}");
        }
    }
}
