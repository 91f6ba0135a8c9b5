//! [`SessionId`]: the secret that a visitor's cookie holds.

use std::cell::Cell;
use std::fmt;

use sha2::{Digest as _, Sha256};

use crate::error::{Error, Result};

/// The secret name of a session: 160 bits from the operating system, as 40 hexadecimal digits.
///
/// A value of this type is well-formed by construction. It is the visitor's key to the session, so
/// `Debug` hides it, there is no `Display`, and stores know a session by [`SessionId::digest`].
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct SessionId([u8; SessionId::LENGTH]);

impl SessionId {
    /// The number of characters of an id.
    pub const LENGTH: usize = 40;

    /// Draws a new id from the operating system's random generator.
    ///
    /// # Errors
    ///
    /// [`Error::Random`] when the system gives no random bytes. There is no weaker second choice.
    pub fn generate() -> Result<Self> {
        let mut random = [0; Self::LENGTH / 2 + size_of::<u64>()];
        getrandom::fill(&mut random).map_err(|error| Error::Random(error.into()))?;
        let (id, seed) = random.split_at(Self::LENGTH / 2);
        let mut text = [0; Self::LENGTH];
        hex(id, &mut text);
        SEED.set(seed.try_into().ok().map(u64::from_ne_bytes));
        Ok(SessionId(text))
    }

    /// Takes an id that a client sent: exactly 40 digits `0-9a-f`, or `None`.
    ///
    /// ```
    /// use cgi_session::SessionId;
    ///
    /// assert!(SessionId::parse(b"2f1c0e5d9a8b7c6d5e4f30213243546576879800").is_some());
    /// assert!(SessionId::parse(b"../../etc/passwd").is_none());
    /// ```
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        digits(text).map(SessionId)
    }

    /// The id as the cookie holds it. This text is all that opens the session: never log it.
    #[must_use]
    pub fn secret(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The SHA-256 of the id's text, as 64 lower-case hexadecimal digits.
    ///
    /// Stores name a session by it, so that a listing or a backup holds no usable cookie.
    #[must_use]
    pub fn digest(&self) -> SessionDigest {
        SessionDigest::of(&self.0)
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionId(hidden)")
    }
}

/// What a store calls a session: the SHA-256 of its id, which does not lead back to the id.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionDigest([u8; SessionDigest::LENGTH]);

impl SessionDigest {
    /// The number of characters of a digest.
    pub const LENGTH: usize = 64;

    /// The SHA-256 of a text.
    pub(crate) fn of(text: &[u8]) -> Self {
        let mut digits = [0; Self::LENGTH];
        hex(&Sha256::digest(text), &mut digits);
        SessionDigest(digits)
    }

    /// Takes 64 digits `0-9a-f`, or nothing else.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        digits(text).map(SessionDigest)
    }

    /// The first 40 digits, which no two sessions have in common: what a store with short keys
    /// knows a session by.
    pub(crate) fn short_key(&self) -> &str {
        self.as_str().get(..SessionId::LENGTH).unwrap_or_default()
    }

    pub(crate) fn short_key_bytes(&self) -> [u8; SessionId::LENGTH] {
        self.0
            .first_chunk()
            .copied()
            .unwrap_or([0; SessionId::LENGTH])
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The 64 digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Debug for SessionDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for SessionDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

thread_local! {
    /// Drawn together with the last id of this thread, which saves a system call. A forked child
    /// has the same, and that harms nothing: no client sees it.
    static SEED: Cell<Option<u64>> = const { Cell::new(None) };
}

/// 64 random bits for the checksum of a new file, used for no other.
pub(crate) fn seed() -> Result<u64> {
    SEED.take().map_or_else(|| random().map(|[seed]| seed), Ok)
}

/// Random numbers from the operating system.
pub(crate) fn random<const N: usize>() -> Result<[u64; N]> {
    let mut numbers = [[0; 8]; N];
    getrandom::fill(numbers.as_flattened_mut()).map_err(|error| Error::Random(error.into()))?;
    Ok(numbers.map(u64::from_ne_bytes))
}

/// Exactly so many digits `0-9a-f`.
fn digits<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let text: [u8; N] = text.try_into().ok()?;
    // All are looked at, several at once.
    let is_digit = |c: &u8| matches!(c, b'0'..=b'9' | b'a'..=b'f');
    let well_formed = text.iter().fold(true, |so_far, c| so_far & is_digit(c));
    well_formed.then_some(text)
}

/// Writes `bytes` as lower-case hexadecimal digits; `text` is twice as long as `bytes`.
pub(crate) fn hex(bytes: &[u8], text: &mut [u8]) {
    let digit = |four_bits: u8| four_bits + if four_bits < 10 { b'0' } else { b'a' - 10 };
    for (byte, pair) in bytes.iter().zip(text.as_chunks_mut().0) {
        *pair = [digit(byte >> 4), digit(byte & 15)];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_forty_lower_case_digits_is_an_id() {
        for (letter, length) in [
            (b'a', 0),
            (b'a', 39),
            (b'a', 41),
            (b'A', 40),
            (b'g', 40),
            (0xff, 40),
        ] {
            assert_eq!(SessionId::parse(&vec![letter; length]), None);
        }
        let mut text = [b'a'; 40];
        text[20] = b'/';
        assert_eq!(SessionId::parse(&text), None);
    }

    #[test]
    fn debug_hides_the_id() {
        let id = SessionId::parse(&[b'7'; 40]).unwrap();
        assert!(!format!("{id:?}").contains('7'));
    }
}
