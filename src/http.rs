//! The types of the crate [`http`] that requests and responses use.

pub use ::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

pub(crate) mod body;
pub(crate) mod file;
pub(crate) mod jar;
pub(crate) mod origin;
pub(crate) mod params;
pub(crate) mod request;
pub(crate) mod response;
pub(crate) mod stream;
