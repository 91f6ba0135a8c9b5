//! Karrigell: rows K1 to K16.

use std::fs;
use std::thread;

use cgi_session::{Error, Result, Session, SessionId, SessionManager, SetCookie, Sweep};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::place::{Place, Visitor, ago};
use testkit::program::Cgi;
use testkit::sessions::{Site, cookie, count, eventually, given_id};

/// A session that holds something, of a visitor who has just come.
fn begin(manager: &SessionManager) -> SessionId {
    let mut session = manager.start(b"").unwrap();
    count(&mut session);
    given_id(session.commit().unwrap())
}

fn is_live(manager: &SessionManager, id: &SessionId) -> bool {
    manager.existing(cookie(id)).unwrap().is_some()
}

#[test]
fn k01_one_call_opens_or_creates_and_stores_nothing_before_something_is_put_in() {
    let site = Site::new();
    let session = site.manager().start(b"").unwrap();
    assert!(session.is_new());
    assert!(session.commit().unwrap().is_none());
    assert!(site.is_untouched());

    let id = begin(&site.manager());
    let session = site.manager().start(cookie(&id)).unwrap();
    assert!(!session.is_new());
    assert_eq!(session.id(), Some(&id));
}

#[test]
fn k02_the_first_response_sends_the_cookie_and_the_session_is_found_by_it() {
    for place in Place::both("") {
        let mut visitor = Visitor::new();
        let page = visitor.get(&place, "begin?myname=Lovelace&firstname=Ada");
        let set_cookie = page.set_cookie.expect("a cookie");
        let value = set_cookie.strip_prefix("sessionId=").expect("that name");
        assert!(SessionId::parse(&value.as_bytes()[..40]).is_some());
        let page = visitor.get(&place, "follow").expect(200, "Ada");
        page.sends_no_cookie();
    }
}

#[test]
fn k03_values_are_set_and_read_as_the_fields_of_a_struct() {
    #[derive(Default, Serialize, Deserialize)]
    #[serde(default)]
    struct Visit {
        name: String,
        firstname: Option<String>,
    }
    let site = Site::new();
    let mut session = site.manager().start(b"").unwrap();
    session
        .edit(|visit: &mut Visit| "Lovelace".clone_into(&mut visit.name))
        .unwrap();
    let id = given_id(session.commit().unwrap());
    let session = site.manager().start(cookie(&id)).unwrap();
    let visit: Visit = session.to_struct().unwrap();
    assert_eq!((&*visit.name, visit.firstname), ("Lovelace", None));
}

#[test]
fn k04_close_is_destroy_while_commit_and_release_keep_the_record() {
    let site = Site::new();
    let manager = site.manager();
    let id = begin(&manager);

    let mut session = manager.start(cookie(&id)).unwrap();
    count(&mut session);
    session.save().unwrap();
    let second = manager.start(cookie(&id));
    assert!(matches!(second, Err(Error::AlreadyOpen)), "still held");
    count(&mut session);
    assert!(session.release().is_none());
    assert_eq!(site.views(&id), Some(2), "only what was saved");

    let session = manager.start(cookie(&id)).unwrap();
    assert!(session.destroy().unwrap().expect("a cookie").is_removal());
    assert!(!site.path(&id).exists());
}

#[test]
fn k05_reading_after_close_is_an_error_that_names_the_key() {
    // Who has destroyed a session holds it no longer: the compiler sees to that.
    let destroy: fn(Session) -> Result<Option<SetCookie>> = Session::destroy;
    let site = Site::new();
    let id = begin(&site.manager());
    let session = site.manager().start(cookie(&id)).unwrap();
    session.require::<u64>("pageViews").unwrap();
    destroy(session).unwrap();

    let session = site.manager().start(cookie(&id)).unwrap();
    assert_eq!(session.get::<u64>("pageViews").unwrap(), None);
    let error = session.require::<u64>("pageViews").unwrap_err();
    assert!(matches!(&error, Error::MissingKey(key) if key == "pageViews"));
    assert!(error.to_string().contains("\"pageViews\""), "{error}");
}

