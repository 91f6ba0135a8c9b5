//! Sessions in a Redis cluster whose nodes die, stand still and hand over their keys in mid-traffic.
#![cfg(feature = "redis")]

mod counting;
#[cfg(feature = "tls")]
mod encrypted;
mod failover;
mod mistaken;
mod moving;
