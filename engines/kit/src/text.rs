//! Texts that servers are given: hexadecimal digits, and the name of this process.

use std::process;

use cgi_session::{Error, Result};

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// Writes bytes as hexadecimal digits.
pub fn push_hex(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
}

/// As many random bytes from the operating system, as hexadecimal digits.
///
/// # Errors
///
/// When it gives none.
pub fn random_digits<const BYTES: usize>() -> Result<String> {
    let mut random = [0; BYTES];
    getrandom::fill(&mut random).map_err(|error| Error::Random(error.into()))?;
    let mut digits = String::with_capacity(2 * BYTES);
    push_hex(&mut digits, &random);
    Ok(digits)
}

/// What a server is told of us, and tells others: `process 17 on host`.
#[must_use]
pub fn name_of_process() -> String {
    let system = rustix::system::uname();
    let host = system.nodename().to_string_lossy();
    format!("process {} on {host}", process::id())
}
