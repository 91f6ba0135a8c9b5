//! The table of verbs in `src/session.rs`, and lazy creation.

use std::mem;

use cgi_session::Values;

use testkit::prelude::*;
use testkit::sessions::{Site, cookie, count, given_id};

/// Whether the session's lock is free.
fn is_free(site: &Site, id: &SessionId) -> bool {
    let file = fs::File::open(site.path(id)).unwrap();
    file.try_lock().is_ok()
}

#[test]
fn commit_saves_and_gives_up_the_lock() {
    let (site, id, mut session) = Site::opened();
    assert!(!is_free(&site, &id));
    count(&mut session);
    let seen = site.views(&id);
    assert_eq!(seen, Some(1), "nothing is stored before the commit");
    assert!(session.commit().unwrap().is_none());
    assert_eq!(site.views(&id), Some(2));
    assert!(is_free(&site, &id));
}

#[test]
fn save_saves_and_keeps_the_lock() {
    let (site, id, mut session) = Site::opened();
    count(&mut session);
    session.save().unwrap();
    assert_eq!(site.views(&id), Some(2));
    assert!(!is_free(&site, &id));
    count(&mut session);
    session.save().unwrap();
    assert_eq!(site.views(&id), Some(3));
}

#[test]
fn values_that_are_replaced_as_a_whole_are_saved() {
    let changes: [fn(&mut Session); 5] = [
        |session| drop(mem::take(&mut **session)),
        |session| **session = seven(),
        |session| {
            let before = (**session).clone();
            count(session);
            session.save().unwrap();
            count(session);
            session.save().unwrap();
            **session = before;
        },
        |session| {
            let other = session.application("other").unwrap();
            *other = seven();
            let other = mem::take(session.application("other").unwrap());
            **session = other;
        },
        |session| {
            let reserved = session.reserve("reserved").unwrap();
            *session.reserved(&reserved) = seven();
            let mut other = seven();
            mem::swap(&mut **session, &mut other);
        },
    ];
    for (at, change) in changes.into_iter().enumerate() {
        let (site, id, mut session) = Site::opened();
        change(&mut session);
        session.commit().unwrap();
        let expected = [None, Some(7), Some(1), Some(7), Some(7)];
        assert_eq!(site.views(&id), expected[at], "{at}");
    }
}

