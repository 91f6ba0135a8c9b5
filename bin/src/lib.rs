//! The commands of `cgi-session` and `cgi-session-cleanup`, and the server of `cgi-session serve` for your
//! own site.

mod account;
mod check;
mod cleanup;
mod commands;
mod config;
mod copy;
mod destroy;
mod guard;
mod head;
mod init;
mod key_file;
mod list;
mod location;
mod manual;
mod new;
mod owner;
mod private;
mod progress;
pub mod report;
mod screen;
pub mod serve;
mod sessions;
mod show;
mod signals;
mod start;
mod stats;
pub mod stores;
mod uninstall;
mod value;
mod values_file;

pub use check::take_part_in_trial;
pub use cleanup::cgi_session_cleanup;
pub use commands::cgi_session;
