//! What a change of id leaves under the id before: found by its id, and no session.

use std::ops::ControlFlow;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{StoreContract, WAIT, later, record, record_of};
use crate::{Error, Lease, Record, SessionDigest, SessionId, Store, Stored, Sweep};

pub(super) fn check(contract: &StoreContract) {
    contract.run(a_marker_is_found_by_its_id_and_the_waiting_have_its_lock_in_turn);
    if contract.is_listed {
        contract.run(a_marker_is_not_listed_and_is_no_session_of_a_user);
    }
    if contract.is_counted {
        contract.run(a_marker_is_swept_when_its_time_is_over_and_not_before_whatever_the_timeout);
    }
    if contract.is_capped {
        contract.run(a_full_store_that_refuses_lets_every_session_log_in_and_counts_no_marker);
        contract.run(a_login_at_the_cap_evicts_no_session_and_no_marker_goes_in_place_of_one);
        contract.run(what_a_change_of_id_with_a_grace_leaves_is_no_session_at_the_cap);
    }
}

/// So long a marker is kept.
const LIFE: u64 = 60;

fn after(now: SystemTime, seconds: u64) -> SystemTime {
    now + Duration::from_secs(seconds)
}

/// A marker as a change of id writes it now.
fn marker(now: SystemTime) -> Record {
    let now = now.duration_since(UNIX_EPOCH).unwrap().as_secs();
    let end = now + LIFE + 1;
    let text = format!(
        r#"{{"v":1,"created":{now},"expires":{end},"idle":{LIFE},"changed":{now},"replaced":"marker","values":{{}}}}"#
    );
    let record = Record::from_json(text.into_bytes()).unwrap();
    assert!(record.is_marker());
    record
}

