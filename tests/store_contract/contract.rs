//! What is created, committed, read, destroyed, expired and cleaned up.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, SystemTime};

use cgi_session::{Error, Record, SessionDigest, SessionId, Sweep};

use crate::subjects::{
    Subject, WAIT, capped_stores, count, counting_stores, create, is_gone, later, listed_stores,
    record, record_of, stores,
};

#[test]
fn what_is_absent_is_none() {
    for Subject { name, store, .. } in stores(&[]) {
        let (id, now) = (SessionId::generate().unwrap(), SystemTime::now());
        assert!(
            store.lock(&id.digest(), WAIT, now).unwrap().is_none(),
            "{name}"
        );
        assert!(store.read(&id.digest(), now).unwrap().is_none(), "{name}");
    }
}

#[test]
fn what_was_created_and_committed_is_found() {
    for Subject { name, store, .. } in stores(&[]) {
        let now = SystemTime::now();
        let (id, mut lease) = create(&*store, 1, now);
        assert_eq!(
            count(&store.read(&id.digest(), now).unwrap().unwrap().record),
            1,
            "{name}"
        );
        lease.commit(&record(2, now), now).unwrap();
        drop(lease);
        let (stored, _lease) = store.lock(&id.digest(), WAIT, now).unwrap().unwrap();
        assert_eq!(count(&stored.record), 2, "{name}");
    }
}

#[test]
fn a_taken_id_is_not_given_twice() {
    for Subject { name, store, .. } in stores(&[]) {
        let now = SystemTime::now();
        let (id, _lease) = create(&*store, 1, now);
        assert!(
            store
                .create(&id.digest(), &record(2, now), now)
                .unwrap()
                .is_none(),
            "{name}"
        );
        assert_eq!(
            count(&store.read(&id.digest(), now).unwrap().unwrap().record),
            1,
            "{name}"
        );
    }
}

#[test]
fn a_lease_that_is_dropped_writes_nothing_and_unlocks() {
    for Subject { name, store, .. } in stores(&[]) {
        let now = SystemTime::now();
        let (id, lease) = create(&*store, 1, now);
        drop(lease);
        drop(store.lock(&id.digest(), WAIT, now).unwrap().expect(name));
        assert_eq!(
            count(
                &store
                    .lock(&id.digest(), WAIT, now)
                    .unwrap()
                    .unwrap()
                    .0
                    .record
            ),
            1,
            "{name}"
        );
    }
}

#[test]
fn a_second_lease_is_refused_in_time_and_a_reader_is_not() {
    for Subject { name, store, .. } in stores(&[]) {
        let now = SystemTime::now();
        let (id, _lease) = create(&*store, 1, now);
        let refused = store.lock(&id.digest(), Duration::from_millis(20), now);
        assert!(matches!(refused, Err(Error::Busy { .. })), "{name}");
        assert!(store.read(&id.digest(), now).unwrap().is_some(), "{name}");
    }
}

#[test]
fn sixteen_writers_lose_nothing() {
    for Subject { name, store, .. } in stores(&[]) {
        let now = SystemTime::now();
        let (id, lease) = create(&*store, 0, now);
        drop(lease);
        let per_writer = if name.contains("durability") { 5 } else { 50 };
        thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| {
                    for _ in 0..per_writer {
                        let (stored, mut lease) =
                            store.lock(&id.digest(), WAIT, now).unwrap().unwrap();
                        lease
                            .commit(&record(count(&stored.record) + 1, now), now)
                            .unwrap();
                    }
                });
            }
        });
        assert_eq!(
            count(&store.read(&id.digest(), now).unwrap().unwrap().record),
            16 * per_writer,
            "{name}"
        );
    }
}

#[test]
fn a_reader_sees_counts_that_only_grow() {
    for Subject { name, store, .. } in stores(&[]) {
        let now = SystemTime::now();
        let (id, mut lease) = create(&*store, 0, now);
        let is_done = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut last = 0;
                while !is_done.load(Ordering::Relaxed) {
                    let seen = count(&store.read(&id.digest(), now).unwrap().unwrap().record);
                    assert!(seen >= last, "{name}: {seen} after {last}");
                    last = seen;
                }
            });
            for number in 1..200 {
                lease.commit(&record(number, now), now).unwrap();
            }
            is_done.store(true, Ordering::Relaxed);
        });
    }
}

#[test]
fn a_destroyed_session_is_gone_for_whoever_waits_for_it() {
    for Subject { name, store, .. } in stores(&[]) {
        let now = SystemTime::now();
        let (id, lease) = create(&*store, 1, now);
        thread::scope(|scope| {
            let waiter = scope.spawn(|| store.lock(&id.digest(), WAIT, now).unwrap().is_none());
            lease.destroy().unwrap();
            assert!(waiter.join().unwrap(), "{name}");
        });
        assert!(store.read(&id.digest(), now).unwrap().is_none(), "{name}");
    }
}

