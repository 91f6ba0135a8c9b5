//! What tests, campaigns and benchmarks share: real programs, servers and engines, clients of theirs, and
//! stores that are broken on purpose.
//!
//! A failure panics at the caller's line, as in a test.

/// The examples in documents, which have to compile.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
#[doc = include_str!("../../docs/guide.md")]
#[doc = include_str!("../../docs/moving-from-php.md")]
pub struct Documents;

pub mod again;
pub mod apache;
pub mod broken;
pub mod caddy;
pub mod certificates;
pub mod client;
pub mod counting;
pub mod database;
pub mod database_urls;
pub mod disk;
pub mod engines;
pub mod fastcgi;
pub mod guarded;
pub mod haproxy;
pub mod holding;
pub mod lighttpd;
pub mod machine;
pub mod mysql;
pub mod nginx;
pub mod outside;
pub mod pgbouncer;
pub mod postgres;
pub mod prelude;
pub mod program;
pub mod redis;
pub mod redis_cluster;
pub mod redis_sentinel;
pub mod responder;
pub mod server;
pub mod servers;
pub mod sessions;
pub mod site;
pub mod skip;
pub mod stores;
pub mod tools;
pub mod words;

use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

pub use again::{again, is_alone, kill_after};
pub use outside::{DEADLINE, is_root, wait_until};
pub use skip::{is_installed, not_installed, skip};
pub use words::{Words, holds};

/// A built example program.
pub fn example(name: &str) -> PathBuf {
    let program = profile_directory().join("examples").join(name);
    build_if_missing(&program, &["--example", name]);
    program
}

/// A built program of the package `cgi-session-tools`.
pub fn tool(name: &str) -> PathBuf {
    program_of("cgi-session-tools", name)
}

/// A built program of a package.
pub fn program_of(package: &str, name: &str) -> PathBuf {
    let program = profile_directory().join(name);
    build_if_missing(&program, &["--package", package, "--bin", name]);
    program
}

/// `cargo test` builds every program; `cargo test --test cgi` does not.
fn build_if_missing(program: &Path, what: &[&str]) {
    if program.is_file() {
        return;
    }
    let seen = env::var_os("PROGRAMS");
    assert_eq!(seen, None, "{} is missing", program.display());
    let mut build = Command::new(env!("CARGO"));
    build.arg("build").args(what);
    match profile_directory().file_name().and_then(OsStr::to_str) {
        Some("debug") | None => {}
        Some(profile) => {
            build.args(["--profile", profile]);
        }
    }
    let outcome = build.current_dir(repository("")).status();
    assert!(
        outcome.unwrap().success() && program.is_file(),
        "{} is not built: run `cargo build --workspace --bins --examples`",
        program.display()
    );
}

/// `target/debug`, or wherever this program lies; `PROGRAMS` names another, such as that of static programs.
pub fn profile_directory() -> PathBuf {
    if let Some(programs) = env::var_os("PROGRAMS") {
        return PathBuf::from(programs);
    }
    let mut directory = env::current_exe().unwrap();
    directory.pop();
    if directory.ends_with("deps") || directory.ends_with("examples") {
        directory.pop();
    }
    directory
}

/// A file or directory of the repository.
pub fn repository(path: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    root.join(path)
}

/// Copies a file or directory.
///
/// In a process of its own: a program that this process writes cannot be executed while another
/// thread's child, not yet a program of its own, has a copy of the descriptor (ETXTBSY).
#[track_caller]
pub fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-R").arg(from).arg(to).status();
    let is_it = copied.unwrap().success();
    assert!(is_it, "cannot copy {} to {}", from.display(), to.display());
}

/// Whether this process may do what only root may. If not, a test that must do it says so.
#[track_caller]
pub fn may_act_as_root() -> bool {
    if !is_root() {
        skip("not running as root");
    }
    is_root()
}
