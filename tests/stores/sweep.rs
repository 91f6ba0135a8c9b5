//! Clean-up: what it deletes, and what it leaves alone.

use cgi_session::{SweepEvent, SweepReport};
use testkit::prelude::*;

use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};

use crate::support::{IDLE, Place, ago, ahead, record, record_until, unix};

#[test]
fn an_expired_session_goes_sixty_seconds_after_its_end() {
    let place = Place::new();
    let (young, old) = (place.create(1), place.create(2));
    place.set_modified(&young, ago(IDLE + 30));
    place.set_modified(&old, ago(IDLE + 62));
    let bytes = fs::metadata(place.store.path(&old)).unwrap().len();
    let report = place.sweep(SystemTime::now());
    assert_eq!((report.examined, report.deleted, report.live), (2, 1, 1));
    assert_eq!(report.deleted_bytes, bytes);
    assert!(place.exists(&young) && !place.exists(&old));
}

#[test]
fn a_session_with_an_end_of_its_own_goes_sixty_seconds_after_it() {
    let place = Place::new();
    let young = place.create_record(&record_until(1, ago(30)));
    let old = place.create_record(&record_until(2, ago(62)));
    // The times say nothing: a backup was restored.
    place.set_modified(&young, ago(100 * IDLE));
    place.set_modified(&old, ago(100 * IDLE));
    assert_eq!(place.swept(SystemTime::now()), (1, 1));
    assert!(place.exists(&young) && !place.exists(&old));
}

#[test]
fn a_wrong_time_of_a_session_with_an_end_of_its_own_is_mended() {
    let place = Place::new();
    let end = ahead(100 * IDLE);
    let id = place.create_record(&record_until(1, end));
    let right = place.modified(&id);
    place.set_modified(&id, ago(100 * IDLE));
    assert_eq!(place.swept(SystemTime::now()), (0, 1));
    assert_eq!(place.modified(&id), right);
    assert_eq!(place.locked_n(&id), Some(1));
}

#[test]
fn a_time_that_only_a_wrong_clock_can_have_set_is_now() {
    let place = Place::with(&[("lifetime", "30d")]);
    let now = SystemTime::now();
    let id = place.create_record(&cgi_session::Record::new(now));
    place.set_modified(&id, ahead(10 * 366 * 24 * 3600));
    assert_eq!(place.swept(now), (0, 1));
    assert_eq!(unix(place.modified(&id)), unix(now));
    assert_eq!(place.sweep(ahead(IDLE + 62)).deleted, 1);
}

#[test]
fn what_a_wrong_clock_has_left_goes_as_if_it_were_of_today() {
    let place = Place::with(&[("lifetime", "10d")]);
    place.create(1);
    let digest = "a".repeat(64);
    let names = [".corrupt", ".user"].map(|ending| format!("{digest}{ending}"));
    let names = [&names[..], &[".tmp-1-0123456789abcdef".to_owned()]].concat();
    for name in &names {
        fs::write(place.file(name), "").unwrap();
        crate::support::set_modified(&place.file(name), ahead(10 * 366 * 24 * 3600));
    }
    let foreseen = Sweep::new().dry_run(true);
    for sweep in [foreseen, Sweep::new()] {
        let report = place.store.delete_expired(&sweep, SystemTime::now());
        assert_eq!(report.unwrap().set_aside, 1);
    }
    place.sweep(ahead(11 * 24 * 3600));
    for name in &names {
        assert!(!place.file(name).exists(), "{name}");
    }
}

