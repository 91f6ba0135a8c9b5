//! The bytes of a Cookie header: whose values the library takes for those of its cookie.
//!
//! Tries to hide our cookie behind others, and to pass something else off as ours. The library's
//! values must be those of a second reading of the same rules, byte by byte; of a header that RFC
//! 6265 allows (4.2.1) they must also be those of the crate `cookie`.
//!
//! Where the two differ, that is on purpose: bytes that are no text, and names without a value, hide no
//! neighbour; and blanks of Unicode belong to a name, because browsers send them as a part of it.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use cgi_session::{
    Config, Error, Lease, Record, Result, SessionDigest, SessionId, SessionManager, Store, Stored,
    Sweep, SweepReport, Uninstalled, Visitor,
};
use cookie::Cookie;

/// The names under which a header is read: one that anybody may set, one that browsers guard.
const NAMES: [&str; 2] = ["sessionId", "__Host-id"];

/// Reads the header under both names.
///
/// # Panics
///
/// When the library reads something else than the rules say.
pub fn check(header: &[u8]) {
    for name in NAMES {
        let read = values(header, name);
        let by_rules = values_by_rules(header, name);
        assert_eq!(read, by_rules, "values of {name}");
        if let Some(pairs) = allowed_pairs(header) {
            let by_crate = values_by_crate(header, name);
            assert_eq!(read, by_crate, "values of {name}, by the crate");
            let known = pairs
                .iter()
                .filter(|pair| pair.starts_with(&format!("{name}=")));
            assert_eq!(read.len(), known.count(), "cookies of the name {name}");
        }
        let id = manager(name, Seen::default()).1.session_id(header);
        let first = read
            .iter()
            .find_map(|value| SessionId::parse(value.as_bytes()));
        assert_eq!(id, first, "the id under {name}");
    }
}

/// All values that the library offers to its store.
fn values(header: &[u8], name: &str) -> Vec<String> {
    let (seen, manager) = manager(
        name,
        Seen {
            accepts: false,
            ..Seen::default()
        },
    );
    assert!(
        manager.session_id(header).is_none(),
        "the store recognized none"
    );
    let values = seen.values.lock().expect("one thread");
    values.clone()
}

fn manager(name: &str, seen: Seen) -> (Seen, SessionManager) {
    let config = Config::new()
        .set("storageType", "custom")
        .and_then(|config| config.set("cookieName", name))
        .and_then(|config| config.set("cookieSecure", "true"));
    let manager = config.and_then(|config| SessionManager::with_store(config, seen.clone()));
    (seen, manager.expect("settings that are good"))
}

fn values_by_rules(header: &[u8], name: &str) -> Vec<String> {
    let mut values = Vec::new();
    let mut rest = header;
    loop {
        let end = rest.iter().position(|byte| *byte == b';');
        let mut piece = &rest[..end.unwrap_or(rest.len())];
        while let [b' ' | b'\t', inner @ ..] | [inner @ .., b' ' | b'\t'] = piece {
            piece = inner;
        }
        if let Some(mut value) = piece.strip_prefix(name.as_bytes()) {
            while let [b' ' | b'\t', inner @ ..] = value {
                value = inner;
            }
            if let [b'=', inner @ ..] = value {
                value = inner;
                while let [b' ' | b'\t', inner @ ..] = value {
                    value = inner;
                }
                values.extend(String::from_utf8(value.to_vec()));
            }
        }
        match end {
            Some(end) => rest = &rest[end + 1..],
            None => return values,
        }
    }
}

/// The pairs of a header that is exactly as a browser should send it: RFC 6265, 4.2.1.
fn allowed_pairs(header: &[u8]) -> Option<Vec<&str>> {
    let header = std::str::from_utf8(header).ok()?;
    let pairs: Vec<_> = header.split("; ").collect();
    pairs
        .iter()
        .all(|pair| is_cookie_pair(pair))
        .then_some(pairs)
}

fn is_cookie_pair(pair: &str) -> bool {
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let is_octet = |byte: u8| byte.is_ascii_graphic() && !b"\",;\\".contains(&byte);
    let Some((name, value)) = pair.split_once('=') else {
        return false;
    };
    let quoted = value
        .strip_prefix('"')
        .and_then(|value| value.strip_suffix('"'));
    let value = quoted.unwrap_or(value);
    !name.is_empty() && name.bytes().all(is_name) && value.bytes().all(is_octet)
}

fn values_by_crate(header: &[u8], name: &str) -> Vec<String> {
    let header = String::from_utf8_lossy(header).into_owned();
    let cookies = Cookie::split_parse(header).filter_map(std::result::Result::ok);
    let own = cookies.filter(|cookie| cookie.name() == name);
    own.map(|cookie| cookie.value().to_owned()).collect()
}

/// A store that is only asked what a cookie's value stands for.
#[derive(Clone)]
struct Seen {
    values: Arc<Mutex<Vec<String>>>,
    /// Whether the first id that is well-formed is taken; otherwise every value is shown.
    accepts: bool,
}

impl Default for Seen {
    fn default() -> Self {
        Seen {
            values: Arc::default(),
            accepts: true,
        }
    }
}

fn unused<T>() -> Result<T> {
    Err(Error::Unsupported("it only looks at cookies"))
}

impl Store for Seen {
    fn recognize(&self, value: &str, _: SystemTime) -> Option<SessionId> {
        self.values
            .lock()
            .expect("one thread")
            .push(value.to_owned());
        SessionId::parse(value.as_bytes()).filter(|_| self.accepts)
    }
    fn create(
        &self,
        _: &SessionDigest,
        _: &Record,
        _: SystemTime,
    ) -> Result<Option<Box<dyn Lease>>> {
        unused()
    }
    fn lock(
        &self,
        _: &SessionDigest,
        _: Duration,
        _: SystemTime,
    ) -> Result<Option<(Stored, Box<dyn Lease>)>> {
        unused()
    }
    fn read(&self, _: &SessionDigest, _: SystemTime) -> Result<Option<Stored>> {
        unused()
    }
    fn delete_expired(&self, _: &Sweep<'_>, _: SystemTime) -> Result<SweepReport> {
        unused()
    }
    fn last_sweep(&self, _: SystemTime) -> Option<Duration> {
        None
    }
    fn for_each(&self, _: &mut Visitor<'_>, _: SystemTime) -> Result<()> {
        unused()
    }
    fn uninstall(&self) -> Uninstalled {
        Uninstalled::default()
    }
}