#[test]
fn an_expired_session_is_not_found_and_never_comes_back() {
    for Subject { name, store, .. } in stores(&[]) {
        let now = SystemTime::now();
        let (id, lease) = create(&*store, 1, now);
        drop(lease);
        assert!(
            store.read(&id.digest(), later(now, 59)).unwrap().is_some(),
            "{name}"
        );
        assert!(
            store.read(&id.digest(), later(now, 121)).unwrap().is_none(),
            "{name}"
        );
        assert!(
            store
                .lock(&id.digest(), WAIT, later(now, 121))
                .unwrap()
                .is_none(),
            "{name}"
        );
        assert!(store.read(&id.digest(), now).unwrap().is_none(), "{name}");
    }
}

#[test]
fn a_clean_up_takes_the_expired_and_leaves_the_busy_and_the_live() {
    for Subject { name, store, .. } in counting_stores(&[]) {
        let now = SystemTime::now();
        drop(create(&*store, 1, now));
        let (busy, _lease) = create(&*store, 2, now);
        let (live, mut lease) = create(&*store, 3, now);
        lease.touch(later(now, 100)).unwrap();
        drop(lease);
        let report = store
            .delete_expired(&Sweep::new(), later(now, 100))
            .unwrap();
        assert_eq!(
            (report.deleted, report.busy, report.live),
            (1, 1, 1),
            "{name}: {report:?}"
        );
        assert!(
            store
                .read(&live.digest(), later(now, 100))
                .unwrap()
                .is_some(),
            "{name}"
        );
        assert!(store.read(&busy.digest(), now).unwrap().is_some(), "{name}");
        assert!(store.last_sweep(later(now, 100)).is_some(), "{name}");
    }
}

/// A lock in an engine lasts for `lockLease`; every other one as long as its lease.
#[test]
fn a_request_that_only_reads_and_outlasts_its_lock_has_nothing_to_lose() {
    for Subject { name, store, .. } in stores(&[("lockLease", "1s")]) {
        let now = SystemTime::now();
        let (id, mut slow) = create(&*store, 1, now);
        if matches!(name, "redis" | "redis-cluster" | "postgres" | "mysql") {
            // Whoever waits has it when the time is over.
            let (_, mut other) = store.lock(&id.digest(), WAIT, now).unwrap().unwrap();
            other.finish(&record(2, now), now).unwrap();
        } else {
            slow.commit(&record(2, now), now).unwrap();
        }
        slow.touch(later(now, 30)).expect(name);
        slow.touch(later(now, 59)).expect(name);
        drop(slow);
        let stored = store.read(&id.digest(), now).unwrap().unwrap();
        assert_eq!(count(&stored.record), 2, "{name}");
    }
}

#[test]
fn a_clean_up_ends_when_it_is_told_to() {
    for Subject { name, store, .. } in counting_stores(&[]) {
        let now = SystemTime::now();
        drop(create(&*store, 1, now));
        let is_over = AtomicBool::new(true);
        let clean_up = || {
            let sweep = Sweep::new().stop_when(&is_over);
            store.delete_expired(&sweep, later(now, 100)).unwrap()
        };
        let report = clean_up();
        assert_eq!((report.deleted, report.stopped_early), (0, true), "{name}");
        is_over.store(false, Ordering::Relaxed);
        let report = clean_up();
        assert_eq!((report.deleted, report.stopped_early), (1, false), "{name}");
    }
}

#[test]
fn a_dry_run_deletes_nothing() {
    for Subject { name, store, .. } in listed_stores() {
        let now = SystemTime::now();
        let (id, lease) = create(&*store, 1, now);
        drop(lease);
        let report = store
            .delete_expired(&Sweep::new().dry_run(true), later(now, 100))
            .unwrap();
        assert_eq!(report.deleted, 1, "{name}");
        assert!(store.read(&id.digest(), now).unwrap().is_some(), "{name}");
    }
}

