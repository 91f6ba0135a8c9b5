//! The secret keys of `storageType = cookie`, from their file.

use cookie::Key;

use crate::config::{Config, secret_file};
use crate::error::{Error, Result};

/// The number of hexadecimal digits of a key: 64 bytes.
const DIGITS: usize = 128;

/// Reads `secretKeyFile`: a key on each line, as 128 hexadecimal digits. Empty lines and lines
/// that begin with `#` do not count. All of the keys open, and the first seals.
pub(super) fn read(config: &Config) -> Result<Vec<Key>> {
    let path = config.secret_key_file.as_deref().ok_or_else(|| {
        Error::Config(
            "storageType = cookie needs secretKeyFile, a file that holds the key; \
                 set it, and make the file with: cgi-session init"
                .to_owned(),
        )
    })?;
    let fail = |reason: &str| Error::Config(format!("secretKeyFile {}: {reason}", path.display()));
    let text = secret_file::read(
        path,
        "make it with: cgi-session init",
        "put a new key into it with: cgi-session init --new-key",
    );
    let text = text.map_err(|reason| fail(&reason))?;
    let mut keys = Vec::new();
    for (number, line) in (1..).zip(text.lines().map(str::trim)) {
        if !line.is_empty() && !line.starts_with('#') {
            keys.push(key(line).ok_or_else(|| {
                    fail(&format!(
                        "line {number} holds no key of {DIGITS} hexadecimal digits; make one with: cgi-session init --new-key"
                    ))
                })?);
        }
    }
    if keys.is_empty() {
        return Err(fail(
            "it holds no key; make one with: cgi-session init --new-key",
        ));
    }
    Ok(keys)
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
