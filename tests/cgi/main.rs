//! The CGI runner, without a server: what is answered, found, stored and refused.

mod candidates;
mod client;
mod config;
mod examples;
mod files;
mod header_ids;
mod input;
mod links;
mod own_pages;
mod policies;
mod proxies;
mod run;
#[cfg(target_arch = "x86_64")]
mod start;
mod storage;
mod streams;
mod uploads;
