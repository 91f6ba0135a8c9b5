//! A new id with a grace for requests that are under way with the old one.

use testkit::prelude::*;
use testkit::sessions::{Site, cookie, count, given_id};

/// A session whose id was replaced with a grace: the old id and the new one.
fn replaced(site: &Site, grace: u64) -> (SessionId, SessionId) {
    let old = site.visitor();
    let mut session = site.open(&old);
    session.flash("notice", "for the new id").unwrap();
    session.regenerate_id_with_grace(Duration::from_secs(grace));
    let new = given_id(session.commit().unwrap());
    assert_ne!(old, new);
    (old, new)
}

#[test]
fn under_the_old_id_the_session_can_be_read_and_not_changed() {
    let site = Site::new();
    let (old, new) = replaced(&site, 30);
    assert_eq!((site.views(&old), site.views(&new)), (Some(1), Some(1)));

    let shown = |id: &SessionId| site.manager().read(cookie(id)).unwrap().unwrap();
    assert!(shown(&old).is_replaced() && !shown(&new).is_replaced());
    let reader = site.open(&old);
    assert!(reader.is_replaced() && !reader.is_new());
    // No cookie: the client has the new one already.
    assert!(reader.commit().unwrap().is_none());
    let mut writer = site.open(&old);
    count(&mut writer);
    let refused = writer.commit().unwrap_err();
    assert!(matches!(refused, Error::Replaced), "{refused}");
    assert_eq!(refused.status(), http::StatusCode::SERVICE_UNAVAILABLE);
    let refused = site.open(&old).destroy();
    assert!(matches!(refused, Err(Error::Replaced)));
    let mut again = site.open(&old);
    again.regenerate_id();
    assert!(matches!(again.commit(), Err(Error::Replaced)));
    assert_eq!((site.views(&old), site.views(&new)), (Some(1), Some(1)));

    let mut session = site.open(&new);
    assert!(!session.is_replaced());
    assert!(session.flashed::<String>("notice").unwrap().is_some());
    assert_eq!(count(&mut session), 2);
    session.commit().unwrap();
    assert_eq!((site.views(&old), site.views(&new)), (Some(1), Some(2)));
}

#[test]
fn the_token_of_forms_goes_with_the_session_that_has_it() {
    let (site, old, mut session) = Site::opened();
    let former = session.csrf_token().unwrap().to_owned();
    session.commit().unwrap();
    let mut session = site.open(&old);
    session.regenerate_id_with_grace(Duration::from_secs(30));
    let token = session.csrf_token().unwrap().to_owned();
    // Asked for twice, it is still the one from before.
    session.regenerate_id_with_grace(Duration::from_secs(30));
    assert_ne!(former, token);
    let new = given_id(session.commit().unwrap());
    // A page with a form is no change of a session that can only be read.
    let mut reader = site.open(&old);
    assert_eq!(reader.csrf_token().unwrap(), former);
    reader.commit().unwrap();
    let left = fs::read_to_string(site.path(&old)).unwrap();
    assert!(left.contains(&former) && !left.contains(&token));
    let mut session = site.open(&new);
    assert_ne!(session.csrf_token().unwrap(), former);
}

#[test]
fn what_the_old_id_leads_to_does_not_tell_the_new_one() {
    let site = Site::new();
    let (old, new) = replaced(&site, 30);
    let left = fs::read_to_string(site.path(&old)).unwrap();
    assert!(!left.contains(new.secret()) && !left.contains(new.digest().as_str()));
}

#[test]
fn whoever_ends_the_session_leaves_nothing_readable_under_any_id_that_it_had() {
    type Ending<'a> = &'a dyn Fn(&SessionId);
    let site = Site::new();
    let by_visitor: Ending<'_> = &|id| {
        let session = site.open(id);
        assert!(session.destroy().unwrap().unwrap().is_removal());
    };
    let by_administrator: Ending<'_> =
        &|id| assert!(site.manager().destroy_by_digest(&id.digest()).unwrap());
    let by_user: Ending<'_> =
        &|_| assert_eq!(site.manager().destroy_sessions_of("ada", None).unwrap(), 1);
    for end in [by_visitor, by_administrator, by_user] {
        let mut ids = vec![site.visitor()];
        // More changes than a record knows of, and one without a grace among them.
        for change in 0..12 {
            let mut session = site.open(&ids[change]);
            session.set_user(Some("ada")).unwrap();
            if change == 7 {
                session.regenerate_id();
            } else {
                session.regenerate_id_with_grace(Duration::from_secs(60));
            }
            ids.push(given_id(session.commit().unwrap()));
        }
        let readable = |id: &&SessionId| site.views(id).is_some();
        // The change without a grace has ended what was to be read until then.
        assert_eq!(ids.iter().filter(readable).count(), 5);
        end(ids.last().unwrap());
        assert_eq!(ids.iter().filter(readable).count(), 0);
        assert_eq!(site.sessions(), 0);
    }
}

