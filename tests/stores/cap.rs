//! `maxSessions`: who goes, who stays, and a count that heals.

use std::collections::VecDeque;

use testkit::prelude::*;

use crate::support::{
    DEADLINE, IDLE, Place, ago, ahead, marker, record, record_until, set_modified, unix,
};

fn full_error(place: &Place, now: SystemTime) -> Option<Error> {
    let id = SessionId::generate().unwrap();
    let created = place.store.create(&id.digest(), &record(1), now);
    assert_eq!(place.exists(&id), created.is_ok());
    created.err()
}

#[test]
fn creators_at_once_are_all_refused_by_a_full_store() {
    let place = Place::with(&[("maxSessions", "3"), ("whenFull", "refuse")]);
    place.create_many(3);
    let now = SystemTime::now();
    place.sweep(now);
    for _ in 0..20 {
        // Each may look for sessions that have expired.
        set_modified(&place.file(".gc"), ago(60));
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let error = full_error(&place, now);
                    assert!(matches!(error, Some(Error::Full { .. })), "{error:?}");
                });
            }
        });
        assert_eq!((place.sessions(), place.count()), (3, 3));
    }
}

#[test]
fn no_new_session_waits_for_a_clean_up() {
    for (policy, is_refused) in [("evictOldest", false), ("refuse", true)] {
        let settings = [("maxSessions", "2"), ("whenFull", policy)];
        let place = Place::with(&settings);
        place.create_many(2);
        place.sweep(SystemTime::now());
        let sweep = fs::File::open(place.file(".gc")).unwrap();
        sweep.lock().unwrap();
        for _ in 0..20 {
            let error = full_error(&place, SystemTime::now());
            assert_eq!(matches!(error, Some(Error::Full { .. })), is_refused);
            assert_eq!(error.is_some(), is_refused, "{error:?}");
        }
        drop(sweep);
        // The next one makes room for all of them.
        let error = full_error(&place, SystemTime::now());
        assert_eq!(error.is_some(), is_refused, "{error:?}");
        assert_eq!((place.sessions(), place.count()), (2, 2));
    }
}

#[test]
fn the_first_creators_at_once_wait_for_a_number_and_are_not_refused() {
    for _ in 0..10 {
        let place = Place::with(&[("maxSessions", "1000"), ("whenFull", "refuse")]);
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| assert!(full_error(&place, SystemTime::now()).is_none()));
            }
        });
        assert_eq!((place.sessions(), place.count()), (8, 8));
    }
}

#[test]
fn sessions_with_an_end_far_ahead_make_room_too() {
    let place = Place::with(&[("maxSessions", "10")]);
    for n in 0..40 {
        place.create_record(&record_until(n, ahead(100 * IDLE + n)));
        assert!(place.sessions() <= 10);
    }
    // The last ones end last: they were used last.
    let mut left = Vec::new();
    for name in place.names() {
        if crate::support::is_session(&name) {
            let text = fs::read_to_string(place.file(&name)).unwrap();
            let json: serde_json::Value = serde_json::from_str(&text).unwrap();
            left.push(json[0]["d"]["values"][""]["n"].as_u64().unwrap());
        }
    }
    left.sort_unstable();
    assert_eq!(left, (30..40).collect::<Vec<_>>());
}

#[test]
fn what_a_change_of_id_leaves_is_not_counted_never_evicted_and_swept_whatever_the_timeout() {
    let place = Place::with(&[("maxSessions", "4"), ("timeout", "30d")]);
    let ids: Vec<_> = (0..4).map(|n| place.create(n)).collect();
    let left = |kind: &str| {
        let (created, end) = (unix(SystemTime::now()), unix(ahead(60)));
        let text = format!(
            r#"{{"v":1,"created":{created},"expires":{end},"replaced":"{kind}","values":{{"":{{"n":9}}}}}}"#
        );
        Record::from_json(text.into_bytes()).unwrap()
    };
    place.commit(&ids[0], &left("marker"));
    place.commit(&ids[1], &left("copy"));
    assert_eq!(place.count(), 2);
    // Two more have room, and for a fifth the least recently used of the sessions goes.
    place.set_modified(&ids[2], ago(60));
    place.create_many(3);
    let there: Vec<_> = ids.iter().map(|id| place.exists(id)).collect();
    assert_eq!((there, place.count()), (vec![true, true, false, true], 4));
    let sweep = |seconds, files| {
        let sweep = Sweep::new().max_files(files);
        place.store.delete_expired(&sweep, ahead(seconds)).unwrap()
    };
    let report = sweep(55, 9);
    assert_eq!((report.deleted, report.live, place.count()), (0, 4, 4));
    // Also by a clean-up that stops early and so cannot count.
    let report = sweep(130, 1);
    assert!(report.stopped_early && report.deleted == 1, "{report:?}");
    assert_eq!(place.count(), 4);
    let report = sweep(130, 9);
    assert_eq!((report.deleted, report.live, place.count()), (1, 4, 4));
    assert!(!place.exists(&ids[0]) && !place.exists(&ids[1]));
}

