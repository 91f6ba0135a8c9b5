//! `cgi-session-cleanup`: deletes expired sessions, for cron.

mod arguments;
mod listing;
mod progress;

use std::env;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use cgi_session::{Config, Result, SessionManager, Sweep, SweepEvent, SweepReport};
use cgi_session_tools::location::Location;
use cgi_session_tools::{owner, private, report};
use clap::Parser as _;

use arguments::Arguments;
use listing::Listing;
use progress::Progress;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    report::show_warnings();
    let config = match configure(&arguments) {
        Ok(config) => config,
        Err(error) => return report::failure(&error),
    };
    if let Err(reason) = owner::act_as_owner(&config) {
        report::error(&reason);
        return ExitCode::from(report::FAILED);
    }
    match cgi_session_tools::stores::manager(config) {
        Ok(manager) => run(&arguments, &manager),
        Err(error) => report::failure(&error),
    }
}

fn configure(arguments: &Arguments) -> Result<Config> {
    let directory = arguments.directory()?;
    let settings = match &directory {
        Some(directory) => &[
            ("storageType", "file".as_ref()),
            ("storageFileDir", directory.as_os_str()),
        ][..],
        None => &[],
    };
    Config::find_with(arguments.config.as_deref(), settings)
}

fn run(arguments: &Arguments, manager: &SessionManager) -> ExitCode {
    if !arguments.dry_run {
        private::remove_left(&env::temp_dir(), private::START, usize::MAX);
    }
    let started = Instant::now();
    let listing = Listing::new(arguments.json);
    let progress = Progress::begin(files_of(manager.config()));
    let observer = |event: SweepEvent<'_>| {
        if arguments.dry_run {
            listing.note(event);
        }
        progress.note(event);
    };
    let swept = manager.delete_expired(&sweep(arguments).observer(&observer));
    progress.end();
    let swept = match swept {
        Ok(swept) => swept,
        Err(error) => return report::failure(&error),
    };
    for failure in &swept.failures {
        report::error(failure);
    }
    let summary = listing::Summary {
        config: manager.config(),
        report: &swept,
        elapsed: started.elapsed(),
    };
    if arguments.json {
        report::output(&summary.json(arguments.dry_run.then(|| listing.entries())));
    } else if arguments.dry_run {
        report::output(&listing.total());
    } else if arguments.verbose {
        report::output(&summary.line());
    }
    exit_code(arguments, manager, &swept)
}

/// The directory whose entries can be counted meanwhile; a database is asked for no number.
fn files_of(config: &Config) -> Option<&Path> {
    let is_file = Location::of(config).kind() == "file";
    is_file.then(|| config.storage_file_dir().ok()).flatten()
}

fn sweep(arguments: &Arguments) -> Sweep<'static> {
    let mut sweep = Sweep::new().dry_run(arguments.dry_run);
    if let Some(seconds) = arguments.max_seconds {
        sweep = sweep.max_time(Duration::from_secs(seconds));
    }
    if let Some(files) = arguments.max_files {
        sweep = sweep.max_files(files);
    }
    if let Some(time) = arguments.idle {
        sweep = sweep.idle(time);
    }
    sweep
}

fn exit_code(arguments: &Arguments, manager: &SessionManager, swept: &SweepReport) -> ExitCode {
    if swept.already_running && arguments.fail_if_running {
        let store = Location::of(manager.config());
        report::error(&format!("another clean-up of {store} is running"));
        return ExitCode::from(report::TRY_AGAIN);
    }
    if swept.failures.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(report::FAILED)
    }
}
