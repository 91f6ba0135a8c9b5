//! [`Ledger`]: what one process has done, kept outside the sessions. A line before each operation and
//! another after it tell what was under way when the process was killed.

use serde::{Deserialize, Serialize};
use testkit::prelude::*;

/// What a process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) enum Operation {
    /// Creates a session for a new counter, which holds 0.
    Begin,
    /// Counts to this number.
    Count,
    /// Counts to this number, and gives the session a new id.
    Regenerate,
    /// The same, while the old id still shows the session as it was.
    Replace,
    /// Destroys the session, whose counter holds this number.
    Destroy,
    /// The session of a counter is now called so.
    Name,
    /// Counts in a session that any clean-up may delete.
    Brief,
    /// Has created a session where there is a cap, which was not evicted while it was in use.
    Crowd,
    /// Has read so many sessions without a lock.
    Read,
    /// Has deleted so many expired sessions.
    Sweep,
    /// Was told that the store cannot answer.
    Refused,
}

/// How far an operation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Step {
    Begun,
    Done,
}

/// One line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Line {
    pub(super) step: Step,
    pub(super) operation: Operation,
    pub(super) counter: u64,
    pub(super) value: u64,
}

/// The ledger of one process, open for appending.
pub(super) struct Ledger(File);

impl Ledger {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(Ledger(file))
    }

    pub(super) fn begins(&mut self, what: Operation, counter: u64, value: u64) -> io::Result<()> {
        self.write(Step::Begun, what, counter, value)
    }

    pub(super) fn has_done(&mut self, what: Operation, counter: u64, value: u64) -> io::Result<()> {
        self.write(Step::Done, what, counter, value)
    }

    fn write(&mut self, step: Step, what: Operation, counter: u64, value: u64) -> io::Result<()> {
        let line = Line {
            step,
            operation: what,
            counter,
            value,
        };
        let text = serde_json::to_string(&line)? + "\n";
        self.0.write_all(text.as_bytes())
    }
}

/// The lines of a ledger. A process that is killed may leave its last one unfinished: what that says
/// is not done.
pub(super) fn lines(text: &[u8]) -> impl Iterator<Item = Option<Line>> + '_ {
    let whole = text.split_inclusive(|byte| *byte == b'\n');
    let whole = whole.filter(|line| line.ends_with(b"\n"));
    whole.map(|line| serde_json::from_slice(line).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ledger_reads_back_what_it_wrote_but_for_a_line_cut_off() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("ledger");
        let mut ledger = Ledger::open(&path).unwrap();
        ledger.begins(Operation::Begin, 1, u64::MAX).unwrap();
        ledger.has_done(Operation::Count, u64::MAX, 2).unwrap();
        let mut text = std::fs::read(path).unwrap();
        let read = |text: &[u8]| -> Vec<Line> { lines(text).map(Option::unwrap).collect() };
        let expected = Line {
            step: Step::Done,
            operation: Operation::Count,
            counter: u64::MAX,
            value: 2,
        };
        assert_eq!(read(&text)[1], expected);
        text.truncate(text.len() - 1);
        assert_eq!(read(&text).len(), 1);
    }
}
