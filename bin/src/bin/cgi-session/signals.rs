//! [`Signals`]: Ctrl-C and SIGTERM end what a process is at, and not the process that must clear up after it.

use std::io;
use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

/// The last signal that was caught, or zero.
pub(crate) struct Signals(Arc<AtomicUsize>);

impl Signals {
    pub(crate) fn catch() -> io::Result<Self> {
        let caught = Arc::new(AtomicUsize::new(0));
        for signal in [SIGHUP, SIGINT, SIGTERM] {
            let number = usize::try_from(signal).unwrap_or_default();
            flag::register_usize(signal, Arc::clone(&caught), number)?;
        }
        Ok(Signals(caught))
    }

    pub(crate) fn caught(&self) -> &AtomicUsize {
        &self.0
    }

    pub(crate) fn any(&self) -> bool {
        self.0.load(Ordering::Relaxed) != 0
    }
}

/// Lets a process know that it should end.
pub(crate) fn pass_on(child: &Child) {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    if let Some(pid) = pid {
        // One that has ended needs no signal.
        let _ = kill_process(pid, Signal::TERM);
    }
}
