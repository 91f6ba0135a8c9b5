//! What an administrator asks of a store: all sessions, those of a user, making and removing it.

use std::fs;
use std::ops::ControlFlow;
use std::time::SystemTime;

use cgi_session::{Error, SessionDigest, SessionId, Store, Stored, Sweep};

use crate::subjects::{
    Subject, WAIT, count, create, is_gone, later, listed_stores, makes_itself, record, stores,
};

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
    let mut visit = |session: &SessionDigest, stored: Result<Stored, Error>| {
        found.push(*session);
        sum += count(&stored.unwrap().record);
        ControlFlow::Continue(())
    };
    store.for_each(&mut visit, now).unwrap();
    (found, sum)
}

#[test]
fn every_live_session_is_shown_once_whether_or_not_it_is_locked() {
    for Subject { name, store, .. } in listed_stores() {
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
}

#[test]
fn a_listing_ends_when_the_visitor_has_seen_enough() {
    for Subject { name, store, .. } in listed_stores() {
        let now = SystemTime::now();
        for number in 0..3 {
            create(&*store, number, now);
        }
        let mut seen = 0;
        let mut visit = |_: &SessionDigest, _: Result<Stored, Error>| {
            seen += 1;
            ControlFlow::Break(())
        };
        store.for_each(&mut visit, now).unwrap();
        assert_eq!(seen, 1, "{name}");
    }
}

#[test]
fn many_sessions_are_listed_as_completely_as_few() {
    for Subject { name, store, .. } in listed_stores() {
        // Once is enough where every creation waits for the disk.
        let number = if name.contains("durability") { 1 } else { 600 };
        let now = SystemTime::now();
        for _ in 0..number {
            create(&*store, 1, now);
        }
        assert_eq!(list(&*store, now).1, number, "{name}");
    }
}

#[test]
fn a_visitor_may_use_the_sessions_that_he_is_shown() {
    for Subject { name, store, .. } in listed_stores() {
        let now = SystemTime::now();
        let ids = [1, 2, 3].map(|number| create(&*store, number, now).0);
        let mut destroyed = 0;
        let mut visit = |session: &SessionDigest, _: Result<Stored, Error>| {
            let (_, lease) = store.lock(session, WAIT, now).unwrap().expect(name);
            lease.destroy().unwrap();
            destroyed += 1;
            ControlFlow::Continue(())
        };
        store.for_each(&mut visit, now).unwrap();
        assert_eq!(destroyed, 3, "{name}");
        for id in ids {
            assert!(store.read(&id.digest(), now).unwrap().is_none(), "{name}");
        }
    }
}

#[test]
fn the_sessions_of_a_user_are_found_and_no_others() {
    for Subject { name, store, .. } in listed_stores() {
        let now = SystemTime::now();
        let begin = |user: Option<&str>| {
            let (id, mut lease) = create(&*store, 1, now);
            let record = record(1, now).with_user(user);
            lease.commit(&record, now).unwrap();
            (id, lease)
        };
        let (phone, phone_lease) = begin(Some("ada"));
        let (desk, mut desk_lease) = begin(Some("ada"));
        begin(Some("b\u{fc}cher"));
        begin(None);
        let found = store.sessions_of("ada", now).unwrap();
        assert_eq!(found.len(), 2, "{name}");
        assert!(shows(&found, &phone) && shows(&found, &desk), "{name}");
        let other = store.sessions_of("b\u{fc}cher", now).unwrap();
        assert_eq!(other.len(), 1, "{name}");

        desk_lease.commit(&record(1, now), now).unwrap();
        let found = store.sessions_of("ada", now).unwrap();
        assert!(found.len() == 1 && shows(&found, &phone), "{name}");
        phone_lease.destroy().unwrap();
        assert!(store.sessions_of("ada", now).unwrap().is_empty(), "{name}");
        assert!(store.sessions_of("", now).unwrap().is_empty(), "{name}");
    }
}

#[test]
fn a_store_can_be_installed_twice_and_keeps_what_it_has() {
    for Subject { name, store, .. } in stores(&[]) {
        let now = SystemTime::now();
        assert!(store.install().is_empty(), "{name}");
        let (id, _) = create(&*store, 1, now);
        assert!(store.install().is_empty(), "{name}");
        assert!(store.read(&id.digest(), now).unwrap().is_some(), "{name}");
    }
}

#[test]
fn an_uninstalled_store_holds_nothing_leaves_nothing_and_can_be_used_again() {
    for Subject { name, store, place } in listed_stores() {
        let now = SystemTime::now();
        assert!(store.install().is_empty(), "{name}");
        let ids = [create(&*store, 1, now).0, create(&*store, 2, now).0];
        let done = store.uninstall();
        assert!(
            done.errors.is_empty() && done.foreign.is_empty(),
            "{name}: {done:?}"
        );
        assert_eq!(done.sessions, 2, "{name}");
        for id in ids {
            assert!(is_gone(name, &*store, &id.digest()), "{name}");
        }
        let left = names(&place).into_iter().filter(|left| left != "rows");
        assert_eq!(left.count(), 0, "{name}: {:?}", names(&place));
        assert!(store.uninstall().errors.is_empty(), "{name}");
        if !makes_itself(name) {
            assert!(store.install().is_empty(), "{name}");
        }
        let (id, _) = create(&*store, 3, now);
        assert!(store.read(&id.digest(), now).unwrap().is_some(), "{name}");
    }
}

#[test]
fn looking_makes_nothing() {
    for Subject { name, store, place } in stores(&[]) {
        let (id, now) = (SessionId::generate().unwrap(), SystemTime::now());
        assert!(store.read(&id.digest(), now).unwrap().is_none());
        assert!(store.lock(&id.digest(), WAIT, now).unwrap().is_none());
        assert_eq!(store.last_sweep(now), None);
        if name != "custom" {
            assert!(list(&*store, now).0.is_empty());
            assert!(store.sessions_of("ada", now).unwrap().is_empty());
            store
                .delete_expired(&Sweep::new().dry_run(true), now)
                .unwrap();
        }
        let made = names(&place).into_iter().filter(|made| made != "rows");
        assert_eq!(made.count(), 0, "{name}: {:?}", names(&place));
    }
}

/// What lies in the place of a store.
fn names(place: &tempfile::TempDir) -> Vec<String> {
    let entries = fs::read_dir(place.path()).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}
