//! `CherryPy` 0.10: rows C1 to C9, C11, C19 and C20; the others are in `storage`.

use std::fs;
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use cgi_session::Config;

use super::place::{Place, Visitor, make_older};
use testkit::example;
use testkit::program::Cgi;
use testkit::sessions::{self, cookie, eventually, given_id};
use testkit::site::Site;

/// A visitor who has been counted once, and the id.
fn counted_once(place: &Place) -> (Visitor, String) {
    let mut visitor = Visitor::new();
    assert_eq!(visitor.get(place, "counter").views(), 1);
    let cookie = visitor.cookie.clone().expect("a cookie");
    let (_, id) = cookie.split_once('=').unwrap();
    (visitor, id.to_owned())
}

#[test]
fn c01_an_id_in_the_url_counts_only_where_the_configuration_says_so() {
    for (settings, views) in [("", 1), ("idFrom = cookie, query\n", 2)] {
        for place in Place::both(settings) {
            let (_, id) = counted_once(&place);
            let address = format!("counter?sessionId={id}");
            assert_eq!(place.ask(&address, None, None).views(), views);
        }
    }
}

#[test]
fn c02_an_id_in_a_hidden_field_counts_only_where_the_configuration_says_so() {
    for (settings, views) in [("", 1), ("idFrom = cookie, form\n", 2)] {
        for place in Place::both(settings) {
            let (_, id) = counted_once(&place);
            let form = format!("sessionId={id}");
            assert_eq!(place.ask("counter", None, Some(&form)).views(), views);
        }
    }
}

#[test]
fn c03_by_default_the_id_travels_in_a_cookie_that_scripts_cannot_read_and_nowhere_else() {
    assert_eq!(Config::new().get("idFrom").as_deref(), Some("cookie"));
    for place in Place::both("") {
        let page = place.ask("counter", None, None);
        let set_cookie = page.set_cookie.expect("a cookie");
        assert!(set_cookie.contains("HttpOnly"), "{set_cookie}");
        let id = &set_cookie["sessionId=".len()..][..40];
        assert!(!page.body.contains(id));
    }
}

#[test]
fn c05_the_four_storage_types_are_known_and_an_unknown_one_is_answered_with_the_list() {
    for name in ["ram", "file", "cookie", "custom"] {
        let config = Config::new().set("storageType", name).unwrap();
        assert_eq!(config.get("storageType").as_deref(), Some(name));
    }
    let place = Place::cgi("storageType = database\n");
    let words = ["storageType = database", "file, ram, cookie, custom"];
    Cgi::new("counter", &place.site)
        .run()
        .expect_failure(500, &words);
}

#[test]
fn c06_without_a_storage_directory_nothing_is_stored_anywhere_and_the_log_names_the_key() {
    let site = Site::new();
    let (home, file) = (site.path().join("home"), site.path().join("bare.ini"));
    fs::create_dir(&home).unwrap();
    fs::write(&file, "[session]\nstorageType=file\n").unwrap();
    let request = Cgi::at(&example("counter"))
        .variable("CGI_SESSION_CONFIG", &file)
        .variable("HOME", &home)
        .variable("TMPDIR", &home);
    let mut command = request.command();
    command.current_dir(&home);
    let words = ["storageFileDir is not set", "write `storageFileDir = "];
    request.run_by(command).expect_failure(500, &words);
    assert_eq!(fs::read_dir(&home).unwrap().count(), 0);
}

#[test]
fn c07_a_session_ends_after_so_many_minutes_without_a_visit_and_60_by_default() {
    for (settings, minutes) in [("", 60), ("timeout=120\n", 120)] {
        let place = Place::cgi(settings);
        let (mut visitor, _) = counted_once(&place);
        let first = visitor.cookie.clone();
        make_older(&place.sessions()[0], 60 * minutes - 30);
        assert_eq!(visitor.get(&place, "counter").views(), 2);
        make_older(&place.sessions()[0], 60 * minutes + 2);
        assert_eq!(visitor.get(&place, "counter").views(), 1);
        assert_ne!(visitor.cookie, first, "with a new id");
    }
}

#[test]
fn c08_every_so_many_minutes_a_cgi_program_deletes_what_has_expired() {
    for (settings, minutes) in [("", 60), ("cleanUpDelay=5\n", 5)] {
        let place = Place::cgi(settings);
        let expired = |place: &Place| {
            counted_once(place);
            make_older(place.sessions().first().unwrap(), 2 * 3600);
        };
        let (mut visitor, _) = counted_once(&place);
        let sweep = place.site.sessions().join(".gc");
        assert!(sweep.exists(), "the first request has looked");
        make_older(&sweep, 60 * minutes - 30);
        for path in place.sessions() {
            fs::remove_file(path).unwrap();
        }
        expired(&place);
        visitor.get(&place, "counter");
        assert_eq!(place.sessions().len(), 2, "not yet");
        make_older(&sweep, 60 * minutes + 2);
        visitor.get(&place, "counter");
        assert_eq!(place.sessions().len(), 1, "only the visitor's is left");
    }
}

