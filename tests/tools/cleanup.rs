//! `cgi-session-cleanup`, as cron and administrators run it.

use testkit::disk::{self, Room};
use testkit::prelude::*;
use testkit::tools::{HOUR, SOMEBODY, Site, is_root, owner};
use testkit::tools::{set_age, set_mode};

#[test]
fn expired_sessions_go_and_fresh_ones_stay_and_nothing_is_said() {
    let site = Site::new();
    let (fresh, expired) = (site.session(), site.expired_session());
    site.cleanup("").exits_with(0).says_nothing();
    assert!(!expired.path.exists());
    let seen = site.read(&fresh).unwrap().get::<u64>("pageViews").unwrap();
    assert_eq!(seen, Some(7));
}

#[test]
fn a_directory_that_does_not_exist_is_nothing_to_do_and_is_not_made() {
    let site = Site::new();
    fs::remove_dir(&site.directory).unwrap();
    site.cleanup("").exits_with(0).says_nothing();
    assert!(!site.directory.exists());
    let report = site.cleanup("--json").exits_with(0).json();
    assert_eq!(report["deleted"], 0);
}

#[test]
fn a_session_lives_as_long_as_its_program_wants_unless_it_is_ended_on_purpose() {
    let site = Site::new();
    let patient = site.manager_with(&[("timeout", "1d")]);
    let begin = || site.session_by(&patient);
    let (fresh, used, held, of_an_hour) = (begin(), begin(), begin(), site.session());
    for stored in [&used, &held] {
        set_age(&stored.path, 2 * HOUR);
    }
    let holder = File::open(&held.path).unwrap();
    holder.lock().unwrap();
    let cleanup = |more: &str| {
        let cleaned = site.cleanup(&*format!("--json {more}"));
        cleaned.exits_with(0).json()
    };
    let numbers = |more: &str| {
        let report = cleanup(more);
        ["deleted", "live", "busy"].map(|key| report[key].as_u64().unwrap())
    };
    assert_eq!(numbers(""), [0, 3, 1]);
    // A use within a sixtieth of the day may not have been noted.
    assert_eq!(numbers("--idle 119m"), [0, 3, 1]);
    // Nor one within touchAfter.
    let mut command = testkit::tools::cleanup_program();
    command.env("CGI_SESSION_TOUCH_AFTER", "1h");
    command.arg("--storage-file-dir").arg(&site.directory);
    let kept = Finished::of(command.args(["--json", "--idle", "90m"]));
    assert_eq!(kept.exits_with(0).json()["deleted"], 0);
    let dry = cleanup("--idle 30m --dry-run");
    assert_eq!((&dry["deleted"], used.path.exists()), (&2.into(), true));
    assert_eq!(numbers("--idle 30m"), [1, 2, 1]);
    assert!(!used.path.exists() && held.path.exists());
    holder.unlock().unwrap();
    assert_eq!(numbers("--idle 30m"), [1, 2, 0]);
    assert!(fresh.path.exists() && of_an_hour.path.exists());
    for wrong in ["soon", "0"] {
        let refused = site.cleanup(["--idle", wrong]).exits_with(2);
        refused
            .complains("--idle")
            .complains("not a time")
            .lacks("timeout");
    }
}

#[test]
fn a_use_that_a_clock_ahead_has_noted_counts_as_one_of_now_where_idle_times_count() {
    let site = Site::new();
    let stored = site.session();
    let file = File::open(&stored.path).unwrap();
    file.set_modified(SystemTime::now() + 10 * HOUR).unwrap();
    for (dry, is_ahead) in [("--dry-run", true), ("", false)] {
        let cleaned = site.cleanup(&*format!("--json --idle 30m {dry}"));
        cleaned
            .exits_with(0)
            .reports(&json!({"deleted": 0, "live": 1}));
        let used = file.metadata().unwrap().modified().unwrap();
        assert_eq!(used > SystemTime::now(), is_ahead);
    }
}

#[test]
fn what_has_expired_before_the_timeout_is_ended_on_purpose_too() {
    let site = Site::new();
    let hasty = site.manager().config().clone().set("timeout", "1m");
    let expired = site.session_by(&SessionManager::new(hasty.unwrap()).unwrap());
    set_age(&expired.path, HOUR / 2);
    assert!(site.read(&expired).is_none());
    for (more, exists) in [(&["--dry-run"][..], true), (&[], false)] {
        let arguments = [&["--json", "--idle", "10m"], more].concat();
        let report = site.cleanup(&arguments).exits_with(0).json();
        assert_eq!(report["deleted"], 1, "{report}");
        assert_eq!(expired.path.exists(), exists);
    }
    // One that lives stays as long as it is held.
    let live = site.session();
    set_age(&live.path, HOUR / 2);
    let held = File::open(&live.path).unwrap();
    held.lock().unwrap();
    let cleaned = site.cleanup("--json --idle 10m").exits_with(0);
    cleaned.reports(&json!({"deleted": 0, "live": 1, "busy": 0}));
}

/// The name that a growing session's next file has before it takes the session's place.
const OLD: &str = ".tmp-1-0123456789abcdef";

