//! The system calls of a child process, between two marks that it sets.

use testkit::prelude::*;

/// A path that never exists: looking at it is a mark in the trace.
const MARK: &str = "/no-such-place/mark-";

/// Sets a mark in the trace of this process.
pub(crate) fn mark(number: u32) {
    assert!(fs::metadata(format!("{MARK}{number}")).is_err());
}

/// What a process asked of the system.
pub(crate) struct Trace(Vec<String>);

impl Trace {
    /// Runs a command under strace, with these options; `None` where strace is missing.
    #[track_caller]
    pub(crate) fn of(command: &Command, options: &[&str]) -> Option<Self> {
        let out = tempfile::NamedTempFile::new().unwrap();
        let outcome = under_strace(command, options, out.path())?.output();
        let outcome = outcome.unwrap();
        let said = String::from_utf8_lossy(&outcome.stderr).into_owned();
        assert!(outcome.status.success(), "{}: {said}", outcome.status);
        let text = fs::read_to_string(out.path()).unwrap();
        Some(Trace(text.lines().map(str::to_owned).collect()))
    }

    /// The calls between two marks.
    #[track_caller]
    pub(crate) fn between(&self, first: u32, second: u32) -> &[String] {
        let at = |number| {
            let mark = format!("\"{MARK}{number}\"");
            let found = self.0.iter().position(|line| line.contains(&mark));
            found.unwrap_or_else(|| panic!("no mark {number} in {:#?}", self.0))
        };
        &self.0[at(first) + 1..at(second)]
    }

    pub(crate) fn all(&self) -> &[String] {
        &self.0
    }
}

/// The same command under strace, which writes to a file; `None` where strace is missing.
pub(crate) fn under_strace(command: &Command, options: &[&str], out: &Path) -> Option<Command> {
    if !is_installed("strace") {
        return None;
    }
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-o"]).arg(out).args(options);
    strace.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        strace.env(name, value.unwrap_or_default());
    }
    Some(strace)
}