#[test]
fn the_cap_holds_with_four_creators_at_once() {
    const CREATORS: usize = 4;
    for (max, shards) in [("1", "1"), ("20", "1"), ("20", "256")] {
        let place = Place::with(&[("maxSessions", max), ("shards", shards)]);
        place.create(0);
        let limit = max.parse::<usize>().unwrap() + CREATORS + 8;
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            let begin = |store: FileStore| {
                for n in 0..100 {
                    let id = SessionId::generate().unwrap();
                    let lease = store.create(&id.digest(), &record(n), SystemTime::now());
                    let lease = lease.unwrap().expect("a new id");
                    // In use until here, so nobody may have taken it.
                    assert!(store.path(&id).exists(), "evicted while in use");
                    drop(lease);
                }
            };
            let stores = (0..CREATORS).map(|_| place.another(&[]));
            let creators = stores.map(|store| scope.spawn(move || begin(store)));
            let creators: Vec<_> = creators.collect();
            scope.spawn(|| {
                // A look into many directories takes so long that what it sees never was there at once.
                while shards == "1" && !done.load(Ordering::Relaxed) {
                    let live = place.sessions();
                    assert!(live <= limit, "{live} sessions, cap {max}");
                }
            });
            let results = creators.into_iter().map(thread::ScopedJoinHandle::join);
            let results: Vec<_> = results.collect();
            done.store(true, Ordering::Relaxed);
            assert!(results.iter().all(Result::is_ok));
        });
        assert!(place.sessions() <= limit);
    }
}

#[test]
fn a_clean_up_meanwhile_forgets_no_creation() {
    let place = Place::with(&[("maxSessions", "100000")]);
    place.create(0);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let now = SystemTime::now();
                place.sweep(now);
            }
        });
        for n in 0..1000 {
            place.create(n);
        }
        done.store(true, Ordering::Relaxed);
    });
    // One too many is found out at the cap; one too few would break it.
    assert!(place.count() >= 1001, "{}", place.count());
}

/// Gives a session a new id, as a login does; `None` when it is gone.
fn change_id(store: &FileStore, old: &SessionId) -> Option<SessionId> {
    let now = SystemTime::now();
    let (stored, mut lease) = store.lock(&old.digest(), DEADLINE, now).unwrap()?;
    let id = SessionId::generate().unwrap();
    let record = stored.record.succeeding(&old.digest(), now);
    drop(store.create(&id.digest(), &record, now).unwrap());
    lease.finish(&marker(now), now).unwrap();
    Some(id)
}

#[test]
fn a_clean_up_meanwhile_forgets_no_session_that_gets_a_new_id_or_begins_where_another_ends() {
    let place = Place::with(&[("maxSessions", "100000")]);
    let mut ids: Vec<_> = (0..30).map(|n| place.create(n)).collect();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let now = SystemTime::now();
                place.sweep(now);
                assert!(place.count() >= 30, "{}", place.count());
            }
        });
        for turn in 0..1500 {
            let id = &mut ids[turn % 30];
            if turn % 2 == 0 {
                *id = change_id(&place.store, id).unwrap();
            } else {
                let next = place.create(1);
                place.lock(id).unwrap().1.destroy().unwrap();
                *id = next;
            }
        }
        done.store(true, Ordering::Relaxed);
    });
    let now = SystemTime::now();
    place.sweep(now);
    assert!(place.count() >= 30, "{}", place.count());
}

/// The one that makes room has chosen it while it was a session.
#[test]
fn no_marker_goes_in_place_of_a_session() {
    const THREADS: usize = 4;
    const EACH: usize = 16;
    let place = Place::with(&[("maxSessions", &(THREADS * EACH).to_string())]);
    let left = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let mut ids = VecDeque::new();
                for n in 0..800 {
                    ids.push_back(place.create(n));
                    // Those that have to go next.
                    if ids.len() > EACH
                        && let Some(old) = ids.pop_front()
                        && change_id(&place.store, &old).is_some()
                    {
                        left.lock().unwrap().push(old);
                    }
                }
            });
        }
    });
    let left = left.into_inner().unwrap();
    assert!(!left.is_empty());
    let now = SystemTime::now();
    let gone = left.iter().filter(|old| {
        let found = place.store.read(&old.digest(), now).unwrap();
        !found.is_some_and(|found| found.record.is_marker())
    });
    assert_eq!(gone.count(), 0, "of {}", left.len());
}

