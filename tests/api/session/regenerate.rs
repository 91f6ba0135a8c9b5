//! A new id for the same session.

use cgi_session::{Result, Stored, SweepReport, Uninstalled, Visitor};

use testkit::prelude::*;
use testkit::sessions::{Site, cookie, count, given_id, is_waiting, spawn_waiter};

#[test]
fn the_data_moves_and_the_old_id_is_dead_for_every_program() {
    let site = Site::new();
    let (here, elsewhere) = (site.manager(), site.manager());
    let old = site.visitor();
    assert!(elsewhere.read(cookie(&old)).unwrap().is_some());

    let mut session = here.start(cookie(&old)).unwrap();
    session.regenerate_id();
    count(&mut session);
    let new = given_id(session.commit().unwrap());
    assert_ne!(new, old);
    assert_eq!((site.views(&new), site.sessions()), (Some(2), 1));
    assert!(elsewhere.existing(cookie(&old)).unwrap().is_none());
    assert!(elsewhere.read(cookie(&old)).unwrap().is_none());
    let opened = elsewhere.start(cookie(&old));
    assert!(matches!(opened, Err(Error::Replaced)));
}

#[test]
fn the_session_keeps_its_age_and_its_timeout() {
    let (site, _, mut session) = Site::opened();
    let created = session.created();
    session.set_timeout(Some(Duration::from_secs(90)));
    session.regenerate_id();
    let new = given_id(session.commit().unwrap());
    let session = site.open(&new);
    assert_eq!(session.created(), created);
    assert_eq!(session.timeout().as_secs(), 90);
    assert!(!session.is_new());
}

#[test]
fn a_request_that_fails_leaves_the_old_id() {
    let site = Site::new();
    let old = site.visitor();
    let changes: [fn(&mut Session); 2] = [Session::regenerate_id, |session| {
        session.regenerate_id_with_grace(Duration::from_secs(30));
    }];
    for (views, change) in (2..).zip(changes) {
        let mut session = site.open(&old);
        change(&mut session);
        drop(session);
        let mut session = site.open(&old);
        assert_eq!(count(&mut session), views);
        session.commit().unwrap();
        assert_eq!(site.sessions(), 1);
    }
}

#[test]
fn a_new_record_that_cannot_be_stored_leaves_the_old_id() {
    let site = Site::with(&[("maxRecordBytes", "1000")]);
    let old = site.visitor();
    let mut session = site.open(&old);
    session.regenerate_id();
    session.insert("x", "x".repeat(2000)).unwrap();
    assert!(session.save().is_err());
    assert_eq!((site.views(&old), site.sessions()), (Some(1), 1));
    session.remove("x");
    let new = given_id(session.commit().unwrap());
    assert_eq!((site.views(&new), site.views(&old)), (Some(1), None));
}

#[test]
fn twice_in_one_request_leaves_one_session() {
    let (site, old, mut session) = Site::opened();
    session.regenerate_id();
    session.save().unwrap();
    let between = session.id().unwrap().clone();
    session.regenerate_id();
    let new = given_id(session.commit().unwrap());
    assert_eq!(site.sessions(), 1);
    assert!(old != between && between != new);
    assert_eq!((site.views(&between), site.views(&new)), (None, Some(1)));
}

#[test]
fn asked_for_twice_before_the_commit_is_one_change() {
    let (site, _, mut session) = Site::opened();
    session.regenerate_id();
    session.regenerate_id();
    given_id(session.commit().unwrap());
    assert_eq!(site.sessions(), 1);
}

#[test]
fn a_session_that_is_not_stored_yet_gets_one_id() {
    let (site, mut session) = Site::begun();
    session.regenerate_id();
    count(&mut session);
    given_id(session.commit().unwrap());
    assert_eq!(site.sessions(), 1);
}

#[test]
fn who_waits_for_the_old_id_is_told_so_and_begins_no_session() {
    let (site, old, mut session) = Site::opened();
    session.regenerate_id();
    thread::scope(|scope| {
        let waiter = spawn_waiter(scope, || {
            let late = site.manager().start(cookie(&old));
            assert!(matches!(late, Err(Error::Replaced)));
        });
        wait_until("a thread waits", is_waiting);
        session.commit().unwrap();
        waiter.join().unwrap();
    });
    assert_eq!(site.sessions(), 1);
}

#[test]
fn destroy_after_a_change_of_id_leaves_nothing() {
    let (site, old, mut session) = Site::opened();
    session.regenerate_id();
    session.save().unwrap();
    assert!(session.destroy().unwrap().expect("a cookie").is_removal());
    assert_eq!(site.sessions(), 0);
    assert!(site.open(&old).is_new());
}

#[test]
fn a_live_session_counts_before_and_after_a_marker() {
    let site = Site::new();
    let (old, other) = (site.visitor(), site.visitor());
    site.change(&old, cgi_session::Session::regenerate_id);
    for header in [[&old, &other], [&other, &old]] {
        let header = header.map(|id| format!("sessionId={}", id.secret()));
        let header = header.join("; ");
        let mut session = site.manager().start(header).unwrap();
        assert_eq!(session.id(), Some(&other));
        count(&mut session);
        assert!(session.commit().unwrap().is_none());
    }
}

