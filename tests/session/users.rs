//! Sessions found by their user, and ended together; and sessions under an id of the program's.

use std::fs;
use std::thread;

use cgi_session::{Error, SessionId};

use crate::support::{
    Site, cookie, count, eventually, given_id, is_somebody_waiting, spawn_waiter,
};

fn login(site: &Site, user: &str) -> SessionId {
    let mut session = site.manager().start(b"").unwrap();
    session.set_user(Some(user)).unwrap();
    count(&mut session);
    given_id(session.commit().unwrap())
}

#[test]
fn all_sessions_of_a_user_end_together_and_nobody_elses() {
    let site = Site::new();
    let [here, there] = [login(&site, "ada"), login(&site, "ada")];
    let other = login(&site, "grace");
    let manager = site.manager();
    assert_eq!(manager.destroy_sessions_of("ada", Some(&here)).unwrap(), 1);
    assert_eq!((site.views(&here), site.views(&there)), (Some(1), None));
    assert_eq!(manager.destroy_sessions_of("ada", None).unwrap(), 1);
    assert_eq!((site.views(&here), site.views(&other)), (None, Some(1)));
    assert_eq!(manager.destroy_sessions_of("nobody", None).unwrap(), 0);
}

#[test]
fn a_session_of_the_user_that_cannot_be_read_is_an_error_and_hides_no_other() {
    let site = Site::new();
    let [here, there, unreadable] = [(); 3].map(|()| login(&site, "ada"));
    let link = site.path(&unreadable).with_extension("backup");
    // A file with a second name is refused: whoever made it may change what is in it.
    fs::hard_link(site.path(&unreadable), &link).unwrap();
    let manager = site.manager();
    let failed = manager.destroy_sessions_of("ada", Some(&here)).unwrap_err();
    assert_eq!(failed.status(), http::StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!((site.views(&here), site.views(&there)), (Some(1), None));
    fs::remove_file(link).unwrap();
    assert_eq!(site.views(&unreadable), Some(1));
    assert_eq!(manager.destroy_sessions_of("ada", Some(&here)).unwrap(), 1);
    assert_eq!(site.views(&unreadable), None);
}

#[test]
fn a_session_belongs_to_the_user_it_named_last_under_whichever_id() {
    let site = Site::new();
    let old = login(&site, "ada");
    let mut session = site.manager().start(cookie(&old)).unwrap();
    assert_eq!(session.user(), Some("ada"));
    session.set_user(Some("grace")).unwrap();
    session.regenerate_id();
    let new = given_id(session.commit().unwrap());
    assert_eq!(site.manager().destroy_sessions_of("ada", None).unwrap(), 0);
    let snapshot = site.manager().read(cookie(&new)).unwrap().unwrap();
    assert_eq!(snapshot.user(), Some("grace"));
    let mut session = site.manager().start(cookie(&new)).unwrap();
    session.set_user(None).unwrap();
    session.commit().unwrap();
    assert_eq!(
        site.manager().destroy_sessions_of("grace", None).unwrap(),
        0
    );
    assert_eq!(site.views(&new), Some(1));
}

#[test]
fn who_holds_a_session_of_the_user_is_told_instead_of_waiting_for_itself() {
    let site = Site::new();
    let id = login(&site, "ada");
    let manager = site.manager();
    let held = manager.start(cookie(&id)).unwrap();
    let refused = manager.destroy_sessions_of("ada", None);
    assert!(matches!(refused, Err(Error::AlreadyOpen)), "{refused:?}");
    drop(held);
    assert_eq!(manager.destroy_sessions_of("ada", None).unwrap(), 1);
}

#[test]
fn a_session_whose_id_changes_while_it_is_to_be_ended_does_not_escape() {
    let site = Site::new();
    let old = login(&site, "ada");
    let mut session = site.manager().start(cookie(&old)).unwrap();
    session.regenerate_id();
    let new = thread::scope(|scope| {
        let ending = spawn_waiter(scope, || {
            site.manager().destroy_sessions_of("ada", None).unwrap()
        });
        eventually("somebody waits", is_somebody_waiting);
        let new = given_id(session.commit().unwrap());
        assert_eq!(ending.join().unwrap(), 1);
        new
    });
    assert_eq!((site.views(&old), site.views(&new)), (None, None));
}

#[test]
fn a_user_is_a_short_text_without_control_characters() {
    let site = Site::new();
    let mut session = site.manager().start(b"").unwrap();
    for user in ["", "a\nb", &"x".repeat(256)] {
        assert!(matches!(
            session.set_user(Some(user)),
            Err(Error::Key { .. })
        ));
    }
    session.set_user(Some("\"Ada\" <ada@example.org>")).unwrap();
    let id = given_id(session.commit().unwrap());
    let session = site.manager().start(cookie(&id)).unwrap();
    assert_eq!(session.user(), Some("\"Ada\" <ada@example.org>"));
}

#[test]
fn an_id_that_the_program_gives_is_used_as_it_is_and_no_cookie_is_sent() {
    let site = Site::new();
    let (manager, id) = (site.manager(), SessionId::generate().unwrap());
    for expected in 1..4 {
        let mut session = manager.start_with_id(&id).unwrap();
        assert_eq!(
            (session.is_new(), count(&mut session)),
            (expected == 1, expected)
        );
        assert!(session.commit().unwrap().is_none());
    }
    assert_eq!((site.views(&id), site.sessions()), (Some(3), 1));
    let session = manager.start_with_id(&id).unwrap();
    assert!(session.destroy().unwrap().is_none());
    assert_eq!(site.sessions(), 0);
}

#[test]
fn of_two_who_begin_the_same_id_at_once_one_is_told_to_try_again() {
    let site = Site::new();
    let (manager, id) = (site.manager(), SessionId::generate().unwrap());
    let mut first = manager.start_with_id(&id).unwrap();
    count(&mut first);
    let mut second = manager.start_with_id(&id);
    // Nothing is stored yet, so that both begin; the one who commits first has made it.
    if let Ok(second) = &mut second {
        count(second);
    }
    first.commit().unwrap();
    if let Ok(second) = second {
        assert!(matches!(second.commit(), Err(Error::Busy { .. })));
    }
    assert_eq!(site.views(&id), Some(1));
}