#[test]
fn k06_sessions_that_nobody_closes_stay_below_the_cap_and_end_by_themselves() {
    let site = Site::with(&[("maxSessions", "20")]);
    let manager = site.manager();
    let ids: Vec<_> = (0..30).map(|_| begin(&manager)).collect();
    let left: Vec<_> = ids.iter().filter(|id| site.path(id).exists()).collect();
    assert!((15..=20).contains(&left.len()), "{}", left.len());
    for id in &left {
        site.set_modified(id, ago(2 * 3600));
    }
    let report = manager.delete_expired(&Sweep::new()).unwrap();
    assert_eq!(report.deleted, left.len() as u64);
    assert!(ids.iter().all(|id| !site.path(id).exists()));
}

/// Room is made for a sixteenth of the cap at once.
fn check_the_cap_of_1000(storage: &str) {
    let site = Site::with(&[("storageType", storage), ("maxSessions", "1000")]);
    let manager = site.manager();
    let mut by_use: Vec<_> = (0..1000).map(|_| begin(&manager)).collect();
    assert!(by_use.iter().all(|id| is_live(&manager, id)));
    if storage == "file" {
        // In a millisecond many files get the same time.
        for (age, id) in (1000..3000).rev().zip(&by_use) {
            site.set_modified(id, ago(age));
        }
    }
    // The oldest is used once more, and so is no longer the one that goes.
    let used = by_use.remove(0);
    manager.start(cookie(&used)).unwrap().commit().unwrap();
    by_use.push(used);

    by_use.push(begin(&manager));
    let live: Vec<_> = by_use.iter().map(|id| is_live(&manager, id)).collect();
    let evicted = live.iter().take_while(|is_live| !**is_live).count();
    assert!((1..=1 + 1000 / 16).contains(&evicted), "{evicted} evicted");
    assert!(live[evicted..].iter().all(|is_live| *is_live));
}

#[test]
fn k07_the_1000th_session_is_allowed_and_the_next_evicts_the_least_recently_used() {
    check_the_cap_of_1000("file");
    check_the_cap_of_1000("ram");
}

#[test]
fn k07_with_refuse_the_1000th_session_is_allowed_and_the_next_is_not() {
    for storage in ["file", "ram"] {
        let settings = [
            ("storageType", storage),
            ("maxSessions", "1000"),
            ("whenFull", "refuse"),
        ];
        let site = Site::with(&settings);
        let manager = site.manager();
        let ids: Vec<_> = (0..1000).map(|_| begin(&manager)).collect();
        let mut session = manager.start(b"").unwrap();
        count(&mut session);
        let error = session.commit().unwrap_err();
        assert!(matches!(error, Error::Full { limit: 1000 }), "{error}");
        assert_eq!(error.status(), 503);
        assert!(ids.iter().all(|id| is_live(&manager, id)));
    }
}

#[test]
fn k08_requests_of_one_visitor_at_once_lose_nothing() {
    for place in Place::both("lockTimeout = 90s\n") {
        let mut visitor = Visitor::new();
        assert_eq!(visitor.get(&place, "counter").views(), 1);
        let windows = 4;
        let mut shown: Vec<u64> = thread::scope(|scope| {
            let load = || {
                let mut window = visitor.clone();
                let views = |_| window.get(&place, "counter").views();
                (0..10).map(views).collect::<Vec<_>>()
            };
            let windows: Vec<_> = (0..windows).map(|_| scope.spawn(load)).collect();
            let shown = windows.into_iter().map(|window| window.join().unwrap());
            shown.flatten().collect()
        });
        shown.sort_unstable();
        assert!(shown.into_iter().eq(2..=1 + 10 * windows));
    }
}

#[test]
fn k09_the_configuration_chooses_whether_sessions_outlive_the_program() {
    for (storage, views) in [("file", 3), ("ram", 1)] {
        let mut place = Place::fastcgi(&format!("storageType = {storage}\n"));
        let mut visitor = Visitor::new();
        assert_eq!(visitor.get(&place, "counter").views(), 1);
        assert_eq!(visitor.get(&place, "counter").views(), 2);
        place.restart();
        assert_eq!(visitor.get(&place, "counter").views(), views, "{storage}");
    }
}

