//! A progress bar for whoever waits at a terminal.

use std::fs;
use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use cgi_session::SweepEvent;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A run that ends sooner needs no bar.
const PATIENCE: Duration = Duration::from_secs(1);
const STYLE: &str = "[{wide_bar}] {human_pos}/{human_len}, {msg} deleted, {eta} left";

/// Shows how far a run has come; nothing at all where stderr is no terminal.
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    started: Instant,
    deleted: AtomicU64,
}

impl Progress {
    pub(crate) fn begin(directory: Option<&Path>) -> Self {
        let bar = io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
            if let Ok(style) = ProgressStyle::with_template(STYLE) {
                bar.set_style(style);
            }
            if let Some(directory) = directory {
                count_meanwhile(directory.to_owned(), bar.clone());
            }
            bar
        });
        Progress {
            bar,
            started: Instant::now(),
            deleted: AtomicU64::new(0),
        }
    }

    pub(crate) fn note(&self, event: SweepEvent<'_>) {
        let Some(bar) = &self.bar else {
            return;
        };
        match event {
            SweepEvent::Examined(entries) => {
                bar.inc(entries);
                if bar.is_hidden() && self.started.elapsed() >= PATIENCE {
                    bar.set_draw_target(ProgressDrawTarget::stderr());
                }
                bar.set_message(self.deleted.load(Ordering::Relaxed).to_string());
            }
            SweepEvent::Deleted { .. } => {
                self.deleted.fetch_add(1, Ordering::Relaxed);
            }
            _ => {}
        }
    }

    /// Takes the bar away again.
    pub(crate) fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// How many entries there are is found out beside the run: it must not wait for its own bar.
fn count_meanwhile(directory: PathBuf, bar: ProgressBar) {
    let counter = thread::Builder::new().spawn(move || bar.set_length(entries(&directory, true)));
    // Without a thread the bar has no end, and that is all.
    drop(counter);
}

fn entries(directory: &Path, with_shards: bool) -> u64 {
    let Ok(listed) = fs::read_dir(directory) else {
        return 0;
    };
    let count = |entry: fs::DirEntry| {
        let is_shard = entry.file_type().is_ok_and(|kind| kind.is_dir());
        let below = if is_shard && with_shards {
            entries(&entry.path(), false)
        } else {
            0
        };
        1 + below
    };
    listed.flatten().map(count).sum()
}
