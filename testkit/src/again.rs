//! A test program that runs one of its tests again, in a process of its own.

use crate::prelude::*;

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

/// Kills such a process when it has printed a line more than `lines` that begins with `word`, and a little later:
/// after `spins` turns of a loop. What follows the word in the last of its lines.
#[track_caller]
pub fn kill_after(command: &mut Command, word: &str, lines: usize, spins: u32) -> String {
    let spawned = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
    let mut child = Killed(spawned.unwrap());
    let said = BufReader::new(child.0.stdout.take().unwrap()).lines();
    let said = said.map_while(Result::ok);
    let mut said = said.filter_map(|line| Some(line.strip_prefix(word)?.to_owned()));
    let last = said.nth(lines).expect("a line");
    for _ in 0..spins {
        std::hint::spin_loop();
    }
    drop(child);
    said.last().unwrap_or(last)
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
