//! `maxSessionsPerUser`: a user never has more sessions than that.

use cgi_session::{Client, CustomFunctions, CustomResult, CustomStore};

use testkit::prelude::*;
use testkit::sessions::{
    Site, cookie, count, given_id, is_waiting, log_in_at_once, login, spawn_waiter,
};

/// Stores of each kind that has the setting; in memory, only one manager has the sessions.
const KINDS: [&[(&str, &str)]; 3] = [
    &[("storageType", "file")],
    &[("shards", "256"), ("durability", "data")],
    &[("storageType", "ram")],
];

fn site(kind: &[(&str, &str)], limit: &str, full: &str) -> Site {
    let settings = [("maxSessionsPerUser", limit), ("whenUserFull", full)];
    Site::with(&[kind, &settings].concat())
}

fn views(manager: &SessionManager, id: &SessionId) -> Option<u64> {
    let read = manager.read(cookie(id)).unwrap();
    read.and_then(|read| read.get("pageViews").unwrap())
}

fn use_once(manager: &SessionManager, id: &SessionId) {
    let mut session = manager.start(cookie(id)).unwrap();
    count(&mut session);
    session.commit().unwrap();
}

/// Uses one session after another, by the clock of the file system, which stands still for some milliseconds.
fn use_after(manager: &SessionManager, id: &SessionId, before: &SessionId) {
    let used = |id: &SessionId| {
        let stored = manager.peek(&id.digest()).unwrap();
        stored.unwrap().last_access
    };
    wait_until("it is used later", || {
        use_once(manager, id);
        used(id) > used(before)
    });
}

#[test]
fn one_more_session_ends_the_one_of_the_user_that_was_not_used_for_the_longest_time() {
    for kind in KINDS {
        let site = site(kind, "2", "evictOldest");
        let manager = site.manager();
        let other = login(&manager, "grace").unwrap();
        let [first, second] = [(); 2].map(|()| login(&manager, "ada").unwrap());
        use_after(&manager, &first, &second);
        let third = login(&manager, "ada").unwrap();
        assert_eq!(views(&manager, &second), None);
        let left = [&first, &third, &other].map(|id| views(&manager, id));
        assert!(left.iter().all(Option::is_some), "{left:?}");
        assert_eq!(manager.sessions_of("ada").unwrap().len(), 2);
        // A session that becomes the user's later is one more, too.
        use_after(&manager, &third, &first);
        let mut session = manager.start(cookie(&other)).unwrap();
        session.set_user(Some("ada")).unwrap();
        session.commit().unwrap();
        assert_eq!(views(&manager, &first), None);
        assert_eq!(manager.sessions_of("ada").unwrap().len(), 2);
    }
}

#[test]
fn a_change_of_id_what_it_leaves_and_private_records_take_no_place() {
    for kind in KINDS {
        for full in ["refuse", "evictOldest"] {
            let site = site(kind, "1", full);
            let manager = site.manager();
            let mut id = login(&manager, "ada").unwrap();
            let token = manager.start_with_id(&SessionId::generate().unwrap());
            let mut token = token.unwrap();
            token.set_user(Some("ada")).unwrap();
            token.set_private();
            token.commit().unwrap();
            for grace in [None, Some(Duration::from_secs(60))] {
                let mut session = manager.start(cookie(&id)).unwrap();
                session.set_user(None).unwrap();
                session.set_user(Some("ada")).unwrap();
                match grace {
                    Some(grace) => session.regenerate_id_with_grace(grace),
                    None => session.regenerate_id(),
                }
                id = given_id(session.commit().unwrap());
            }
            use_once(&manager, &id);
            assert_eq!(views(&manager, &id), Some(2));
        }
    }
}

