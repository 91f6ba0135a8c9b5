//! Doors for the fuzz targets to what is private. Only compiled by `cargo fuzz`.

/// Lets a connection read `bytes` as a web server's records, bodies included, until they end.
pub fn read_records(bytes: &[u8]) {
    crate::fastcgi::read_records(bytes);
}
