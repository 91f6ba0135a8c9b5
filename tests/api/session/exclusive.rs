//! One session, one request at a time; and a session that has ended stays ended.

use std::panic::{AssertUnwindSafe, catch_unwind};

use cgi_session::Client;
use testkit::prelude::*;
use testkit::sessions::{Site, cookie, count, is_waiting, spawn_waiter};

#[test]
fn opening_a_session_twice_in_one_thread_is_an_error_at_once() {
    let site = Site::new();
    let (id, manager) = (site.visitor(), site.manager());
    let session = manager.start(cookie(&id)).unwrap();
    for error in [
        manager.start(cookie(&id)).err(),
        manager.existing(cookie(&id)).err(),
    ] {
        assert!(matches!(error, Some(Error::AlreadyOpen)), "{error:?}");
    }
    assert_eq!(site.views(&id), Some(1), "reading is allowed");
    drop(session);
    assert!(manager.existing(cookie(&id)).unwrap().is_some());
}

#[test]
fn a_session_that_this_request_made_is_open_too() {
    let site = Site::new();
    let manager = site.manager();
    let mut session = manager.start(b"").unwrap();
    count(&mut session);
    session.save().unwrap();
    let id = session.id().unwrap().clone();
    let again = manager.start(cookie(&id)).err();
    assert!(matches!(again, Some(Error::AlreadyOpen)), "{again:?}");
    session.regenerate_id();
    session.save().unwrap();
    assert!(manager.existing(cookie(&id)).unwrap().is_none());
}

#[test]
fn another_thread_waits_and_is_told_who_holds_the_session() {
    let site = Site::with(&[("lockTimeout", "1s")]);
    let id = site.visitor();
    let session = site.open(&id);
    thread::scope(|scope| {
        let other = scope.spawn(|| site.manager().start(cookie(&id)).err().unwrap());
        let error = other.join().unwrap();
        assert_eq!(error.status(), 503);
        let text = error.to_string();
        assert!(text.contains("locked after 1.0 s"), "{text}");
        assert!(text.contains("another thread of this process"), "{text}");
    });
    drop(session);
    assert!(site.manager().existing(cookie(&id)).unwrap().is_some());
}

#[test]
fn a_session_that_another_thread_was_given_is_waited_for_by_the_one_that_opened_it() {
    let site = Site::with(&[("lockTimeout", "60s")]);
    let (id, manager) = (site.visitor(), site.manager());
    // Used there at once, or not before it is committed; that is to be soon, and a busy machine may be late.
    let was_waited_for = |is_used: bool| {
        let mut session = manager.start(cookie(&id)).unwrap();
        let (given, is_given) = std::sync::mpsc::channel();
        let holder = thread::spawn(move || {
            if is_used {
                count(&mut session);
            }
            given.send(()).unwrap();
            thread::sleep(Duration::from_millis(if is_used { 2000 } else { 100 }));
            session.insert("isDone", is_used).unwrap();
            session.commit().unwrap();
        });
        is_given.recv().unwrap();
        let own = match manager.start(cookie(&id)) {
            Err(Error::AlreadyOpen) if !is_used => None,
            own => Some(own.unwrap().get::<bool>("isDone").unwrap()),
        };
        holder.join().unwrap();
        own == Some(Some(is_used))
    };
    assert!(was_waited_for(true));
    assert!((0..50).any(|_| was_waited_for(false)));
}

#[test]
fn who_holds_a_session_now_is_told_at_once_and_others_when_the_time_is_over() {
    let site = Site::with(&[("lockTimeout", "1s")]);
    let (id, manager) = (site.visitor(), site.manager());
    let mut session = manager.start(cookie(&id)).unwrap();
    thread::scope(|scope| {
        let (ready, is_ready) = std::sync::mpsc::channel();
        let (go, may_go) = std::sync::mpsc::channel::<()>();
        let (there, id_there) = (manager.clone(), id.clone());
        let holder = scope.spawn(move || {
            count(&mut session);
            let again = there.start(cookie(&id_there)).err();
            assert!(matches!(again, Some(Error::AlreadyOpen)), "{again:?}");
            ready.send(()).unwrap();
            may_go.recv().unwrap();
            session.commit().unwrap();
        });
        is_ready.recv().unwrap();
        for busy in [
            manager.start(cookie(&id)).err(),
            manager.destroy_by_digest(&id.digest()).err(),
        ] {
            assert!(matches!(busy, Some(Error::Busy { .. })), "{busy:?}");
        }
        go.send(()).unwrap();
        holder.join().unwrap();
    });
    assert_eq!(site.views(&id), Some(2));
}

#[test]
fn managers_of_different_directories_have_nothing_to_do_with_each_other() {
    let (one, other) = (Site::new(), Site::new());
    let id = one.visitor();
    let mut first = one.manager().start_with_id(&id).unwrap();
    let mut second = other.manager().start_with_id(&id).unwrap();
    assert_eq!((count(&mut first), count(&mut second)), (2, 1));
    second.save().unwrap();
    first.commit().unwrap();
    second.commit().unwrap();
    assert_eq!((one.views(&id), other.views(&id)), (Some(2), Some(1)));
}

#[test]
fn threads_that_wait_for_a_session_have_it_in_turn() {
    let site = Site::with(&[("lockTimeout", "90s")]);
    let (id, manager) = (site.visitor(), site.manager());
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..200 {
                    let mut session = manager.start(cookie(&id)).unwrap();
                    count(&mut session);
                    session.commit().unwrap();
                }
            });
        }
    });
    assert_eq!(site.views(&id), Some(1601));
}

#[test]
fn a_destroyed_session_never_comes_back() {
    let (site, id, session) = Site::opened();
    thread::scope(|scope| {
        // It loaded its cookie while the session lived, and saves after it was destroyed.
        let slow = spawn_waiter(scope, || {
            let mut session = site.open(&id);
            assert!(session.is_new());
            count(&mut session);
            session.commit().unwrap();
        });
        wait_until("a thread waits", is_waiting);
        session.destroy().unwrap();
        slow.join().unwrap();
    });
    assert!(!site.path(&id).exists());
    assert!(site.manager().read(cookie(&id)).unwrap().is_none());
}

#[test]
fn an_update_that_fails_saves_nothing() {
    let site = Site::new();
    let id = site.visitor();
    let failed = site.manager().update(cookie(&id), |session| {
        count(session);
        session.require::<String>("missing")
    });
    assert!(matches!(failed, Err(Error::MissingKey(key)) if key == "missing"));
    assert_eq!(site.views(&id), Some(1));
    let (views, _) = site
        .manager()
        .update(cookie(&id), |session| Ok(count(session)))
        .unwrap();
    assert_eq!((views, site.views(&id)), (2, Some(2)));
}

#[test]
fn a_request_that_catches_the_panic_of_its_change_saves_nothing_of_it_and_goes_on() {
    let client = Client::default();
    let page = client.get("/").send(|request: &mut Request| {
        let broken = || {
            request.update_session(|session| -> Result<(), Error> {
                session.insert("half", true)?;
                panic!("in the middle");
            })
        };
        assert!(catch_unwind(AssertUnwindSafe(broken)).is_err());
        request.update_session(|session| session.insert("whole", true))?;
        let half = request.session()?.get::<bool>("half")?;
        Ok::<_, Error>(Response::text(format!("{half:?}")))
    });
    assert_eq!(page.body_text(), "None");
}
