//! `WebStack`: rows W1 to W9.

use std::fs;

use cgi_session::Error;

use super::place::{Place, Visitor};
use testkit::program::Cgi;
use testkit::sessions::{Site, cookie, given_id};

#[test]
fn w01_what_a_session_holds_is_never_sent_to_the_visitor() {
    for place in Place::both("") {
        let mut visitor = Visitor::new();
        let secret = "Augusta";
        let page = visitor.get(&place, &format!("begin?firstname={secret}"));
        let set_cookie = page.set_cookie.expect("a cookie");
        // The cookie is the id and its attributes, which are the same for everybody.
        let rest = &set_cookie["sessionId=".len() + 40..];
        assert!(rest.starts_with("; HttpOnly"), "{set_cookie}");
        assert!(!page.body.contains(secret) && !set_cookie.contains(secret));
        let stored = fs::read_to_string(&place.sessions()[0]).unwrap();
        assert!(stored.contains(secret));
    }
}

#[test]
fn w02_asking_for_a_session_makes_one_if_there_is_none() {
    for place in Place::both("") {
        let mut visitor = Visitor::new();
        let page = visitor.get(&place, "lookup?create=1");
        assert!(page.expect(200, "my_data").set_cookie.is_some());
        let page = visitor.get(&place, "lookup?create=1");
        page.expect(200, "my_data").sends_no_cookie();
        assert_eq!(place.sessions().len(), 1);
    }
}

#[test]
fn w03_looking_for_a_session_finds_none_and_makes_no_file_no_lock_and_no_cookie() {
    for place in Place::both("") {
        let mut visitor = Visitor::new();
        for _ in 0..3 {
            let page = visitor.get(&place, "lookup").expect(200, "no session");
            page.sends_no_cookie();
        }
        assert!(!place.site.sessions().exists());
        visitor.cookie = Some(format!("sessionId={}", "7".repeat(40)));
        let page = visitor.get(&place, "lookup").expect(200, "no session");
        page.sends_no_cookie();
        assert!(!place.site.sessions().exists());
    }
}

#[test]
fn w04_expiring_needs_no_name_and_takes_only_the_visitors_own_session() {
    for place in Place::both("") {
        let (mut visitor, mut other) = (Visitor::new(), Visitor::new());
        visitor.get(&place, "lookup?create=1");
        other.get(&place, "lookup?create=1");
        let page = visitor.get(&place, "lookup?expire=1");
        page.expect(200, "no session").removes_the_cookie();
        assert_eq!(place.sessions().len(), 1);
        other.get(&place, "lookup").expect(200, "my_data");
    }
}

#[test]
fn w05_after_expiry_in_the_same_request_there_is_none_and_a_start_makes_a_new_one() {
    for place in Place::both("") {
        let mut visitor = Visitor::new();
        visitor.get(&place, "counter");
        let first = visitor.cookie.clone();
        // The page expires the session, makes one, and lists what that one holds.
        let page = visitor.get(&place, "lookup?expire=1&create=1");
        assert!(!page.expect(200, "my_data").body.contains("pageViews"));
        assert!(visitor.cookie.is_some() && visitor.cookie != first);
        visitor.cookie = first;
        visitor.get(&place, "lookup").expect(200, "no session");
        assert_eq!(place.sessions().len(), 1);
    }
}

#[test]
fn w06_a_session_is_used_like_a_dictionary() {
    let site = Site::new();
    let mut session = site.manager().start(b"").unwrap();
    assert!(session.is_empty());
    for (key, value) in [("b", 2), ("a", 1), ("c", 3)] {
        session.insert(key, value).unwrap();
    }
    assert!(session.keys().eq(["a", "b", "c"]));
    assert!(session.contains("a") && !session.contains("z"));
    session.insert("a", 10).unwrap();
    assert_eq!(session.get::<u8>("a").unwrap(), Some(10));
    assert_eq!(session.get::<u8>("z").unwrap(), None);
    assert!(session.remove("b") && !session.remove("b"));
    assert_eq!(session.take::<u8>("c").unwrap(), Some(3));
    assert_eq!(session.len(), 1);
    session.clear();
    assert!(session.is_empty());
    assert!(session.require::<u8>("a").is_err());
}

#[test]
fn w07_keys_and_values_can_be_any_text() {
    let site = Site::new();
    let texts = ["plain", "caf\u{e9}", "a b\n", "\"},{", "\u{1f600}"];
    let mut session = site.manager().start(b"").unwrap();
    for text in texts {
        session.insert(text, text).unwrap();
    }
    let id = given_id(session.commit().unwrap());
    let session = site.manager().start(cookie(&id)).unwrap();
    for text in texts {
        assert_eq!(session.require::<String>(text).unwrap(), text);
    }
}

#[test]
fn w08_setting_a_value_is_all_that_a_page_has_to_do() {
    for place in Place::both("") {
        let mut visitor = Visitor::new();
        visitor.get(&place, "begin?myname=a&firstname=Ada");
        visitor.get(&place, "follow").expect(200, "Ada");
    }
}

#[test]
fn w08_a_page_that_fails_remembers_nothing() {
    let place = Place::cgi("");
    let mut visitor = Visitor::new();
    visitor.get(&place, "counter");
    for mode in ["panic", "error"] {
        // It sets pageViews to 1000 first.
        let request = Cgi::new("misbehave", &place.site)
            .cookie(visitor.cookie.as_deref().unwrap())
            .query(&format!("mode={mode}"));
        request.run().expect_failure(500, &["misbehave: "]);
    }
    assert_eq!(visitor.get(&place, "counter").views(), 2);
}

#[test]
fn w09_a_visitor_has_one_session_for_each_name_of_a_cookie() {
    let site = Site::new();
    let (shop, forum) = (
        site.manager_with(&[("cookieName", "shop")]),
        site.manager_with(&[("cookieName", "forum")]),
    );
    let mut header = String::new();
    for (manager, name) in [(&shop, "shop"), (&forum, "forum")] {
        let mut session = manager.start(&header).unwrap();
        assert!(session.is_new());
        session.insert("name", name).unwrap();
        let set_cookie = session.commit().unwrap().unwrap().to_string();
        let pair = set_cookie.split(';').next().unwrap();
        header = format!("{header}{pair}; ");
    }
    for (manager, name) in [(&shop, "shop"), (&forum, "forum")] {
        let session = manager.start(&header).unwrap();
        assert_eq!(session.require::<String>("name").unwrap(), name);
        // Whoever asks again in the same request gets the same one, and waits for nobody.
        let again = manager.start(&header);
        assert!(matches!(again, Err(Error::AlreadyOpen)));
    }
}
