//! What an administrator does, who knows no id.

use std::ops::ControlFlow;
use std::time::SystemTime;

use cgi_session::{Config, Error, FileStore, Record, SessionDigest, SessionId, Store};

use testkit::sessions::Site;

/// Stores a session of this user, as a login would, and returns its digest.
fn session_of(site: &Site, user: &str) -> SessionDigest {
    let directory = site.manager().config().get("storageFileDir").unwrap();
    let config = Config::new().set("storageFileDir", directory).unwrap();
    let digest = SessionId::generate().unwrap().digest();
    let record = Record::new(SystemTime::now()).with_user(Some(user));
    let store = FileStore::new(&config).unwrap();
    store
        .create(&digest, &record, SystemTime::now())
        .unwrap()
        .unwrap();
    digest
}

/// Stores a session with one page view; its Cookie header and its digest.
fn counted(site: &Site) -> (String, SessionDigest) {
    let mut session = site.manager().start("").unwrap();
    session.insert("pageViews", 1).unwrap();
    session.save().unwrap();
    let digest = session.id().unwrap().digest();
    let cookie = session.commit().unwrap().unwrap().to_string();
    (cookie, digest)
}

#[test]
fn a_session_opened_by_its_digest_is_changed_and_sends_no_cookie() {
    let site = Site::new();
    let (cookie, digest) = counted(&site);
    let mut session = site.manager().open_by_digest(&digest).unwrap().unwrap();
    assert!(!session.is_new());
    session.insert("note", "by the administrator").unwrap();
    assert!(session.commit().unwrap().is_none());
    let seen = site.manager().read(&cookie).unwrap().unwrap();
    assert_eq!(seen.require::<u64>("pageViews").unwrap(), 1);
    assert_eq!(
        seen.require::<String>("note").unwrap(),
        "by the administrator"
    );
}

#[test]
fn an_administrator_waits_for_the_lock_and_not_for_ever() {
    let site = Site::with(&[("lockTimeout", "1s")]);
    let (cookie, digest) = counted(&site);
    let held = site.manager().start(&cookie).unwrap();
    let opened = site.manager().open_by_digest(&digest);
    assert!(matches!(opened, Err(Error::Busy { .. })));
    let destroyed = site.manager().destroy_by_digest(&digest);
    assert!(
        matches!(destroyed, Err(Error::Busy { .. })),
        "{destroyed:?}"
    );
    drop(held);
    assert!(site.manager().destroy_by_digest(&digest).unwrap());
    assert!(!site.manager().destroy_by_digest(&digest).unwrap());
    assert!(site.manager().read(&cookie).unwrap().is_none());
}

#[test]
fn looking_at_a_session_does_not_count_as_use() {
    let site = Site::new();
    let (_, digest) = counted(&site);
    let long_ago = SystemTime::now() - std::time::Duration::from_secs(1800);
    let directory = site.manager().config().get("storageFileDir").unwrap();
    let path = std::path::Path::new(&directory).join(format!("{digest}.json"));
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.set_modified(long_ago).unwrap();
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
fn every_live_session_is_shown_once() {
    let site = Site::new();
    let digests = [counted(&site).1, counted(&site).1, counted(&site).1];
    let shown = || {
        let mut shown = Vec::new();
        let visit = |session: &SessionDigest, stored: cgi_session::Result<_>| {
            stored.unwrap();
            shown.push(*session);
            ControlFlow::Continue(())
        };
        site.manager().for_each(visit).unwrap();
        shown.sort_by_key(ToString::to_string);
        shown
    };
    let mut expected = digests.to_vec();
    expected.sort_by_key(ToString::to_string);
    assert_eq!(shown(), expected);
}

#[test]
fn the_sessions_of_a_user_are_destroyed_and_no_others() {
    let site = Site::new();
    let (cookie, _) = counted(&site);
    let (ada, bob) = (session_of(&site, "ada"), session_of(&site, "bob"));
    assert_eq!(site.manager().sessions_of("ada").unwrap(), [ada]);
    let second = session_of(&site, "ada");
    assert_eq!(site.manager().destroy_sessions_of("ada", None).unwrap(), 2);
    assert_eq!(site.manager().destroy_sessions_of("ada", None).unwrap(), 0);
    assert!(site.manager().peek(&second).unwrap().is_none());
    assert!(site.manager().peek(&bob).unwrap().is_some());
    assert!(site.manager().read(&cookie).unwrap().is_some());
}

#[test]
fn an_empty_session_is_stored_when_a_program_asks_for_it() {
    let site = Site::new();
    let mut session = site.manager().start("").unwrap();
    session.keep_empty();
    let cookie = session.commit().unwrap().unwrap().to_string();
    assert_eq!(site.sessions(), 1);
    let again = site.manager().start(&cookie).unwrap();
    assert!(!again.is_new() && again.is_empty());
}

#[test]
fn what_was_installed_is_uninstalled() {
    let site = Site::new();
    assert!(site.manager().install().is_empty());
    assert!(site.manager().install().is_empty());
    counted(&site);
    assert!(site.manager().last_clean_up().is_none());
    let gone = site.manager().uninstall();
    assert_eq!((gone.sessions, gone.foreign.len()), (1, 0), "{gone:?}");
    assert!(site.is_untouched());
}
