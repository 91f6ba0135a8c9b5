//! The stores in `PostgreSQL` and `MySQL`, on servers of the tests' own.

mod away;
mod contract;
mod hosts;
mod limits;
mod locks;
mod many;
mod new;
mod proxy;
mod server;
mod store;
mod tls;
