//! Programs of this workspace, built as the profile `release` says.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Outcome;

/// For programs that are one file to copy.
pub(crate) const STATIC: &str = "x86_64-unknown-linux-musl";

/// Whether the standard library for static programs is installed.
pub(crate) fn can_be_static() -> Outcome<bool> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let mut ask = Command::new(rustc);
    ask.args(["--print", "target-libdir", "--target", STATIC]);
    let library = String::from_utf8(ask.output()?.stdout)?;
    Ok(Path::new(library.trim()).is_dir())
}

/// Builds what the arguments name, and returns the directory that it then lies in.
pub(crate) fn release(what: &str, target: Option<&str>) -> Outcome<PathBuf> {
    let mut build = cargo(what);
    build.arg("--target-dir").arg(target_directory());
    if let Some(target) = target {
        build.args(["--target", target]);
    }
    if !build.status()?.success() {
        return Err(format!("cargo build {what} fails").into());
    }
    let target = target_directory().join(target.unwrap_or_default());
    Ok(target.join("release"))
}

/// A release build of what the arguments name.
pub(crate) fn cargo(what: &str) -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(env!("CARGO_MANIFEST_DIR"));
    cargo.args(["build", "--quiet", "--release"]);
    cargo.args(what.split(' '));
    cargo
}

/// The directory that the benchmark itself was built in.
pub(crate) fn target_directory() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("")
}
