//! What a start costs, beyond what `cargo bench --bench floor` measures.

use nix::sys::ptrace::{self, Options};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use testkit::prelude::*;

/// What the kernel maps at one page fault in a file that is in memory.
const WINDOW: u64 = 64 << 10;
/// Where no static program ends yet; the kernel's own code lies above.
const ELSEWHERE: u64 = 1 << 32;

/// Four, and one or two for what is not ordered. Without an order nearly each of the 19 that there are is entered for something.
#[test]
#[expect(clippy::zombie_processes, reason = "waitpid waits for it")]
#[ignore = "for programs built as `.cargo/config.toml` says; PROGRAMS names their directory"]
fn the_code_of_a_request_lies_in_few_windows() {
    let site = Site::new();
    let first = Cgi::new("counter", &site).run();
    let request = Cgi::new("counter", &site).visitor(&first.id());
    let mut command = request.by_shell(r#"read -r line; exec "$0""#);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let pid = Pid::from_raw(child.id().try_into().unwrap());
    ptrace::seize(
        pid,
        Options::PTRACE_O_TRACEEXEC | Options::PTRACE_O_EXITKILL,
    )
    .unwrap();
    child.stdin.take().unwrap().write_all(b"\n").unwrap();
    let mut windows = BTreeSet::new();
    while !matches!(waitpid(pid, None).unwrap(), WaitStatus::Exited(..)) {
        windows.insert(ptrace::getregs(pid).unwrap().rip / WINDOW);
        ptrace::step(pid, None).unwrap();
    }
    windows.retain(|window| *window < ELSEWHERE / WINDOW);
    assert!((2..=7).contains(&windows.len()), "{windows:x?}");
}