#[test]
fn where_one_more_is_refused_the_visitor_stays_what_it_was() {
    for kind in KINDS {
        let site = site(kind, "1", "refuse");
        let manager = site.manager();
        let first = login(&manager, "ada").unwrap();
        let mut guest = manager.start("").unwrap();
        count(&mut guest);
        let guest = given_id(guest.commit().unwrap());
        for with_new_id in [false, true] {
            let mut session = manager.start(cookie(&guest)).unwrap();
            count(&mut session);
            session.set_user(Some("ada")).unwrap();
            if with_new_id {
                session.regenerate_id();
            }
            let refused = session.commit().unwrap_err();
            assert!(matches!(refused, Error::UserFull { limit: 1 }), "{refused}");
            // No time mends that, but a logout elsewhere.
            assert_eq!(refused.status(), http::StatusCode::CONFLICT);
            let session = manager.start(cookie(&guest)).unwrap();
            assert_eq!((session.user(), views(&manager, &guest)), (None, Some(1)));
        }
        assert_eq!(views(&manager, &first), Some(1));
        let full = login(&manager, "ada");
        assert!(matches!(full, Err(Error::UserFull { .. })));
        manager.start(cookie(&first)).unwrap().destroy().unwrap();
        login(&manager, "ada").unwrap();
    }
}

#[test]
fn however_many_log_in_at_once_a_user_never_has_more_sessions() {
    for kind in KINDS {
        for full in ["evictOldest", "refuse"] {
            let site = site(kind, "3", full);
            let first = site.manager();
            // Another program, where the store serves several.
            let is_shared = !kind.contains(&("storageType", "ram"));
            let managers = [
                &first,
                &if is_shared {
                    site.manager()
                } else {
                    first.clone()
                },
            ];
            log_in_at_once(managers, full == "refuse");
        }
    }
}

#[test]
fn a_session_whose_id_changes_at_this_moment_takes_its_place() {
    for kind in KINDS {
        let site = site(kind, "3", "refuse");
        let manager = site.manager();
        let change_often = |mut id: SessionId| {
            for _ in 0..30 {
                id = given_id(change(
                    &manager,
                    cookie(&id),
                    cgi_session::Session::regenerate_id,
                ));
            }
        };
        let ids = [(); 3].map(|()| login(&manager, "ada").unwrap());
        thread::scope(|scope| {
            for id in ids {
                let change_often = &change_often;
                scope.spawn(move || change_often(id));
            }
            for _ in 0..30 {
                let refused = login(&manager, "ada");
                assert!(matches!(refused, Err(Error::UserFull { .. })), "{kind:?}");
            }
        });
    }
}

#[test]
fn a_session_that_has_to_go_is_waited_for_and_what_takes_too_long_is_an_error() {
    for kind in KINDS {
        let site = site(kind, "1", "evictOldest");
        let manager = site.manager();
        let id = login(&manager, "ada").unwrap();
        let mut held = manager.start(cookie(&id)).unwrap();
        thread::scope(|scope| {
            let waiting = spawn_waiter(scope, || login(&manager, "ada").unwrap());
            wait_until("a login waits", is_waiting);
            // Another user's login does not wait for it.
            login(&manager, "grace").unwrap();
            count(&mut held);
            held.commit().unwrap();
            let new = waiting.join().unwrap();
            assert_eq!(views(&manager, &new), Some(1));
        });
        assert_eq!(views(&manager, &id), None);
        if kind.contains(&("storageType", "ram")) {
            continue;
        }
        let impatient = site.manager_with(&[("lockTimeout", "1s")]);
        let id = login(&manager, "linus").unwrap();
        let held = manager.start(cookie(&id)).unwrap();
        let refused = thread::scope(|scope| {
            let refused = scope.spawn(|| login(&impatient, "linus"));
            refused.join().unwrap().unwrap_err()
        });
        assert!(matches!(refused, Error::Busy { .. }), "{refused}");
        drop(held);
        assert_eq!(views(&manager, &id), Some(1));
    }
}

