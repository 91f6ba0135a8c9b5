//! When a session ends, and what counts as use.

use cgi_session::{Result, Stored};
use testkit::prelude::*;

use crate::support::{DEADLINE, IDLE, Place, ago, ahead, record, record_until, unix};

#[test]
fn an_unused_session_ends_after_its_idle_time_without_any_clean_up() {
    let place = Place::new();
    let id = place.create(1);
    place.set_modified(&id, ago(IDLE - 60));
    assert_eq!(place.locked_n(&id), Some(1));
    place.set_modified(&id, ago(IDLE + 2));
    assert_eq!(place.read_n(&id), None);
    assert!(place.exists(&id), "reading deletes nothing");
    assert_eq!(place.locked_n(&id), None);
    assert!(!place.exists(&id), "locking deletes what has expired");
}

#[test]
fn a_session_lives_as_long_as_its_record_says_whoever_looks() {
    let of = |n: u64, member: &str| {
        let text = format!(
            r#"{{"v":1,"created":{},{member}"values":{{"":{{"n":{n}}}}}}}"#,
            unix(SystemTime::now())
        );
        Record::from_json(text.into_bytes()).unwrap()
    };
    let place = Place::with(&[("lifetime", "1d")]);
    let long = place.create_record(&of(1, r#""idle":86400,"#));
    let by_hand = place.create_record(&of(2, r#""timeout":86400,"#));
    let short = place.create_record(&of(3, r#""idle":60,"#));
    let aged = |id: &SessionId, seconds: u64, timeout: &str| {
        place.set_modified(id, ago(seconds));
        let store = place.another(&[("timeout", timeout)]);
        let report = store.delete_expired(&Sweep::new(), SystemTime::now());
        assert!(report.unwrap().failures.is_empty());
        let look = store.peek(&id.digest(), SystemTime::now()).unwrap();
        let listed = {
            let mut listed = false;
            let mut visit = |shown: &SessionDigest, _: Result<Stored>| {
                listed |= *shown == id.digest();
                ControlFlow::Continue(())
            };
            store.for_each(&mut visit, SystemTime::now()).unwrap();
            listed
        };
        assert_eq!(look.is_some(), listed);
        look.is_some() && place.exists(id)
    };
    for id in [&long, &by_hand] {
        assert!(aged(id, 86_400 - 60, "1s"));
    }
    for (id, seconds) in [(&long, 86_400 + 62), (&by_hand, 86_400 + 62), (&short, 62)] {
        let is_it = !aged(id, seconds, "30d");
        assert!(is_it, "whatever the file's time is taken for");
        assert_eq!(place.locked_n(id), None);
    }
    // Older than the configuration allows, and not than its own record does.
    let endless = place.create_record(&of(4, r#""idle":86400,"lifetime":0,"#));
    let now = ahead(3 * 86_400);
    place.set_modified(&endless, now - Duration::from_secs(7200));
    place.sweep(now);
    assert!(place.exists(&endless));
}

#[test]
fn a_session_with_an_end_of_its_own_ends_then_whatever_the_files_time_says() {
    let place = Place::new();
    let live = place.create_record(&record_until(1, ahead(60)));
    let over = place.create_record(&record_until(2, ago(2)));
    place.set_modified(&live, ago(100 * IDLE));
    place.set_modified(&over, ahead(IDLE));
    assert_eq!((place.read_n(&live), place.read_n(&over)), (Some(1), None));
    let seen = (place.locked_n(&live), place.locked_n(&over));
    assert_eq!(seen, (Some(1), None));
}

#[test]
fn a_session_with_an_end_of_its_own_is_not_touched() {
    let place = Place::new();
    let end = ahead(60);
    let id = place.create_record(&record_until(1, end));
    let hint = place.modified(&id);
    assert_eq!(unix(hint), unix(end) - IDLE);
    place.read_n(&id);
    let (_, mut lease) = place.lock(&id).unwrap();
    lease.touch(SystemTime::now()).unwrap();
    assert_eq!(place.modified(&id), hint);
}

#[test]
fn use_is_noted_at_most_once_in_a_sixtieth_of_the_idle_time() {
    let place = Place::new();
    let id = place.create(1);
    let recent = ago(IDLE / 60 - 50);
    place.set_modified(&id, recent);
    place.read_n(&id);
    let (_, mut lease) = place.lock(&id).unwrap();
    lease.touch(SystemTime::now()).unwrap();
    drop(lease);
    assert_eq!(place.modified(&id), recent);

    place.set_modified(&id, ago(IDLE / 60 + 10));
    let (_, mut lease) = place.lock(&id).unwrap();
    let now = SystemTime::now();
    lease.touch(now).unwrap();
    assert_eq!(unix(place.modified(&id)), unix(now));
    // A second time at once is one too many.
    lease.touch(now + Duration::from_secs(5)).unwrap();
    assert_eq!(unix(place.modified(&id)), unix(now));
}

#[test]
fn reading_a_snapshot_counts_as_use() {
    let place = Place::with(&[("lifetime", "0")]);
    let id = place.create(1);
    place.set_modified(&id, ago(IDLE / 60 + 10));
    let now = SystemTime::now();
    let stored = place.store.read(&id.digest(), now).unwrap().unwrap();
    assert_eq!(unix(place.modified(&id)), unix(now));
    assert!(unix(stored.last_access) <= unix(now) - IDLE / 60 - 9);
}

#[test]
fn use_never_sets_a_time_back_unless_the_clock_was_wrong() {
    let place = Place::new();
    let id = place.create(1);
    let modified = place.modified(&id);
    let earlier = modified - Duration::from_secs(5);
    place.store.read(&id.digest(), earlier).unwrap();
    let (_, mut lease) = place
        .store
        .lock(&id.digest(), DEADLINE, earlier)
        .unwrap()
        .unwrap();
    lease.touch(earlier).unwrap();
    drop(lease);
    assert_eq!(place.modified(&id), modified);
}

#[test]
fn a_time_in_the_future_is_put_right_by_the_next_use() {
    let place = Place::with(&[("lifetime", "0")]);
    let id = place.create(1);
    place.set_modified(&id, ahead(10 * 366 * 24 * 3600));
    assert_eq!(place.read_n(&id), Some(1));
    let now = unix(SystemTime::now());
    assert!(unix(place.modified(&id)).abs_diff(now) < 60);
}

#[test]
fn a_commit_counts_as_use() {
    let place = Place::new();
    let id = place.create(1);
    place.set_modified(&id, ago(IDLE - 60));
    place.commit(&id, &record(2));
    assert!(unix(place.modified(&id)) >= unix(ago(60)));
}

#[test]
fn a_session_that_loses_its_own_end_lives_by_its_idle_time_again() {
    let place = Place::new();
    let id = place.create_record(&record_until(1, ahead(100 * IDLE)));
    place.commit(&id, &record(2));
    assert!(unix(place.modified(&id)).abs_diff(unix(SystemTime::now())) < 60);
    place.set_modified(&id, ago(IDLE + 2));
    assert_eq!(place.locked_n(&id), None);
}

#[test]
fn an_end_after_2038_is_an_end_for_a_processor_of_32_bits_too() {
    let place = Place::new();
    let end = SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 32);
    let id = place.create_record(&record_until(1, end));
    assert_eq!((place.read_n(&id), place.locked_n(&id)), (Some(1), Some(1)));
}

#[test]
fn an_end_that_no_clock_will_show_is_no_end() {
    let place = Place::new();
    let text = format!(
        r#"{{"v":1,"created":0,"expires":{},"values":{{"":{{"n":1}}}}}}"#,
        u64::MAX
    );
    let endless = Record::from_json(text.into_bytes()).unwrap();
    let id = place.create_record(&endless);
    assert_eq!((place.read_n(&id), place.locked_n(&id)), (Some(1), Some(1)));
}
