//! Browsers that are remembered, and what becomes of a copied cookie.

use std::fs;

use testkit::prelude::*;

use super::browser::{ADA, Browser, CHARLES, REMEMBERED, SESSION};

#[test]
fn a_remembered_visitor_is_let_in_without_a_session_and_gets_a_new_validator() {
    let site = Site::new();
    let mut browser = Browser::inside(&site, &format!("{ADA}&remember=on"));
    let mut seen = vec![browser.cookie(REMEMBERED).to_owned()];
    for _ in 0..3 {
        browser.loses_its_session();
        let page = browser.visit().expect(200, "ada is logged in.");
        let set = page.headers.iter().filter(|(name, _)| name == "set-cookie");
        assert!(
            set.clone()
                .any(|(_, value)| value.contains("; Max-Age=2592000"))
        );
        assert_eq!(set.count(), 2);
        let token = browser.cookie(REMEMBERED).to_owned();
        assert_eq!(token[..41], seen[0][..41], "the selector stays");
        assert!(!seen.contains(&token));
        seen.push(token);
        // The session it now has serves without another one.
        assert_eq!(browser.visit().header("set-cookie"), None);
    }
}

#[test]
fn who_did_not_ask_is_not_remembered_and_who_logs_out_is_forgotten() {
    let site = Site::new();
    let mut browser = Browser::inside(&site, ADA);
    assert!(!browser.cookies.contains_key(REMEMBERED));
    browser.loses_its_session();
    browser.is_outside();
    browser.log_in(&format!("{ADA}&remember=on"));
    let token = browser.cookie(REMEMBERED).to_owned();
    browser.send("do=here");
    assert!(!browser.cookies.contains_key(REMEMBERED));
    let mut copy = Browser::new(&site);
    copy.cookies.insert(REMEMBERED.to_owned(), token);
    copy.is_outside();
    assert!(!copy.cookies.contains_key(REMEMBERED));
}

#[test]
fn a_browser_that_opens_two_pages_at_once_is_let_in_on_both() {
    let site = Site::new();
    let mut browser = Browser::inside(&site, &format!("{ADA}&remember=on"));
    browser.loses_its_session();
    let mut second_tab = browser.clone();
    browser.sees("ada is logged in.");
    let before = second_tab.cookie(REMEMBERED).to_owned();
    second_tab.sees("ada is logged in.");
    let seen = second_tab.cookie(REMEMBERED);
    assert_eq!(seen, before, "the first tab has the new one");
    browser.loses_its_session();
    browser.sees("ada is logged in.");
}

#[test]
fn a_copied_cookie_ends_all_logins_of_the_user_when_it_is_used_after_the_owner() {
    let site = Site::new();
    let mut owner = Browser::inside(&site, &format!("{ADA}&remember=on"));
    let mut elsewhere = Browser::inside(&site, &format!("{ADA}&remember=on"));
    let mut other = Browser::inside(&site, &format!("{CHARLES}&remember=on"));
    let mut thief = owner.clone();
    thief.loses_its_session();
    let secrets = thief.cookie(REMEMBERED).to_owned();
    for _ in 0..2 {
        owner.loses_its_session();
        owner.sees("ada is logged in.");
    }
    let caught = thief.visit();
    assert!(caught.body.contains("<h1>Log in</h1>"), "{caught:?}");
    assert_eq!(caught.stderr.lines().count(), 1, "{}", caught.stderr);
    assert!(caught.stderr.contains("there is a copy of the cookie"));
    for secret in secrets.split('.') {
        assert!(!caught.stderr.contains(secret) && !caught.body.contains(secret));
    }
    for browser in [&mut owner, &mut elsewhere, &mut thief] {
        browser.is_outside();
        assert!(!browser.cookies.contains_key(REMEMBERED));
    }
    other.sees("charles is logged in.");
}