#[test]
fn c08_with_a_delay_of_0_only_the_tool_deletes() {
    let place = Place::cgi("cleanUpDelay = 0\n");
    let mut visitor = counted_once(&place).0;
    let first = place.sessions().remove(0);
    visitor.cookie = None;
    make_older(&first, 2 * 3600);
    for _ in 0..3 {
        visitor.get(&place, "counter");
    }
    assert!(first.exists() && !place.site.sessions().join(".gc").exists());
}

#[test]
fn c08_a_resident_program_deletes_what_has_expired_without_any_request() {
    let place = Place::fastcgi("cleanUpDelay = 1s\n");
    counted_once(&place);
    let file = place.sessions().remove(0);
    make_older(&file, 2 * 3600);
    eventually("it is deleted", || !file.exists());
}

#[test]
fn c09_the_cookies_name_is_configured_and_that_of_cherrypy_can_be_kept() {
    assert_eq!(Config::new().cookie_name(), "sessionId");
    for place in Place::both("cookieName = CherryPySession\n") {
        let (mut visitor, _) = counted_once(&place);
        let cookie = visitor.cookie.clone().unwrap();
        assert!(cookie.starts_with("CherryPySession="), "{cookie}");
        assert_eq!(visitor.get(&place, "counter").views(), 2);
    }
}

#[test]
fn c11_the_dictionary_belongs_to_its_request_and_not_to_the_program() {
    let site = sessions::Site::new();
    let manager = site.manager();
    let both_hold_theirs = Barrier::new(2);
    thread::scope(|scope| {
        for name in ["Ada", "Charles"] {
            let (manager, barrier) = (&manager, &both_hold_theirs);
            scope.spawn(move || {
                let mut session = manager.start(b"").unwrap();
                session.insert("name", name).unwrap();
                session.save().unwrap();
                barrier.wait();
                assert_eq!(session.require::<String>("name").unwrap(), name);
                assert_eq!(session.get::<u64>("views").unwrap().unwrap_or(0), 0);
                session.insert("views", 1).unwrap();
                barrier.wait();
                let id = given_id(session.commit().unwrap());
                let session = manager.start(cookie(&id)).unwrap();
                assert_eq!(session.require::<String>("name").unwrap(), name);
            });
        }
    });
}

#[test]
fn c19_both_configuration_files_are_accepted_as_they_stand() {
    let site = Site::new();
    let load = |text: &str| {
        let file = site.path().join("cherrypy.conf");
        fs::write(&file, text).unwrap();
        Config::load(&file).unwrap()
    };
    let ram = load("[session]\nstorageType=ram\ntimeout=120\ncleanUpDelay=60\n");
    assert_eq!(ram.get("storageType").as_deref(), Some("ram"));
    assert_eq!(ram.timeout(), Duration::from_secs(120 * 60));
    assert_eq!(ram.clean_up_delay(), Some(Duration::from_secs(60 * 60)));
    let file = load("[session]\nstorageType=file\nstorageFileDir=/home/user/sessionData\n");
    assert_eq!(file.get("storageType").as_deref(), Some("file"));
    let directory = file.storage_file_dir().unwrap();
    assert_eq!(directory.to_str(), Some("/home/user/sessionData"));
}

#[test]
fn c19_the_programs_run_with_both_configuration_files() {
    let ram = "[session]\nstorageType=ram\ntimeout=120\ncleanUpDelay=60\n";
    let mut place = Place::fastcgi("");
    fs::write(place.site.config(), ram).unwrap();
    place.restart();
    let mut visitor = counted_once(&place).0;
    assert_eq!(visitor.get(&place, "counter").views(), 2);
    assert!(!place.site.sessions().exists());

    let place = Place::cgi("");
    let directory = place.site.sessions();
    let file = "[session]\nstorageType=file\nstorageFileDir=/home/user/sessionData\n";
    let here = file.replace("/home/user/sessionData", directory.to_str().unwrap());
    fs::write(place.site.config(), here).unwrap();
    let mut visitor = counted_once(&place).0;
    assert_eq!(visitor.get(&place, "counter").views(), 2);
    assert_eq!(place.sessions().len(), 1);
}

#[test]
fn c20_the_counter_begins_with_0_and_adds_1_for_each_page_view() {
    for place in Place::both("") {
        let mut visitor = Visitor::new();
        for views in 1..=5 {
            let text = format!("Hello, you've been here {views} time(s)");
            visitor.get(&place, "counter").expect(200, &text);
        }
    }
}
