//! Sessions in a Redis cluster.
#![cfg(feature = "redis")]

mod counting;
#[cfg(feature = "tls")]
mod encrypted;
mod failover;
mod mistaken;
mod moving;