#[test]
fn an_end_that_only_a_wrong_clock_can_have_set_keeps_no_session_beyond_its_lifetime() {
    let years = 10 * 366 * 24 * 3600;
    let month = 30 * 24 * 3600;
    let place = Place::with(&[("lifetime", "30d")]);
    let of = |created: SystemTime| {
        let (created, end) = (unix(created), unix(ahead(years)));
        let text =
            format!(r#"{{"v":1,"created":{created},"expires":{end},"values":{{"":{{"n":1}}}}}}"#);
        place.create_record(&cgi_session::Record::from_json(text.into_bytes()).unwrap())
    };
    let (begun_ahead, begun_before) = (of(ahead(years)), of(ago(60)));
    let now = SystemTime::now();
    assert_eq!(place.swept(now), (1, 1));
    assert!(!place.exists(&begun_ahead));
    assert_eq!(place.swept(ahead(month)), (1, 0));
    assert!(!place.exists(&begun_before));
}

#[test]
fn a_file_set_aside_that_is_somebody_elses_or_has_another_name_is_told_and_left_alone() {
    let place = Place::new();
    place.create(1);
    let (aside, other) = (
        place.file(&format!("{}.corrupt", "a".repeat(64))),
        place.file("other"),
    );
    fs::write(&other, "precious").unwrap();
    fs::hard_link(&other, &aside).unwrap();
    crate::support::set_modified(&aside, SystemTime::UNIX_EPOCH);
    let report = place.sweep(SystemTime::now());
    let seen = (report.set_aside, report.failures.len());
    assert_eq!(seen, (0, 1), "{report:?}");
    assert!(aside.exists());
}

#[test]
fn what_is_not_ours_is_left_alone() {
    let place = Place::new();
    let id = place.create(1);
    let name = id.digest().to_string();
    let foreign = [
        "readme.txt".to_owned(),
        "0123.json".to_owned(),
        format!("{}.json", name.to_uppercase()),
        format!("{name}.json~"),
        format!("{name}.txt"),
        ".hidden".to_owned(),
        ".tmp-backup".to_owned(),
        ".tmp-1234".to_owned(),
        ".tmp-1-0123456789abcdeF".to_owned(),
    ];
    for name in &foreign {
        fs::write(place.file(name), "precious").unwrap();
        crate::support::set_modified(&place.file(name), ago(100 * IDLE));
    }
    let report = place.sweep(SystemTime::now());
    assert_eq!(report.foreign, u64::try_from(foreign.len()).unwrap());
    assert_eq!((report.deleted, report.temporary), (0, 0));
    assert_eq!(report.failures, [""; 0]);
    for name in &foreign {
        assert_eq!(fs::read(place.file(name)).unwrap(), b"precious", "{name}");
    }
}

#[test]
fn a_temporary_file_in_use_is_left_alone() {
    let place = Place::new();
    place.create(1);
    let path = place.file(".tmp-1-0123456789abcdef");
    fs::write(&path, "").unwrap();
    crate::support::set_modified(&path, ago(100));
    let held = fs::File::open(&path).unwrap();
    held.lock().unwrap();
    assert_eq!(place.sweep(SystemTime::now()).temporary, 0);
    // A child that another test starts just now may have the file, too.
    held.unlock().unwrap();
    assert_eq!(place.sweep(SystemTime::now()).temporary, 1);
    assert!(!path.exists());
}

#[test]
fn a_damaged_file_set_aside_is_kept_for_a_lifetime() {
    let place = Place::with(&[("lifetime", "10d")]);
    place.create(1);
    let path = place.file(&format!("{}.corrupt", "a".repeat(64)));
    fs::write(&path, "damaged").unwrap();
    crate::support::set_modified(&path, ago(9 * 24 * 3600));
    assert_eq!(place.sweep(SystemTime::now()).set_aside, 1);
    crate::support::set_modified(&path, ago(11 * 24 * 3600));
    assert_eq!(place.sweep(SystemTime::now()).set_aside, 0);
    assert!(!path.exists());
}

#[test]
fn a_damaged_session_that_has_expired_is_set_aside_and_an_unfinished_one_is_deleted() {
    for lifetime in ["30d", "0"] {
        let place = Place::with(&[("lifetime", lifetime), ("maxSessions", "10")]);
        let (damaged, unfinished) = (place.create(1), place.create(2));
        let begun = place.create(3);
        let other = place.create(4);
        let mut bytes = fs::read(place.store.path(&damaged)).unwrap();
        bytes[100] ^= 1;
        fs::write(place.store.path(&damaged), &bytes).unwrap();
        fs::write(place.store.path(&unfinished), "").unwrap();
        fs::write(place.store.path(&begun), "[{\"g\":   ").unwrap();
        fs::write(place.store.path(&other), "{\"a\":1}\n").unwrap();
        for id in [&damaged, &unfinished, &begun, &other] {
            place.set_modified(id, ago(IDLE + 62));
        }
        let dry = Sweep::new().dry_run(true);
        let now = SystemTime::now();
        assert_eq!(place.store.delete_expired(&dry, now).unwrap().deleted, 4);
        let aside = |id: &SessionId| place.file(&format!("{}.corrupt", id.digest()));
        assert!(!aside(&damaged).exists() && place.exists(&damaged));
        let report = place.sweep(SystemTime::now());
        assert_eq!((report.deleted, report.failures.len()), (4, 0));
        assert!(!place.exists(&damaged) && !place.exists(&unfinished));
        assert_eq!(fs::read(aside(&damaged)).unwrap(), bytes);
        assert_eq!(fs::read(aside(&other)).unwrap(), b"{\"a\":1}\n");
        assert!(!aside(&unfinished).exists() && !aside(&begun).exists());
        let later = place
            .store
            .delete_expired(&Sweep::new(), ahead(31 * 24 * 3600));
        assert_eq!(later.unwrap().set_aside, 0, "{lifetime}");
        assert!(!aside(&damaged).exists(), "{lifetime}");
    }
}

#[test]
fn the_numbers_of_the_report_are_exact() {
    let place = Place::new();
    let expired: Vec<_> = (0..5).map(|n| place.create(n)).collect();
    for id in &expired {
        place.set_modified(id, ago(IDLE + 62));
    }
    place.create_many(7);
    let busy = fs::File::open(place.store.path(&expired[0])).unwrap();
    busy.lock().unwrap();
    fs::write(place.file("foreign"), "").unwrap();
    fs::write(place.file(&format!("{}.corrupt", "a".repeat(64))), "").unwrap();

    let events = Mutex::new((0, 0));
    let observer = |event: SweepEvent<'_>| {
        let mut seen = events.lock().unwrap();
        match event {
            SweepEvent::Examined(entries) => seen.0 += entries,
            SweepEvent::Deleted { .. } => seen.1 += 1,
            _ => {}
        }
    };
    let dry = Sweep::new().dry_run(true);
    let foreseen = place.store.delete_expired(&dry, SystemTime::now()).unwrap();
    assert_eq!(place.sessions(), 12);
    let watched = Sweep::new().observer(&observer);
    let done = place.store.delete_expired(&watched, SystemTime::now());
    let done = done.unwrap();
    assert_eq!(foreseen, done);
    let found = (done.examined, done.deleted, done.live, done.busy);
    assert_eq!(found, (12, 4, 7, 1));
    assert_eq!((done.foreign, done.set_aside, done.temporary), (1, 1, 0));
    assert_eq!(done.deleted_bytes, 4 * 1024);
    assert!(!done.stopped_early && !done.already_running && done.failures.is_empty());
    assert_eq!(place.sessions(), 8);
    // The directory's own names, .gc and 14 files.
    assert_eq!(events.into_inner().unwrap(), (17, 4));
}

