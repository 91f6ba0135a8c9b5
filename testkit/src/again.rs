//! A test program that runs one of its tests again, in a process of its own.

use std::env;
use std::process::Command;

/// Set in a process that runs a single test.
const ALONE: &str = "TESTKIT_ALONE";

/// This test program again, which runs one test of `module` (`module_path!()`) alone.
pub fn again(module: &str, test: &str) -> Command {
    let (_, path) = module.split_once("::").unwrap_or_default();
    let name = [path, test].join("::");
    let mut command = Command::new(env::current_exe().unwrap());
    command.arg(name.trim_start_matches("::"));
    command.args(["--exact", "--nocapture", "--test-threads=1"]);
    command
}

/// Whether this process runs this test of `module` (`module_path!()`) only, and nothing else happens in it.
/// Elsewhere it starts such a process, which must pass.
#[track_caller]
pub fn is_alone(module: &str, test: &str) -> bool {
    if env::var_os(ALONE).is_some() {
        return true;
    }
    let output = again(module, test).env(ALONE, "1").output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let has_run = output.status.success() && said.contains("1 passed");
    assert!(has_run, "{said}");
    false
}
