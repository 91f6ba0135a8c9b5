//! Doors for the fuzz targets to what is private. Only compiled by `cargo fuzz`.

pub use crate::gateway::fastcgi::{ParamsAndBody, read_requests};
pub use crate::http::request::link;
