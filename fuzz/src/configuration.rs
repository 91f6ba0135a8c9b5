//! The text of a configuration file.
//!
//! Tries to have a setting taken for another one, or passed over in silence. Any file is a configuration
//! whose every setting can be shown and set again, or an error that names the file. What a file sets
//! line by line is exactly what the same keys and values set one by one.

use std::cell::RefCell;
use std::fs;

use cgi_session::{Config, Error, Origin};
use tempfile::NamedTempFile;

thread_local! {
    /// One file for all texts that a thread tries.
    static FILE: RefCell<Option<NamedTempFile>> = const { RefCell::new(None) };
}

/// Reads the bytes as a file or, after the byte 0, as settings: lines of a key's number and its value.
///
/// # Panics
///
/// When a file is read as something else than it says.
pub fn check(bytes: &[u8]) {
    match bytes.split_first() {
        Some((0, rest)) => check_settings(rest),
        _ => check_file(bytes),
    }
}

fn load(bytes: &[u8]) -> Result<Config, String> {
    FILE.with_borrow_mut(|file| {
        let file = file.get_or_insert_with(|| NamedTempFile::new().expect("a file"));
        fs::write(&*file, bytes).expect("written");
        let path = file.path().to_owned();
        Config::load(&path).map_err(|error| {
            let text = error.to_string();
            assert!(matches!(error, Error::Config(_)), "{error:?}");
            text
        })
    })
}

fn check_file(bytes: &[u8]) {
    let Ok(config) = load(bytes) else { return };
    let default = Config::new();
    for key in Config::keys() {
        let shown = config.get(key).expect("a key");
        if let Origin::File { line, .. } = config.origin(key) {
            let line = bytes.split(|byte| *byte == b'\n').nth(line - 1);
            let line = String::from_utf8_lossy(line.expect("a line of the file"));
            assert!(line.contains(key), "{key} is said to come from {line:?}");
            let again = Config::new()
                .set(key, &shown)
                .expect("what is shown can be set");
            assert_eq!(again.get(key), Some(shown), "{key}");
        } else {
            assert_eq!(default.get(key), Some(shown), "{key} was never set");
        }
    }
}

fn check_settings(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let keys: Vec<_> = Config::keys().chain(["timeuot", "storage"]).collect();
    let mut lines = vec!["[session]".to_owned(), "storageType = custom".to_owned()];
    let mut expected = Config::new().set("storageType", "custom");
    let mut used = vec!["storageType"];
    for line in text.split('\n').filter(|line| !line.is_empty()) {
        let (number, value) = line.split_at(line.chars().next().map_or(0, char::len_utf8));
        let number = number.bytes().map(usize::from).sum::<usize>();
        let key = keys[number % keys.len()];
        if used.contains(&key) || value.contains('\r') {
            continue;
        }
        used.push(key);
        lines.push(format!("{key} = {value}"));
        expected = expected.and_then(|config| config.set(key, value.trim()));
    }
    let file = lines.join("\n");
    match (load(file.as_bytes()), expected) {
        (Ok(read), Ok(set)) => {
            for key in Config::keys() {
                assert_eq!(read.get(key), set.get(key), "{key} in {file:?}");
            }
        }
        (Err(error), Ok(set)) => {
            // Only settings that do not fit together are refused as a whole.
            let is_combined = ["cookieName (", "cookieSameSite (", "cookiePartitioned ("];
            assert!(
                is_combined.iter().any(|start| error.starts_with(start)),
                "{error} for {set:?}"
            );
        }
        (Ok(_), Err(error)) => panic!("{file:?} was read in spite of: {error}"),
        (Err(_), Err(_)) => {}
    }
}
