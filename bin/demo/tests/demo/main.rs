//! The demo site as a visitor sees it: the real binary on a free port, walked by real clients.

mod browser;
mod command_line;
mod examples;
mod features;
mod gateway;
mod inspect;
mod login;
mod server;
mod shop;
