//! [`Ledger`]: what one process has done, kept outside the sessions. A line before each operation and
//! another after it tell what was under way when the process was killed.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;

/// What a process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
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

/// How far a operation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Begun,
    Done,
}

/// One line: 37 bytes, so that only the last one can be cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
        self.0.write_all(line.text().as_bytes())
    }
}

impl Operation {
    const ALL: [(u8, Operation); 11] = [
        (b'b', Operation::Begin),
        (b'c', Operation::Count),
        (b'r', Operation::Regenerate),
        (b'g', Operation::Replace),
        (b'd', Operation::Destroy),
        (b'n', Operation::Name),
        (b'i', Operation::Brief),
        (b'w', Operation::Crowd),
        (b'v', Operation::Read),
        (b's', Operation::Sweep),
        (b'x', Operation::Refused),
    ];

    fn letter(self) -> char {
        let mut all = Operation::ALL.iter();
        let known = all.find(|(_, operation)| *operation == self);
        known.map_or('?', |(letter, _)| char::from(*letter))
    }
}

impl Line {
    const LENGTH: usize = 37;

    fn text(self) -> String {
        let step = if self.step == Step::Done { '=' } else { '?' };
        let Line { counter, value, .. } = self;
        format!(
            "{step}{} {counter:016x} {value:016x}\n",
            self.operation.letter()
        )
    }

    fn parse(text: &[u8]) -> Option<Self> {
        let number = |digits: &[u8]| u64::from_str_radix(str::from_utf8(digits).ok()?, 16).ok();
        let step = match text.first()? {
            b'?' => Step::Begun,
            b'=' => Step::Done,
            _ => return None,
        };
        let letter = text.get(1)?;
        let mut all = Operation::ALL.into_iter();
        let (_, operation) = all.find(|(known, _)| known == letter)?;
        Some(Line {
            step,
            operation,
            counter: number(text.get(3..19)?)?,
            value: number(text.get(20..36)?)?,
        })
    }
}

/// The lines of a ledger. A process that is killed may leave its last one unfinished: what that says
/// is not done.
pub(super) fn lines(text: &[u8]) -> impl Iterator<Item = Option<Line>> + '_ {
    text.chunks_exact(Line::LENGTH).map(Line::parse)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ledger_reads_back_what_it_wrote_but_for_a_line_cut_off() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("ledger");
        let mut ledger = Ledger::open(&path).unwrap();
        for (_, operation) in Operation::ALL {
            ledger.begins(operation, 1, u64::MAX).unwrap();
            ledger.has_done(operation, u64::MAX, 2).unwrap();
        }
        let mut text = std::fs::read(path).unwrap();
        text.truncate(text.len() - 1);
        let read: Vec<Line> = lines(&text).map(Option::unwrap).collect();
        assert_eq!(read.len(), 2 * Operation::ALL.len() - 1);
        let expected = Line {
            step: Step::Done,
            operation: Operation::Begin,
            counter: u64::MAX,
            value: 2,
        };
        assert_eq!(read[1], expected);
        assert_eq!(read[2].operation, Operation::Count);
    }
}
