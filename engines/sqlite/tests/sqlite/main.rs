//! The SQLite store, on databases in files.

mod contract;
mod store;