#[test]
fn after_the_grace_the_old_id_is_a_marker() {
    let (site, old, mut session) = Site::opened();
    let token = session.csrf_token().unwrap().to_owned();
    session.regenerate_id_with_grace(Duration::ZERO);
    let new = given_id(session.commit().unwrap());
    // Its end is this very second: a second later nothing can be read.
    wait_until("the end of the grace", || site.views(&old).is_none());
    let late = site.manager().start(cookie(&old)).map(drop);
    assert!(matches!(late, Err(Error::Replaced)), "{late:?}");
    assert!(site.manager().peek(&old.digest()).unwrap().is_none());
    assert_eq!(site.views(&new), Some(1));
    let mut listed = Vec::new();
    let list = |session: &_, _| {
        listed.push(*session);
        std::ops::ControlFlow::Continue(())
    };
    site.manager().for_each(list).unwrap();
    assert_eq!(listed, [new.digest()]);
    let session = site.open(&new);
    assert!(!session.is_csrf_token(&token));
}

#[test]
fn a_change_of_user_or_of_the_id_ends_what_can_be_read_under_the_ids_before() {
    let changes: [fn(&mut Session); 3] = [
        |session| session.set_user(None).unwrap(),
        Session::regenerate_id,
        |session| {
            session.set_user(Some("eve")).unwrap();
            session.regenerate_id();
        },
    ];
    for (at, change) in changes.into_iter().enumerate() {
        let (site, first, mut session) = Site::opened();
        session.set_user(Some("ada")).unwrap();
        session.commit().unwrap();
        let mut ids = vec![first];
        for _ in 0..2 {
            let mut session = site.open(&ids[0]);
            session.regenerate_id_with_grace(Duration::from_secs(60));
            ids.insert(0, given_id(session.commit().unwrap()));
        }
        assert!(ids.iter().all(|id| site.views(id) == Some(1)));
        let mut session = site.open(&ids[0]);
        change(&mut session);
        session.commit().unwrap();
        for id in &ids[1..] {
            assert_eq!(site.views(id), None, "{at}");
            let late = site.manager().start(cookie(id)).map(drop);
            assert!(matches!(late, Err(Error::Replaced)), "{at}: {late:?}");
        }
    }
}

#[test]
fn the_stricter_of_two_changes_of_the_id_counts_and_no_copy_shows_who_logged_in() {
    let grace = |session: &mut Session| {
        session.regenerate_id_with_grace(Duration::from_secs(60));
    };
    let changes: [fn(&mut Session); 5] = [
        Session::regenerate_id,
        |session| session.set_user(Some("ada")).unwrap(),
        Session::confirm_identity,
        |session| {
            session.set_user(Some("ada")).unwrap();
            session.save().unwrap();
        },
        |session| {
            session.confirm_identity();
            session.save().unwrap();
        },
    ];
    for (at, change) in changes.into_iter().enumerate() {
        for is_first in [true, false] {
            let (site, old, mut session) = Site::opened();
            if !is_first {
                grace(&mut session);
            }
            change(&mut session);
            if is_first {
                grace(&mut session);
            }
            let new = given_id(session.commit().unwrap());
            assert_eq!(site.views(&new), Some(1), "{at}");
            assert!(site.manager().read(cookie(&old)).unwrap().is_none(), "{at}");
            let late = site.manager().start(cookie(&old)).map(drop);
            assert!(matches!(late, Err(Error::Replaced)), "{at}: {late:?}");
        }
    }
}

#[test]
fn what_can_be_read_during_the_grace_lives_no_longer_than_the_session_would() {
    let (site, old, mut session) = Site::opened();
    session.set_timeout(Some(Duration::from_secs(1)));
    session.regenerate_id_with_grace(Duration::from_secs(200));
    session.commit().unwrap();
    wait_until("the end of the session", || site.views(&old).is_none());
}

#[test]
fn the_grace_lasts_five_minutes_at_most() {
    let site = Site::new();
    let (old, _) = replaced(&site, 1_000_000);
    let text = fs::read_to_string(site.path(&old)).unwrap();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let newest = json.as_array();
    let newest = newest.unwrap().iter().max_by_key(|slot| slot["g"].as_u64());
    let record = &newest.unwrap()["d"];
    let (expires, created) = (record["expires"].as_u64(), record["created"].as_u64());
    assert!(expires.unwrap() <= created.unwrap() + 305, "{record}");
}
