//! [`Keys`]: the secret keys of `storageType = cookie`, from their file.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use cookie::Key;

use crate::config::Config;
use crate::error::{Error, Result};

/// The number of hexadecimal digits of a key: 64 bytes.
const DIGITS: usize = 128;
/// No file of keys is longer.
const LONGEST: u64 = 1 << 16;

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
        let text = read(path).map_err(|reason| fail(&reason))?;
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

fn read(path: &Path) -> Result<String, String> {
    let file = match File::open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err("there is no such file; make it with: cgi-session init".to_owned());
        }
        file => file.map_err(|error| error.to_string())?,
    };
    let found = file.metadata().map_err(|error| error.to_string())?;
    if !found.is_file() {
        return Err("it is no regular file".to_owned());
    }
    let mode = found.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(format!(
            "others can read it (mode {mode:04o}); try: chmod 0600 {}, and put a new key into it \
             with: cgi-session init --new-key",
            path.display()
        ));
    }
    let uid = rustix::process::geteuid().as_raw();
    if found.uid() != uid && uid != 0 {
        return Err(format!(
            "it belongs to uid {}, not to uid {uid}",
            found.uid()
        ));
    }
    let mut text = String::new();
    let taken = file.take(LONGEST + 1).read_to_string(&mut text);
    taken.map_err(|error| error.to_string())?;
    if text.len() as u64 > LONGEST {
        return Err(format!("it is longer than {LONGEST} bytes"));
    }
    Ok(text)
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