#[test]
fn a_record_that_is_too_large_is_refused_and_the_old_one_stays() {
    for Subject { name, store, .. } in stores(&[("maxRecordBytes", "256")]) {
        let now = SystemTime::now();
        let (id, mut lease) = create(&*store, 1, now);
        let large = Record::new(now)
            .with_values(format!(r#"{{"":{{"a":"{}"}}}}"#, "x".repeat(300)).into_bytes());
        assert!(
            matches!(
                lease.commit(&large, now),
                Err(Error::TooLarge { limit: 256, .. })
            ),
            "{name}"
        );
        let other = SessionId::generate().unwrap();
        assert!(
            matches!(
                store.create(&other.digest(), &large, now),
                Err(Error::TooLarge { .. })
            ),
            "{name}"
        );
        assert_eq!(
            count(&store.read(&id.digest(), now).unwrap().unwrap().record),
            1,
            "{name}"
        );
    }
}

#[test]
fn at_the_cap_the_least_recently_used_goes_but_not_who_is_in_use() {
    for Subject { name, store, .. } in capped_stores(&[("maxSessions", "3")]) {
        let now = SystemTime::now();
        let at = |minute| later(now, minute);
        let (in_use, _lease) = create(&*store, 1, at(0));
        let mut ids = Vec::new();
        for minute in [5, 10, 15] {
            let (id, lease) = create(&*store, 1, at(minute));
            drop(lease);
            // A file is as old as the clock says; a touch says when it was used.
            store
                .lock(&id.digest(), WAIT, at(minute))
                .unwrap()
                .unwrap()
                .1
                .touch(at(minute))
                .unwrap();
            ids.push(id);
        }
        let lives = |id: &SessionId| store.read(&id.digest(), at(16)).unwrap().is_some();
        assert!(
            lives(&in_use) && !lives(&ids[0]) && lives(&ids[2]),
            "{name}"
        );
    }
}

#[test]
fn a_full_store_that_refuses_evicts_nobody() {
    let settings = [("maxSessions", "2"), ("whenFull", "refuse")];
    for Subject { name, store, .. } in capped_stores(&settings) {
        let now = SystemTime::now();
        let ids = [create(&*store, 1, now).0, create(&*store, 2, now).0];
        let refused = store.create(
            &SessionId::generate().unwrap().digest(),
            &record(3, now),
            now,
        );
        assert!(matches!(refused, Err(Error::Full { limit: 2 })), "{name}");
        assert!(
            ids.iter()
                .all(|id| store.read(&id.digest(), now).unwrap().is_some()),
            "{name}"
        );
    }
}

#[test]
fn a_session_ends_by_the_idle_time_of_its_record_whatever_the_timeout_is() {
    for Subject { name, store, .. } in listed_stores() {
        let now = SystemTime::now();
        for (idle, minutes) in [(300, 5), (4 * 3600, 240)] {
            let id = SessionId::generate().unwrap();
            let record = record_of(&format!(r#""idle":{idle}"#), now);
            drop(store.create(&id.digest(), &record, now).unwrap().unwrap());
            let [before, after] = [minutes - 1, minutes + 2].map(|minutes| later(now, minutes));
            let report = store.delete_expired(&Sweep::new(), before).unwrap();
            assert_eq!(report.deleted, 0, "{name}");
            assert!(
                store.peek(&id.digest(), before).unwrap().is_some(),
                "{name}"
            );
            // To be used makes it last for as long again.
            store.read(&id.digest(), before).unwrap().unwrap();
            assert!(store.peek(&id.digest(), after).unwrap().is_some(), "{name}");
            let end = later(before, minutes + 2);
            assert!(store.peek(&id.digest(), end).unwrap().is_none(), "{name}");
            let report = store.delete_expired(&Sweep::new(), later(end, 61)).unwrap();
            assert_eq!(report.deleted, 1, "{name}");
        }
    }
}

#[test]
fn the_live_sessions_of_a_user_are_found_and_nobody_elses() {
    for Subject { name, store, .. } in listed_stores() {
        let now = SystemTime::now();
        let begin = |user: Option<&str>| {
            let id = SessionId::generate().unwrap();
            let record = record(1, now).with_user(user);
            drop(store.create(&id.digest(), &record, now).unwrap().unwrap());
            id
        };
        // A store with short keys lists the beginning of a digest.
        let short = |digest: &SessionDigest| digest.as_str()[..40].to_owned();
        let found = |user| {
            let found = store.sessions_of(user, now).unwrap();
            found.iter().map(short).collect::<BTreeSet<_>>()
        };
        let sorted = |ids: &[&SessionId]| {
            let digests = ids.iter().map(|id| short(&id.digest()));
            digests.collect::<BTreeSet<_>>()
        };
        let (one, two) = (begin(Some("ada")), begin(Some("ada")));
        let (other, nobodys) = (begin(Some("grace")), begin(None));
        assert_eq!(found("ada"), sorted(&[&one, &two]), "{name}");
        assert_eq!(found("nobody"), sorted(&[]), "{name}");
        let lock = |id: &SessionId| store.lock(&id.digest(), WAIT, now).unwrap().unwrap().1;
        lock(&one).destroy().unwrap();
        for id in [&other, &nobodys] {
            let of_ada = record(2, now).with_user(Some("ada"));
            lock(id).commit(&of_ada, now).unwrap();
        }
        assert_eq!(found("ada"), sorted(&[&two, &other, &nobodys]), "{name}");
        assert_eq!(found("grace"), sorted(&[]), "{name}");
        let end = later(now, 121);
        assert_eq!(store.sessions_of("ada", end).unwrap(), [], "{name}");
    }
}

#[test]
fn a_store_that_is_removed_holds_no_session_and_can_be_installed_again() {
    for Subject { name, store, .. } in listed_stores() {
        let now = SystemTime::now();
        assert!(store.install().is_empty(), "{name}");
        let ids = [create(&*store, 1, now).0, create(&*store, 2, now).0];
        let done = store.uninstall();
        assert_eq!((done.sessions, done.errors.len()), (2, 0), "{name}");
        for id in &ids {
            assert!(is_gone(name, &*store, &id.digest()), "{name}");
        }
        assert!(store.install().is_empty(), "{name}");
        let (id, _lease) = create(&*store, 3, now);
        assert!(store.read(&id.digest(), now).unwrap().is_some(), "{name}");
        store.flush().unwrap();
    }
}
