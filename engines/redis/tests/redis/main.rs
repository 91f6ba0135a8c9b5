//! The Redis store, on servers and clusters of the tests' own.

mod away;
mod contract;
mod fastcgi;
mod keys;
mod line;
mod programs;
mod proxy;
mod sentinel;
mod store;
#[cfg(feature = "tls")]
mod tls;
