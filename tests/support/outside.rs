//! What lies outside of a test: programs that may be missing, and others that take their time.
#![allow(dead_code, reason = "every test program uses a part of it")]

use std::env;
use std::time::{Duration, Instant};

/// After this time something has gone wrong, however slow the machine is.
pub(crate) const DEADLINE: Duration = Duration::from_secs(120);

/// Whether a program that a test needs is installed. If not, the test says so and passes, except
/// in CI, where nothing may be left out.
#[track_caller]
pub(crate) fn is_installed(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .any(|directory| directory.join(program).is_file());
    if !found {
        let in_ci = env::var_os("CI").is_some_and(|value| value == "true");
        assert!(!in_ci, "{program} is not installed");
        eprintln!("skipped: {program} not installed");
    }
    found
}

/// Waits until `condition` holds.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < DEADLINE, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
