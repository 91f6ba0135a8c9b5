//! `cgi-session-cleanup`: deletes expired sessions, for cron.

mod arguments;
mod each;
mod listing;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use cgi_session::{
    Config, Error, Result, SessionDigest, SessionManager, Stored, Sweep, SweepEvent,
};
use indicatif::HumanCount;
use serde_json::json;

use crate::location::Location;
use crate::progress::Progress;
use crate::report::{self, Ended};
use crate::signals::Signals;
use crate::{owner, private, sessions};
pub(crate) use arguments::Arguments;
use arguments::Program;
use each::Each;
use listing::Listing;

/// How much longer the lock of a session is held than its program may run.
const EACH_LEASE: Duration = Duration::from_secs(15);

/// The program `cgi-session-cleanup`.
#[must_use]
pub fn cgi_session_cleanup() -> ExitCode {
    let Program { config, arguments } = report::command_line();
    cgi_session::report_everything();
    report::status_after(&clean_up(&arguments, config.as_deref()))
}

/// The clean-up of either program.
pub(crate) fn clean_up(
    arguments: &Arguments,
    file: Option<&Path>,
) -> std::result::Result<(), Ended> {
    let config = configure(arguments, file)?;
    owner::act_as_owner(&config)?;
    let manager = sessions::open(config)?;
    refuse_others(&manager)?;
    run(arguments, &manager)
}

fn configure(arguments: &Arguments, file: Option<&Path>) -> Result<Config> {
    let settings = match &arguments.storage_file_dir {
        Some(directory) => &[
            ("storageType", "file".as_ref()),
            ("storageFileDir", directory.as_os_str()),
        ][..],
        None => &[],
    };
    let config = for_each(arguments, Config::find_with(file, settings)?)?;
    let location = Location::of(&config);
    // The first session makes a directory, but not the one above it: nothing can ever be stored there.
    let parent = location.path().map(owner::directory_of);
    if let Some(parent) = parent.filter(|it| matches!(it.try_exists(), Ok(false))) {
        let parent = parent.display();
        return Err(Error::Config(format!(
            "there are no sessions in {location}: {parent} does not exist"
        )));
    }
    Ok(config)
}

/// Refuses a directory that holds other things and no session, in which a clean-up would leave a file of its own.
fn refuse_others(manager: &SessionManager) -> Result<()> {
    let directory = files_of(manager.config()).filter(|path| !path.join(".gc").exists());
    if !directory.is_some_and(Path::is_dir) {
        return Ok(());
    }
    let found = manager.delete_expired(&Sweep::new().dry_run(true))?;
    let of_ours = found.live + found.deleted + found.busy + found.kept;
    let of_ours = of_ours + found.temporary + found.set_aside;
    if found.foreign == 0 || of_ours > 0 || !found.failures.is_empty() {
        return Ok(());
    }
    let location = Location::of(manager.config());
    Err(Error::Config(format!(
        "{location} holds no session, but other things; name the directory of the sessions"
    )))
}

/// A program may hold the lock of its session for as long as it is given.
fn for_each(arguments: &Arguments, config: Config) -> Result<Config> {
    let least = arguments.each_timeout + EACH_LEASE;
    if arguments.each.is_none() || config.lock_lease() >= least {
        return Ok(config);
    }
    config.set("lockLease", format!("{}s", least.as_secs()))
}