#[test]
fn clean_ups_that_are_stopped_early_reach_everything_in_the_end() {
    let place = Place::new();
    place.create_many(1200);
    let last = fs::read_dir(place.path()).unwrap().last().unwrap().unwrap();
    crate::support::set_modified(&last.path(), ago(IDLE + 62));
    let is_over = AtomicBool::new(false);
    // It stops long before it is through.
    let observer = |_: SweepEvent<'_>| is_over.store(true, Ordering::Relaxed);
    let sweep = Sweep::new().stop_when(&is_over).observer(&observer);
    let runs = (0..1000).find(|_| {
        is_over.store(false, Ordering::Relaxed);
        let report = place.store.delete_expired(&sweep, SystemTime::now());
        report.unwrap().deleted > 0
    });
    assert!(runs.is_some());
}

#[test]
fn of_two_clean_ups_at_once_the_second_does_nothing() {
    let place = Place::new();
    let id = place.create(1);
    place.set_modified(&id, ago(IDLE + 62));
    Place::new().sweep(SystemTime::now());
    fs::write(place.file(".gc"), "").unwrap();
    let other = fs::File::open(place.file(".gc")).unwrap();
    other.lock().unwrap();
    let report = place.sweep(SystemTime::now());
    assert!(report.already_running);
    assert_eq!((report.examined, report.deleted), (0, 0));
    other.unlock().unwrap();
    assert_eq!(place.sweep(SystemTime::now()).deleted, 1);
}