fn seven() -> Values {
    serde_json::from_str(r#"{"pageViews":7}"#).unwrap()
}

#[test]
fn release_keeps_what_was_stored_and_gives_up_the_lock() {
    let (site, id, mut session) = Site::opened();
    count(&mut session);
    assert!(session.release().is_none());
    assert_eq!(site.views(&id), Some(1));
    assert!(is_free(&site, &id));
}

#[test]
fn a_new_session_that_was_saved_and_released_needs_its_cookie() {
    let (site, mut session) = Site::begun();
    count(&mut session);
    session.save().unwrap();
    count(&mut session);
    let id = given_id(session.release());
    assert_eq!(site.views(&id), Some(1));
}

#[test]
fn drop_saves_nothing_and_gives_up_the_lock() {
    let (site, id, mut session) = Site::opened();
    count(&mut session);
    drop(session);
    assert_eq!(site.views(&id), Some(1));
    assert!(is_free(&site, &id));
}

#[test]
fn destroy_deletes_the_record_and_removes_the_cookie() {
    let (site, id, session) = Site::opened();
    let removal = session.destroy().unwrap().expect("a cookie");
    assert!(removal.is_removal());
    assert!(removal.to_string().starts_with("sessionId=;"), "{removal}");
    assert_eq!(site.sessions(), 0);
    assert!(site.manager().existing(cookie(&id)).unwrap().is_none());
}

#[test]
fn a_snapshot_can_be_read_by_several_threads() {
    fn is_shared<T: Send + Sync>(_: &T) {}
    let site = Site::new();
    let id = site.visitor();
    is_shared(&site.manager().read(cookie(&id)).unwrap().unwrap());
}

#[test]
fn nothing_is_made_until_something_is_stored() {
    let site = Site::new();
    let manager = site.manager();
    for header in ["", "sessionId=", "sessionId=../../etc/passwd", "a=b"] {
        let session = manager.start(header).unwrap();
        assert!(session.is_new());
        assert!(session.id().is_none());
        assert!(session.commit().unwrap().is_none());
        assert!(manager.existing(header).unwrap().is_none());
        assert!(manager.read(header).unwrap().is_none());
    }
    let mut emptied = manager.start(b"").unwrap();
    emptied.insert("x", 1).unwrap();
    emptied.remove("x");
    emptied.regenerate_id();
    emptied.set_timeout(Some(Duration::from_secs(60)));
    assert!(emptied.commit().unwrap().is_none());
    assert!(manager.start(b"").unwrap().destroy().unwrap().is_none());
    assert!(site.is_untouched());
}

#[test]
fn an_id_that_a_client_made_up_is_never_adopted() {
    let site = Site::new();
    let forged = SessionId::parse(&[b'a'; 40]).unwrap();
    let mut session = site.open(&forged);
    assert!(session.is_new());
    count(&mut session);
    let id = given_id(session.commit().unwrap());
    assert_ne!(id, forged);
    assert!(!site.path(&forged).exists());
}

#[test]
fn an_unchanged_session_is_not_written() {
    let site = Site::new();
    let id = site.visitor();
    let before = fs::read(site.path(&id)).unwrap();
    let mut session = site.open(&id);
    // The same value again is no change.
    session.insert("pageViews", 1).unwrap();
    session.insert("passing", 1).unwrap();
    session.remove("passing");
    assert!(session.commit().unwrap().is_none());
    assert_eq!(fs::read(site.path(&id)).unwrap(), before);
}

#[test]
fn clear_removes_the_values_and_keeps_the_session() {
    let (site, id, mut session) = Site::opened();
    session.clear();
    session.commit().unwrap();
    let session = site.open(&id);
    assert!(session.is_empty() && !session.is_new());
    assert_eq!(session.id(), Some(&id));
}

#[test]
fn a_commit_that_fails_leaves_the_record_and_says_why() {
    let site = Site::with(&[("maxRecordBytes", "1000")]);
    let id = site.visitor();
    let mut session = site.open(&id);
    session.insert("x", "x".repeat(2000)).unwrap();
    let error = session.commit().err().unwrap();
    assert!(matches!(error, Error::TooLarge { .. }), "{error}");
    assert_eq!(site.views(&id), Some(1));
    assert!(is_free(&site, &id));
}

#[test]
fn a_save_that_failed_can_be_tried_again() {
    let site = Site::with(&[("maxRecordBytes", "1000")]);
    let id = site.visitor();
    let mut session = site.open(&id);
    session.insert("x", "x".repeat(2000)).unwrap();
    assert!(session.save().is_err());
    session.remove("x");
    count(&mut session);
    session.commit().unwrap();
    assert_eq!(site.views(&id), Some(2));
}

#[test]
fn debug_shows_neither_id_nor_values() {
    let (_site, mut session) = Site::begun();
    session.insert("password", "hunter2").unwrap();
    session.save().unwrap();
    let text = format!("{session:?}");
    assert!(!text.contains(session.id().unwrap().secret()));
    assert!(!text.contains("hunter2"));
    holds(format!("{:?}", session.release()), "hidden");
}

/// The Cookie header of a browser that shows several ids.
fn cookies(ids: &[&SessionId]) -> String {
    let pairs = ids.iter().map(|id| format!("sessionId={}", id.secret()));
    pairs.collect::<Vec<_>>().join("; ")
}

#[test]
fn a_logout_ends_every_session_that_the_client_shows() {
    let site = Site::new();
    let dead = SessionId::generate().unwrap();
    let [one, two, three, four, elsewhere] = [(); 5].map(|()| site.visitor());
    let mut session = site.open(&three);
    session.regenerate_id_with_grace(Duration::from_secs(60));
    let new = given_id(session.commit().unwrap());
    let mut session = site.open(&four);
    session.regenerate_id();
    session.commit().unwrap();
    // What can only be read is ended with a live one, before or behind it.
    let header = cookies(&[&three, &dead, &one, &two, &four]);
    let session = site.manager().start(&header).unwrap();
    assert_eq!(session.id(), Some(&one));
    assert!(session.destroy().unwrap().expect("a cookie").is_removal());
    for id in [&one, &two, &three] {
        assert_eq!(site.views(id), None);
    }
    // Nor is more than that: the client does not show the new id.
    let seen = (site.views(&elsewhere), site.views(&new));
    assert_eq!(seen, (Some(1), Some(1)));
}

#[test]
fn a_session_that_stays_held_keeps_none_of_the_others_from_ending_and_the_cookie_stays() {
    let site = Site::with(&[("lockTimeout", "2s")]);
    let ids = [(); 8].map(|()| site.visitor());
    let other = site.manager_with(&[]);
    let held = [1, 2, 3, 4, 5, 6].map(|at| other.start(cookie(&ids[at])).unwrap());
    let session = site.manager().start(cookies(&ids.each_ref())).unwrap();
    let started = Instant::now();
    let refused = session.destroy();
    assert!(matches!(refused, Err(Error::Busy { .. })), "{refused:?}");
    let is_it = started.elapsed() < Duration::from_secs(12);
    assert!(is_it, "one wait for all six");
    let left = ids.each_ref().map(|id| site.views(id).is_some());
    assert_eq!(left, [false, true, true, true, true, true, true, false]);
    for session in held {
        session.commit().unwrap();
    }
    let session = site.manager().start(cookies(&ids.each_ref())).unwrap();
    assert!(session.destroy().unwrap().expect("a cookie").is_removal());
    assert_eq!(site.sessions(), 0);
}
