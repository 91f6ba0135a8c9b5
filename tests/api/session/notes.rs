//! Flash values, values with an end of their own, the token of forms, and the test cookie.

use cgi_session::Client;

use testkit::prelude::*;
use testkit::sessions::{Site, cookie, given_id};

/// Rewrites the stored record as if `seconds` had passed since its values were put in.
fn let_pass(site: &Site, id: &SessionId, seconds: u64) {
    let config = Config::new().set("storageFileDir", site.path(id).parent().unwrap());
    let store = FileStore::new(config.unwrap()).unwrap();
    let now = SystemTime::now();
    let found = store.lock(&id.digest(), Duration::from_secs(9), now);
    let found = found.unwrap();
    let (stored, mut lease) = found.unwrap();
    let mut values: serde_json::Value = serde_json::from_slice(stored.record.values()).unwrap();
    let ends = values["@"]["ends"].as_object_mut().unwrap();
    for end in ends
        .values_mut()
        .flat_map(|ends| ends.as_object_mut().unwrap().values_mut())
    {
        *end = (end.as_u64().unwrap() - seconds).into();
    }
    let record = stored.record.with_values(values.to_string().into_bytes());
    lease.commit(&record, now).unwrap();
}

#[test]
fn a_flash_value_is_there_in_the_next_request_and_in_no_other() {
    let (site, mut session) = Site::begun();
    session.flash("notice", "saved").unwrap();
    assert_eq!(session.flashed::<String>("notice").unwrap(), None);
    let id = given_id(session.commit().unwrap());

    let peek = site.manager().read(cookie(&id)).unwrap().unwrap();
    let seen = peek.flashed::<String>("notice").unwrap();
    assert_eq!(seen.as_deref(), Some("saved"));
    let session = site.open(&id);
    let seen = session.flashed::<String>("notice").unwrap();
    assert_eq!(seen.as_deref(), Some("saved"));
    session.commit().unwrap();
    let session = site.open(&id);
    assert_eq!(session.flashed::<String>("notice").unwrap(), None);
}

#[test]
fn a_request_that_fails_leaves_the_flash_value_for_the_next() {
    let (site, mut session) = Site::begun();
    session.flash("notice", 7).unwrap();
    let id = given_id(session.commit().unwrap());
    drop(site.open(&id));
    let session = site.open(&id);
    assert_eq!(session.flashed::<u8>("notice").unwrap(), Some(7));
}

#[test]
fn a_flash_value_waits_for_the_request_that_reads_it_and_a_new_one_takes_its_place() {
    let (site, mut session) = Site::begun();
    session.flash("notice", "saved").unwrap();
    session.flash("unread", "old").unwrap();
    let id = given_id(session.commit().unwrap());
    let start = || site.open(&id);
    let flashed = |session: &cgi_session::Session, key| session.flashed::<String>(key).unwrap();
    for views in 1..3 {
        let mut session = start();
        session.insert("pageViews", views).unwrap();
        session.commit().unwrap();
    }
    let mut session = start();
    // Saved first and read afterwards: it is gone with the commit.
    session.save().unwrap();
    assert_eq!(flashed(&session, "notice").as_deref(), Some("saved"));
    session.flash("unread", "new").unwrap();
    session.commit().unwrap();
    let session = start();
    assert_eq!(flashed(&session, "notice"), None);
    assert_eq!(flashed(&session, "unread").as_deref(), Some("new"));
}

#[test]
fn a_flash_value_obeys_the_rules_for_keys_and_values() {
    let site = Site::with(&[("maxKeyLength", "9")]);
    let mut session = site.manager().start(b"").unwrap();
    for key in ["", "ten bytes!"] {
        let refused = session.flash(key, 1).unwrap_err();
        assert!(matches!(refused, Error::Key { .. }), "{refused}");
    }
    let refused = session.flash("number", f64::NAN).unwrap_err();
    assert!(matches!(refused, Error::Value { .. }), "{refused}");
    let seen = session.commit().unwrap().map(|cookie| cookie.to_string());
    assert_eq!(seen, None);
}

#[test]
fn a_flash_value_that_is_kept_is_there_once_more_beside_a_new_one() {
    let (site, mut session) = Site::begun();
    session.flash("old", 1).unwrap();
    session.flash("both", 1).unwrap();
    let id = given_id(session.commit().unwrap());
    let mut session = site.open(&id);
    session.flash("both", 2).unwrap();
    session.keep_flash();
    session.commit().unwrap();
    let session = site.open(&id);
    let flashed = |key| session.flashed::<u8>(key).unwrap();
    assert_eq!((flashed("old"), flashed("both")), (Some(1), Some(2)));
}

