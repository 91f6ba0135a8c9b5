//! Several applications in one session, and names that only a module reaches.

use testkit::prelude::*;
use testkit::sessions::{Site, cookie, given_id};

/// What an application sees under a name.
#[track_caller]
fn text(session: &mut Session, application: &str) -> Option<String> {
    let values = session.application(application).unwrap();
    values.get("text").unwrap()
}

#[track_caller]
fn put(session: &mut Session, application: &str, text: &str) {
    let values = session.application(application).unwrap();
    values.insert("text", text).unwrap();
}

#[test]
fn applications_of_one_program_use_the_same_keys_for_themselves() {
    let (site, mut session) = Site::begun();
    session.insert("text", "its own").unwrap();
    for name in ["shop", "forum"] {
        put(&mut session, name, name);
    }
    let id = given_id(session.commit().unwrap());

    let mut session = site.open(&id);
    assert_eq!(session.require::<String>("text").unwrap(), "its own");
    assert_eq!(text(&mut session, "").as_deref(), Some("its own"));
    assert_eq!(text(&mut session, "shop").as_deref(), Some("shop"));
    assert!(session.applications().eq(["", "forum", "shop"]));
    session.application("shop").unwrap().clear();
    session.commit().unwrap();

    let mut snapshot = site.manager().read(cookie(&id)).unwrap().unwrap();
    assert!(snapshot.applications().eq(["", "forum"]));
    let forum = snapshot.application("forum").unwrap();
    assert_eq!(forum.require::<String>("text").unwrap(), "forum");
}

#[test]
fn a_session_that_holds_values_of_another_application_alone_is_stored() {
    let (site, mut session) = Site::begun();
    put(&mut session, "shop", "here");
    let id = given_id(session.commit().unwrap());
    let shop = site.manager_with(&[("app", "shop")]);
    let seen = shop.read(cookie(&id)).unwrap().unwrap();
    assert_eq!(seen.require::<String>("text").unwrap(), "here");
}

#[test]
fn what_a_module_reserved_no_application_reaches_in_this_request_or_a_later_one() {
    let (site, mut session) = Site::begun();
    let auth = session.reserve("auth").unwrap();
    assert!(matches!(session.reserve("auth"), Err(Error::Reserved(_))));
    let refused = session.application("auth").map(drop);
    assert!(matches!(refused, Err(Error::Reserved(_))));
    session.reserved(&auth).insert("user", "ada").unwrap();
    let id = given_id(session.commit().unwrap());

    let mut session = site.open(&id);
    let refused = session.application("auth").unwrap_err().to_string();
    assert_eq!(refused, "the name \"auth\" is reserved");
    let auth = session.reserve("auth").unwrap();
    let seen = session.reserved(&auth).require::<String>("user").unwrap();
    assert_eq!(seen, "ada");
    session.clear();
    session.commit().unwrap();

    let mut snapshot = site.manager().read(cookie(&id)).unwrap().unwrap();
    assert!(snapshot.application("auth").is_err());
    let auth = snapshot.reserve("auth").unwrap();
    let seen = snapshot.reserved(&auth).require::<String>("user").unwrap();
    assert_eq!(seen, "ada");
}

#[test]
fn a_name_that_was_given_up_is_free_for_applications_and_empty() {
    let (site, mut session) = Site::begun();
    let auth = session.reserve("auth").unwrap();
    session.reserved(&auth).insert("user", "ada").unwrap();
    let id = given_id(session.commit().unwrap());

    let mut session = site.open(&id);
    let auth = session.reserve("auth").unwrap();
    session.unreserve(auth);
    assert!(session.application("auth").unwrap().is_empty());
    put(&mut session, "auth", "mine");
    session.commit().unwrap();
    let mut session = site.open(&id);
    assert_eq!(text(&mut session, "auth").as_deref(), Some("mine"));
}

#[test]
fn the_applications_own_name_cannot_be_reserved_and_no_name_may_look_reserved() {
    let site = Site::with(&[("app", "shop")]);
    let mut session = site.manager().start(b"").unwrap();
    assert!(matches!(session.reserve("shop"), Err(Error::Reserved(_))));
    assert!(matches!(session.reserve(""), Err(Error::Reserved(_))));
    for name in ["@auth", "@", "a\nb", &"x".repeat(256)] {
        assert!(matches!(session.application(name), Err(Error::Key { .. })));
    }
}

#[test]
fn the_longest_key_is_as_configured_in_every_application() {
    let site = Site::with(&[("maxKeyLength", "32")]);
    let mut session = site.manager().start(b"").unwrap();
    let long = "k".repeat(33);
    assert!(matches!(session.insert(&long, 1), Err(Error::Key { .. })));
    let refused = session.application("shop").unwrap().insert(&long, 1);
    assert!(matches!(refused, Err(Error::Key { .. })));
    session.insert("k".repeat(32), 1).unwrap();
    let id = given_id(session.commit().unwrap());
    let mut session = site.open(&id);
    assert!(session.insert(&long, 1).is_err());
}
