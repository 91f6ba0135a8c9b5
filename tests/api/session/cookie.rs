//! Set-Cookie: only when the client needs one.

use testkit::sessions::{Site, count, given_id};

#[test]
fn a_client_gets_a_cookie_once() {
    let (site, mut session) = Site::begun();
    count(&mut session);
    let set_cookie = session.commit().unwrap().expect("a cookie");
    assert!(!set_cookie.is_removal());
    let id = given_id(Some(set_cookie));
    for _ in 0..3 {
        let mut session = site.open(&id);
        count(&mut session);
        assert!(session.commit().unwrap().is_none());
    }
}

#[test]
fn a_cookie_that_leads_nowhere_is_left_until_it_is_replaced_or_removed() {
    let site = Site::new();
    let id = site.visitor();
    site.open(&id).destroy().unwrap();
    let session = site.open(&id);
    assert!(session.commit().unwrap().is_none());
    let session = site.open(&id);
    assert!(session.destroy().unwrap().expect("a cookie").is_removal());
}
