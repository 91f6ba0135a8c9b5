//! [`Progress`]: a bar on the terminal for a run that takes longer than a second.

use std::io::{self, IsTerminal as _};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A run that ends sooner needs no bar.
const HIDDEN_TIME: Duration = Duration::from_secs(1);
const WITH_TOTAL: &str = "[{wide_bar}] {msg}, {eta} left";

/// Shows how far a run has come; nothing at all where stderr is no terminal.
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    started: Instant,
}

impl Progress {
    /// Begins without a total.
    pub(crate) fn begin() -> Self {
        let bar = || {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
            set_style(&bar, "{msg}");
            bar
        };
        Progress {
            bar: io::stderr().is_terminal().then(bar),
            started: Instant::now(),
        }
    }

    pub(crate) fn is_shown(&self) -> bool {
        self.bar.is_some()
    }

    /// Notes how much of the total is done, if that is known, and the text beside the bar.
    pub(crate) fn note(&self, done: u64, total: Option<u64>, text: impl FnOnce() -> String) {
        let Some(bar) = &self.bar else {
            return;
        };
        if bar.is_hidden() && self.started.elapsed() >= HIDDEN_TIME {
            bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        if let Some(total) = total.filter(|total| bar.length() != Some(*total)) {
            set_style(bar, WITH_TOTAL);
            bar.set_length(total);
            bar.reset_eta();
        }
        bar.set_position(done);
        bar.set_message(text());
    }

    /// Removes the bar.
    pub(crate) fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn set_style(bar: &ProgressBar, template: &str) {
    // Each template is one of the constants above.
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
}
