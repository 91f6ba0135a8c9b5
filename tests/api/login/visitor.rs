//! Who logs in and out, and what of the session changes with that.

use super::WRONG;
use super::browser::{ADA, Browser, CHARLES, REMEMBERED, SESSION};
use testkit::prelude::*;

/// Whether there is a session of this id, as any program would look for it.
fn lives(site: &Site, id: &str) -> bool {
    let manager = SessionManager::new(Config::load(&site.config()).unwrap()).unwrap();
    let session = manager.read(format!("{SESSION}={id}")).unwrap();
    session.is_some()
}

#[test]
fn an_id_that_was_known_before_the_login_leads_to_nothing_after_it() {
    let site = Site::new();
    let mut browser = Browser::new(&site);
    browser.visit();
    let planted = browser.cookie(SESSION).to_owned();
    assert!(lives(&site, &planted));
    browser.log_in(ADA);
    assert!(!lives(&site, &planted));
    assert!(lives(&site, browser.cookie(SESSION)));
    let mut attacker = Browser::new(&site);
    attacker.cookies.insert(SESSION.to_owned(), planted);
    attacker.is_to_reload();
}

#[test]
fn an_id_that_was_logged_in_leads_to_nothing_after_the_logout() {
    let site = Site::new();
    let mut browser = Browser::inside(&site, ADA);
    let mut copy = browser.clone();
    let answer = browser.send("do=here");
    assert_eq!(answer.header("location"), Some("login"));
    browser.sees("You are logged out here.");
    browser.is_outside();
    assert!(!lives(&site, copy.cookie(SESSION)));
    copy.is_to_reload();
}

#[test]
fn who_clicks_twice_is_logged_in_whichever_answer_arrives() {
    let site = Site::new();
    let mut first = Browser::new(&site);
    first.visit();
    let mut others = [first.clone(), first.clone(), first.clone()];
    thread::scope(|scope| {
        for browser in others.iter_mut().chain([&mut first]) {
            let form = format!("{ADA}&remember=on");
            scope.spawn(move || browser.send(&form).expect(303, ""));
        }
    });
    for browser in others.iter_mut().chain([&mut first]) {
        browser.sees("ada is logged in.");
        browser.loses_its_session();
        browser.sees("ada is logged in.");
    }
    first.send("do=everywhere");
    others.iter_mut().for_each(Browser::is_outside);
}

#[test]
fn who_never_got_the_answer_to_a_login_logs_in_by_the_same_form_again() {
    let site = Site::new();
    let mut browser = Browser::new(&site);
    browser.visit();
    // Each answer but the last is lost.
    for _ in 0..2 {
        browser.clone().send(ADA).expect(303, "");
        browser.is_to_reload();
    }
    // The password counts, and the form.
    for form in ["name=ada&password=wrong", "do=here", "do=everywhere"] {
        let refused = browser.send(form).expect(303, "");
        assert_eq!(refused.header("set-cookie"), None);
        browser.is_to_reload();
    }
    let mut stranger = browser.clone();
    stranger.token = "0".repeat(40);
    assert_eq!(stranger.send(ADA).status, 503);
    browser.log_in_by_last_form(ADA);
    browser.send("do=others");
    browser.sees("Your 2 other sessions are ended.");
}

#[test]
fn who_clicks_twice_on_log_out_is_told_that_it_is_done() {
    let site = Site::new();
    let mut browser = Browser::inside(&site, ADA);
    let mut again = browser.clone();
    browser.send("do=here").expect(303, "");
    assert_eq!(again.send("do=here").header("location"), Some("login"));
    // The answer to the second click is shown with the cookie of the first.
    browser.sees("You are logged out here.");
}

#[test]
fn what_other_pages_put_in_outlives_login_and_logout() {
    let site = Site::new();
    let mut browser = Browser::new(&site);
    let counter = || Cgi::new("counter", &site);
    browser.ask(counter()).expect(200, "here 1 time");
    browser.log_in(ADA);
    browser.sees("<dd>pageViews</dd>");
    browser.ask(counter()).expect(200, "here 2 time");
    browser.send("do=here");
    browser.ask(counter()).expect(200, "here 3 time");
}

