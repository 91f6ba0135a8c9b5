//! From the web server to a handler, and back: CGI, and FastCGI on Linux.

#[cfg(all(feature = "dlmalloc", target_env = "musl"))]
mod allocator;
mod cgi;
mod error_log;
#[cfg(target_os = "linux")]
pub(crate) mod fastcgi;
#[cfg(all(fuzzing, target_os = "linux"))]
pub mod fuzzing;
#[cfg_attr(
    not(target_os = "linux"),
    expect(dead_code, reason = "responders run on Linux")
)]
mod limits;
mod program;
mod runner;

pub use program::{Program, run};
