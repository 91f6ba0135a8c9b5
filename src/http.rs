//! What a request brings, and what a response takes.

pub(crate) mod body;
pub(crate) mod params;
pub(crate) mod request;
pub(crate) mod response;

pub use body::BodyReader;
pub use request::Request;
pub use response::Response;
