//! Doors for the fuzz targets to what is private. Only compiled by `cargo fuzz`.

pub use crate::gateway::fastcgi::ParamsAndBody;
use crate::id::SessionId;

/// The requests that a connection reads out of a web server's records, which come in these pieces: the
/// parameters and the body of each.
#[must_use]
pub fn read_requests(pieces: &[&[u8]]) -> Vec<ParamsAndBody> {
    crate::gateway::fastcgi::read_requests(pieces)
}

/// The address as a page links to it whose client keeps no cookie.
#[must_use]
pub fn link(address: &str, name: &str, id: &SessionId) -> String {
    crate::http::request::link(address, name, id)
}
