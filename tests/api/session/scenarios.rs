//! The worked examples of the systems that this one follows, at the level of the library.

use std::thread;

use cgi_session::Error;

use testkit::sessions::{Site, cookie, count, given_id};

/// Karrigell: form, begin, follow, close, and follow again.
#[test]
fn following_again_after_close_names_the_missing_key() {
    let site = Site::new();
    let mut begin = site.manager().start(b"").unwrap();
    begin.insert("name", "Lovelace").unwrap();
    begin.insert("firstname", "Ada").unwrap();
    assert_eq!(begin.require::<String>("name").unwrap(), "Lovelace");
    let id = given_id(begin.commit().unwrap());

    let follow = site.manager().start(cookie(&id)).unwrap();
    assert_eq!(follow.require::<String>("firstname").unwrap(), "Ada");
    assert!(follow.destroy().unwrap().unwrap().is_removal());
    assert_eq!(site.sessions(), 0);

    let again = site.manager().start(cookie(&id)).unwrap();
    let error = again.require::<String>("firstname").err().unwrap();
    assert!(matches!(&error, Error::MissingKey(key) if key == "firstname"));
    assert!(again.commit().unwrap().is_none());
    assert_eq!(site.sessions(), 0, "looking makes no session");
}

#[test]
fn following_without_close_shows_the_name_any_number_of_times() {
    let site = Site::new();
    let mut begin = site.manager().start(b"").unwrap();
    begin.insert("firstname", "Ada").unwrap();
    let id = given_id(begin.commit().unwrap());
    for _ in 0..5 {
        let follow = site.manager().start(cookie(&id)).unwrap();
        assert_eq!(follow.require::<String>("firstname").unwrap(), "Ada");
        follow.commit().unwrap();
    }
}

/// `CherryPy`: the page-view counter.
#[test]
fn the_counter_counts_each_visitor_from_one() {
    let site = Site::new();
    let visit = |header: &str| {
        let mut session = site.manager().start(header).unwrap();
        let views = count(&mut session);
        (views, session.commit().unwrap())
    };
    let (first, ada) = visit("");
    let ada = given_id(ada);
    let (second, _) = visit(&cookie(&ada));
    let (third, _) = visit(&cookie(&ada));
    let (of_another, charles) = visit("");
    assert_eq!((first, second, third, of_another), (1, 2, 3, 1));
    assert_ne!(given_id(charles), ada);
}

#[test]
fn parallel_requests_of_one_visitor_show_no_number_twice() {
    let site = Site::new();
    let id = site.visitor();
    let mut shown: Vec<u64> = thread::scope(|scope| {
        let visitors: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let visit = || {
                        site.manager()
                            .update(cookie(&id), |session| Ok(count(session)))
                    };
                    (0..25).map(|_| visit().unwrap().0).collect::<Vec<_>>()
                })
            })
            .collect();
        visitors
            .into_iter()
            .flat_map(|visitor| visitor.join().unwrap())
            .collect()
    });
    shown.sort_unstable();
    assert_eq!(shown, (2..=101).collect::<Vec<_>>());
}

/// `WebStack`: `get_session(create=0)`.
#[test]
fn looking_makes_no_session_and_finds_the_one_that_another_page_made() {
    let site = Site::new();
    for _ in 0..3 {
        assert!(site.manager().existing(b"").unwrap().is_none());
    }
    assert!(site.is_untouched());
    let mut session = site.manager().start(b"").unwrap();
    session.insert("my_data", "a text").unwrap();
    let id = given_id(session.commit().unwrap());

    let mut session = site.manager().existing(cookie(&id)).unwrap().unwrap();
    assert!(session.keys().eq(["my_data"]));
    assert!(session.contains("my_data") && !session.contains("other"));
    session.insert("my_data", "another").unwrap();
    session.save().unwrap();
    session.destroy().unwrap();
    // In the same request: nothing is there, and a start begins a new one.
    assert!(site.manager().existing(cookie(&id)).unwrap().is_none());
    let mut new = site.manager().start(cookie(&id)).unwrap();
    assert!(new.is_new() && new.is_empty());
    count(&mut new);
    assert_ne!(given_id(new.commit().unwrap()), id);
}

/// lemon.session: first visit, reload, destroy link, first visit.
#[test]
fn after_the_destroy_link_a_visit_is_a_first_visit() {
    let site = Site::new();
    let mut first = site.manager().start(b"").unwrap();
    assert!(first.is_new());
    first.insert("variable1", "a text").unwrap();
    let id = given_id(first.commit().unwrap());
    let reload = site.manager().start(cookie(&id)).unwrap();
    assert!(!reload.is_new());
    assert_eq!(reload.require::<String>("variable1").unwrap(), "a text");
    reload.destroy().unwrap();
    let mut next = site.manager().start(cookie(&id)).unwrap();
    assert!(next.is_new() && !next.contains("variable1"));
    next.insert("variable1", "a text").unwrap();
    assert_ne!(given_id(next.commit().unwrap()), id);
}

/// Karrigell's shop, and its warning about two windows.
#[test]
fn two_pages_that_fill_a_basket_at_once_lose_nothing() {
    let site = Site::new();
    let mut session = site.manager().start(b"").unwrap();
    session.insert("basket", ["disc 1", "disc 2"]).unwrap();
    let id = given_id(session.commit().unwrap());
    let put = |thing: String| {
        let putting = site.manager().update(cookie(&id), |session| {
            let mut basket: Vec<String> = session.require("basket")?;
            basket.push(thing);
            session.insert("basket", basket)
        });
        putting.unwrap();
    };
    thread::scope(|scope| {
        for window in ["book", "present"] {
            let put = &put;
            scope.spawn(move || (0..20).for_each(|n| put(format!("{window} {n}"))));
        }
    });
    let snapshot = site.manager().read(cookie(&id)).unwrap().unwrap();
    assert_eq!(snapshot.require::<Vec<String>>("basket").unwrap().len(), 42);
}
