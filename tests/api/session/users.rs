//! Sessions found by their user, and ended together; and sessions under an id of the program's.

use cgi_session::{Client, RequestBuilder, UserSession};

use testkit::prelude::*;
use testkit::sessions::{Site, cookie, count, given_id, is_waiting, spawn_waiter};

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
    let mut session = site.open(&old);
    assert_eq!(session.user(), Some("ada"));
    session.set_user(Some("grace")).unwrap();
    session.regenerate_id();
    let new = given_id(session.commit().unwrap());
    assert_eq!(site.manager().destroy_sessions_of("ada", None).unwrap(), 0);
    let snapshot = site.manager().read(cookie(&new)).unwrap().unwrap();
    assert_eq!(snapshot.user(), Some("grace"));
    site.change(&new, |it| it.set_user(None).unwrap());
    let seen = site.manager().destroy_sessions_of("grace", None).unwrap();
    assert_eq!(seen, 0);
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
    let mut session = site.open(&old);
    session.regenerate_id();
    let new = thread::scope(|scope| {
        let ending = spawn_waiter(scope, || {
            site.manager().destroy_sessions_of("ada", None).unwrap()
        });
        wait_until("a thread waits", is_waiting);
        let new = given_id(session.commit().unwrap());
        assert_eq!(ending.join().unwrap(), 1);
        new
    });
    assert_eq!((site.views(&old), site.views(&new)), (None, None));
}

/// A session of this user in any store.
fn login_to(manager: &SessionManager, user: &str) -> SessionId {
    let mut session = manager.start(b"").unwrap();
    session.set_user(Some(user)).unwrap();
    session.save().unwrap();
    // Under the id of the login.
    session.regenerate_id();
    given_id(session.commit().unwrap())
}

#[test]
fn held_sessions_cost_one_wait_and_the_error_says_how_many_are_left() {
    let site = Site::with(&[("lockTimeout", "1s")]);
    let free = [(); 3].map(|()| login(&site, "ada"));
    let kept = [(); 40].map(|()| login(&site, "ada"));
    let (program, other) = (site.manager(), site.manager_with(&[]));
    let held = kept.each_ref().map(|id| other.start(cookie(id)).unwrap());
    let started = Instant::now();
    let failed = program.destroy_sessions_of("ada", None).unwrap_err();
    let took = started.elapsed();
    assert!(took >= Duration::from_secs(1), "{took:?}");
    assert!(took < Duration::from_secs(20), "{took:?}");
    assert!(matches!(failed, Error::SessionsLeft { left: 40, .. }));
    assert_eq!(failed.status(), http::StatusCode::SERVICE_UNAVAILABLE);
    let line = failed.one_line();
    let has_it = line.starts_with("40 of the user's sessions") && line.contains("still locked");
    assert!(has_it, "{line}");
    for id in &free {
        assert_eq!(site.views(id), None);
    }
    for session in held {
        session.commit().unwrap();
    }
    assert_eq!(program.destroy_sessions_of("ada", None).unwrap(), 40);
    assert_eq!(site.sessions(), 0);
}

#[test]
fn a_session_that_is_given_up_in_time_is_ended_whatever_else_is_held() {
    let site = Site::with(&[("lockTimeout", "10s")]);
    let [slow, quick] = [(); 2].map(|()| login(&site, "ada"));
    let other = site.manager_with(&[]);
    let held = other.start(cookie(&slow)).unwrap();
    let session = site.open(&quick);
    thread::scope(|scope| {
        let ending = spawn_waiter(scope, || site.manager().destroy_sessions_of("ada", None));
        wait_until("a thread waits", is_waiting);
        session.commit().unwrap();
        let failed = ending.join().unwrap().unwrap_err();
        let is_it = matches!(failed, Error::SessionsLeft { left: 1, .. });
        assert!(is_it, "{failed}");
    });
    drop(held);
    assert_eq!((site.views(&slow), site.views(&quick)), (Some(1), None));
}

/// A client asks once more when it has the answer.
const PAUSE: Duration = Duration::from_millis(2);

