//! What is created, committed, read, destroyed, expired and cleaned up.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use super::{StoreContract, WAIT, count, counted, create, later, record, record_of};
use crate::{Error, Record, SessionId, Sweep, SweepEvent};

pub(super) fn check(contract: &StoreContract) {
    contract.run(what_is_absent_is_none);
    contract.run(what_was_created_and_committed_is_found);
    contract.run(a_taken_id_is_not_given_twice);
    contract.run(a_lease_that_is_dropped_writes_nothing_and_unlocks);
    contract.run(a_second_lease_is_refused_in_time_and_a_reader_is_not);
    contract.run(a_request_that_takes_its_time_holds_up_no_other_session_and_no_reader);
    contract.run(sixteen_writers_lose_nothing);
    contract.run(a_reader_sees_counts_that_only_grow);
    contract.run(a_destroyed_session_is_gone_for_requests_that_wait_for_it);
    contract.run(an_expired_session_is_not_found_and_never_comes_back);
    contract.run(a_request_that_only_reads_and_outlasts_its_lock_has_nothing_to_lose);
    contract.run(an_expired_session_that_is_kept_stays_expired_until_its_caller_destroys_it);
    contract.run(a_record_that_is_too_large_is_refused_and_the_old_one_stays);
    if contract.is_listed {
        contract.run(a_dry_run_deletes_nothing);
        contract.run(a_session_ends_by_the_idle_time_of_its_record_whatever_the_timeout_is);
    }
    if contract.is_counted {
        contract.run(a_clean_up_takes_the_expired_and_leaves_the_busy_and_the_live);
        contract.run(a_clean_up_ends_when_it_is_told_to);
        contract.run(a_clean_up_keeps_to_its_limits_and_reports_what_it_does);
    }
    if contract.is_capped {
        contract.run(at_the_cap_the_least_recently_used_goes_but_not_one_in_use);
        contract.run(a_full_store_that_refuses_evicts_no_session_until_some_have_expired);
        contract.run(a_use_noted_by_a_clock_ahead_counts_from_the_next_clean_up_on);
    }
}

fn what_is_absent_is_none(contract: &StoreContract) {
    let (name, store) = contract.open(&[]);
    let absent = SessionId::generate().unwrap().digest();
    let locked = store.lock(&absent, WAIT, SystemTime::now()).unwrap();
    assert!(locked.is_none(), "{name}");
    assert_eq!(counted(&*store, &absent), None, "{name}");
}

fn what_was_created_and_committed_is_found(contract: &StoreContract) {
    let (name, store) = contract.open(&[]);
    let now = SystemTime::now();
    let (id, mut lease) = create(&*store, 1, now);
    assert_eq!(counted(&*store, &id.digest()), Some(1), "{name}");
    lease.commit(&record(2, now), now).unwrap();
    drop(lease);
    let (stored, _lease) = store.lock(&id.digest(), WAIT, now).unwrap().unwrap();
    assert_eq!(count(&stored.record), 2, "{name}");
}

fn a_taken_id_is_not_given_twice(contract: &StoreContract) {
    let (name, store) = contract.open(&[]);
    let now = SystemTime::now();
    let (id, _lease) = create(&*store, 1, now);
    let again = store.create(&id.digest(), &record(2, now), now).unwrap();
    assert!(again.is_none(), "{name}");
    assert_eq!(counted(&*store, &id.digest()), Some(1), "{name}");
}

fn a_lease_that_is_dropped_writes_nothing_and_unlocks(contract: &StoreContract) {
    let (name, store) = contract.open(&[]);
    let now = SystemTime::now();
    let (id, _) = create(&*store, 1, now);
    drop(store.lock(&id.digest(), WAIT, now).unwrap().expect(name));
    let (stored, _lease) = store.lock(&id.digest(), WAIT, now).unwrap().expect(name);
    assert_eq!(count(&stored.record), 1, "{name}");
}

fn a_second_lease_is_refused_in_time_and_a_reader_is_not(contract: &StoreContract) {
    let (name, store) = contract.open(&[]);
    let now = SystemTime::now();
    let (id, _lease) = create(&*store, 1, now);
    let refused = store.lock(&id.digest(), Duration::from_millis(20), now);
    assert!(matches!(refused, Err(Error::Busy { .. })), "{name}");
    assert!(store.read(&id.digest(), now).unwrap().is_some(), "{name}");
}

