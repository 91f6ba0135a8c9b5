//! What keys and the names of applications may be.

/// The longest key, in bytes of UTF-8.
pub const MAX_KEY_LENGTH: usize = 128;
/// The longest name of an application, in bytes, as in lemon.session.
const MAX_NAME: usize = 255;
/// Before a module's reserved name. Alone it is the name of the library's own notes.
pub(crate) const RESERVED: char = '@';

/// Why a text cannot be the name of an application.
pub(crate) fn invalid_name_reason(name: &str) -> Option<&'static str> {
    if name.len() > MAX_NAME {
        Some("must be at most 255 bytes")
    } else if name.chars().any(char::is_control) {
        Some("must hold no control characters")
    } else if name.starts_with(RESERVED) {
        Some("must not begin with @, which marks reserved names")
    } else {
        None
    }
}
