//! On what all this is measured.

use std::fs;

/// The system, the processor, and how many of it there are.
pub(crate) fn description() -> String {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    format!(
        "{} {} on {}, {}, {cores} cores",
        std::env::consts::OS,
        kernel.trim(),
        std::env::consts::ARCH,
        processor().unwrap_or_else(|| "processor unknown".to_owned()),
    )
}

fn processor() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}
