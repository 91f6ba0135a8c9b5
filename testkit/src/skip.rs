//! What a test leaves out is said where it is seen: at once, and in a list at the end.
use std::env;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::process::parent_id;
use std::path::PathBuf;
use std::thread;

/// Says that this test leaves something out, and why.
pub fn skip(reason: &str) {
    let test = thread::current().name().unwrap_or("?").to_owned();
    // Not by eprintln!, which the harness keeps to itself while the test passes.
    let _ = writeln!(io::stderr(), "skipped: {reason} ({test})");
    let run = parent_id();
    let before = fs::read_to_string(list()).unwrap_or_default();
    let is_of_this_run = before.starts_with(&format!("{run}\t"));
    let mut options = File::options();
    let options = options.create(true).append(is_of_this_run);
    let options = options.write(!is_of_this_run).truncate(!is_of_this_run);
    // In one write, because other test programs may write, too.
    let line = format!("{run}\t{reason}\t{test}\n");
    options
        .open(list())
        .unwrap()
        .write_all(line.as_bytes())
        .unwrap();
}

/// Whether a program is installed. If not, the test says so and passes, except in CI, where nothing may be
/// left out that could be installed.
#[track_caller]
pub fn is_installed(program: &str) -> bool {
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
pub fn not_installed(what: &str) {
    let in_ci = env::var_os("CI").is_some_and(|value| value == "true");
    assert!(!in_ci, "{what} is not installed");
    skip(&format!("{what} not installed"));
}

/// What was left out since cargo started this test program and those before it.
pub fn all() -> String {
    let list = fs::read_to_string(list()).unwrap_or_default();
    let of_this_run = |line| str::strip_prefix(line, &format!("{}\t", parent_id()));
    let mut lines: Vec<_> = list.lines().filter_map(of_this_run).collect();
    if lines.is_empty() {
        return String::new();
    }
    lines.sort_unstable();
    lines.dedup();
    let lines: Vec<_> = lines.iter().map(|line| line.replace('\t', ": ")).collect();
    format!("\nLeft out:\n  {}\n", lines.join("\n  "))
}

/// Beside the test programs; each line begins with the number of the cargo that started them.
fn list() -> PathBuf {
    env::current_exe().unwrap().with_file_name("skipped")
}
