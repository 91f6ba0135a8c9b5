//! When a session ends, as an application sees it.

use std::iter;

use cgi_session::Store as _;

use testkit::prelude::*;
use testkit::sessions::{Site, cookie, count, given_id, in_memory};

fn ago(seconds: u64) -> SystemTime {
    SystemTime::now() - Duration::from_secs(seconds)
}

fn json(site: &Site, id: &SessionId) -> serde_json::Value {
    let slots: serde_json::Value =
        serde_json::from_slice(&fs::read(site.path(id)).unwrap()).unwrap();
    let newest = slots.as_array();
    let newest = newest.unwrap().iter().max_by_key(|slot| slot["g"].as_u64());
    newest.unwrap()["d"].clone()
}

#[test]
fn after_the_idle_time_a_visitor_is_new_and_gets_a_new_id() {
    let site = Site::with(&[("timeout", "120")]);
    let id = site.visitor();
    site.set_modified(&id, ago(7202));
    let mut session = site.open(&id);
    assert!(session.is_new());
    assert_eq!(count(&mut session), 1);
    assert_ne!(given_id(session.commit().unwrap()), id);
    assert!(!site.path(&id).exists());
}

#[test]
fn a_session_ends_at_its_lifetime_however_much_it_is_used() {
    // One second is the shortest lifetime: wait for the clock, not for the program.
    let site = Site::with(&[("lifetime", "1s")]);
    let id = site.visitor();
    wait_until("the lifetime ends", || {
        site.manager().read(cookie(&id)).unwrap().is_none()
    });
    assert!(site.open(&id).is_new());
    assert!(!site.path(&id).exists());
}

#[test]
fn a_session_beyond_its_lifetime_is_not_kept_by_pages_that_read_it() {
    let settings = [("lifetime", "1h")];
    let site = Site::with(&settings);
    for manager in [site.manager(), in_memory(&settings)] {
        let (id, store) = (SessionId::generate().unwrap(), manager.store());
        let created = store.create(&id.digest(), &Record::new(ago(7200)), SystemTime::now());
        created.unwrap().unwrap().touch(ago(600)).unwrap();
        assert!(manager.read(cookie(&id)).unwrap().is_none());
        let stored = store.peek(&id.digest(), SystemTime::now()).unwrap();
        assert!(stored.unwrap().last_access < ago(500));
    }
}

#[test]
fn a_request_that_waits_for_a_session_beyond_its_lifetime_begins_another() {
    let site = Site::with(&[("lifetime", "1s")]);
    let id = site.visitor();
    let (holder, other) = (site.manager(), site.manager());
    thread::scope(|scope| {
        let held = holder.start(cookie(&id)).unwrap();
        let waits = scope.spawn(|| other.start(cookie(&id)).unwrap().is_new());
        let is_over = || held.created().elapsed().unwrap() > Duration::from_secs(2);
        wait_until("the lifetime ends", is_over);
        drop(held);
        assert!(waits.join().unwrap());
    });
}

#[test]
fn no_other_program_ends_a_session_before_its_own_does() {
    let site = Site::with(&[("timeout", "1d"), ("lifetime", "30d")]);
    let impatient = site.manager_with(&[("timeout", "60s"), ("lifetime", "1s")]);
    let id = site.visitor();
    site.set_modified(&id, ago(2 * 3600));
    wait_until("a shorter lifetime is over", || {
        let session = site.open(&id);
        session.created().elapsed().unwrap() > Duration::from_secs(2)
    });
    site.set_modified(&id, ago(2 * 3600));
    let stored = impatient.peek(&id.digest()).unwrap().unwrap();
    assert!(impatient.end_of(&stored) > SystemTime::now() + Duration::from_secs(20 * 3600));
    let report = impatient.delete_expired(&cgi_session::Sweep::new());
    let report = report.unwrap();
    assert_eq!((report.deleted, report.live), (0, 1));
    let mut session = impatient.start(cookie(&id)).unwrap();
    assert_eq!(count(&mut session), 2);
    session.commit().unwrap();
    let json = json(&site, &id);
    let seen = (&json["idle"], &json["lifetime"]);
    assert_eq!(seen, (&86400.into(), &(30 * 86400).into()));
}
#[test]
fn a_session_that_a_wrong_clock_has_begun_ahead_of_its_lifetime_has_ended() {
    let site = Site::with(&[("lifetime", "1d")]);
    let id = site.visitor();
    let begun = |seconds_ahead: u64| {
        let created = SystemTime::now() + Duration::from_secs(seconds_ahead);
        let store = FileStore::new(site.manager().config()).unwrap();
        let found = store.lock(&id.digest(), Duration::ZERO, SystemTime::now());
        let (stored, mut lease) = found.unwrap().unwrap();
        let record = Record::new(created).with_values(stored.record.values().to_vec());
        lease.commit(&record, SystemTime::now()).unwrap();
    };
    begun(23 * 3600);
    assert_eq!(site.views(&id), Some(1));
    begun(25 * 3600);
    assert_eq!(site.views(&id), None);
    assert!(site.open(&id).is_new());
    assert!(!site.path(&id).exists());
}

