//! What an administrator asks of a store: all sessions, those of a user, making and removing it.

use std::ops::ControlFlow;
use std::time::{Duration, SystemTime};

use super::{StoreContract, WAIT, count, create, later, record};
use crate::{Error, SessionDigest, SessionId, Store, Stored, Sweep};

pub(super) fn check(contract: &StoreContract) {
    contract.run(a_store_can_be_installed_twice_and_keeps_what_it_has);
    contract.run(looking_makes_nothing);
    if contract.is_listed {
        contract.run(every_live_session_is_shown_once_whether_or_not_it_is_locked);
        contract.run(a_listing_ends_when_the_callback_has_seen_enough);
        contract.run(many_sessions_are_listed_as_completely_as_few);
        contract.run(a_callback_may_use_the_sessions_that_it_is_shown);
        contract.run(the_sessions_of_a_user_are_found_and_no_others);
        contract.run(the_lock_of_a_user_is_had_by_one_alone);
        contract.run(sessions_that_are_counted_under_the_lock_of_a_user_are_never_more);
        contract.run(an_uninstalled_store_holds_nothing_leaves_nothing_and_can_be_used_again);
    }
}

/// Whether a listing shows this session: by its digest, or by the first digits of it and zeros.
fn shows(found: &[SessionDigest], id: &SessionId) -> bool {
    let digest = id.digest();
    let key = format!("{:0<64}", &digest.as_str()[..40]);
    found
        .iter()
        .any(|shown| *shown == digest || shown.as_str() == key)
}

fn list(store: &dyn Store, now: SystemTime) -> (Vec<SessionDigest>, u64) {
    let (mut found, mut sum) = (Vec::new(), 0);
    let mut callback = |session: &SessionDigest, stored: Result<Stored, Error>| {
        found.push(*session);
        sum += count(&stored.unwrap().record);
        ControlFlow::Continue(())
    };
    store.for_each(&mut callback, now).unwrap();
    (found, sum)
}

fn every_live_session_is_shown_once_whether_or_not_it_is_locked(contract: &StoreContract) {
    let (name, store) = contract.open(&[]);
    let now = SystemTime::now();
    assert!(list(&*store, now).0.is_empty(), "{name}");
    let (locked, mut lease) = create(&*store, 1, now);
    let (free, _) = create(&*store, 10, now);
    let (found, sum) = list(&*store, now);
    assert_eq!((found.len(), sum), (2, 11), "{name}");
    assert!(shows(&found, &locked) && shows(&found, &free), "{name}");

    lease.touch(later(now, 100)).unwrap();
    let (found, sum) = list(&*store, later(now, 100));
    assert_eq!((found.len(), sum), (1, 1), "{name}");
    assert!(shows(&found, &locked), "{name}: {found:?}");
}

fn a_listing_ends_when_the_callback_has_seen_enough(contract: &StoreContract) {
    let (name, store) = contract.open(&[]);
    let now = SystemTime::now();
    for number in 0..3 {
        create(&*store, number, now);
    }
    let mut seen = 0;
    let mut callback = |_: &SessionDigest, _: Result<Stored, Error>| {
        seen += 1;
        ControlFlow::Break(())
    };
    store.for_each(&mut callback, now).unwrap();
    assert_eq!(seen, 1, "{name}");
}

fn many_sessions_are_listed_as_completely_as_few(contract: &StoreContract) {
    let (name, store) = contract.open(&[]);
    // Once is enough where every creation waits for the disk.
    let number = if contract.is_slow { 1 } else { 600 };
    let now = SystemTime::now();
    for _ in 0..number {
        create(&*store, 1, now);
    }
    assert_eq!(list(&*store, now).1, number, "{name}");
}

fn a_callback_may_use_the_sessions_that_it_is_shown(contract: &StoreContract) {
    let (name, store) = contract.open(&[]);
    let now = SystemTime::now();
    let ids = [1, 2, 3].map(|number| create(&*store, number, now).0);
    let mut destroyed = 0;
    let mut callback = |session: &SessionDigest, _: Result<Stored, Error>| {
        let (_, lease) = store.lock(session, WAIT, now).unwrap().expect(name);
        lease.destroy().unwrap();
        destroyed += 1;
        ControlFlow::Continue(())
    };
    store.for_each(&mut callback, now).unwrap();
    assert_eq!(destroyed, 3, "{name}");
    for id in ids {
        assert!(store.read(&id.digest(), now).unwrap().is_none(), "{name}");
    }
}