#[test]
fn a_marker_is_no_session_for_those_who_look_after_the_store() {
    let site = Site::with(&[("maxSessions", "1"), ("whenFull", "refuse")]);
    let mut session = site.manager().start("").unwrap();
    session.set_user(Some("ada")).unwrap();
    let old = given_id(session.commit().unwrap());
    // At the cap a change of id is no new session.
    let new = given_id(site.change(&old, cgi_session::Session::regenerate_id));
    let manager = site.manager();
    let mut listed = Vec::new();
    let list = |digest: &cgi_session::SessionDigest, _| {
        listed.push(*digest);
        std::ops::ControlFlow::Continue(())
    };
    manager.for_each(list).unwrap();
    assert_eq!(listed, [new.digest()]);
    assert_eq!(manager.sessions_of("ada").unwrap(), [new.digest()]);
    assert!(manager.peek(&old.digest()).unwrap().is_none());
    assert!(manager.open_by_digest(&old.digest()).unwrap().is_none());
    assert!(!manager.destroy_by_digest(&old.digest()).unwrap());
    assert!(matches!(manager.start(cookie(&old)), Err(Error::Replaced)));
    // And it takes no place.
    assert!(manager.destroy_by_digest(&new.digest()).unwrap());
    let mut session = manager.start("").unwrap();
    count(&mut session);
    session.commit().unwrap();
}

#[test]
fn a_private_record_is_opened_by_no_cookie() {
    let site = Site::new();
    let id = cgi_session::SessionId::generate().unwrap();
    let mut session = site.manager().start_with_id(&id).unwrap();
    session.set_private();
    count(&mut session);
    session.commit().unwrap();
    assert!(site.manager().existing(cookie(&id)).unwrap().is_none());
    assert!(site.manager().read(cookie(&id)).unwrap().is_none());
    let mut session = site.open(&id);
    assert!(session.is_new());
    count(&mut session);
    assert_ne!(given_id(session.commit().unwrap()), id);
    // Nor does a logout end it.
    site.open(&id).destroy().unwrap();
    let mut session = site.manager().start_with_id(&id).unwrap();
    assert!(!session.is_new());
    // What it is already is not written again.
    session.set_private();
    let before = fs::read(site.path(&id)).unwrap();
    session.commit().unwrap();
    assert_eq!(fs::read(site.path(&id)).unwrap(), before);
}

/// A file store in which the old session is deleted as soon as the one under its new id is stored.
struct DeletedMeanwhile {
    store: FileStore,
    old: PathBuf,
}

impl Store for DeletedMeanwhile {
    fn create(
        &self,
        session: &SessionDigest,
        record: &Record,
        now: SystemTime,
    ) -> Result<Option<Box<dyn Lease>>> {
        let lease = self.store.create(session, record, now);
        fs::remove_file(&self.old).unwrap();
        lease
    }

    fn lock(
        &self,
        session: &SessionDigest,
        wait: Duration,
        now: SystemTime,
    ) -> Result<Option<(Stored, Box<dyn Lease>)>> {
        self.store.lock(session, wait, now)
    }

    fn read(&self, session: &SessionDigest, now: SystemTime) -> Result<Option<Stored>> {
        self.store.read(session, now)
    }

    fn delete_expired(&self, sweep: &Sweep<'_>, now: SystemTime) -> Result<SweepReport> {
        self.store.delete_expired(sweep, now)
    }

    fn last_sweep(&self, now: SystemTime) -> Option<Duration> {
        self.store.last_sweep(now)
    }

    fn for_each(&self, visit: &mut Visitor<'_>, now: SystemTime) -> Result<()> {
        self.store.for_each(visit, now)
    }

    fn uninstall(&self) -> Uninstalled {
        self.store.uninstall()
    }
}

#[test]
fn a_session_that_is_deleted_while_its_id_changes_does_not_go_on_under_the_new_one() {
    let site = Site::new();
    let old = site.visitor();
    let config = site.manager().config().clone();
    let store = DeletedMeanwhile {
        store: FileStore::new(&config).unwrap(),
        old: site.path(&old),
    };
    let manager = SessionManager::with_store(config, store).unwrap();
    let mut session = manager.start(cookie(&old)).unwrap();
    session.regenerate_id();
    let refused = session.commit().unwrap_err();
    let has_it = refused.one_line().contains("was deleted or replaced");
    assert!(has_it, "{refused}");
    assert_eq!(site.sessions(), 0);
}

#[test]
fn an_id_that_changes_forty_times_in_five_minutes_takes_as_long_each_time() {
    let site = Site::new();
    let mut id = site.visitor();
    for _ in 0..40 {
        id = given_id(site.change(&id, cgi_session::Session::regenerate_id));
    }
    assert_eq!(site.views(&id), Some(1));
}

/// By a clock that was a year ahead when the id was changed, and is right again.
#[test]
fn what_a_wrong_clock_has_left_turns_nobody_away_for_a_year() {
    let site = Site::new();
    for kind in ["marker", "copy"] {
        let (old, now) = (site.visitor(), SystemTime::now());
        let store = FileStore::new(site.manager().config()).unwrap();
        let wait = Duration::from_secs(1);
        let (stored, mut lease) = store.lock(&old.digest(), wait, now).unwrap().unwrap();
        let seconds = now.duration_since(SystemTime::UNIX_EPOCH);
        let seconds = seconds.unwrap().as_secs();
        let changed = seconds + 366 * 24 * 3600;
        let text = format!(
            r#"{{"v":1,"created":{seconds},"expires":{},"changed":{changed},"replaced":"{kind}","values":{}}}"#,
            changed + 60,
            String::from_utf8_lossy(stored.record.values())
        );
        let left = Record::from_json(text.into_bytes()).unwrap();
        lease.commit(&left, now).unwrap();
        drop(lease);
        assert_eq!(site.views(&old), None, "{kind}");
        let mut session = site.open(&old);
        count(&mut session);
        assert_ne!(given_id(session.commit().unwrap()), old, "{kind}");
    }
}

#[test]
fn a_session_that_becomes_private_gives_its_client_no_cookie() {
    let (site, mut session) = Site::begun();
    session.set_private();
    count(&mut session);
    assert!(session.commit().unwrap().is_none());
    assert_eq!(site.sessions(), 1);
}
