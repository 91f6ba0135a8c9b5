//! The scenarios of the old manuals, step by step, as CGI and as FastCGI. S5 is in
//! `tests/custom_store`, S8 in `bin/tests/serve/shop.rs`.

use std::thread;

use cgi_session::{Config, Error, FileStore, Store as _};

use super::place::{Place, Visitor, make_older};
use testkit::sessions::{Site, cookie, given_id};

#[test]
fn s1_form_begin_follow_close_and_follow_again() {
    for place in Place::both("") {
        let mut visitor = Visitor::new();
        let form = "myname=Lovelace&firstname=Ada";
        let page = visitor.post(&place, "begin", form).expect(200, "Lovelace");
        assert!(page.set_cookie.is_some());
        let page = visitor
            .clone()
            .get(&place, "follow?close=1")
            .expect(200, "Ada");
        page.removes_the_cookie();
        assert!(place.sessions().is_empty());
        // Back, with the cookie still there: the key is named, nothing is made.
        visitor.get(&place, "follow").expect(404, "firstname");
        assert!(place.sessions().is_empty());
    }
}

#[test]
fn s1_without_the_closing_line_the_name_is_shown_any_number_of_times() {
    for place in Place::both("") {
        let mut visitor = Visitor::new();
        visitor.get(&place, "begin?myname=Lovelace&firstname=Ada");
        for _ in 0..3 {
            visitor.get(&place, "follow").expect(200, "Ada");
        }
    }
}

#[test]
fn s2_two_visitors_count_for_themselves_and_lose_nothing_at_once() {
    for place in Place::both("\ntimeout = 120\nlockTimeout = 90s\n") {
        let (mut one, mut other) = (Visitor::new(), Visitor::new());
        for expected in 1..4 {
            assert_eq!(one.get(&place, "counter").views(), expected);
        }
        assert_eq!(other.get(&place, "counter").views(), 1);
        let mut seen = thread::scope(|scope| {
            let visit = || {
                (0..10)
                    .map(|_| one.clone().get(&place, "counter").views())
                    .collect()
            };
            let visits: Vec<_> = (0..8).map(|_| scope.spawn(visit)).collect();
            let seen = visits.into_iter().map(|visit| visit.join().unwrap());
            seen.collect::<Vec<Vec<u64>>>().concat()
        });
        seen.sort_unstable();
        assert_eq!(seen, (4..84).collect::<Vec<_>>());
    }
}

#[test]
fn s2_after_two_hours_without_a_visit_the_count_begins_again_under_a_new_id() {
    for place in Place::both("\ntimeout = 120\n") {
        let mut visitor = Visitor::new();
        visitor.get(&place, "counter");
        let before = visitor.cookie.clone();
        make_older(&place.sessions()[0], 119 * 60);
        assert_eq!(visitor.get(&place, "counter").views(), 2);
        make_older(&place.sessions()[0], 121 * 60);
        assert_eq!(visitor.get(&place, "counter").views(), 1);
        assert_ne!(visitor.cookie, before);
    }
}

#[test]
fn s3_looking_makes_nothing_and_expiring_needs_no_name() {
    for place in Place::both("") {
        let mut visitor = Visitor::new();
        for _ in 0..3 {
            visitor
                .get(&place, "lookup")
                .expect(200, "no session")
                .sends_no_cookie();
        }
        assert!(place.sessions().is_empty());
        visitor
            .get(&place, "lookup?create=1")
            .expect(200, "my_data");
        visitor.get(&place, "lookup").expect(200, "my_data");
        let before = visitor.cookie.clone();
        visitor
            .clone()
            .get(&place, "lookup?expire=1")
            .expect(200, "no session");
        // Both in one request: what expired is gone, and what is made then is another.
        visitor.get(&place, "lookup?create=1");
        visitor
            .get(&place, "lookup?expire=1&create=1")
            .expect(200, "my_data");
        assert_ne!(visitor.cookie, before);
        assert_eq!(place.sessions().len(), 1);
    }
}

#[test]
fn s4_first_visit_reload_destroy_and_first_visit_again() {
    for place in Place::both("") {
        let mut visitor = Visitor::new();
        visitor.get(&place, "visit").expect(200, "first visit");
        let first = visitor.cookie.clone();
        visitor.get(&place, "visit").expect(200, "variable1");
        visitor
            .get(&place, "visit?destroy=True")
            .expect(200, "deleted");
        visitor.get(&place, "visit").expect(200, "first visit");
        assert_ne!(visitor.cookie, first);
    }
}

#[test]
fn s6_the_store_is_made_and_dropped_and_the_list_of_errors_is_empty_when_done() {
    let place = tempfile::tempdir().unwrap();
    let config = Config::new().set("storageFileDir", place.path().join("sessions"));
    let store = FileStore::new(&config.unwrap()).unwrap();
    assert!(store.install().is_empty() && store.install().is_empty());
    let dropped = store.uninstall();
    assert!(dropped.errors.is_empty() && dropped.foreign.is_empty());
    assert_eq!(place.path().read_dir().unwrap().count(), 0);
    let file = place.path().join("file");
    std::fs::write(&file, "").unwrap();
    let config = Config::new().set("storageFileDir", &file).unwrap();
    assert_eq!(FileStore::new(&config).unwrap().install().len(), 1);
}

#[test]
fn s7_reserve_use_and_give_up() {
    let site = Site::new();
    let mut session = site.manager().start(b"").unwrap();
    let auth = session.reserve("auth").unwrap();
    session.reserved(&auth).insert("start", 1).unwrap();
    let refused = session.application("auth").unwrap_err();
    assert!(
        matches!(&refused, Error::Reserved(name) if name == "auth"),
        "{refused}"
    );
    for app in ["shop", "forum"] {
        session
            .application(app)
            .unwrap()
            .insert("start", app)
            .unwrap();
    }
    let id = given_id(session.commit().unwrap());

    let mut session = site.manager().start(cookie(&id)).unwrap();
    session.application("shop").unwrap().clear();
    let auth = session.reserve("auth").unwrap();
    assert!(session.reserved(&auth).contains("start"));
    assert!(session.application("forum").unwrap().contains("start"));
    session.unreserve(auth);
    session
        .application("auth")
        .unwrap()
        .insert("free", true)
        .unwrap();
    session.commit().unwrap();
    site.manager()
        .start(cookie(&id))
        .unwrap()
        .destroy()
        .unwrap();
    assert!(site.manager().existing(cookie(&id)).unwrap().is_none());
}
