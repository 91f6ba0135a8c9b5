//! Sessions in a Redis cluster whose nodes die, stand still and hand over their keys in mid-traffic.
#![cfg(feature = "redis")]

mod counting;
mod failover;
mod moving;
#[path = "../support/mod.rs"]
mod support;
