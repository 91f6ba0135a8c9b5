//! The text of the tests, for pages that say which test proves what.

use std::fs;
use std::path::Path;

/// The text of all tests below a directory.
pub fn sources(directory: &Path) -> String {
    let mut text = String::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            text += &sources(&path);
        } else if path.extension().is_some_and(|end| end == "rs") {
            text += &fs::read_to_string(path).unwrap();
        }
    }
    text
}

/// What a page names as a test: a sentence with underscores, between backquotes.
pub fn named_tests(page: &str) -> impl Iterator<Item = &str> {
    let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    let quoted = page.split('`').skip(1).step_by(2);
    quoted.filter(move |name| name.bytes().all(is_word) && name.matches('_').count() >= 3)
}