#[test]
fn a_dry_run_changes_nothing_and_lists_what_would_go() {
    let site = Site::new();
    let (_, expired) = (site.session(), site.expired_session());
    set_age(&site.file(OLD), HOUR);
    let before = everything(&site);
    let listed = site.cleanup("--dry-run").exits_with(0);
    assert_eq!(everything(&site), before);

    let name = expired.path.file_name().unwrap().to_str().unwrap();
    let line = listed.stdout.lines().find(|line| line.starts_with(name));
    let fields: Vec<_> = line.unwrap().split_whitespace().collect();
    assert_eq!(fields[1..], ["2h", "1.00", "KiB", "expired"]);
    let total = listed.stdout.lines().last().unwrap();
    let is_told = total.starts_with("total: 2 files would be deleted");
    assert!(is_told, "{total}");
    assert_eq!(listed.stdout.lines().count(), 3);
}

#[test]
fn a_dry_run_needs_not_wait_for_a_clean_up_that_runs() {
    let site = Site::new();
    site.expired_session();
    let other = File::create(site.directory.join(".gc")).unwrap();
    other.lock().unwrap();
    let counted = site.cleanup("--dry-run --json").exits_with(0);
    counted.reports(&json!({"alreadyRunning": false, "deleted": 1}));
}

#[test]
fn a_dry_run_as_json_has_an_entry_for_each_file() {
    let site = Site::new();
    let expired = site.expired_session();
    site.file("notes.txt");
    set_age(&site.file(OLD), HOUR);
    let counted = site.cleanup("--dry-run --json").exits_with(0);
    let counted = counted.reports(&json!({"dryRun": true, "temporary": 1, "foreign": 1}));
    let report = counted.json();
    let name = expired.path.file_name().unwrap().to_str().unwrap();
    let entries = report["entries"].as_array().unwrap();
    let entry = entries.iter().find(|entry| entry["name"] == name).unwrap();
    let seen = (&entry["bytes"], &entry["reason"]);
    assert_eq!(seen, (&1024.into(), &"expired".into()));
    assert!(entry["ageSeconds"].as_u64().unwrap() >= 7200);
}

/// Names, contents and times of all that is in the directory, and the directory's own time.
fn everything(site: &Site) -> BTreeMap<String, (Vec<u8>, SystemTime)> {
    let time = |path| fs::metadata(path).unwrap().modified().unwrap();
    let names = site.names().into_iter();
    let entries = names.map(|name| {
        let path = site.directory.join(&name);
        (name, (fs::read(&path).unwrap(), time(path)))
    });
    let mut all: BTreeMap<_, _> = entries.collect();
    all.insert(".".to_owned(), (Vec::new(), time(site.directory.clone())));
    all
}

#[test]
fn a_summary_is_one_line() {
    let site = Site::new();
    let _ = (site.session(), site.expired_session());
    let said = site.cleanup("-v").exits_with(0);
    said.says("1 session deleted (1.00 KiB), 1 live")
        .has_lines(1, 0);
}

#[test]
fn a_limit_of_files_stops_and_the_next_run_goes_on() {
    let site = Site::new();
    for _ in 0..5 {
        site.expired_session();
    }
    let limited = ["--max-files", "2", "--max-seconds", "60", "--json"];
    for (deleted, stopped_early) in [(2, true), (2, true), (1, false)] {
        let report = site.cleanup(limited).exits_with(0);
        report.reports(&json!({"deleted": deleted, "stoppedEarly": stopped_early}));
    }
}

#[test]
fn a_run_beside_another_does_nothing_and_says_so_when_asked() {
    let site = Site::new();
    let expired = site.expired_session();
    let other = File::create(site.directory.join(".gc")).unwrap();
    other.lock().unwrap();
    site.cleanup("").exits_with(0).says_nothing();
    let told = site.cleanup("-v").exits_with(0);
    told.says("another clean-up is running");
    let refused = site.cleanup("--fail-if-running").exits_with(75);
    refused.complains("is running");
    assert!(expired.path.exists());
    other.unlock().unwrap();
    let alone = site.cleanup("--fail-if-running").exits_with(0);
    alone.says_nothing();
    assert!(!expired.path.exists());
}

#[test]
fn what_cannot_be_deleted_is_one_line_each() {
    let site = Site::new();
    let _ = (site.expired_session(), site.expired_session());
    site.file(".gc");
    if is_root() {
        // Root can delete everything; whoever it acts as cannot.
        site.give_to(SOMEBODY);
    }
    set_mode(&site.directory, 0o500);
    let complaint = site.cleanup("").exits_with(1);
    set_mode(&site.directory, 0o700);
    complaint.complains("cannot delete").has_lines(0, 2);
}

#[test]
fn on_a_read_only_file_system_an_error_says_how_to_write_there_again() {
    let Some(_room) = Room::open() else { return };
    let site = Site::new();
    disk::mount_memory(&site.directory, "size=256k");
    let stored = site.expired_session();
    let held = site.session();
    File::create(site.directory.join(".gc")).unwrap();
    disk::remount(&site.directory, "ro");
    let set = site.run_for(held.cookie(), "set name Ada");
    for finished in [site.cleanup(""), set] {
        let finished = finished.exits_with(1).complains("Read-only file system");
        finished.complains("remount,rw").lacks("0600");
    }
    assert!(stored.path.exists());
    disk::unmount(&site.directory);
}

#[test]
fn as_root_it_acts_as_the_owner_and_leaves_nothing_of_roots() {
    let Some(site) = Site::as_root() else { return };
    let (fresh, expired) = (site.session(), site.expired_session());
    site.give_to(SOMEBODY);
    site.cleanup("").exits_with(0).says_nothing();
    assert!(fresh.path.exists() && !expired.path.exists());
    assert!(site.names().contains(".gc"));
    for name in site.names() {
        assert_eq!(owner(&site.directory.join(&name)), SOMEBODY, "{name}");
    }
}