#[test]
fn refuse_recovers_when_a_session_is_destroyed_or_expires() {
    let place = Place::with(&[("maxSessions", "2"), ("whenFull", "refuse")]);
    let (one, two) = (place.create(1), place.create(2));
    assert!(full_error(&place, SystemTime::now()).is_some());
    place.lock(&one).unwrap().1.destroy().unwrap();
    assert!(full_error(&place, SystemTime::now()).is_none());
    assert!(full_error(&place, SystemTime::now()).is_some());

    place.set_modified(&two, ago(IDLE + 62));
    // The directory is looked through at most every ten seconds.
    assert!(full_error(&place, ahead(11)).is_none());
    assert!(!place.exists(&two));
    assert_eq!((place.sessions(), place.count()), (2, 2));
}

#[test]
fn a_count_that_is_gone_or_rubbish_heals_at_the_next_creation() {
    for policy in ["evictOldest", "refuse"] {
        for bytes in [None, Some(&b""[..]), Some(b"abc")] {
            let place = Place::with(&[("maxSessions", "5"), ("whenFull", policy)]);
            place.create_many(3);
            match bytes {
                None => fs::remove_file(place.file(".count")).unwrap(),
                Some(bytes) => fs::write(place.file(".count"), bytes).unwrap(),
            }
            assert!(full_error(&place, ahead(11)).is_none());
            let seen = (place.sessions(), place.count());
            assert_eq!(seen, (4, 4), "{policy} {bytes:?}");
        }
    }
}

#[test]
fn a_store_that_was_never_counted_refuses_only_when_it_is_full() {
    let refuse = ("whenFull", "refuse");
    let kept = [("maxSessions", "2"), refuse, ("expiredBy", "cleanup")];
    for settings in [&kept[..], &kept[..2]] {
        let now = SystemTime::now();
        let mut place = Place::new();
        place.create(0);
        // From then on a full store is not looked through for a minute.
        place.sweep(now);
        place.store = place.another(settings);
        assert!(full_error(&place, now).is_none());
        assert_eq!((place.sessions(), place.count()), (2, 2));
        let error = full_error(&place, now);
        assert!(matches!(error, Some(Error::Full { limit: 2 })), "{error:?}");
        assert_eq!((place.sessions(), place.count()), (2, 2));
    }
}

#[test]
fn a_count_that_is_too_high_heals_at_the_cap() {
    for policy in ["evictOldest", "refuse"] {
        for wrong in [1000, u64::MAX] {
            let place = Place::with(&[("maxSessions", "5"), ("whenFull", policy)]);
            place.create_many(3);
            place.set_count(wrong);
            assert!(full_error(&place, ahead(11)).is_none(), "{policy} {wrong}");
            assert_eq!((place.sessions(), place.count()), (4, 4));
        }
    }
}

#[test]
fn a_count_that_is_too_low_heals_at_the_cap_or_by_a_clean_up() {
    let place = Place::with(&[("maxSessions", "5")]);
    place.create_many(5);
    place.set_count(3);
    place.create_many(3);
    assert_eq!((place.sessions(), place.count()), (5, 5));

    place.set_count(0);
    place.sweep(SystemTime::now());
    assert_eq!(place.count(), 5);
}

#[test]
fn a_creation_that_fails_is_not_counted() {
    let place = Place::with(&[("maxSessions", "5"), ("maxRecordBytes", "2000")]);
    let id = place.create(1);
    let large = crate::support::record_of_size(2, 3000);
    let other = SessionId::generate().unwrap();
    assert!(place.try_create(&other, &large).is_err());
    assert!(!place.try_create(&id, &record(2)).unwrap());
    assert_eq!((place.sessions(), place.count()), (1, 1));
}

#[test]
fn without_a_cap_nothing_is_counted() {
    let place = Place::new();
    place.create(1);
    assert!(!place.file(".count").exists());
}

#[test]
fn a_clock_set_back_does_not_keep_a_full_store_full() {
    let place = Place::with(&[("maxSessions", "1"), ("whenFull", "refuse")]);
    let id = place.create(1);
    assert!(full_error(&place, ahead(3600)).is_some());
    place.set_modified(&id, SystemTime::now() - Duration::from_secs(IDLE + 62));
    assert!(full_error(&place, SystemTime::now()).is_none());
}