#[test]
fn a_timeout_of_its_own_slides_with_use() {
    let (site, id, mut session) = Site::opened();
    session.set_timeout(Some(Duration::from_secs(24 * 3600)));
    session.commit().unwrap();
    let idle = || ["timeout", "idle"].map(|name| json(&site, &id)[name].clone());
    assert_eq!(idle(), [86400; 2].map(serde_json::Value::from));

    // Used at once nothing is written.
    let before = fs::read(site.path(&id)).unwrap();
    site.open(&id).commit().unwrap();
    assert_eq!(fs::read(site.path(&id)).unwrap(), before);

    // Reading it and opening it count as use: the file's time moves, and nothing else.
    for read in [true, false] {
        site.set_modified(&id, ago(5 * 3600));
        if read {
            assert_eq!(site.views(&id), Some(1));
        } else {
            site.open(&id).commit().unwrap();
        }
        assert!(fs::metadata(site.path(&id)).unwrap().modified().unwrap() > ago(60));
        assert_eq!(fs::read(site.path(&id)).unwrap(), before);
    }
    site.set_modified(&id, ago(25 * 3600));
    assert_eq!(site.views(&id), None);
}
#[test]
fn a_timeout_of_its_own_can_be_taken_back() {
    let site = Site::new();
    let id = site.visitor();
    for timeout in [Some(Duration::from_secs(90)), None] {
        site.change(&id, |it| it.set_timeout(timeout));
    }
    let json = json(&site, &id);
    assert!(json.get("timeout").is_none(), "{json}");
    assert_eq!(json["idle"], 3600);
    let session = site.open(&id);
    assert_eq!(session.timeout(), Duration::from_secs(3600));
}

#[test]
fn a_timeout_is_a_second_at_least_and_a_hundred_years_at_most() {
    let site = Site::new();
    for (asked, given) in [
        (Duration::ZERO, 1),
        (Duration::from_millis(2900), 2),
        (Duration::MAX, 100 * 366 * 24 * 3600),
    ] {
        // Whether the session is there, if that was seen before its end.
        let is_there = || {
            let started = Instant::now();
            let mut session = site.manager().start(b"").unwrap();
            session.set_timeout(Some(asked));
            count(&mut session);
            assert_eq!(session.timeout().as_secs(), given);
            let id = given_id(session.commit().unwrap());
            assert_eq!(json(&site, &id)["idle"], given);
            let is_there = site.views(&id) == Some(1);
            (started.elapsed().as_secs() < given).then_some(is_there)
        };
        let mut seen = iter::repeat_with(is_there).take(100).flatten();
        assert_eq!(seen.next(), Some(true), "{asked:?}");
    }
}

#[test]
fn the_last_access_is_that_of_the_request_before() {
    let site = Site::new();
    let id = site.visitor();
    let used = ago(1800);
    site.set_modified(&id, used);
    let session = site.open(&id);
    let last_access = session.last_access().unwrap();
    assert!(last_access.duration_since(used).unwrap_or_default() < Duration::from_secs(1));
    session.commit().unwrap();
    let session = site.open(&id);
    assert!(session.last_access().unwrap() > ago(60));
    assert_eq!(site.manager().start(b"").unwrap().last_access(), None);
}
