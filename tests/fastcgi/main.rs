//! The FastCGI responder, spoken to in raw records over sockets as web servers hand them over.
//!
//! `FASTCGI_REQUESTS=1000000` makes the test of memory a long one (100,000 otherwise).

mod body;
mod client;
mod corpus;
mod log;
#[path = "../support/outside.rs"]
mod outside;
mod params;
mod process;
mod readers;
mod records;
#[cfg(feature = "redis")]
mod redis;
mod server;
mod sessions;
mod slow;
mod snapshot;
#[cfg(feature = "redis")]
#[path = "../support/mod.rs"]
mod support;
