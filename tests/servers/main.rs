//! Real web servers with the settings that are shipped, and what else examples/deploy and the README promise.

mod caches;
mod deploy;
mod examples;
mod guard;
mod languages;
mod other_transport;
mod readme;
mod streams;
mod systemd;
mod together;
