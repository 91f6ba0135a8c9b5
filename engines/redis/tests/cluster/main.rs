//! Sessions in a Redis cluster.

mod counting;
#[cfg(feature = "tls")]
mod encrypted;
mod failover;
mod mistaken;
mod moving;
