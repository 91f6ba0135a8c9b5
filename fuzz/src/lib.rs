//! What the fuzz targets try, one module for each. The committed corpora go the same way in
//! `tests/api/corpora.rs`, so that what was found once stays found.

pub mod configuration;
pub mod cookie_header;
pub mod fastcgi_records;
pub mod json;
pub mod link;
pub mod record;
pub mod sealed_cookie;
pub mod session_file;
pub mod values;