#[test]
fn a_wrong_password_and_an_unknown_name_are_told_alike_and_change_nothing() {
    let site = Site::new();
    let mut browser = Browser::new(&site);
    browser.ask(Cgi::new("counter", &site));
    browser.visit();
    let id = browser.cookie(SESSION).to_owned();
    for form in [
        "name=ada&password=babbage",
        "name=ada&password=",
        "name=nobody&password=lovelace",
        "name=%3Cb%3E&password=%00",
        "",
    ] {
        let refused = browser.send(form).expect(403, WRONG);
        assert_eq!(refused.header("set-cookie"), None);
    }
    browser.is_outside();
    assert_eq!(browser.cookie(SESSION), id);
    let counted = browser.ask(Cgi::new("counter", &site));
    counted.expect(200, "here 2 time");
    browser.log_in(ADA);
    browser.visit();
    browser
        .send("name=charles&password=wrong")
        .expect(403, WRONG);
    browser.sees("ada is logged in.");
}

#[test]
fn a_form_without_the_sessions_token_logs_nobody_in_or_out() {
    let site = Site::new();
    let mut browser = Browser::inside(&site, ADA);
    let token = std::mem::replace(&mut browser.token, "0".repeat(40));
    for form in ["do=here", "do=everywhere", CHARLES] {
        let refused = browser.send(form);
        assert_eq!(refused.status, 403, "{refused:?}");
        assert!(refused.stderr.contains("does not hold the token"));
    }
    browser.token = token;
    let typed = Cgi::new("login", &site).form("do=here");
    let typed = browser.ask(typed.variable("CONTENT_TYPE", "multipart/form-data; boundary=x"));
    assert_eq!(typed.status, 415);
    browser.sees("ada is logged in.");
    // Nor may a stranger's page log a visitor in to an account that the stranger knows.
    let mut stranger = Browser::new(&site);
    assert_eq!(stranger.send(ADA).status, 403);
    stranger.is_outside();
}

#[test]
fn no_application_reaches_what_the_module_keeps() {
    let site = Site::new();
    let mut browser = Browser::inside(&site, ADA);
    browser.sees("is told: the name \"auth\" is reserved");
    let manager = SessionManager::new(Config::load(&site.config()).unwrap()).unwrap();
    let cookie = format!("{SESSION}={}", browser.cookie(SESSION));
    let mut session = manager.start(&cookie).unwrap();
    let reserved = session.application("auth").map(drop);
    assert!(matches!(reserved, Err(Error::Reserved(_))));
    let no_name = session.application("@auth").map(drop);
    assert!(matches!(no_name, Err(Error::Key { .. })));
    session.clear();
    session.insert("auth", "charles").unwrap();
    session.commit().unwrap();
    browser.sees("ada is logged in.");
    let mut outsider = Browser::new(&site);
    outsider.visit();
    let cookie = format!("{SESSION}={}", outsider.cookie(SESSION));
    let mut session = manager.start(&cookie).unwrap();
    session.insert("user", "ada").unwrap();
    session
        .application("auth")
        .unwrap()
        .insert("user", "ada")
        .unwrap();
    session.commit().unwrap();
    outsider.is_outside();
}

#[test]
fn logging_out_everywhere_ends_all_sessions_of_the_user_and_nobody_elses() {
    let site = Site::new();
    let mut here = Browser::inside(&site, ADA);
    let mut there = Browser::inside(&site, &format!("{ADA}&remember=on"));
    let mut other = Browser::inside(&site, &format!("{CHARLES}&remember=on"));
    let page = here.send("do=everywhere");
    page.expect(200, "All your sessions are ended");
    assert!(here.cookies.is_empty());
    here.is_outside();
    there.is_outside();
    assert!(!there.cookies.contains_key(REMEMBERED));
    other.sees("charles is logged in.");
    other.loses_its_session();
    other.sees("charles is logged in.");
}

#[test]
fn ending_the_other_sessions_keeps_this_browser_in_and_remembered() {
    let site = Site::new();
    let remembering = format!("{ADA}&remember=on");
    let mut here = Browser::inside(&site, &remembering);
    let mut others = [(); 2].map(|()| Browser::inside(&site, &remembering));
    here.send("do=others");
    here.sees("Your 2 other sessions are ended.");
    for other in &mut others {
        other.is_outside();
    }
    here.loses_its_session();
    here.sees("ada is logged in.");
    here.send("do=others");
    // The session that this browser had lost.
    here.sees("Your other session is ended.");
}

