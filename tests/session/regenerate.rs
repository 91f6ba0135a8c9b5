//! A new id for the same session.

use std::thread;

use crate::support::{
    Site, cookie, count, eventually, given_id, is_somebody_waiting, spawn_waiter,
};

#[test]
fn the_data_moves_and_the_old_id_is_dead_for_every_program() {
    let site = Site::new();
    let (here, elsewhere) = (site.manager(), site.manager());
    let old = site.visitor();
    assert!(elsewhere.read(cookie(&old)).unwrap().is_some());

    let mut session = here.start(cookie(&old)).unwrap();
    session.regenerate_id();
    count(&mut session);
    let new = given_id(session.commit().unwrap());
    assert_ne!(new, old);
    assert_eq!((site.views(&new), site.sessions()), (Some(2), 1));
    assert!(elsewhere.existing(cookie(&old)).unwrap().is_none());
    assert!(elsewhere.read(cookie(&old)).unwrap().is_none());
    assert!(elsewhere.start(cookie(&old)).unwrap().is_new());
}

#[test]
fn the_session_keeps_its_age_and_its_timeout() {
    let site = Site::new();
    let old = site.visitor();
    let mut session = site.manager().start(cookie(&old)).unwrap();
    let created = session.created();
    session.set_timeout(Some(std::time::Duration::from_secs(90)));
    session.regenerate_id();
    let new = given_id(session.commit().unwrap());
    let session = site.manager().start(cookie(&new)).unwrap();
    assert_eq!(session.created(), created);
    assert_eq!(session.timeout().as_secs(), 90);
    assert!(!session.is_new());
}

#[test]
fn a_request_that_fails_leaves_the_old_id() {
    let site = Site::new();
    let old = site.visitor();
    let mut session = site.manager().start(cookie(&old)).unwrap();
    session.regenerate_id();
    drop(session);
    assert_eq!((site.views(&old), site.sessions()), (Some(1), 1));
}

#[test]
fn a_new_record_that_cannot_be_stored_leaves_the_old_id() {
    let site = Site::with(&[("maxRecordBytes", "1000")]);
    let old = site.visitor();
    let mut session = site.manager().start(cookie(&old)).unwrap();
    session.regenerate_id();
    session.insert("x", "x".repeat(2000)).unwrap();
    assert!(session.save().is_err());
    assert_eq!((site.views(&old), site.sessions()), (Some(1), 1));
    session.remove("x");
    let new = given_id(session.commit().unwrap());
    assert_eq!((site.views(&new), site.views(&old)), (Some(1), None));
}

#[test]
fn twice_in_one_request_leaves_one_session() {
    let site = Site::new();
    let old = site.visitor();
    let mut session = site.manager().start(cookie(&old)).unwrap();
    session.regenerate_id();
    session.save().unwrap();
    let between = session.id().unwrap().clone();
    session.regenerate_id();
    let new = given_id(session.commit().unwrap());
    assert_eq!(site.sessions(), 1);
    assert!(old != between && between != new);
    assert_eq!((site.views(&between), site.views(&new)), (None, Some(1)));
}

#[test]
fn asked_for_twice_before_the_commit_is_one_change() {
    let site = Site::new();
    let old = site.visitor();
    let mut session = site.manager().start(cookie(&old)).unwrap();
    session.regenerate_id();
    session.regenerate_id();
    given_id(session.commit().unwrap());
    assert_eq!(site.sessions(), 1);
}

#[test]
fn a_session_that_is_not_stored_yet_gets_one_id() {
    let site = Site::new();
    let mut session = site.manager().start(b"").unwrap();
    session.regenerate_id();
    count(&mut session);
    given_id(session.commit().unwrap());
    assert_eq!(site.sessions(), 1);
}

#[test]
fn who_waits_for_the_old_id_finds_no_session_and_brings_none_back() {
    let site = Site::new();
    let old = site.visitor();
    let mut session = site.manager().start(cookie(&old)).unwrap();
    session.regenerate_id();
    thread::scope(|scope| {
        let waiter = spawn_waiter(scope, || {
            let mut late = site.manager().start(cookie(&old)).unwrap();
            assert!(late.is_new());
            count(&mut late);
            late.commit().unwrap();
        });
        eventually("somebody waits", is_somebody_waiting);
        session.commit().unwrap();
        waiter.join().unwrap();
    });
    assert!(!site.path(&old).exists());
    assert_eq!(site.sessions(), 2);
}

#[test]
fn destroy_after_a_change_of_id_leaves_nothing() {
    let site = Site::new();
    let old = site.visitor();
    let mut session = site.manager().start(cookie(&old)).unwrap();
    session.regenerate_id();
    session.save().unwrap();
    assert!(session.destroy().unwrap().expect("a cookie").is_removal());
    assert_eq!(site.sessions(), 0);
}