#[test]
fn an_owner_whose_cookie_was_copied_and_used_can_log_out_and_ends_the_thiefs_login() {
    let site = Site::new();
    let mut owner = Browser::inside(&site, &format!("{ADA}&remember=on"));
    let mut thief = owner.clone();
    for _ in 0..2 {
        thief.loses_its_session();
        thief.sees("ada is logged in.");
    }
    let mut second = (owner.clone(), thief.clone());
    let answer = owner.send("do=here");
    assert_eq!(answer.status, 303, "{answer:?}");
    assert!(answer.stderr.contains("there is a copy of the cookie"));
    owner.sees("You are logged out here.");
    thief.is_outside();
    second.0.is_to_reload();
    second.1.is_outside();
}

#[test]
fn ending_the_other_sessions_ends_what_a_thief_is_remembered_by() {
    let site = Site::new();
    let mut owner = Browser::inside(&site, &format!("{ADA}&remember=on"));
    let mut thief = owner.clone();
    thief.loses_its_session();
    thief.sees("ada is logged in.");
    owner.send("do=others");
    owner.sees("Your other session is ended.");
    thief.is_outside();
    owner.loses_its_session();
    owner.sees("ada is logged in.");
}

#[test]
fn a_cookie_that_was_made_up_lets_nobody_in_and_makes_nothing() {
    let site = Site::new();
    let mut browser = Browser::new(&site);
    browser.visit();
    let files = site.files();
    let own = browser.cookie(SESSION).to_owned();
    let unknown = "0123456789abcdef0123456789abcdef01234567";
    for token in [
        String::new(),
        "x".to_owned(),
        format!("{unknown}.{unknown}"),
        format!("{unknown}{unknown}"),
        format!("{own}.{unknown}"),
        format!("../../../etc/passwd.{unknown}"),
        "é".repeat(41),
    ] {
        browser.cookies.insert(REMEMBERED.to_owned(), token);
        browser.is_outside();
    }
    assert_eq!(site.files(), files);
    // The selector alone is no session that anybody is logged in to.
    let mut owner = Browser::inside(&site, &format!("{ADA}&remember=on"));
    let selector = owner.cookie(REMEMBERED)[..40].to_owned();
    let mut thief = Browser::new(&site);
    thief.cookies.insert(SESSION.to_owned(), selector);
    thief.is_outside();
    owner.sees("ada is logged in.");
}

#[test]
fn a_copied_cookie_shown_as_the_sessions_opens_nothing_and_moves_nothing() {
    let site = Site::new();
    let mut owner = Browser::inside(&site, &format!("{ADA}&remember=on"));
    let stolen = owner.cookie(REMEMBERED).to_owned();
    let mut thief = Browser::new(&site);
    let selector = stolen[..40].to_owned();
    thief.cookies.insert(SESSION.to_owned(), selector.clone());
    thief.is_outside();
    assert_ne!(thief.cookie(SESSION), selector);
    // Logged in under it as somebody else, and out again.
    for wish in ["do=here", "do=everywhere"] {
        thief.cookies.insert(SESSION.to_owned(), selector.clone());
        thief.log_in(CHARLES);
        thief.cookies.insert(
            SESSION.to_owned(),
            format!("{selector}; {SESSION}={}", thief.cookie(SESSION)),
        );
        thief.send(wish);
    }
    owner.loses_its_session();
    owner.sees("ada is logged in.");
    assert_eq!(owner.cookie(REMEMBERED)[..40], selector);
    owner.send("do=everywhere");
    thief.cookies.clear();
    thief.cookies.insert(REMEMBERED.to_owned(), stolen);
    thief.is_outside();
    assert!(site.files().iter().all(|name| !name.contains(".user")));
}

#[test]
fn no_secret_of_a_cookie_is_on_disk() {
    let site = Site::new();
    let mut browser = Browser::inside(&site, &format!("{ADA}&remember=on"));
    browser.loses_its_session();
    browser.sees("ada is logged in.");
    let token = browser.cookie(REMEMBERED).to_owned();
    let secrets: Vec<_> = token.split('.').chain([browser.cookie(SESSION)]).collect();
    // Two sessions and the marker under the first's old id, the remembered login, and the indexes of
    // the user and of what remembers her.
    assert_eq!(site.files().len(), 6);
    for name in site.files() {
        let text = fs::read_to_string(site.sessions().join(&name)).unwrap();
        for secret in &secrets {
            assert!(!name.contains(secret) && !text.contains(secret));
        }
        assert!(!text.contains("lovelace"));
    }
}
