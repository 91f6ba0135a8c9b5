//! What the tests that start programs and servers have in common.
#![allow(
    dead_code,
    unused_imports,
    reason = "every test program uses a part of it"
)]

pub(crate) mod apache;
pub(crate) mod apache_fastcgi;
pub(crate) mod broken;
pub(crate) mod caddy;
pub(crate) mod certificates;
pub(crate) mod client;
pub(crate) mod counting;
pub(crate) mod disk;
pub(crate) mod lighttpd;
pub(crate) mod machine;
pub(crate) mod mysql;
pub(crate) mod nginx;
pub(crate) mod outside;
pub(crate) mod postgres;
pub(crate) mod program;
pub(crate) mod redis;
pub(crate) mod redis_cluster;
pub(crate) mod responder;
pub(crate) mod server;
pub(crate) mod servers;
pub(crate) mod site;
pub(crate) mod sources;

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

pub(crate) use outside::{DEADLINE, is_installed, is_root, not_installed, skip, wait_until};

/// A built example program.
pub(crate) fn example(name: &str) -> PathBuf {
    let program = profile_directory().join("examples").join(name);
    build_if_missing(&program, &["--example", name]);
    program
}

/// A built program of the package `cgi-session-tools`.
pub(crate) fn tool(name: &str) -> PathBuf {
    let program = profile_directory().join(name);
    build_if_missing(&program, &["--package", "cgi-session-tools", "--bin", name]);
    program
}

/// `cargo test` builds every program; `cargo test --test cgi` does not.
fn build_if_missing(program: &Path, what: &[&str]) {
    if program.is_file() {
        return;
    }
    assert_eq!(
        env::var_os("PROGRAMS"),
        None,
        "{} is missing",
        program.display()
    );
    let mut build = Command::new(env!("CARGO"));
    build.arg("build").args(what);
    if profile_directory().ends_with("release") {
        build.arg("--release");
    }
    let outcome = build.current_dir(env!("CARGO_MANIFEST_DIR")).status();
    assert!(
        outcome.unwrap().success() && program.is_file(),
        "{} is not built: run `cargo build --workspace --bins --examples`",
        program.display()
    );
}

/// `target/debug`, or wherever this test lies; `PROGRAMS` names another, such as that of static programs.
fn profile_directory() -> PathBuf {
    if let Some(programs) = env::var_os("PROGRAMS") {
        return PathBuf::from(programs);
    }
    let test = env::current_exe().unwrap();
    test.ancestors().nth(2).unwrap().to_owned()
}

/// A file or directory of the repository.
pub(crate) fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Copies a file or directory.
///
/// In a process of its own: a program that this process writes cannot be executed while another
/// thread's child, not yet a program of its own, has a copy of the descriptor (ETXTBSY).
#[track_caller]
pub(crate) fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-R").arg(from).arg(to).status();
    assert!(
        copied.unwrap().success(),
        "cannot copy {} to {}",
        from.display(),
        to.display()
    );
}

/// Whether this process may do what only root may. If not, a test that must do it says so.
#[track_caller]
pub(crate) fn may_act_as_root() -> bool {
    if !is_root() {
        skip("not running as root");
    }
    is_root()
}