#[test]
fn logging_out_everywhere_ends_all_that_nobody_holds_and_says_how_many_are_left() {
    let site = Site::with_settings("lockTimeout = 1s\n");
    let [mut here, mut there, mut held] = [(); 3].map(|()| Browser::inside(&site, ADA));
    let manager = SessionManager::new(Config::load(&site.config()).unwrap()).unwrap();
    let session = manager.start(format!("{SESSION}={}", held.cookie(SESSION)));
    let session = session.unwrap();
    let answer = here.send("do=everywhere");
    assert_eq!(answer.status, 503, "{answer:?}");
    let told =
        "1 of the user's sessions could not be ended, all others are: the session was still locked";
    assert!(answer.stderr.contains(told), "{answer:?}");
    assert!(here.cookies.is_empty());
    here.is_outside();
    there.is_outside();
    drop(session);
    held.sees("ada is logged in.");
    held.send("do=everywhere")
        .expect(200, "All your sessions are ended");
    held.is_outside();
}

#[test]
fn a_login_where_all_places_are_taken_is_neither_refused_nor_at_the_expense_of_others() {
    for when_full in ["refuse", "evictOldest"] {
        let site = Site::with_settings(&format!("maxSessions = 3\nwhenFull = {when_full}\n"));
        let [mut one, mut two, mut browser] = [(); 3].map(|()| Browser::new(&site));
        for browser in [&mut one, &mut two, &mut browser] {
            browser.is_outside();
        }
        for _ in 0..3 {
            browser.log_in(ADA);
            browser.send("do=here").expect(303, "");
            browser.sees("You are logged out here.");
        }
        for innocent in [&mut one, &mut two] {
            let page = innocent.visit().expect(200, "<h1>Log in</h1>");
            assert_eq!(page.header("set-cookie"), None, "{when_full}");
        }
    }
}

#[test]
fn a_login_is_kept_when_the_browser_is_closed_only_if_that_was_asked_for() {
    let site = Site::new();
    let mut browser = Browser::new(&site);
    browser.visit();
    let login = browser.send(&format!("{ADA}&keep=on"));
    let cookie = login.header("set-cookie").unwrap();
    assert!(cookie.contains("Max-Age=2592000"), "{cookie}");
    browser.sees("ada is logged in.");
    let logout = browser.send("do=here");
    let cookie = logout.header("set-cookie").unwrap();
    assert!(!cookie.contains("Max-Age"), "{cookie}");
    browser.is_outside();
    let login = browser.send(ADA);
    let cookie = login.header("set-cookie").unwrap();
    assert!(!cookie.contains("Max-Age"), "{cookie}");
}

#[test]
fn a_change_of_password_needs_the_password_of_a_browser_that_was_only_remembered() {
    let site = Site::new();
    let mut browser = Browser::inside(&site, &format!("{ADA}&remember=on"));
    assert_eq!(browser.send("do=password").status, 303);
    browser.sees("your password would be another now");
    browser.loses_its_session();
    browser.sees("ada is logged in.");
    for form in ["do=password", "do=password&password=babbage"] {
        browser.send(form).expect(403, "Is it you?");
    }
    let right = browser.send("do=password&password=lovelace");
    assert_eq!(right.status, 303);
    browser.sees("your password would be another now");
    assert_eq!(browser.send("do=password").status, 303);
}

#[test]
fn a_user_sees_its_devices_and_ends_one_of_them() {
    let site = Site::with_settings("\nrecordClient = true\n");
    let mut here = Browser::inside(&site, ADA);
    here.sees("this one");
    let page = Cgi::new("login", &site).variable("HTTP_USER_AGENT", "<Desk>/2.0");
    let page = page.variable("REMOTE_ADDR", "192.0.2.77");
    let mut there = Browser::inside(&site, ADA);
    assert_eq!(there.ask(page).status, 200);
    Browser::inside(&site, CHARLES);
    let page = here.visit();
    let page = page.expect(200, "<td>&lt;Desk&gt;/2.0</td><td>192.0.2.0/24</td>");
    let (_, rest) = page.body.split_once("name=\"session\" value=\"").unwrap();
    assert!(!rest.contains("name=\"session\""), "{rest}");
    let form = format!("do=end&session={}", &rest[..64]);
    assert_eq!(here.send(&form).status, 303);
    here.sees("That session is ended.");
    there.is_outside();
    for session in ["", &rest[..64], &"0".repeat(64)] {
        here.send(&format!("do=end&session={session}"));
        here.sees("That session had ended already.");
    }
}