/// A session of a user that lives for an hour whatever `timeout` says.
fn begin(store: &dyn Store, now: SystemTime) -> (SessionId, Box<dyn Lease>) {
    let id = SessionId::generate().unwrap();
    let text = String::from_utf8(record(1, now).with_user(Some("ada")).to_json()).unwrap();
    let text = text.replacen(r#","user""#, r#","idle":3600,"user""#, 1);
    let record = Record::from_json(text.into_bytes()).unwrap();
    assert_eq!(record.idle(), Some(Duration::from_secs(3600)));
    let lease = store.create(&id.digest(), &record, now).unwrap();
    (id, lease.expect("a new id"))
}

/// Gives a session a new id, as a login does.
fn change_id(store: &dyn Store, old: &SessionId, now: SystemTime) -> Result<SessionId, Error> {
    let (stored, mut lease) = store.lock(&old.digest(), WAIT, now)?.expect("a session");
    let id = SessionId::generate().unwrap();
    let record = stored.record.succeeding(&old.digest(), now);
    drop(store.create(&id.digest(), &record, now)?.expect("a new id"));
    lease.finish(&marker(now), now)?;
    Ok(id)
}

fn is_marked(store: &dyn Store, id: &SessionId, now: SystemTime) -> bool {
    let stored = store.read(&id.digest(), now).unwrap();
    stored.is_some_and(|stored| stored.record.is_marker())
}

fn is_live(store: &dyn Store, id: &SessionId, now: SystemTime) -> bool {
    let stored = store.read(&id.digest(), now).unwrap();
    stored.is_some_and(|stored| !stored.record.is_marker())
}

fn listed(store: &dyn Store, now: SystemTime) -> Vec<String> {
    let mut found = Vec::new();
    let mut visit = |session: &SessionDigest, _: Result<Stored, Error>| {
        // A store with short keys shows the beginning of a digest.
        found.push(session.as_str()[..40].to_owned());
        ControlFlow::Continue(())
    };
    store.for_each(&mut visit, now).unwrap();
    found.sort();
    found
}

fn names(ids: &[&SessionId]) -> Vec<String> {
    let name = |id: &&SessionId| id.digest().as_str()[..40].to_owned();
    let mut names: Vec<_> = ids.iter().map(name).collect();
    names.sort();
    names
}

fn a_marker_is_found_by_its_id_and_the_waiting_have_its_lock_in_turn(contract: &StoreContract) {
    let (name, store) = contract.open(&[]);
    let now = SystemTime::now();
    let (old, _) = begin(&*store, now);
    std::thread::scope(|scope| {
        let (stored, mut lease) = store.lock(&old.digest(), WAIT, now).unwrap().unwrap();
        assert!(!stored.record.is_marker(), "{name}");
        let wait = || {
            let (stored, _lease) = store.lock(&old.digest(), WAIT, now).unwrap().expect(name);
            assert!(stored.record.is_marker(), "{name}");
        };
        let waiters = [scope.spawn(wait), scope.spawn(wait)];
        lease.commit(&marker(now), now).unwrap();
        drop(lease);
        for waiter in waiters {
            waiter.join().unwrap();
        }
    });
    let (_, lease) = store.lock(&old.digest(), WAIT, now).unwrap().expect(name);
    // A reader does not wait.
    assert!(is_marked(&*store, &old, now), "{name}");
    let taken = store.create(&old.digest(), &record(2, now), now).unwrap();
    assert!(taken.is_none(), "{name}");
    lease.destroy().unwrap();
    assert!(!is_marked(&*store, &old, now), "{name}");
}

fn a_marker_is_not_listed_and_is_no_session_of_a_user(contract: &StoreContract) {
    let (name, store) = contract.open(&[]);
    let now = SystemTime::now();
    let (old, _) = begin(&*store, now);
    let new = change_id(&*store, &old, now).unwrap();
    assert_eq!(listed(&*store, now), names(&[&new]), "{name}");
    let of_user = store.sessions_of("ada", now).unwrap();
    let of_user: Vec<_> = of_user.iter().map(|found| &found.as_str()[..40]).collect();
    assert_eq!(of_user, names(&[&new]), "{name}");
}

fn a_marker_is_swept_when_its_time_is_over_and_not_before_whatever_the_timeout(
    contract: &StoreContract,
) {
    for timeout in ["1s", "60", "36500d"] {
        let (name, store) = contract.open(&[("timeout", timeout)]);
        let now = SystemTime::now();
        let name = format!("{name}, timeout = {timeout}");
        let (old, _) = begin(&*store, now);
        let new = change_id(&*store, &old, now).unwrap();
        let sweep = |seconds| {
            let report = store.delete_expired(&Sweep::new(), after(now, seconds));
            let report = report.unwrap();
            (report.busy, report.live)
        };
        let held = store.lock(&old.digest(), WAIT, now).unwrap();
        assert_eq!(sweep(LIFE - 20), (0, 1), "{name}");
        // No use makes it live longer.
        let (_, mut lease) = held.unwrap();
        lease.touch(after(now, LIFE - 10)).unwrap();
        drop(lease);
        assert!(is_marked(&*store, &old, after(now, LIFE - 5)), "{name}");
        assert_eq!(sweep(LIFE), (0, 1), "{name}");
        assert!(is_marked(&*store, &old, after(now, LIFE)), "{name}");
        let over = LIFE + 3;
        assert!(!is_marked(&*store, &old, after(now, over)), "{name}");
        assert_eq!(sweep(over), (0, 1), "{name}");
        assert!(is_live(&*store, &new, after(now, over)), "{name}");
        // Now by the clock, too, there is nothing left of it.
        assert!(!is_marked(&*store, &old, now), "{name}");
    }
}

/// What a full store that refuses still takes in.
#[track_caller]
fn is_full(name: &str, store: &dyn Store, limit: u64, now: SystemTime) {
    let [id, elsewhere] = [(); 2].map(|()| SessionId::generate().unwrap().digest());
    let record = record(3, now);
    // Nor one that has the place of another in another store.
    for record in [record.clone().succeeding(&elsewhere, now), record] {
        match store.create(&id, &record, now) {
            Err(Error::Full { .. }) => {}
            Err(error) => panic!("{name}: {error}"),
            Ok(_) => panic!("{name}: more than {limit} sessions"),
        }
    }
}

fn a_full_store_that_refuses_lets_every_session_log_in_and_counts_no_marker(
    contract: &StoreContract,
) {
    let settings = [("maxSessions", "3"), ("whenFull", "refuse")];
    let (name, store) = contract.open(&settings);
    let now = SystemTime::now();
    let mut ids = [(); 3].map(|()| begin(&*store, now).0);
    is_full(name, &*store, 3, now);
    for _ in 0..4 {
        for id in &mut ids {
            *id = change_id(&*store, id, now).expect(name);
        }
    }
    assert_eq!(listed(&*store, now), names(&ids.each_ref()), "{name}");
    is_full(name, &*store, 3, now);
    // As many fit as have left, while markers are kept and when they are swept by and by.
    for seconds in [0, LIFE + 3, LIFE + 3, LIFE + 3] {
        let now = after(now, seconds);
        store
            .delete_expired(&Sweep::new().max_files(5), now)
            .unwrap();
        is_full(name, &*store, 3, now);
        let (_, lease) = store.lock(&ids[0].digest(), WAIT, now).unwrap().unwrap();
        lease.destroy().unwrap();
        ids[0] = begin(&*store, now).0;
        is_full(name, &*store, 3, now);
    }
    let now = after(now, LIFE + 3);
    let report = store.delete_expired(&Sweep::new(), now).unwrap();
    assert_eq!((report.deleted, report.live), (0, 3), "{name}");
    is_full(name, &*store, 3, now);
}

fn a_login_at_the_cap_evicts_no_session_and_no_marker_goes_in_place_of_one(
    contract: &StoreContract,
) {
    let (name, store) = contract.open(&[("maxSessions", "3")]);
    let start = SystemTime::now();
    let at = |minute: u64| after(start, 60 * minute);
    let mut ids = Vec::new();
    for minute in [0, 5, 10] {
        let (id, mut lease) = begin(&*store, at(minute));
        lease.touch(at(minute)).unwrap();
        // A file is as old as the clock says; a touch says when it was used.
        drop(lease);
        let found = store.lock(&id.digest(), WAIT, at(minute)).unwrap();
        found.unwrap().1.touch(at(minute)).unwrap();
        ids.push(id);
    }
    let now = at(15);
    // The one that would have to go next logs in, again and again.
    let mut own = ids[0].clone();
    let mut left = Vec::new();
    for _ in 0..4 {
        left.push(own.clone());
        own = change_id(&*store, &own, now).expect(name);
        let found = store.lock(&own.digest(), WAIT, now).unwrap();
        found.unwrap().1.touch(now).unwrap();
    }
    let live = [&own, &ids[1], &ids[2]];
    assert_eq!(listed(&*store, now), names(&live), "{name}");
    let (new, _) = begin(&*store, now);
    let live = [&own, &ids[2], &new];
    assert_eq!(listed(&*store, now), names(&live), "{name}");
    for old in &left {
        assert!(is_marked(&*store, old, now), "{name}");
    }
}

fn what_a_change_of_id_with_a_grace_leaves_is_no_session_at_the_cap(contract: &StoreContract) {
    let (name, store) = contract.open(&[("maxSessions", "3")]);
    let now = SystemTime::now();
    let at = |minute| later(now, minute);
    let lock = |id: &SessionId, at| store.lock(&id.digest(), WAIT, at).unwrap().unwrap().1;
    let begin = |record: &Record, minute| {
        let id = SessionId::generate().unwrap();
        let lease = store.create(&id.digest(), record, at(minute));
        drop(lease.expect(name).expect("a new id"));
        // A file is as old as the clock says; a touch says when it was used.
        lock(&id, at(minute)).touch(at(minute)).unwrap();
        id
    };
    let lives = |id: &SessionId| store.peek(&id.digest(), at(20)).unwrap().is_some();
    let ids = [5, 10, 15].map(|minute| begin(&record(1, now), minute));
    let [old, oldest, other] = &ids;
    let mut lease = lock(old, at(20));
    let new = begin(&record(2, now).succeeding(&old.digest(), at(20)), 20);
    let end = at(25).duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let copy = format!(r#""expires":{},"replaced":"copy""#, end.as_secs());
    lease.finish(&record_of(&copy, now), at(20)).unwrap();
    drop(lease);
    assert!(ids.iter().chain([&new]).all(lives), "{name}");
    let next = begin(&record(4, now), 20);
    assert!([old, other, &new, &next].into_iter().all(lives), "{name}");
    assert!(!lives(oldest), "{name}");
}