#[test]
fn all_that_were_there_end_while_the_user_keeps_logging_in_and_ids_keep_changing() {
    let patience = ("lockTimeout", "300s");
    let site = Site::with(&[patience]);
    let ram = Config::new().set("storageType", "ram").unwrap();
    let ram = ram.set(patience.0, patience.1).unwrap();
    for manager in [site.manager(), SessionManager::new(ram).unwrap()] {
        let there: Vec<_> = (0..200).map(|_| login_to(&manager, "ada")).collect();
        let restless = login_to(&manager, "ada");
        let (is_over, started_both) = (AtomicBool::new(false), Barrier::new(3));
        thread::scope(|scope| {
            scope.spawn(|| {
                started_both.wait();
                while !is_over.load(Ordering::Relaxed) {
                    login_to(&manager, "ada");
                    thread::sleep(PAUSE);
                }
            });
            let changing = scope.spawn(|| {
                let mut id = restless;
                started_both.wait();
                while let Some(mut session) = manager.existing(cookie(&id)).unwrap() {
                    if is_over.load(Ordering::Relaxed) {
                        return false;
                    }
                    session.regenerate_id();
                    id = given_id(session.commit().unwrap());
                    thread::sleep(PAUSE);
                }
                true
            });
            started_both.wait();
            let ended = manager.destroy_sessions_of("ada", None);
            is_over.store(true, Ordering::Relaxed);
            // Those of the last moment before it began are among them.
            assert!(ended.unwrap() >= 201);
            assert!(changing.join().unwrap(), "one that changed its id is left");
        });
        for id in there {
            assert!(manager.existing(cookie(&id)).unwrap().is_none());
        }
    }
}

#[test]
fn what_a_kept_session_still_shows_under_its_old_id_is_kept_with_it() {
    let site = Site::new();
    let (old, other) = (login(&site, "ada"), login(&site, "ada"));
    let changed = |id: &SessionId| {
        let mut session = site.open(id);
        session.regenerate_id_with_grace(Duration::from_secs(60));
        given_id(session.commit().unwrap())
    };
    let (own, another) = (changed(&old), changed(&other));
    let ended = site.manager().destroy_sessions_of("ada", Some(&own));
    assert_eq!(ended.unwrap(), 1);
    assert_eq!((site.views(&old), site.views(&own)), (Some(1), Some(1)));
    assert_eq!((site.views(&other), site.views(&another)), (None, None));
    let ended = site.manager().destroy_sessions_of("ada", None);
    assert_eq!((ended.unwrap(), site.sessions()), (1, 0));
}

#[test]
fn a_user_is_a_short_text_without_control_characters() {
    let (site, mut session) = Site::begun();
    for user in ["", "a\nb", &"x".repeat(256)] {
        let refused = session.set_user(Some(user));
        assert!(matches!(refused, Err(Error::Key { .. })));
    }
    session.set_user(Some("\"Ada\" <ada@example.org>")).unwrap();
    let id = given_id(session.commit().unwrap());
    let session = site.open(&id);
    assert_eq!(session.user(), Some("\"Ada\" <ada@example.org>"));
}

#[test]
fn a_session_is_counted_though_what_it_still_shows_is_held() {
    let site = Site::new();
    let old = login(&site, "ada");
    let new = given_id(site.change(&old, |session| {
        session.regenerate_id_with_grace(Duration::from_secs(60));
    }));
    let now = SystemTime::now();
    let manager = site.manager();
    let held = manager.store().lock(&old.digest(), Duration::ZERO, now);
    let held = held.unwrap().unwrap();
    let ended = thread::scope(|scope| {
        let ends = scope.spawn(|| site.manager().destroy_sessions_of("ada", None));
        wait_until("the session is ended", || !site.path(&new).exists());
        drop(held);
        ends.join().unwrap()
    });
    assert_eq!((ended.unwrap(), site.sessions()), (1, 0));
}

/// A request that shows these ids.
fn showing(site: &Site, ids: [&SessionId; 2]) -> RequestBuilder {
    let request = Request::builder().manager(site.manager());
    ids.iter().fold(request, |request, id| {
        request.cookie("sessionId", id.secret())
    })
}

#[test]
fn a_marker_beside_the_session_hinders_no_logout_everywhere() {
    let site = Site::new();
    for is_in_front in [true, false] {
        let (own, old) = (login(&site, "ada"), login(&site, "grace"));
        site.change(&old, cgi_session::Session::regenerate_id);
        let mut ids = [&old, &own];
        if !is_in_front {
            ids.reverse();
        }
        let page = showing(&site, ids).send(|request: &mut Request| {
            request.destroy_all_sessions()?;
            Ok::<_, Error>(Response::text(""))
        });
        assert_eq!((page.status().as_u16(), site.views(&own)), (200, None));
        let cookie = page.headers()[http::header::SET_COOKIE].to_str().unwrap();
        assert!(cookie.contains("Max-Age=0"), "{cookie}");
    }
}

