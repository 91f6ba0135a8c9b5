//! Stores that are broken on purpose. The storm must notice each, for the right reason, and nothing in
//! the one that is not broken.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{self, Command, ExitCode};
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use cgi_session::{Config, Result, SessionManager};
use cgi_session_tools::storm::{Kind, Opened, Outcome, Storm, Subject, TIMEOUT, Task};
use tempfile::TempDir;

use crate::broken::{BrokenStore, Fault};

const FAULT: &str = "STORM_FAULT";

/// A broken protocol may get away with it for some time, but not for so long.
const LONGEST: Duration = Duration::from_secs(60);

struct Broken(Fault);

impl Subject for Broken {
    fn open(&self, directory: &Path) -> Result<Opened> {
        let config = Config::new()
            .set("storageFileDir", directory)?
            .set("timeout", format!("{}s", TIMEOUT.as_secs()))?;
        let store = || BrokenStore::open(self.0, directory);
        Ok(Opened {
            manager: SessionManager::with_store(config, store())?,
            store: Box::new(store()),
        })
    }

    fn is_of_empty_store(&self, name: &str) -> bool {
        // Whoever is killed leaves it, and the next one takes it: a fault, but another one.
        name.ends_with(".lock")
    }
}

/// A process of a storm: of no use when it runs as a test.
#[test]
fn a_process() {
    let Some(task) = Task::find() else {
        return;
    };
    let fault = env::var(FAULT).unwrap();
    let code = task.run(&Broken(Fault::parse(&fault).unwrap()));
    // Not by a panic, whose words would be taken for a complaint.
    process::exit(i32::from(code != ExitCode::SUCCESS));
}

fn storm(fault: Fault, duration: Duration) -> Outcome {
    let place = place();
    let command = || {
        let mut command = Command::new(env::current_exe().unwrap());
        command.args(["controls::a_process", "--exact", "--nocapture"]);
        command.arg("--test-threads=1");
        command.env(FAULT, format!("{fault:?}"));
        command
    };
    let storm = Storm {
        place: place.path(),
        subject: &Broken(fault),
        command: &command,
        duration,
        seed: fastrand::u64(..),
        signal: &AtomicUsize::new(0),
    };
    storm.run(&|_| ()).unwrap()
}

/// In memory, where there is such a place: these stores sync much.
fn place() -> TempDir {
    let memory = PathBuf::from("/dev/shm");
    let place = tempfile::tempdir_in(memory);
    place.unwrap_or_else(|_| tempfile::tempdir().unwrap())
}

/// The storm ends early, because a promise of one of these kinds is broken.
#[track_caller]
fn is_noticed(fault: Fault, kinds: &[Kind]) {
    let outcome = storm(fault, LONGEST);
    let mut violations = outcome.violations.iter();
    assert!(
        violations.any(|violation| kinds.contains(&violation.kind)),
        "{outcome:#?}"
    );
    eprintln!("{fault:?}: {outcome:#?}");
}

#[test]
fn a_store_without_a_lock_loses_updates() {
    is_noticed(Fault::NoLock, &[Kind::Lost, Kind::Doubled, Kind::Stale]);
}

#[test]
fn a_rename_without_a_look_at_the_link_loses_updates() {
    is_noticed(
        Fault::NoLinkCheck,
        &[Kind::Lost, Kind::Doubled, Kind::Stale],
    );
}

#[test]
fn a_lock_file_that_is_deleted_after_use_loses_updates() {
    is_noticed(
        Fault::LockFileRemoved,
        &[Kind::Lost, Kind::Doubled, Kind::Stale],
    );
}

#[test]
fn a_record_written_in_place_is_torn() {
    let outcome = storm(Fault::TruncateAndWrite, LONGEST);
    let violations = outcome.violations.iter().map(ToString::to_string);
    let cut_off = |line: String| line.contains("cannot load") && line.contains("EOF");
    assert!(
        violations.map(cut_off).any(|is_torn| is_torn),
        "{outcome:#?}"
    );
    eprintln!("{outcome:#?}");
}

#[test]
fn a_commit_that_makes_the_record_again_resurrects_it() {
    is_noticed(Fault::Resurrect, &[Kind::Resurrected]);
}

#[test]
fn a_clean_up_without_the_lock_deletes_a_session_in_use() {
    is_noticed(Fault::SweepWithoutLock, &[Kind::Deleted]);
}

#[test]
fn temporary_files_that_nobody_sweeps_are_left_behind() {
    // Nothing else is wrong with it, so that the storm goes on to its end.
    let outcome = storm(Fault::LeaveTemporary, Duration::from_secs(4));
    let mut violations = outcome.violations.iter();
    assert!(
        violations.all(|violation| violation.kind == Kind::Left),
        "{outcome:#?}"
    );
    assert!(!outcome.violations.is_empty(), "{outcome:#?}");
}

#[test]
fn nothing_is_noticed_in_a_store_that_is_not_broken() {
    let outcome = storm(Fault::Nothing, Duration::from_secs(4));
    assert!(outcome.violations.is_empty(), "{outcome:#?}");
    assert!(outcome.increments > 0 && outcome.killed > 0, "{outcome:#?}");
}
