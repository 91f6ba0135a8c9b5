//! A progress bar for whoever waits at a terminal.

use std::io::{self, IsTerminal as _};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A run that ends sooner needs no bar.
const PATIENCE: Duration = Duration::from_secs(1);
const LISTING: &str = "{human_pos} sessions found";
const BRINGING: &str = "[{wide_bar}] {human_pos}/{human_len} sessions, {eta} left";

/// Shows how far a run has come; nothing at all where stderr is no terminal.
pub(super) struct Progress {
    bar: Option<ProgressBar>,
    started: Instant,
}

impl Progress {
    pub(super) fn begin() -> Self {
        let bar = io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
            set_style(&bar, LISTING);
            bar
        });
        let started = Instant::now();
        Progress { bar, started }
    }

    /// So many sessions of so many; the number of all is not known before they are listed.
    pub(super) fn note(&self, done: u64, total: Option<u64>) {
        let Some(bar) = &self.bar else {
            return;
        };
        if bar.is_hidden() && self.started.elapsed() >= PATIENCE {
            bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        if total.is_some() && bar.length() != total {
            set_style(bar, BRINGING);
            bar.set_length(total.unwrap_or_default());
            bar.reset_eta();
        }
        bar.set_position(done);
    }

    /// Takes the bar away again.
    pub(super) fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn set_style(bar: &ProgressBar, template: &str) {
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
}