#[test]
fn of_two_sessions_that_become_each_others_user_one_does_and_the_other_is_told_to_try_again() {
    const LONG: Duration = Duration::from_secs(600);
    for kind in KINDS {
        let site = site(kind, "1", "evictOldest");
        let first = site.manager_with(&[("lockTimeout", "600s")]);
        let is_shared = !kind.contains(&("storageType", "ram"));
        let second = if is_shared {
            site.manager_with(&[("lockTimeout", "600s")])
        } else {
            first.clone()
        };
        let (managers, users) = ([first, second], ["ada", "grace"]);
        for _ in 0..4 {
            let (barrier, started) = (Barrier::new(2), Instant::now());
            let ids = users.map(|user| login(&managers[0], user).unwrap());
            let exchange = |number: usize| {
                let mut session = managers[number].start(cookie(&ids[number])).unwrap();
                barrier.wait();
                session.set_user(Some(users[1 - number])).unwrap();
                session.commit().map(drop)
            };
            let ends = thread::scope(|scope| {
                [0, 1]
                    .map(|it| scope.spawn(move || exchange(it)))
                    .map(|it| it.join().unwrap())
            });
            let refused: Vec<_> = ends.into_iter().filter_map(Result::err).collect();
            let refused = &refused[..];
            let is_it = matches!(refused, [Error::Busy { .. }]);
            assert!(is_it, "{kind:?}: {refused:?}");
            holds(refused[0].to_string(), "maxSessionsPerUser");
            assert!(started.elapsed() < LONG, "{kind:?}");
        }
    }
}

#[test]
fn a_request_waits_for_its_session_and_for_those_that_have_to_go_no_longer_than_lock_timeout_in_all()
 {
    const TIMEOUT: Duration = Duration::from_secs(12);
    fn by_request(manager: &SessionManager, id: &SessionId) -> (Duration, Error) {
        let client = Client::new(manager.clone());
        client.set_cookie("sessionId", id.secret());
        let seen = Mutex::new(None);
        let _ = client.get("/").send(|request: &mut Request| {
            let started = Instant::now();
            request.session()?.set_user(Some("ada"))?;
            let opened = started.elapsed();
            *seen.lock().unwrap() = Some((opened, request.commit_session().unwrap_err()));
            Ok::<_, Error>(Response::text(""))
        });
        seen.into_inner().unwrap().unwrap()
    }
    fn by_manager(manager: &SessionManager, id: &SessionId) -> (Duration, Error) {
        let started = Instant::now();
        let mut session = manager.start(cookie(id)).unwrap();
        let opened = started.elapsed();
        session.set_user(Some("ada")).unwrap();
        (opened, session.commit().unwrap_err())
    }
    let site = site(KINDS[0], "1", "evictOldest");
    let manager = site.manager();
    let impatient = site.manager_with(&[("lockTimeout", "12s")]);
    let ada = login(&manager, "ada").unwrap();
    let _held = manager.start(cookie(&ada)).unwrap();
    for log_in in [by_request, by_manager] {
        let guest = site.visitor();
        let own = manager.start(cookie(&guest)).unwrap();
        let (opened, refused) = thread::scope(|scope| {
            let waiting = spawn_waiter(scope, || log_in(&impatient, &guest));
            wait_until("it waits", is_waiting);
            thread::sleep(TIMEOUT / 2);
            drop(own);
            waiting.join().unwrap()
        });
        let Error::Busy { waited, .. } = refused else {
            panic!("{refused}")
        };
        // However slow the machine is; it would be `opened` above the timeout.
        let is_it = opened + waited < TIMEOUT + opened.max(TIMEOUT / 3);
        assert!(is_it, "{opened:?} {waited:?}");
    }
}

/// A store that keeps nothing, and cannot list what it keeps.
struct Nothing;

impl CustomFunctions for Nothing {
    fn save(&self, _: &str, _: &str, _: u64) -> CustomResult<()> {
        Ok(())
    }

    fn load(&self, _: &str) -> CustomResult<Option<(String, u64)>> {
        Ok(None)
    }

    fn clean_up(&self, _: u64) -> CustomResult<u64> {
        Ok(0)
    }
}

#[test]
fn a_store_that_cannot_count_a_users_sessions_refuses_the_setting() {
    let directory = tempfile::tempdir().unwrap();
    let config = Config::new().set("storageFileDir", directory.path());
    let config = config.and_then(|config| config.set("maxSessionsPerUser", "3"));
    let config = config.unwrap();
    let store = CustomStore::new(&config, Nothing).unwrap();
    let refused = SessionManager::with_store(config, store).err().unwrap();
    let has_it = refused.to_string().contains("maxSessionsPerUser");
    assert!(has_it, "{refused}");
}
