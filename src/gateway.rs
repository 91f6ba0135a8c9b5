//! From the web server to a handler, and back: CGI, and FastCGI on Linux.

#[cfg(all(feature = "dlmalloc", target_env = "musl"))]
mod allocator;
mod c_main;
mod cgi;
mod client;
mod error_log;
mod error_page;
#[cfg(all(target_os = "linux", feature = "fastcgi"))]
pub(crate) mod fastcgi;
#[cfg(all(fuzzing, target_os = "linux", feature = "fastcgi"))]
pub mod fuzzing;
#[cfg_attr(
    not(all(target_os = "linux", feature = "fastcgi")),
    expect(dead_code, reason = "responders run on Linux")
)]
mod limits;
mod pace;
mod program;
mod runner;

pub use c_main::start_by_c;
pub use client::Client;
pub use error_log::report_everything;
pub use error_page::ErrorPage;
pub use program::{Program, run};