#[test]
fn a_value_ends_before_its_session_in_whichever_application_it_is() {
    let (site, mut session) = Site::begun();
    session.insert("stays", 1).unwrap();
    session
        .insert_for("code", 4711, Duration::from_secs(300))
        .unwrap();
    let shop = session.application("shop").unwrap();
    shop.insert_for("offer", 1, Duration::from_secs(600))
        .unwrap();
    let id = given_id(session.commit().unwrap());

    let_pass(&site, &id, 290);
    let snapshot = site.manager().read(cookie(&id)).unwrap().unwrap();
    assert_eq!(snapshot.get::<u64>("code").unwrap(), Some(4711));
    let_pass(&site, &id, 20);
    let snapshot = site.manager().read(cookie(&id)).unwrap().unwrap();
    assert!(snapshot.keys().eq(["stays"]));
    let mut session = site.open(&id);
    assert!(session.application("shop").unwrap().contains("offer"));
    session.commit().unwrap();
    let_pass(&site, &id, 300);
    let mut session = site.open(&id);
    assert!(!session.application("shop").unwrap().contains("offer"));
    session.commit().unwrap();
    // What has ended is not kept in the file either.
    let text = fs::read_to_string(site.path(&id)).unwrap();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let newest = json.as_array();
    let newest = newest.unwrap().iter().max_by_key(|slot| slot["g"].as_u64());
    let seen = newest.unwrap()["d"]["values"].to_string();
    assert_eq!(seen, r#"{"":{"stays":1}}"#);
}

#[test]
fn the_token_of_forms_stays_until_the_id_changes_and_no_other_text_passes_for_it() {
    let (site, mut session) = Site::begun();
    assert!(!session.is_csrf_token("") && !session.is_csrf_token("x"));
    let token = session.csrf_token().unwrap().to_owned();
    assert!(session.csrf_field().unwrap().contains(&token));
    let id = given_id(session.commit().unwrap());

    let mut session = site.open(&id);
    assert!(session.is_csrf_token(&token));
    assert!(!session.is_csrf_token(&token[1..]) && !session.is_csrf_token(&token.to_uppercase()));
    assert_eq!(session.csrf_token().unwrap(), token);
    session.regenerate_id();
    assert!(!session.is_csrf_token(&token));
    assert_ne!(session.csrf_token().unwrap(), token);
    session.commit().unwrap();
}

#[test]
fn the_token_of_forms_is_not_stored_under_a_new_id_though_nothing_else_changes() {
    let changes: [fn(&mut Session); 4] = [
        Session::regenerate_id,
        |session| session.regenerate_id_with_grace(Duration::from_secs(60)),
        |session| {
            session.set_user(Some("ada")).unwrap();
            session.regenerate_id();
        },
        |session| {
            session.regenerate_id();
            session.set_timeout(Some(Duration::from_secs(60)));
            session.save().unwrap();
        },
    ];
    for change in changes {
        let (site, mut session) = Site::begun();
        let token = session.csrf_token().unwrap().to_owned();
        let id = given_id(session.commit().unwrap());
        let mut session = site.open(&id);
        change(&mut session);
        let new_id = given_id(session.commit().unwrap());
        let mut session = site.open(&new_id);
        assert!(!session.is_csrf_token(&token));
        assert_ne!(session.csrf_token().unwrap(), token);
    }
}

#[test]
fn a_client_that_sends_the_test_cookie_back_is_told_from_one_that_does_not() {
    let (site, mut session) = Site::begun();
    session.set_test_cookie();
    assert!(!session.test_cookie_worked());
    let id = given_id(session.commit().unwrap());
    assert!(!site.manager().start(b"").unwrap().test_cookie_worked());
    let mut session = site.open(&id);
    assert!(session.test_cookie_worked());
    session.delete_test_cookie();
    session.commit().unwrap();
    assert!(!site.open(&id).test_cookie_worked());
}

#[test]
fn a_client_whose_session_a_link_has_opened_sent_no_test_cookie_back() {
    let site = Site::with(&[("idFrom", "cookie, query")]);
    let id = given_id(change(
        &site.manager(),
        b"",
        cgi_session::Session::set_test_cookie,
    ));
    let worked = |request: &mut Request| {
        let session = request.session()?;
        let text = format!("{} {}", session.is_new(), session.test_cookie_worked());
        Ok::<_, Error>(Response::text(text))
    };
    let client = Client::new(site.manager());
    let by_link = client.get(&format!("/?sessionId={}", id.secret()));
    assert_eq!(by_link.send(worked).body_text(), "false false");
    client.set_cookie("sessionId", id.secret());
    assert_eq!(client.get("/").send(worked).body_text(), "false true");
}

#[test]
fn a_session_stays_new_to_the_request_that_made_it_however_often_that_opens_it() {
    let client = Client::default();
    let opens_again = |request: &mut Request| {
        request.update_session(|session| {
            session.set_test_cookie();
            Ok(())
        })?;
        let session = request.session()?;
        let (is_new, worked) = (session.is_new(), session.test_cookie_worked());
        assert_eq!(session.last_access().is_none(), is_new);
        session.regenerate_id();
        request.commit_session()?;
        assert_eq!(request.session()?.is_new(), is_new);
        Ok::<_, Error>(Response::text(format!("{is_new} {worked}")))
    };
    for expected in ["true false", "false true"] {
        assert_eq!(client.get("/").send(opens_again).body_text(), expected);
    }
}

#[test]
fn a_commit_that_fails_and_is_survived_loses_no_flash_value() {
    let client = Client::default();
    let leaves = |request: &mut Request| {
        request.session()?.flash("notice", 7)?;
        if request.query("save").is_some() {
            request.session()?.save()?;
            request.session()?.insert("x", "x".repeat(2 << 20))?;
            assert!(request.commit_session().is_err());
        } else {
            request.commit_session()?;
            let failed = request.update_session(|_| Err::<(), _>(Error::Ended));
            assert!(failed.is_err());
        }
        assert_eq!(request.session()?.flashed::<u8>("notice")?, None);
        Ok::<_, Error>(Response::text(""))
    };
    let shows = |request: &mut Request| {
        let notice = request.session()?.flashed::<u8>("notice")?;
        Ok::<_, Error>(Response::text(format!("{notice:?}")))
    };
    for path in ["/", "/?save"] {
        assert_eq!(client.get(path).send(leaves).status(), 200);
        assert_eq!(client.get("/").send(shows).body_text(), "Some(7)");
    }
}

#[test]
fn a_token_of_forms_goes_into_the_session_that_begins_with_a_new_id() {
    let (site, mut session) = Site::begun();
    let token = session.csrf_token().unwrap().to_owned();
    session.regenerate_id();
    let id = given_id(session.commit().unwrap());
    assert!(site.open(&id).is_csrf_token(&token));
}