fn run(arguments: &Arguments, manager: &SessionManager) -> std::result::Result<(), Ended> {
    let config = manager.config();
    if !arguments.dry_run {
        private::remove_left(&env::temp_dir(), private::START, usize::MAX);
    }
    let started = Instant::now();
    let listing = Listing::new(arguments.json);
    let progress = Progress::begin();
    let (examined, deleted) = (AtomicU64::new(0), AtomicU64::new(0));
    let total = Arc::new(AtomicU64::new(0));
    if let Some(directory) = files_of(config).filter(|_| progress.is_shown()) {
        count_meanwhile(directory.to_owned(), Arc::clone(&total));
    }
    let observer = |event: SweepEvent<'_>| {
        match event {
            SweepEvent::Examined(entries) => {
                examined.fetch_add(entries, Ordering::Relaxed);
            }
            SweepEvent::Deleted { .. } => {
                deleted.fetch_add(1, Ordering::Relaxed);
                if arguments.dry_run {
                    listing.note(event);
                }
            }
            _ => {}
        }
        let done = examined.load(Ordering::Relaxed);
        let total = Some(total.load(Ordering::Relaxed)).filter(|total| *total > 0);
        progress.note(done, total, || {
            let deleted = HumanCount(deleted.load(Ordering::Relaxed));
            let all = total.map_or(String::new(), |total| format!("/{}", HumanCount(total)));
            format!("{}{all}, {deleted} deleted", HumanCount(done))
        });
    };
    let stop = Arc::new(AtomicBool::new(false));
    let program = arguments.each.as_deref();
    let each = program.map(|program| Each::new(program, arguments, config, &stop));
    if let Some(problem) = each.as_ref().and_then(Each::problem) {
        return Err(Ended::saying(problem, report::USAGE));
    }
    let call = |session: &SessionDigest, stored: &Stored| {
        let each = each.as_ref();
        each.map_or(Ok(()), |each| each.call(session, stored))
    };
    let mut signals = None;
    let mut sweep = sweep(arguments).observer(&observer);
    if each.is_some() {
        // The program, which has a group of its own, is ended before this process.
        let caught = Signals::stopping(&stop);
        signals = Some(caught.map_err(|error| Error::io("cannot catch signals", "", error))?);
        sweep = sweep.each(&call).each_tries(arguments.each_tries);
        sweep = sweep.stop_when(&stop);
    }
    let swept = manager.delete_expired(&sweep);
    progress.end();
    let mut swept = swept?;
    let unusable = each.as_ref().and_then(Each::unusable);
    if let Some(reason) = unusable {
        // It is no failure of the session whose turn it was.
        swept.failures.retain(|line| !line.contains(reason));
        swept.failures.push(reason.to_owned());
    }
    for failure in &swept.failures {
        report::error(failure);
    }
    let (store, seconds) = (Location::of(config), started.elapsed().as_secs_f64());
    if arguments.json {
        let mut object = json!(swept);
        object["store"] = store.to_string().into();
        object["storageFileDir"] = config.get("storageFileDir").into();
        object["dryRun"] = arguments.dry_run.into();
        object["seconds"] = seconds.into();
        if arguments.dry_run {
            object["entries"] = listing.entries().into();
        }
        report::output_json(&object);
    } else if arguments.dry_run {
        report::output(&listing.total());
    } else if arguments.verbose {
        report::output(&listing::line(&swept, &store, seconds));
    }
    if unusable.is_some() {
        return Ended::with(report::USAGE.into());
    }
    Ended::if_interrupted(signals.map_or(0, |signals: Signals| signals.last()))?;
    if swept.already_running && arguments.fail_if_running {
        let line = format!("another clean-up of {store} is running");
        return Err(Ended::saying(&line, report::TRY_AGAIN));
    }
    Ended::unless(swept.failures.is_empty())
}

/// The directory whose entries can be counted meanwhile; a database is asked for no number.
fn files_of(config: &Config) -> Option<&Path> {
    let is_file = Location::of(config).kind() == "file";
    is_file.then(|| config.storage_file_dir().ok()).flatten()
}

/// How many entries there are is found out beside the run, which must not wait for its own bar.
fn count_meanwhile(directory: PathBuf, total: Arc<AtomicU64>) {
    let counter = thread::Builder::new()
        .spawn(move || total.store(entries(&directory, true), Ordering::Relaxed));
    // Without a thread the bar has no end, and that is all.
    drop(counter);
}

fn entries(directory: &Path, with_shards: bool) -> u64 {
    let Ok(listed) = fs::read_dir(directory) else {
        return 0;
    };
    let count = |entry: fs::DirEntry| {
        let is_shard = with_shards && entry.file_type().is_ok_and(|kind| kind.is_dir());
        1 + if is_shard {
            entries(&entry.path(), false)
        } else {
            0
        }
    };
    listed.flatten().map(count).sum()
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

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[test]
    fn a_lock_is_held_for_longer_than_the_program_of_each_may_run() {
        let lease = |arguments: &[&str]| {
            let given = ["cgi-session-cleanup"].iter().chain(arguments);
            let program = Program::try_parse_from(given).unwrap();
            let config = for_each(&program.arguments, Config::new()).unwrap();
            config.lock_lease().as_secs()
        };
        assert_eq!(lease(&[]), 60);
        assert_eq!(lease(&["--each", "/bin/true"]), 60);
        let long = ["--each", "/bin/true", "--each-timeout", "10m"];
        assert_eq!(lease(&long), 615);
    }
}
