//! What every store keeps, whatever it is made of: one suite, run against all of them.

mod contract;
mod custom;
mod listing;
mod processes;
mod rows;
#[cfg(feature = "sqlite")]
mod sqlite;
mod subjects;
