//! What a test leaves out is said where it is seen: at once, and in a list at the end.
#![allow(dead_code, reason = "every test program uses a part of it")]

use std::env;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::process::parent_id;
use std::path::PathBuf;
use std::thread;

/// Says that this test leaves something out, and why.
pub(crate) fn skip(reason: &str) {
    let test = thread::current().name().unwrap_or("?").to_owned();
    // Not by eprintln!, which the harness keeps to itself while the test passes.
    let _ = writeln!(io::stderr(), "skipped: {reason} ({test})");
    let mut list = File::options()
        .create(true)
        .append(true)
        .open(list())
        .unwrap();
    // In one write, because other test programs may write, too.
    list.write_all(format!("{reason}\t{test}\n").as_bytes())
        .unwrap();
}

/// Whether a program is installed. If not, the test says so and passes, except in CI, where nothing may be
/// left out that could be installed.
#[track_caller]
pub(crate) fn is_installed(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .any(|directory| directory.join(program).is_file());
    if !found {
        not_installed(program);
    }
    found
}

/// Says that something is not installed; fails in CI.
#[track_caller]
pub(crate) fn not_installed(what: &str) {
    let in_ci = env::var_os("CI").is_some_and(|value| value == "true");
    assert!(!in_ci, "{what} is not installed");
    skip(&format!("{what} not installed"));
}

/// What was left out since cargo started this test program and those before it.
pub(crate) fn all() -> String {
    let Ok(list) = fs::read_to_string(list()) else {
        return String::new();
    };
    let mut lines: Vec<_> = list.lines().collect();
    lines.sort_unstable();
    lines.dedup();
    let line = |line: &&str| {
        let (reason, test) = line.split_once('\t').unwrap_or((line, ""));
        format!("  {reason}: {test}\n")
    };
    let lines: String = lines.iter().map(line).collect();
    format!("\nLeft out:\n{lines}")
}

/// Beside the test programs, one list for each run of cargo.
fn list() -> PathBuf {
    let programs = env::current_exe().unwrap();
    programs.with_file_name(format!("skipped-{}", parent_id()))
}
