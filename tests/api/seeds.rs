//! What the four older systems promised, row by row of docs/seeds.md: a test whose name begins
//! with a row's number proves what no other test does.

use testkit::fastcgi::client::{get, visit};
use testkit::fastcgi::server::{Server, Setup, Socket};
use testkit::prelude::*;
use testkit::sessions;

/// Makes what lies there so many seconds older than now.
fn make_older(path: &Path, seconds: u64) {
    let time = SystemTime::now() - Duration::from_secs(seconds);
    let file = File::options().write(true).open(path).unwrap();
    file.set_modified(time).unwrap();
}

/// A page view of a new visitor, in a process of its own.
fn count(site: &Site) -> Outcome {
    Cgi::new("counter", site).run().expect(200, "here 1 time")
}

#[test]
fn k11_memory_refuses_to_work_under_cgi_and_says_why_and_what_to_do() {
    let site = Site::with_settings("storageType = ram\n");
    let words = [
        "storageType = ram cannot work under CGI",
        "every request is a new process",
        "use storageType = file, or run the program as FastCGI",
    ];
    Cgi::new("counter", &site).run().expect_failure(500, words);
    assert!(!site.sessions().exists());
}

#[test]
fn c05_the_four_storage_types_are_known_and_an_unknown_one_is_answered_with_the_list() {
    for name in ["ram", "file", "cookie", "custom"] {
        let config = Config::new().set("storageType", name).unwrap();
        assert_eq!(config.get("storageType").as_deref(), Some(name));
    }
    let site = Site::with_settings("storageType = database\n");
    let words = ["storageType = database", "file, ram, cookie, custom"];
    Cgi::new("counter", &site).run().expect_failure(500, words);
}

#[test]
fn c08_every_so_many_minutes_a_cgi_program_deletes_what_has_expired() {
    for (settings, minutes) in [("", 60), ("cleanUpDelay=5\n", 5)] {
        let site = Site::with_settings(settings);
        count(&site);
        make_older(&site.only_file(), 2 * 3600);
        let sweep = site.sessions().join(".gc");
        make_older(&sweep, 60 * minutes - 30);
        count(&site);
        assert_eq!(site.files().len(), 2, "not yet");
        make_older(&sweep, 60 * minutes + 2);
        count(&site);
        assert_eq!(site.files().len(), 2, "the expired one is gone");
    }
}

#[test]
fn c08_with_a_delay_of_0_only_the_tool_deletes() {
    let site = Site::with_settings("cleanUpDelay = 0\n");
    count(&site);
    let first = site.only_file();
    make_older(&first, 2 * 3600);
    for _ in 0..3 {
        count(&site);
    }
    assert!(first.exists() && !site.sessions().join(".gc").exists());
}

#[test]
fn c12_memory_is_not_shared_by_programs_and_ends_with_its_own() {
    let start = || {
        let setup = Setup::new("counter", Socket::StdinUnix);
        setup.variable("CGI_SESSION_STORAGE_TYPE", "ram").start()
    };
    let ask = |program: &Server, cookie: &str| program.ask(&visit(1, 0, "", cookie)).text();
    let (program, other) = (start(), start());
    let cookie = program.ask(&get(1, 0, "")).cookie().unwrap().to_owned();
    assert!(ask(&other, &cookie).contains("here 1 time"));
    assert!(ask(&program, &cookie).contains("here 2 time"));
    drop(program);
    assert!(ask(&start(), &cookie).contains("here 1 time"));
}

#[test]
fn c16_custom_without_a_store_says_that_the_program_brings_one() {
    let config = Config::new().set("storageType", "custom").unwrap();
    let error = SessionManager::new(config).err().unwrap().to_string();
    assert!(error.contains("brings its own store"), "{error}");
    assert!(error.contains("SessionManager::with_store"), "{error}");
}

#[test]
fn w06_a_session_is_used_like_a_dictionary() {
    let (_site, mut session) = sessions::Site::begun();
    assert!(session.is_empty());
    for (key, value) in [("b", 2), ("a", 1), ("c", 3)] {
        session.insert(key, value).unwrap();
    }
    assert!(session.keys().eq(["a", "b", "c"]));
    assert!(session.contains("a") && !session.contains("z"));
    session.insert("a", 10).unwrap();
    assert_eq!(session.get::<u8>("a").unwrap(), Some(10));
    assert_eq!(session.get::<u8>("z").unwrap(), None);
    assert!(session.remove("b") && !session.remove("b"));
    assert_eq!(session.take::<u8>("c").unwrap(), Some(3));
    assert_eq!(session.len(), 1);
    session.clear();
    assert!(session.is_empty());
    assert!(session.require::<u8>("a").is_err());
}

#[test]
fn w09_a_visitor_has_one_session_for_each_name_of_a_cookie() {
    let site = sessions::Site::new();
    let managers = ["shop", "forum"].map(|name| (name, site.manager_with(&[("cookieName", name)])));
    let mut header = String::new();
    for (name, manager) in &managers {
        let mut session = manager.start(&header).unwrap();
        assert!(session.is_new());
        session.insert("name", name).unwrap();
        let set_cookie = session.commit().unwrap().unwrap().to_string();
        let pair = set_cookie.split(';').next().unwrap();
        header = format!("{header}{pair}; ");
    }
    for (name, manager) in &managers {
        let session = manager.start(&header).unwrap();
        assert_eq!(session.require::<String>("name").unwrap(), *name);
        // A second start in the same request finds the session open, and does not wait.
        let again = manager.start(&header);
        assert!(matches!(again, Err(Error::AlreadyOpen)));
    }
}

/// How many of so many visits cleaned up, with this chance.
fn cleaned(probability: &str, visits: usize) -> usize {
    let settings = format!("cleanUpDelay = 0\ncleanUpProbability = {probability}\n");
    let site = Site::with_settings(&settings);
    count(&site);
    let cleans = |_: &usize| {
        let before = site.files();
        for name in &before {
            make_older(&site.sessions().join(name), 7200);
        }
        count(&site);
        site.files().len() <= before.len()
    };
    (0..visits).filter(cleans).count()
}

#[test]
fn l14_a_visit_cleans_up_with_the_configured_probability() {
    assert_eq!(cleaned("1", 5), 5);
    assert_eq!(cleaned("0", 5), 0);
    let some = cleaned("0.5", 40);
    assert!((1..40).contains(&some), "{some} of 40");
}

#[test]
fn an_old_setting_is_answered_with_its_successor() {
    for (old, words) in [
        ("persistent_session", "storageType = file"),
        ("storage", "storageType"),
        ("expires", "1440s"),
        ("cleanup", "cleanUpProbability"),
        ("sessionID", "in code"),
        ("seed", "random generator"),
        ("comment", "RFC 2109"),
        ("version", "RFC 2109"),
        ("path", "cookiePath"),
        ("domain", "cookieDomain"),
        ("secure", "cookieSecure"),
        ("max-age", "cookieMaxAge"),
        ("cookie.path", "cookiePath"),
        ("cookie.domain", "cookieDomain"),
        ("cookie.secure", "cookieSecure"),
        ("cookie.max-age", "cookieMaxAge"),
        ("cookie.comment", "RFC 2109"),
        ("cookie.version", "RFC 2109"),
    ] {
        holds(Config::new().set(old, "1").unwrap_err().to_string(), words);
    }
}
