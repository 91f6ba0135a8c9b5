//! The FastCGI responder, spoken to in raw records over sockets as web servers hand them over.

pub mod client;
pub mod counting;
pub mod server;
