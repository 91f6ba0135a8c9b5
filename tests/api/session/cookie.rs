//! Set-Cookie: only when the client needs one.

use testkit::sessions::{Site, cookie, count, given_id};

#[test]
fn a_client_gets_a_cookie_once() {
    let site = Site::new();
    let mut session = site.manager().start(b"").unwrap();
    count(&mut session);
    let set_cookie = session.commit().unwrap().expect("a cookie");
    assert!(!set_cookie.is_removal());
    let id = given_id(Some(set_cookie));
    for _ in 0..3 {
        let mut session = site.manager().start(cookie(&id)).unwrap();
        count(&mut session);
        assert!(session.commit().unwrap().is_none());
    }
}

#[test]
fn a_cookie_that_leads_nowhere_is_left_until_it_is_replaced_or_removed() {
    let site = Site::new();
    let id = site.visitor();
    site.manager()
        .start(cookie(&id))
        .unwrap()
        .destroy()
        .unwrap();
    let session = site.manager().start(cookie(&id)).unwrap();
    assert!(session.commit().unwrap().is_none());
    let session = site.manager().start(cookie(&id)).unwrap();
    assert!(session.destroy().unwrap().expect("a cookie").is_removal());
}

#[test]
fn the_cookie_carries_what_the_configuration_says() {
    let site = Site::with(&[
        ("cookieName", "__Host-visit"),
        ("cookieSecure", "true"),
        ("cookieSameSite", "Strict"),
    ]);
    let mut session = site.manager().start(b"").unwrap();
    count(&mut session);
    let text = session.commit().unwrap().unwrap().to_string();
    for part in [
        "__Host-visit=",
        "HttpOnly",
        "SameSite=Strict",
        "Secure",
        "Path=/",
    ] {
        assert!(text.contains(part), "{text}");
    }
}