#[test]
fn a_clean_up_where_nothing_was_ever_stored_makes_nothing() {
    let place = Place::new();
    assert_eq!(place.sweep(SystemTime::now()), SweepReport::default());
    assert!(!place.path().exists());
}

#[test]
fn sessions_in_shards_and_outside_are_cleaned_whatever_shards_says_now() {
    let flat = Place::new();
    let old = flat.create(1);
    let sharded = flat.another(&[("shards", "256")]);
    let new = cgi_session::SessionId::generate().unwrap();
    sharded
        .create(&new.digest(), &record(2), SystemTime::now())
        .unwrap()
        .unwrap();
    flat.set_modified(&old, ago(IDLE + 62));
    crate::support::set_modified(&sharded.path(&new), ago(IDLE + 62));
    assert_eq!(flat.sessions(), 2);
    let report = flat.sweep(SystemTime::now());
    assert_eq!((report.deleted, flat.sessions()), (2, 0));
}

#[test]
fn the_last_clean_up_is_remembered_but_not_one_of_the_future() {
    let place = Place::new();
    place.create(1);
    let now = SystemTime::now();
    assert_eq!(place.store.last_sweep(now), None);
    place.sweep(now);
    let later = now + Duration::from_secs(100);
    let seen = place.store.last_sweep(later);
    assert_eq!(seen, Some(Duration::from_secs(100)));
    // A clock that was wrong must not put clean-up off for years.
    let seen = place.store.last_sweep(now - Duration::from_secs(1000));
    assert_eq!(seen, None);
}

#[test]
fn a_whole_slot_that_holds_no_record_goes_when_its_time_is_up() {
    use crate::support::{file, no_slot, slot};
    let place = Place::new();
    let id = place.plant(|digest| file(slot(digest, true, 1, 512, "[]"), no_slot(512)));
    place.set_modified(&id, ago(IDLE + 62));
    assert_eq!(place.sweep(SystemTime::now()).deleted, 1);
}

/// Descriptors of the file with this name, as a child has them that another thread has just forked.
fn inherited(name: &str) -> Vec<OwnedFd> {
    let process = pidfd_open(getpid(), PidfdFlags::empty()).unwrap();
    let entries = fs::read_dir("/proc/self/fd").unwrap().map(Result::unwrap);
    let open = entries.filter(|entry| {
        fs::read_link(entry.path()).is_ok_and(|path| path.to_string_lossy().ends_with(name))
    });
    let numbers = open.map(|entry| entry.file_name().to_str().unwrap().parse().unwrap());
    numbers
        .map(|number| pidfd_getfd(&process, number, PidfdGetfdFlags::empty()).unwrap())
        .collect()
}

#[test]
fn a_clean_up_that_has_ended_keeps_no_lock_in_a_child_that_was_forked_meanwhile() {
    let place = Place::new();
    place.create(1);
    let lock = place.store.directory().join(".gc");
    let copies = Mutex::new(Vec::new());
    let observer = |_: SweepEvent<'_>| {
        copies
            .lock()
            .unwrap()
            .extend(inherited(lock.to_str().unwrap()));
    };
    let watched = Sweep::new().observer(&observer);
    place
        .store
        .delete_expired(&watched, SystemTime::now())
        .unwrap();
    assert!(!copies.lock().unwrap().is_empty());
    assert!(!place.sweep(SystemTime::now()).already_running);
}