/// What every store must give back, with what is not JSON left out.
fn values() -> Value {
    json!({
        "bool": true, "null": null, "int": i64::MIN, "large": u64::MAX, "float": 0.1,
        "text": "caf\u{e9} \u{1f600} \"quoted\"", "list": [1, "two", [3]], "map": {"a": {"b": []}},
    })
}

#[test]
fn k10_memory_holds_the_same_values_as_files_and_refuses_the_same() {
    for storage in ["ram", "file"] {
        let site = Site::with(&[("storageType", storage)]);
        let manager = site.manager();
        let mut session = manager.start(b"").unwrap();
        for (key, value) in values().as_object().unwrap() {
            session.insert(key, value).unwrap();
        }
        assert!(session.insert("bad", f64::NAN).is_err());
        let id = given_id(session.commit().unwrap());
        let found: Value = manager.start(cookie(&id)).unwrap().to_struct().unwrap();
        assert_eq!(found, values(), "{storage}");
    }
}

#[test]
fn k11_memory_refuses_to_work_under_cgi_and_says_why_and_what_to_do() {
    let place = Place::cgi("storageType = ram\n");
    let words = [
        "storageType = ram cannot work under CGI",
        "every request is a new process",
        "use storageType = file, or run the program as FastCGI",
    ];
    let request = Cgi::new("counter", &place.site);
    request.run().expect_failure(500, &words);
    assert!(!place.site.sessions().exists());
}

#[test]
fn k11_memory_serves_many_threads_of_one_fastcgi_process() {
    let place = Place::fastcgi("storageType = ram\nlockTimeout = 90s\n");
    // A thread gives itself its name.
    eventually("eight workers have begun", || {
        let threads = place.program().unwrap().threads();
        let workers = threads.iter().filter(|name| name.starts_with("worker"));
        workers.count() >= 8
    });
    let mut visitor = Visitor::new();
    visitor.get(&place, "counter");
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let (mut own, mut shared) = (Visitor::new(), visitor.clone());
                for expected in 1..=25 {
                    assert_eq!(own.get(&place, "counter").views(), expected);
                    shared.get(&place, "counter").expect(200, "been here");
                }
            });
        }
    });
    assert_eq!(visitor.get(&place, "counter").views(), 1 + 8 * 25 + 1);
    assert!(place.sessions().is_empty());
}

#[test]
fn k12_a_stored_session_is_json_and_nothing_that_could_carry_code() {
    let site = Site::new();
    let mut session = site.manager().start(b"").unwrap();
    for (key, value) in values().as_object().unwrap() {
        session.insert(key, value).unwrap();
    }
    let id = given_id(session.commit().unwrap());
    let text = fs::read_to_string(site.path(&id)).unwrap();
    let slots: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(slots[0]["d"]["values"][""], values());
}

#[test]
fn k13_a_value_that_was_set_is_read_in_the_same_request_before_anything_is_saved() {
    let site = Site::new();
    let mut session = site.manager().start(b"").unwrap();
    session.insert("name", "Lovelace").unwrap();
    assert_eq!(session.require::<String>("name").unwrap(), "Lovelace");
    assert!(site.is_untouched());
}

#[test]
fn k14_the_next_script_has_no_query_string_and_still_knows_the_form() {
    for place in Place::both("") {
        let mut visitor = Visitor::new();
        let form = "myname=Lovelace&firstname=Ada";
        let page = visitor.post(&place, "begin", form);
        assert!(
            page.expect(200, "Lovelace")
                .body
                .contains("href=\"follow\"")
        );
        visitor.get(&place, "follow").expect(200, "Ada");
        visitor.get(&place, "follow?close=1").expect(200, "Ada");
        assert!(place.sessions().is_empty());
    }
}

#[test]
fn k16_without_close_the_link_can_be_followed_again_and_again() {
    for place in Place::both("") {
        let mut visitor = Visitor::new();
        visitor.get(&place, "begin?myname=Lovelace&firstname=Ada");
        for _ in 0..5 {
            let page = visitor.get(&place, "follow").expect(200, "Ada");
            page.sends_no_cookie();
        }
    }
}
