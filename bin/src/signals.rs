//! [`Signals`]: SIGHUP, SIGINT, SIGQUIT, SIGTERM and SIGUSR1 end a run early, and leave the process time to clean up.

use std::fs;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1};
use signal_hook::flag;

pub(crate) struct Signals(Arc<AtomicUsize>);

impl Signals {
    pub(crate) fn catch() -> io::Result<Self> {
        Signals::stopping(&Arc::default())
    }

    /// Catches them, and sets `stop` at the first.
    pub(crate) fn stopping(stop: &Arc<AtomicBool>) -> io::Result<Self> {
        let caught = Arc::new(AtomicUsize::new(0));
        for signal in not_ignored(&[SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1]) {
            let number = usize::try_from(signal).unwrap_or_default();
            flag::register_usize(signal, Arc::clone(&caught), number)?;
            flag::register(signal, Arc::clone(stop))?;
        }
        Ok(Signals(caught))
    }

    /// The last signal that was caught, or zero.
    pub(crate) fn last(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn any(&self) -> bool {
        self.last() != 0
    }
}

/// These signals, without SIGHUP where this process was started to ignore that, by nohup. A shell lets what it starts in
/// the background ignore others, too, which a program catches all the same.
pub(crate) fn not_ignored(signals: &[i32]) -> impl Iterator<Item = i32> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    let ignored = mask.unwrap_or_default();
    let caught = move |signal: &i32| *signal != SIGHUP || ignored >> (signal - 1) & 1 == 0;
    signals.iter().copied().filter(caught)
}