fn the_sessions_of_a_user_are_found_and_no_others(contract: &StoreContract) {
    let (name, store) = contract.open(&[]);
    let now = SystemTime::now();
    let begin = |user: Option<&str>| {
        let id = SessionId::generate().unwrap();
        let lease = store.create(&id.digest(), &record(1, now).with_user(user), now);
        (id, lease.unwrap().expect("a new id"))
    };
    let found = |user, expected: &[&SessionId]| {
        let found = store.sessions_of(user, now).unwrap();
        assert_eq!(found.len(), expected.len(), "{name}: {user}");
        let is_it = expected.iter().all(|id| shows(&found, id));
        assert!(is_it, "{name}: {user}");
    };
    let (phone, phone_lease) = begin(Some("ada"));
    let (desk, mut desk_lease) = begin(Some("ada"));
    let (other, mut other_lease) = begin(Some("b\u{fc}cher"));
    let (new, mut new_lease) = begin(None);
    found("ada", &[&phone, &desk]);
    found("b\u{fc}cher", &[&other]);
    found("", &[]);

    // A commit says anew whose session it is.
    desk_lease.commit(&record(1, now), now).unwrap();
    for lease in [&mut other_lease, &mut new_lease] {
        let of_ada = record(2, now).with_user(Some("ada"));
        lease.commit(&of_ada, now).unwrap();
    }
    found("ada", &[&phone, &other, &new]);
    found("b\u{fc}cher", &[]);
    phone_lease.destroy().unwrap();
    found("ada", &[&other, &new]);
    let end = later(now, 121);
    assert_eq!(store.sessions_of("ada", end).unwrap(), [], "{name}");
}

fn the_lock_of_a_user_is_had_by_one_alone(contract: &StoreContract) {
    let (name, store) = contract.open(&[]);
    if !store.locks_users() {
        let refused = store.lock_user("ada", WAIT).err();
        assert!(matches!(refused, Some(Error::Unsupported(_))), "{name}");
        return;
    }
    let held = store.lock_user("ada", WAIT).unwrap();
    let refused = store.lock_user("ada", Duration::from_millis(10)).err();
    assert!(matches!(refused, Some(Error::Busy { .. })), "{name}");
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| store.lock_user("ada", WAIT).map(drop));
        drop(held);
        waiting.join().unwrap().expect(name);
    });
    // Sessions are stored under it.
    let held = store.lock_user("ada", WAIT).unwrap();
    let (id, now) = (SessionId::generate().unwrap(), SystemTime::now());
    let record = record(1, now).with_user(Some("ada"));
    let lease = store.create(&id.digest(), &record, now).unwrap();
    assert!(lease.is_some(), "{name}");
    drop((lease, held));
}

fn sessions_that_are_counted_under_the_lock_of_a_user_are_never_more(contract: &StoreContract) {
    let (name, store) = contract.open(&[]);
    if !store.locks_users() {
        return;
    }
    let now = SystemTime::now();
    let record = record(1, now).with_user(Some("ada"));
    let begin = || {
        // One that a login holds while it waits.
        let (_, own) = create(&*store, 1, now);
        let held = store.lock_user("ada", Duration::from_secs(600));
        let _held = held.expect(name);
        if store.sessions_of("ada", now).unwrap().len() == 3 {
            return;
        }
        let id = SessionId::generate().unwrap();
        let lease = store.create(&id.digest(), &record, now).unwrap();
        assert!(lease.is_some(), "{name}");
        drop(own);
    };
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| (0..4).for_each(|_| begin()));
        }
    });
    assert_eq!(store.sessions_of("ada", now).unwrap().len(), 3, "{name}");
}

fn a_store_can_be_installed_twice_and_keeps_what_it_has(contract: &StoreContract) {
    let (name, store) = contract.open(&[]);
    let now = SystemTime::now();
    assert!(store.install().is_empty(), "{name}");
    let (id, _) = create(&*store, 1, now);
    assert!(store.install().is_empty(), "{name}");
    assert!(store.read(&id.digest(), now).unwrap().is_some(), "{name}");
}

fn an_uninstalled_store_holds_nothing_leaves_nothing_and_can_be_used_again(
    contract: &StoreContract,
) {
    let (name, store) = contract.open(&[]);
    let now = SystemTime::now();
    assert!(store.install().is_empty(), "{name}");
    let ids = [create(&*store, 1, now).0, create(&*store, 2, now).0];
    let done = store.uninstall();
    let is_it = done.errors.is_empty() && done.foreign.is_empty();
    assert!(is_it, "{name}: {done:?}");
    assert_eq!(done.sessions, 2, "{name}");
    for id in ids {
        assert!(contract.is_gone(&*store, &id.digest()), "{name}");
    }
    assert_eq!(store.left(), [""; 0], "{name}");
    assert!(store.uninstall().errors.is_empty(), "{name}");
    if contract.needs_install {
        assert!(store.install().is_empty(), "{name}");
    }
    let (id, _) = create(&*store, 3, now);
    assert!(store.read(&id.digest(), now).unwrap().is_some(), "{name}");
    store.flush().unwrap();
}

fn looking_makes_nothing(contract: &StoreContract) {
    let (name, store) = contract.open(&[]);
    let (id, now) = (SessionId::generate().unwrap(), SystemTime::now());
    assert!(store.read(&id.digest(), now).unwrap().is_none());
    assert!(store.lock(&id.digest(), WAIT, now).unwrap().is_none());
    assert_eq!(store.last_sweep(now), None);
    if contract.is_listed {
        assert!(list(&*store, now).0.is_empty());
        assert!(store.sessions_of("ada", now).unwrap().is_empty());
        store
            .delete_expired(&Sweep::new().dry_run(true), now)
            .unwrap();
    }
    assert_eq!(store.left(), [""; 0], "{name}");
}
