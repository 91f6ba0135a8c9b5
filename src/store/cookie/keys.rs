//! [`Keys`]: the secret keys of `storageType = cookie`, from their file.

use cookie::Key;

use crate::config::{Config, secret_file};
use crate::error::{Error, Result};

/// The number of hexadecimal digits of a key: 64 bytes.
const DIGITS: usize = 128;

/// One key or several, of which the first seals and all open.
pub(super) struct Keys {
    first: Key,
    older: Vec<Key>,
}

impl Keys {
    /// Reads `secretKeyFile`: a key on each line, as 128 hexadecimal digits. Empty lines and lines
    /// that begin with `#` do not count.
    pub(super) fn of(config: &Config) -> Result<Self> {
        let path = config.secret_key_file.as_deref().ok_or_else(|| {
            Error::Config(
                "storageType = cookie needs secretKeyFile, a file that holds the key; \
                 set it, and make the file with: cgi-session init"
                    .to_owned(),
            )
        })?;
        let fail =
            |reason: &str| Error::Config(format!("secretKeyFile {}: {reason}", path.display()));
        let text = secret_file::read(
            path,
            "make it with: cgi-session init",
            "put a new key into it with: cgi-session init --new-key",
        );
        let text = text.map_err(|reason| fail(&reason))?;
        let lines = text
            .lines()
            .zip(1..)
            .map(|(line, number)| (line.trim(), number));
        let keys: Result<Vec<Key>> = lines
            .filter(|(line, _)| !line.is_empty() && !line.starts_with('#'))
            .map(|(line, number)| {
                let reason = || {
                    fail(&format!(
                        "line {number} holds no key of {DIGITS} hexadecimal digits; make one with: cgi-session init --new-key"
                    ))
                };
                key(line).ok_or_else(reason)
            })
            .collect();
        let mut keys = keys?.into_iter();
        let none = || fail("it holds no key; make one with: cgi-session init --new-key");
        Ok(Keys {
            first: keys.next().ok_or_else(none)?,
            older: keys.collect(),
        })
    }

    /// The key that seals.
    pub(super) fn first(&self) -> &Key {
        &self.first
    }

    /// The keys that open.
    pub(super) fn all(&self) -> impl Iterator<Item = &Key> {
        std::iter::once(&self.first).chain(&self.older)
    }
}

fn key(digits: &str) -> Option<Key> {
    if digits.len() != DIGITS || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let pairs = digits.as_bytes().chunks_exact(2);
    let bytes = pairs.map(|pair| {
        let pair = std::str::from_utf8(pair).ok()?;
        u8::from_str_radix(pair, 16).ok()
    });
    let bytes: Option<Vec<u8>> = bytes.collect();
    Key::try_from(bytes?.as_slice()).ok()
}