#[test]
fn a_marker_in_front_does_not_hide_which_session_is_the_visitors_own() {
    let site = Site::new();
    let (own, old) = (login(&site, "ada"), login(&site, "grace"));
    site.change(&old, cgi_session::Session::regenerate_id);
    let page = showing(&site, [&old, &own]).send(|request: &mut Request| {
        let sessions = request.own_sessions()?;
        let current: Vec<_> = sessions.iter().map(UserSession::is_current).collect();
        Ok::<_, Error>(Response::text(format!("{current:?}")))
    });
    assert_eq!(page.body_text(), "[true]");
}

#[test]
fn a_program_that_gives_an_id_takes_no_visitor_the_renewal_of_its_cookie() {
    let site = Site::new();
    let (visitor, other) = (site.visitor(), site.visitor());
    let manager = site.manager_with(&[("cookieMaxAge", "30d")]);
    for (gives, is_renewed) in [(true, false), (false, true)] {
        let request = Request::builder().manager(manager.clone());
        let request = request.cookie("sessionId", visitor.secret());
        let page = request
            .header("sec-fetch-dest", "document")
            .send(|request: &mut Request| {
                assert!(request.read_session()?.is_some());
                if gives {
                    request.use_session_id(other.clone())?;
                }
                Ok::<_, Error>(Response::text(""))
            });
        let is_sent = page.headers().contains_key(http::header::SET_COOKIE);
        assert_eq!(is_sent, is_renewed);
    }
}

#[test]
fn an_id_that_the_program_gives_is_used_as_it_is_and_no_cookie_is_sent() {
    let site = Site::new();
    let (manager, id) = (site.manager(), SessionId::generate().unwrap());
    for expected in 1..4 {
        let mut session = manager.start_with_id(&id).unwrap();
        let seen = (session.is_new(), count(&mut session));
        assert_eq!(seen, (expected == 1, expected));
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
        let taken = second.commit().unwrap_err();
        assert!(matches!(taken, Error::Busy { .. }));
        testkit::stores::says(&taken, "is locked, by*has just begun it");
    }
    assert_eq!(site.views(&id), Some(1));
}

#[test]
fn an_id_that_the_program_gives_leads_to_a_new_session_though_it_was_read_and_found_expired() {
    let site = Site::new();
    let id = site.visitor();
    site.set_modified(&id, SystemTime::now() - Duration::from_secs(7200));
    let begins = |request: &mut Request| {
        request.use_session_id(id.clone())?;
        assert!(request.read_session()?.is_none());
        request.session()?.insert("pageViews", 9)?;
        Ok::<_, Error>(Response::text(""))
    };
    let page = Client::new(site.manager()).get("/").send(begins);
    assert_eq!((page.status().as_u16(), site.views(&id)), (200, Some(9)));
}

#[test]
fn a_program_that_gives_the_id_begins_a_session_again_and_another_beside_it() {
    let site = Site::new();
    let (manager, id) = (site.manager(), SessionId::generate().unwrap());
    let begins = |request: &mut Request| {
        request.use_session_id(id.clone())?;
        for _ in 0..2 {
            assert_eq!(count(request.session()?), 1);
            request.commit_session()?;
            manager.destroy_by_digest(&id.digest())?;
        }
        count(request.session()?);
        assert_eq!(count(request.fresh_session()?), 1);
        Ok::<_, Error>(Response::text(""))
    };
    let page = Client::new(site.manager()).get("/").send(begins);
    assert_eq!((page.status().as_u16(), site.views(&id)), (200, Some(1)));
    assert_eq!(site.sessions(), 2);
}

#[test]
fn no_id_is_given_in_the_place_of_a_session_whose_cookie_is_to_be_sent() {
    let client = Client::default();
    let gives = |request: &mut Request| {
        count(request.session()?);
        if request.query("logout").is_some() {
            request.destroy_session()?;
        } else {
            request.commit_session()?;
        }
        let refused = request.use_session_id(SessionId::generate()?);
        assert!(matches!(refused, Err(Error::AlreadyOpen)), "{refused:?}");
        Ok::<_, Error>(Response::text(""))
    };
    for (path, has_cookie) in [("/", true), ("/?logout", false)] {
        assert_eq!(client.get(path).send(gives).status(), 200);
        assert_eq!(client.cookie("sessionId").is_some(), has_cookie);
    }
}
