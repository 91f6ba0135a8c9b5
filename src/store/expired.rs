//! Expired rows of a table, in whatever database it is: a clean-up takes them some at a time.

use std::time::SystemTime;

use super::{Sweep, SweepEvent, SweepReport, reading};
use crate::error::Result;

/// So many go in one transaction.
pub(super) const BATCH: u64 = 100;

/// An expired row: no more of it is read than a report needs.
pub(super) struct Candidate {
    pub(super) name: String,
    pub(super) end: u64,
    pub(super) used: u64,
    pub(super) bytes: u64,
}

impl Candidate {
    pub(super) fn note_deleted(
        &self,
        sweep: &Sweep<'_>,
        now: SystemTime,
        report: &mut SweepReport,
    ) {
        report.deleted += 1;
        report.deleted_bytes += self.bytes;
        if let Some(observer) = sweep.observer {
            let (age, reason) = reading::farewell(self.used, self.end, now);
            observer(SweepEvent::Deleted {
                name: &self.name,
                age,
                bytes: self.bytes,
                reason,
            });
        }
    }
}

/// A table as a clean-up goes through it.
pub(super) trait Table {
    /// The next [`BATCH`] expired rows behind this one, the longest expired first.
    fn expired_after(&mut self, end: u64, name: &str) -> Result<Vec<Candidate>>;

    fn count_live(&mut self) -> Result<u64>;

    /// Deletes those rows that nobody uses, in one transaction, and notes it in the report.
    fn delete(&mut self, batch: Vec<Candidate>, report: &mut SweepReport) -> Result<()>;
}

/// Deletes what has expired, within the limits of a clean-up.
pub(super) fn delete_all(
    table: &mut impl Table,
    sweep: &Sweep<'_>,
    report: &mut SweepReport,
) -> Result<()> {
    let clock = sweep.clock();
    let (mut end, mut name) = (0, String::new());
    while !report.stopped_early {
        let batch = table.expired_after(end, &name)?;
        let Some(last) = batch.last() else {
            report.live = table.count_live()?;
            report.examined += report.live;
            return Ok(());
        };
        (end, name) = (last.end, last.name.clone());
        if clock.is_over() || sweep.max_files.is_some_and(|max| report.deleted >= max) {
            report.stopped_early = true;
            return Ok(());
        }
        let examined = report.examined;
        table.delete(batch, report)?;
        if let Some(observer) = sweep.observer {
            observer(SweepEvent::Examined(report.examined - examined));
        }
    }
    Ok(())
}

pub(super) fn length<T>(rows: &[T]) -> u64 {
    u64::try_from(rows.len()).unwrap_or(u64::MAX)
}
