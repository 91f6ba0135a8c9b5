//! The examples inside this binary, each run by a process of its own.
#![expect(
    dead_code,
    reason = "an example's main is for the example as a program of its own"
)]
#![expect(
    clippy::duplicate_mod,
    reason = "each example brings the frame of its pages with it"
)]

use std::env;
use std::process::ExitCode;

use cgi_session_tools::report;

#[path = "../../../examples/older/begin.rs"]
mod begin;
#[path = "../../../examples/older/cart.rs"]
mod cart;
#[path = "../../../examples/counter.rs"]
mod counter;
#[path = "../../../examples/features.rs"]
mod features;
#[path = "../../../examples/older/follow.rs"]
mod follow;
#[path = "../../../examples/older/login.rs"]
mod login;
#[path = "../../../examples/older/lookup.rs"]
mod lookup;
#[path = "../../../examples/older/visit.rs"]
mod visit;

/// Names the example that a process of this binary shall be. No header can set it: those are all
/// called HTTP_*.
pub(crate) const VARIABLE: &str = "_CGI_SESSION_EXAMPLE";

/// The examples by the names that they have under /cgi-bin/.
pub(crate) const NAMES: [&str; 8] = [
    "begin", "cart", "counter", "features", "follow", "login", "lookup", "visit",
];

/// Answers one request as an example, if the server started this process for that.
pub(crate) fn run_example() -> Option<ExitCode> {
    let name = env::var_os(VARIABLE)?;
    #[cfg(target_os = "linux")]
    end_with_the_server();
    let code = match name.to_str() {
        Some("begin") => cgi_session::run(begin::begin),
        Some("cart") => cgi_session::run(cart::cart),
        Some("counter") => cgi_session::run(counter::counter),
        Some("features") => cgi_session::run(features::features),
        Some("follow") => cgi_session::run(follow::follow),
        Some("login") => cgi_session::run(login::login),
        Some("lookup") => cgi_session::run(lookup::lookup),
        Some("visit") => cgi_session::run(visit::visit),
        _ => {
            report::error(&format!(
                "{} is not the name of an example",
                name.to_string_lossy()
            ));
            ExitCode::from(2)
        }
    };
    Some(code)
}

/// A responder stays until it is told to end; a server that was killed tells none of them.
#[cfg(target_os = "linux")]
fn end_with_the_server() {
    use rustix::process::{Signal, set_parent_process_death_signal};
    if let Err(errno) = set_parent_process_death_signal(Some(Signal::TERM)) {
        report::error(&format!("cannot ask to end with the server: {errno}"));
    }
}