fn a_request_that_takes_its_time_holds_up_no_other_session_and_no_reader(contract: &StoreContract) {
    let (name, store) = contract.open(&[("lockTimeout", "90s")]);
    let now = SystemTime::now();
    let (held, mut slow) = create(&*store, 1, now);
    let (other, _) = create(&*store, 1, now);
    slow.commit(&record(2, now), now).unwrap();
    let free = store.lock(&other.digest(), Duration::ZERO, now);
    let (_, mut quick) = free.unwrap().expect(name);
    quick.commit(&record(2, now), now).unwrap();
    quick.destroy().unwrap();
    // That it was read would have to be noted by now.
    let started = Instant::now();
    let read = store.read(&held.digest(), later(now, 30)).unwrap();
    assert!(read.is_some(), "{name}");
    assert!(started.elapsed() < WAIT, "{name}: the reader has waited");
    slow.finish(&record(3, now), now).unwrap();
    drop(slow);
    assert_eq!(counted(&*store, &held.digest()), Some(3), "{name}");
}

fn sixteen_writers_lose_nothing(contract: &StoreContract) {
    let (name, store) = contract.open(&[]);
    let now = SystemTime::now();
    let (id, _) = create(&*store, 0, now);
    let per_writer = if contract.is_slow { 5 } else { 50 };
    thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                for _ in 0..per_writer {
                    let (stored, mut lease) = store.lock(&id.digest(), WAIT, now).unwrap().unwrap();
                    let next = record(count(&stored.record) + 1, now);
                    lease.commit(&next, now).unwrap();
                }
            });
        }
    });
    let expected = Some(16 * per_writer);
    assert_eq!(counted(&*store, &id.digest()), expected, "{name}");
}

