//! What an administrator does, who knows no id.

use testkit::prelude::*;
use testkit::sessions::{Site, cookie};

#[test]
fn a_session_opened_by_its_digest_is_changed_and_sends_no_cookie() {
    let site = Site::new();
    let id = site.visitor();
    let digest = id.digest();
    let mut session = site.manager().open_by_digest(&digest).unwrap().unwrap();
    assert!(!session.is_new());
    session.insert("note", "by the administrator").unwrap();
    assert!(session.commit().unwrap().is_none());
    let seen = site.manager().read(cookie(&id)).unwrap().unwrap();
    assert_eq!(seen.require::<u64>("pageViews").unwrap(), 1);
    let found = seen.require::<String>("note").unwrap();
    assert_eq!(found, "by the administrator");
}

#[test]
fn an_administrator_waits_for_the_lock_and_not_for_ever() {
    let site = Site::with(&[("lockTimeout", "1s")]);
    let id = site.visitor();
    let digest = id.digest();
    let held = site.open(&id);
    let opened = site.manager().open_by_digest(&digest);
    assert!(matches!(opened, Err(Error::Busy { .. })));
    let destroyed = site.manager().destroy_by_digest(&digest);
    let is_it = matches!(destroyed, Err(Error::Busy { .. }));
    assert!(is_it, "{destroyed:?}");
    drop(held);
    assert!(site.manager().destroy_by_digest(&digest).unwrap());
    assert!(!site.manager().destroy_by_digest(&digest).unwrap());
    assert!(site.manager().read(cookie(&id)).unwrap().is_none());
}

#[test]
fn looking_at_a_session_does_not_count_as_use() {
    let site = Site::new();
    let id = site.visitor();
    let digest = id.digest();
    let long_ago = SystemTime::now() - std::time::Duration::from_secs(1800);
    site.set_modified(&id, long_ago);
    for _ in 0..2 {
        let stored = site.manager().peek(&digest).unwrap().unwrap();
        assert_eq!(stored.last_access, long_ago);
        let ends = site.manager().end_of(&stored);
        assert_eq!(ends.duration_since(long_ago).unwrap().as_secs(), 3600);
    }
    let nobody = SessionId::generate().unwrap().digest();
    assert!(site.manager().peek(&nobody).unwrap().is_none());
}

#[test]
fn an_empty_session_is_stored_when_a_program_asks_for_it() {
    let (site, mut session) = Site::begun();
    session.keep_empty();
    let cookie = session.commit().unwrap().unwrap().to_string();
    assert_eq!(site.sessions(), 1);
    let again = site.manager().start(&cookie).unwrap();
    assert!(!again.is_new() && again.is_empty());
}

#[test]
fn an_expired_session_whose_call_fails_has_three_tries_where_nothing_else_is_said() {
    let site = Site::new();
    let id = site.visitor();
    let day = std::time::Duration::from_secs(24 * 3600);
    site.set_modified(&id, std::time::SystemTime::now() - day);
    let deleted = || {
        let call = |_: &cgi_session::SessionDigest, _: &cgi_session::Stored| Err("no".to_owned());
        let sweep = cgi_session::Sweep::new().each(&call);
        site.manager().delete_expired(&sweep).unwrap().deleted
    };
    assert_eq!([deleted(), deleted(), deleted()], [0, 0, 1]);
}

#[test]
fn a_session_that_a_wrong_clock_has_begun_beyond_its_lifetime_is_handed_over_too() {
    let site = Site::with(&[("lifetime", "1d")]);
    let (manager, now) = (site.manager(), SystemTime::now());
    let ahead = now + Duration::from_secs(10 * 366 * 24 * 3600);
    let id = SessionId::generate().unwrap();
    let created = manager
        .store()
        .create(&id.digest(), &Record::new(ahead), now);
    drop(created.unwrap());
    site.set_modified(&id, ahead);
    let deleted = |outcome: Result<(), &str>| {
        let call = |_: &_, _: &_| outcome.map_err(str::to_owned);
        let sweep = Sweep::new().each(&call);
        manager.delete_expired(&sweep).unwrap().deleted
    };
    assert_eq!([deleted(Err("no")), deleted(Ok(()))], [0, 1]);
}

#[test]
fn a_clean_up_that_calls_for_each_expired_session_ends_none_that_was_only_unused() {
    let site = Site::new();
    let manager = site.manager();
    let sweep = Sweep::new().each(&|_, _| Ok(()));
    let refused = manager.delete_expired(&sweep.idle(Duration::from_secs(60)));
    assert!(matches!(refused, Err(Error::Config(_))), "{refused:?}");
}
