//! [`judge`]: whether everything stayed level and nothing went wrong.

use super::gauge::Sample;
use super::run::Outcome;

/// A responder may take so much more memory at the end than in the first half.
const MEMORY_KIB: u64 = 2048;
/// The same of a short soak, in which its threads still come to their first large request: each has a heap of its
/// own, which keeps what that has taken.
const MEMORY_KIB_EARLY: u64 = 16 << 10;
/// Descriptors of connections come and go.
const DESCRIPTORS: u64 = 24;
/// Sessions of visitors who never came back are deleted by clean-ups, which come now and then.
const RECORDS: u64 = 300;

/// A name, what is measured, and how much it may rise.
type Measure = (&'static str, fn(&Sample) -> u64, u64);

/// Every reason why a soak has failed.
pub(crate) fn judge(outcome: &Outcome, is_long: bool) -> Vec<String> {
    let mut reasons = outcome.wrong.1.clone();
    if outcome.wrong.0 > reasons.len() {
        reasons.push(format!("{} faults in all", outcome.wrong.0));
    }
    let memory = [MEMORY_KIB_EARLY, MEMORY_KIB][usize::from(is_long)];
    let measures: [Measure; 5] = [
        ("memory in KiB", |sample| sample.memory_kib, memory),
        ("descriptors", |sample| sample.descriptors, DESCRIPTORS),
        ("threads", |sample| sample.threads, 4),
        ("session files", |sample| sample.records, RECORDS),
        ("temporary files", |sample| sample.temporary, 50),
    ];
    for (name, measure, tolerance) in measures {
        let (early, late) = quarters(&outcome.samples, measure);
        if late > early + tolerance.max(early / 20) {
            reasons.push(format!("{name} rose from {early} to {late}"));
        }
    }
    if outcome.samples.len() < 8 {
        reasons.push(format!("only {} samples", outcome.samples.len()));
    }
    reasons
}

/// The medians of the second quarter and of the last: in the first everything warms up.
fn quarters(samples: &[Sample], measure: fn(&Sample) -> u64) -> (u64, u64) {
    let quarter = samples.len() / 4;
    let median = |part: &[Sample]| {
        let mut values: Vec<u64> = part.iter().map(measure).collect();
        values.sort_unstable();
        values.get(values.len() / 2).copied().unwrap_or_default()
    };
    let (early, late) = (quarter..2 * quarter, samples.len() - quarter..);
    (median(&samples[early]), median(&samples[late]))
}
