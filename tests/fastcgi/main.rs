//! The FastCGI responder, spoken to in raw records over sockets as web servers hand them over.
//!
//! `FASTCGI_REQUESTS=1000000` makes the test of memory a long one (20,000 otherwise).

mod body;
mod corpus;
mod log;
mod params;
mod process;
mod readers;
mod records;
mod sessions;
mod slow;
mod snapshot;
mod streams;
