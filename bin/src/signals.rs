//! [`Signals`]: SIGHUP, SIGINT, SIGQUIT, SIGTERM and SIGUSR1 end a run early, and leave the process time to clean up.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1};
use signal_hook::flag;

pub(crate) struct Signals(Arc<AtomicUsize>);

impl Signals {
    pub(crate) fn catch() -> io::Result<Self> {
        let caught = Arc::new(AtomicUsize::new(0));
        for signal in [SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1] {
            let number = usize::try_from(signal).unwrap_or_default();
            flag::register_usize(signal, Arc::clone(&caught), number)?;
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