fn a_reader_sees_counts_that_only_grow(contract: &StoreContract) {
    let (name, store) = contract.open(&[]);
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

fn a_destroyed_session_is_gone_for_requests_that_wait_for_it(contract: &StoreContract) {
    let (name, store) = contract.open(&[]);
    let now = SystemTime::now();
    let (id, lease) = create(&*store, 1, now);
    thread::scope(|scope| {
        let waiter = scope.spawn(|| store.lock(&id.digest(), WAIT, now).unwrap().is_none());
        lease.destroy().unwrap();
        assert!(waiter.join().unwrap(), "{name}");
    });
    assert!(store.read(&id.digest(), now).unwrap().is_none(), "{name}");
}

fn an_expired_session_is_not_found_and_never_comes_back(contract: &StoreContract) {
    let (name, store) = contract.open(&[]);
    let now = SystemTime::now();
    let (id, _) = create(&*store, 1, now);
    let is_found = |now| store.read(&id.digest(), now).unwrap().is_some();
    let end = later(now, 121);
    assert!(is_found(later(now, 59)) && !is_found(end), "{name}");
    let locked = store.lock(&id.digest(), WAIT, end).unwrap();
    assert!(locked.is_none() && !is_found(now), "{name}");
}

fn a_clean_up_takes_the_expired_and_leaves_the_busy_and_the_live(contract: &StoreContract) {
    let (name, store) = contract.open(&[]);
    let now = SystemTime::now();
    drop(create(&*store, 1, now));
    let (busy, _lease) = create(&*store, 2, now);
    let (live, mut lease) = create(&*store, 3, now);
    let after = later(now, 100);
    lease.touch(after).unwrap();
    drop(lease);
    let report = store.delete_expired(&Sweep::new(), after).unwrap();
    let seen = (report.deleted, report.busy, report.live);
    assert_eq!(seen, (1, 1, 1), "{name}: {report:?}");
    let live = store.read(&live.digest(), after).unwrap();
    let busy = store.read(&busy.digest(), now).unwrap();
    assert!(live.is_some() && busy.is_some(), "{name}");
    assert!(store.last_sweep(after).is_some(), "{name}");
}

fn a_request_that_only_reads_and_outlasts_its_lock_has_nothing_to_lose(contract: &StoreContract) {
    let (name, store) = contract.open(&[("lockLease", "1s")]);
    let now = SystemTime::now();
    let (id, mut slow) = create(&*store, 1, now);
    if contract.has_lock_lease {
        // A request that waits has it when the time is over.
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

fn a_clean_up_ends_when_it_is_told_to(contract: &StoreContract) {
    let (name, store) = contract.open(&[]);
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

fn a_clean_up_keeps_to_its_limits_and_reports_what_it_does(contract: &StoreContract) {
    let (name, store) = contract.open(&[]);
    let now = SystemTime::now();
    for number in 0..5 {
        create(&*store, number, now);
    }
    let (after, seen) = (later(now, 100), AtomicU64::new(0));
    let observer = |event: SweepEvent<'_>| {
        if let SweepEvent::Deleted {
            age, bytes, reason, ..
        } = event
        {
            assert!(age >= Duration::from_secs(3600), "{name}: {age:?}");
            assert!(bytes > 20 && reason == "expired", "{name}: {bytes}");
            seen.fetch_add(1, Ordering::Relaxed);
        }
    };
    let clean_up = |sweep: Sweep<'_>| {
        let report = store.delete_expired(&sweep, after).unwrap();
        (report.deleted, report.stopped_early)
    };
    let limited = Sweep::new().max_files(2).observer(&observer);
    assert_eq!(clean_up(limited), (2, true), "{name}");
    assert_eq!(seen.load(Ordering::Relaxed), 2, "{name}");
    let no_time = Sweep::new().max_time(Duration::ZERO);
    assert_eq!(clean_up(no_time), (0, true), "{name}");
    assert_eq!(clean_up(Sweep::new().max_files(0)), (0, true), "{name}");
    let enough = Sweep::new().max_files(3).max_time(Duration::MAX);
    assert_eq!(clean_up(enough), (3, false), "{name}");
    let age = store.last_sweep(later(after, 1));
    assert_eq!(age.map(|age| age.as_secs() / 60), Some(1), "{name}");
}

fn an_expired_session_that_is_kept_stays_expired_until_its_caller_destroys_it(
    contract: &StoreContract,
) {
    let (_, store) = contract.open(&[]);
    if !store.keeps_expired() {
        return;
    }
    drop(store);
    let (name, store) = contract.open(&[("expiredBy", "cleanup")]);
    let now = SystemTime::now();
    let (id, _) = create(&*store, 1, now);
    let (session, after) = (id.digest(), later(now, 100));
    let found = store.lock(&session, WAIT, after).unwrap();
    assert!(found.is_none(), "{name}");
    let kept = Mutex::new(Vec::new());
    let observer = |event: SweepEvent<'_>| {
        if let SweepEvent::Kept { session, as_of } = event {
            kept.lock().unwrap().push((*session, as_of));
        }
    };
    let sweep = Sweep::new().each(&|_, _| Ok(())).observer(&observer);
    let report = store.delete_expired(&sweep, after).unwrap();
    assert_eq!((report.deleted, report.kept), (0, 1), "{name}");
    let kept = kept.into_inner().unwrap();
    let [(found, as_of)] = kept[..] else {
        panic!("{name}: {kept:?}");
    };
    assert_eq!(found, session, "{name}");
    let lock = || store.lock(&session, WAIT, as_of).unwrap();
    let (mut stored, mut lease) = lock().expect(name);
    assert_eq!(count(&stored.record), 1, "{name}");
    stored.record.set_tries(1, later(now, 60));
    lease.commit(&stored.record, as_of).unwrap();
    drop(lease);
    assert!(store.read(&session, after).unwrap().is_none(), "{name}");
    let (stored, lease) = lock().expect(name);
    assert_eq!((count(&stored.record), stored.record.tries()), (1, 1));
    lease.destroy().unwrap();
    assert!(lock().is_none(), "{name}");
}

fn a_dry_run_deletes_nothing(contract: &StoreContract) {
    let (name, store) = contract.open(&[]);
    let now = SystemTime::now();
    let (id, _) = create(&*store, 1, now);
    let trial = Sweep::new().dry_run(true);
    let report = store.delete_expired(&trial, later(now, 100)).unwrap();
    assert_eq!(report.deleted, 1, "{name}");
    assert!(store.read(&id.digest(), now).unwrap().is_some(), "{name}");
}

fn a_record_that_is_too_large_is_refused_and_the_old_one_stays(contract: &StoreContract) {
    let (name, store) = contract.open(&[("maxRecordBytes", "256")]);
    let now = SystemTime::now();
    let (id, mut lease) = create(&*store, 1, now);
    let large = Record::new(now)
        .with_values(format!(r#"{{"":{{"a":"{}"}}}}"#, "x".repeat(300)).into_bytes());
    let is_refused = |error| matches!(error, Some(Error::TooLarge { limit: 256, .. }));
    assert!(is_refused(lease.commit(&large, now).err()), "{name}");
    let other = SessionId::generate().unwrap().digest();
    let created = store.create(&other, &large, now);
    assert!(is_refused(created.err()), "{name}");
    assert_eq!(counted(&*store, &id.digest()), Some(1), "{name}");
}

fn at_the_cap_the_least_recently_used_goes_but_not_one_in_use(contract: &StoreContract) {
    let (name, store) = contract.open(&[("maxSessions", "3")]);
    let now = SystemTime::now();
    let at = |minute| later(now, minute);
    let (in_use, _lease) = create(&*store, 1, at(0));
    let mut ids = Vec::new();
    for minute in [5, 10, 15] {
        let (id, _) = create(&*store, 1, at(minute));
        // A file is as old as the clock says; a touch says when it was used.
        let locked = store.lock(&id.digest(), WAIT, at(minute)).unwrap();
        locked.expect(name).1.touch(at(minute)).unwrap();
        ids.push(id);
    }
    let lives = |id: &SessionId| store.read(&id.digest(), at(16)).unwrap().is_some();
    let lives = [&in_use, &ids[0], &ids[2]].map(lives);
    assert_eq!(lives, [true, false, true], "{name}");
}

fn a_full_store_that_refuses_evicts_no_session_until_some_have_expired(contract: &StoreContract) {
    let settings = [("maxSessions", "2"), ("whenFull", "refuse")];
    let (name, store) = contract.open(&settings);
    let now = SystemTime::now();
    let ids = [create(&*store, 1, now).0, create(&*store, 2, now).0];
    let third = SessionId::generate().unwrap().digest();
    let refused = store.create(&third, &record(3, now), now);
    assert!(matches!(refused, Err(Error::Full { limit: 2 })), "{name}");
    let counts = ids.map(|id| counted(&*store, &id.digest()));
    assert_eq!(counts, [Some(1), Some(2)], "{name}");
    create(&*store, 3, later(now, 100));
}

fn a_use_noted_by_a_clock_ahead_counts_from_the_next_clean_up_on(contract: &StoreContract) {
    let (name, store) = contract.open(&[]);
    let now = SystemTime::now();
    let ahead = later(now, 365 * 24 * 60);
    create(&*store, 1, ahead).1.touch(ahead).unwrap();
    let deleted = |now| {
        let report = store.delete_expired(&Sweep::new(), now).unwrap();
        assert!(report.failures.is_empty(), "{name}: {report:?}");
        report.deleted
    };
    assert_eq!(deleted(now) + deleted(later(now, 100)), 1, "{name}");
}

fn a_session_ends_by_the_idle_time_of_its_record_whatever_the_timeout_is(contract: &StoreContract) {
    let (name, store) = contract.open(&[]);
    let now = SystemTime::now();
    for (idle, minutes) in [(300, 5), (4 * 3600, 240)] {
        let id = SessionId::generate().unwrap();
        let record = record_of(&format!(r#""idle":{idle}"#), now);
        drop(store.create(&id.digest(), &record, now).unwrap().unwrap());
        let [before, after] = [minutes - 1, minutes + 2].map(|minutes| later(now, minutes));
        let report = store.delete_expired(&Sweep::new(), before).unwrap();
        assert_eq!(report.deleted, 0, "{name}");
        let lives = |now| store.peek(&id.digest(), now).unwrap().is_some();
        assert!(lives(before), "{name}");
        // To be used makes it last for as long again.
        store.read(&id.digest(), before).unwrap().unwrap();
        let end = later(before, minutes + 2);
        assert!(lives(after) && !lives(end), "{name}");
        let report = store.delete_expired(&Sweep::new(), later(end, 61)).unwrap();
        assert_eq!(report.deleted, 1, "{name}");
    }
}
