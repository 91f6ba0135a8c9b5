//! `cgi-session copy`: sessions arrive as they were, nothing that is written meanwhile is lost in either store,
//! and what cannot be brought is told.

mod controls;
mod crowd;
#[path = "../../../tests/support/outside.rs"]
mod outside;
mod pair;
#[path = "../../../tests/support/redis.rs"]
#[allow(dead_code, reason = "no server is stopped here")]
mod redis;
mod refusals;
mod repeated;
#[path = "../support/mod.rs"]
mod support;
mod whole;
