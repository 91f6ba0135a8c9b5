//! The commands of `cgi-session` and `cgi-session-cleanup`: what they print, how they exit, what they change.
//!
//! Those of stores that the tools have as features only need these features.

mod administration;
mod check;
mod cleanup;
mod cleanup_configuration;
mod cleanup_crash;
mod cleanup_each;
mod config;
#[cfg(all(
    feature = "mysql",
    feature = "postgres",
    feature = "redis",
    feature = "sqlite"
))]
mod copy;
#[cfg(all(
    feature = "mysql",
    feature = "postgres",
    feature = "redis",
    feature = "sqlite"
))]
mod engine;
mod guard;
mod init;
mod languages;
mod manual;
mod new;
mod prometheus;
#[cfg(all(
    feature = "mysql",
    feature = "postgres",
    feature = "redis",
    feature = "sqlite"
))]
mod secrets;
mod serve;
mod stress;
mod values;
mod wrapper;
