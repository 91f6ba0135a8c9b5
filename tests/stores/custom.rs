//! What is particular to functions of a program's own: they fail, panic, and know no locks.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::AtomicU8;

use cgi_session::{Client, CustomFunctions, CustomResult, CustomStore};

use crate::rows::Rows;
use cgi_session::store_contract::{WAIT, count, counted, create, later, record};
use testkit::prelude::*;

/// Functions that do as they are told: 0 works, 1 fails, 2 panics.
struct Moody {
    rows: Rows,
    save: Arc<AtomicU8>,
    load: Arc<AtomicU8>,
}

fn feel(mood: &AtomicU8) -> CustomResult<()> {
    match mood.load(Ordering::Relaxed) {
        0 => Ok(()),
        1 => Err("the database has gone away".into()),
        _ => panic!("a bug in a function"),
    }
}

impl CustomFunctions for Moody {
    fn save(&self, key: &str, data: &str, expires: u64) -> CustomResult<()> {
        feel(&self.save)?;
        self.rows.save(key, data, expires)
    }

    fn load(&self, key: &str) -> CustomResult<Option<(String, u64)>> {
        feel(&self.load)?;
        self.rows.load(key)
    }

    fn clean_up(&self, now: u64) -> CustomResult<u64> {
        feel(&self.save)?;
        self.rows.clean_up(now)
    }
}

fn config(place: &Path) -> Config {
    let config = Config::new().set("storageType", "custom").unwrap();
    config.set("storageFileDir", place.join("locks")).unwrap()
}

fn rows(place: &Path) -> Rows {
    Rows::new(&place.join("rows"), false)
}

/// A store, and the moods of its save and load.
fn moody(place: &Path) -> (CustomStore, Arc<AtomicU8>, Arc<AtomicU8>) {
    let (save, load) = (Arc::default(), Arc::default());
    let functions = Moody {
        rows: rows(place),
        save: Arc::clone(&save),
        load: Arc::clone(&load),
    };
    let store = CustomStore::new(&config(place), functions);
    (store.unwrap(), save, load)
}

#[test]
fn a_function_that_fails_is_an_error_that_says_so_and_nothing_is_lost() {
    let place = tempfile::tempdir().unwrap();
    let (store, save, load) = moody(place.path());
    let now = SystemTime::now();
    let (id, mut lease) = create(&store, 1, now);
    save.store(1, Ordering::Relaxed);
    let failed = lease.commit(&record(2, now), now).unwrap_err();
    assert!(matches!(failed, Error::Store { .. }), "{failed:?}");
    assert_eq!(failed.status(), 500);
    let line = failed.one_line();
    holds(&line, "cannot save the session*gone away");
    assert!(!line.contains(id.secret()), "{line}");
    assert!(store.delete_expired(&Sweep::new(), now).is_err());
    assert_eq!(counted(&store, &id.digest()), Some(1));

    save.store(0, Ordering::Relaxed);
    lease.commit(&record(3, now), now).unwrap();
    drop(lease);
    load.store(1, Ordering::Relaxed);
    let unread = store.lock(&id.digest(), WAIT, now).map(drop).unwrap_err();
    says(&unread, "cannot load the session");
    load.store(0, Ordering::Relaxed);
    assert_eq!(counted(&store, &id.digest()), Some(3));
}

#[test]
fn a_function_that_panics_leaves_the_lock_free_and_the_old_state() {
    let place = tempfile::tempdir().unwrap();
    let (store, save, load) = moody(place.path());
    let now = SystemTime::now();
    let (id, _) = create(&store, 1, now);
    for mood in [&save, &load] {
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            let (stored, mut lease) = store.lock(&id.digest(), WAIT, now).unwrap().unwrap();
            mood.store(2, Ordering::Relaxed);
            let next = record(count(&stored.record) + 1, now);
            lease.commit(&next, now).unwrap();
            store.read(&id.digest(), now).unwrap();
        }));
        assert!(panicked.is_err());
        mood.store(0, Ordering::Relaxed);
        let free = store.lock(&id.digest(), Duration::ZERO, now);
        drop(free.unwrap().unwrap());
    }
    // The first one panicked in its save, the second one after it.
    assert_eq!(counted(&store, &id.digest()), Some(2));
    assert_eq!(fs::read_dir(place.path().join("locks")).unwrap().count(), 0);
}

#[test]
fn without_a_directory_for_the_locks_the_error_says_why_one_is_needed() {
    let place = tempfile::tempdir().unwrap();
    let config = Config::new().set("storageType", "custom").unwrap();
    let refused = CustomStore::new(&config, rows(place.path())).map(drop);
    let text = refused.unwrap_err().to_string();
    holds(&text, "storageFileDir is not set*locks");
}

#[test]
fn a_cap_is_refused_because_nobody_counts() {
    let place = tempfile::tempdir().unwrap();
    let config = config(place.path()).set("maxSessions", "5").unwrap();
    let refused = CustomStore::new(&config, rows(place.path())).map(drop);
    let error = refused.unwrap_err();
    assert!(error.to_string().contains("maxSessions"), "{error}");
}

#[test]
fn a_listing_that_the_functions_do_not_offer_is_said_to_be_unsupported() {
    let place = tempfile::tempdir().unwrap();
    let store = CustomStore::new(&config(place.path()), rows(place.path())).unwrap();
    let now = SystemTime::now();
    let mut visit = |_: &_, _| std::ops::ControlFlow::Continue(());
    let listed = store.for_each(&mut visit, now);
    assert!(matches!(listed, Err(Error::Unsupported(_))));
    let dry = store.delete_expired(&Sweep::new().dry_run(true), now);
    assert!(matches!(dry, Err(Error::Unsupported(_))));
}

#[test]
fn a_row_holds_what_the_contract_says_and_its_end_is_rounded_up() {
    let place = tempfile::tempdir().unwrap();
    let config = config(place.path()).set("timeout", "60s").unwrap();
    let config = config.set("lifetime", "90s").unwrap();
    let store = CustomStore::new(&config, rows(place.path())).unwrap();
    let made = UNIX_EPOCH + Duration::from_millis(2_000_000_000_500);
    let (id, mut lease) = create(&store, 7, made);
    let digest = id.digest();
    let (key, rows) = (&digest.as_str()[..40], rows(place.path()));
    let (data, expires) = rows.load(key).unwrap().unwrap();
    assert_eq!(expires, 2_000_000_061);
    let seen = Record::from_json(data.into_bytes()).unwrap().to_json();
    assert_eq!(seen, record(7, made).to_json());

    // Touches are rare, and the lifetime is the last word.
    for (after, expected) in [(1, 61), (2, 63), (80, 90), (81, 90)] {
        lease.touch(made + Duration::from_secs(after)).unwrap();
        let expires = rows.load(key).unwrap().unwrap().1;
        assert_eq!(expires, 2_000_000_000 + expected, "after {after} s");
    }
}

#[test]
fn a_session_that_a_clean_up_took_from_its_holder_is_whole_after_his_commit() {
    let place = tempfile::tempdir().unwrap();
    let store = CustomStore::new(&config(place.path()), rows(place.path())).unwrap();
    let now = SystemTime::now();
    let after = later(now, 100);
    for commit in [true, false] {
        let (id, mut lease) = create(&store, 1, now);
        let report = store.delete_expired(&Sweep::new(), after).unwrap();
        // One that was destroyed before may be among them.
        assert!(report.deleted > 0);
        if commit {
            lease.commit(&record(1, now), after).unwrap();
        } else {
            lease.touch(after).unwrap();
        }
        let stored = store.read(&id.digest(), later(now, 101)).unwrap();
        assert_eq!(count(&stored.unwrap().record), 1);
        lease.destroy().unwrap();
    }
}

#[test]
fn reading_counts_as_use_but_not_while_somebody_else_has_the_session() {
    let place = tempfile::tempdir().unwrap();
    let store = CustomStore::new(&config(place.path()), rows(place.path())).unwrap();
    let now = SystemTime::now();
    let (id, lease) = create(&store, 1, now);
    let read = |minute| store.read(&id.digest(), later(now, minute)).unwrap();
    let lives = |minute| read(minute).is_some();
    assert!(lives(50) && !lives(70));
    drop(lease);
    assert!(lives(50) && lives(100));
}

#[test]
fn a_row_that_is_no_record_is_no_session_and_stays_where_it_is() {
    let place = tempfile::tempdir().unwrap();
    let store = CustomStore::new(&config(place.path()), rows(place.path())).unwrap();
    let now = SystemTime::now();
    let (id, _) = create(&store, 1, now);
    let digest = id.digest();
    let (key, rows) = (&digest.as_str()[..40], rows(place.path()));
    rows.save(key, "rubbish", u64::MAX).unwrap();
    assert!(store.read(&digest, now).unwrap().is_none());
    assert!(store.lock(&digest, WAIT, now).unwrap().is_none());
    assert_eq!(rows.load(key).unwrap().unwrap().0, "rubbish");
    rows.save(key, r#"{"v":2}"#, u64::MAX).unwrap();
    says(&store.read(&digest, now).unwrap_err(), "later release");
}

/// The stores of two machines on the same rows: their locks do not exclude each other.
fn two_machines(place: &Path, rows: fn(&Path) -> Rows) -> [CustomStore; 2] {
    ["here", "there"].map(|machine| {
        let config = config(place).set("storageFileDir", place.join(machine));
        CustomStore::new(&config.unwrap(), rows(&place.join("rows"))).unwrap()
    })
}

#[test]
fn two_machines_lose_no_update_where_versions_are_compared() {
    let place = tempfile::tempdir().unwrap();
    let machines = two_machines(place.path(), Rows::comparing);
    let (id, _) = create(&machines[0], 0, SystemTime::now());
    let session = id.digest();
    let acknowledged = AtomicU64::new(0);
    let count_one = |store: &CustomStore| {
        let now = SystemTime::now();
        let (stored, mut lease) = store.lock(&session, WAIT, now)?.unwrap();
        lease.commit(&record(count(&stored.record) + 1, now), now)
    };
    thread::scope(|scope| {
        for store in machines.iter().chain(&machines) {
            scope.spawn(|| {
                for _ in 0..100 {
                    match count_one(store) {
                        Ok(()) => _ = acknowledged.fetch_add(1, Ordering::Relaxed),
                        Err(error) => assert!(matches!(error, Error::LeaseLost), "{error}"),
                    }
                }
            });
        }
    });
    assert!(acknowledged.load(Ordering::Relaxed) > 0);
    let value = counted(&machines[1], &session);
    assert_eq!(value, Some(acknowledged.into_inner()));
}

#[test]
fn without_versions_the_later_of_two_machines_overwrites_what_the_other_has_saved() {
    let place = tempfile::tempdir().unwrap();
    let [here, there] = two_machines(place.path(), |rows| Rows::new(rows, false));
    let now = SystemTime::now();
    let (id, _) = create(&here, 1, now);
    let take = |store: &CustomStore| store.lock(&id.digest(), WAIT, now).unwrap().unwrap().1;
    let mut late = take(&there);
    take(&here).commit(&record(2, now), now).unwrap();
    late.commit(&record(9, now), now).unwrap();
    assert_eq!(counted(&here, &id.digest()), Some(9));
}

#[test]
fn a_use_that_another_machine_notes_leaves_the_version() {
    let place = tempfile::tempdir().unwrap();
    let [here, there] = two_machines(place.path(), Rows::comparing);
    let (now, session) = (
        SystemTime::now(),
        create(&here, 1, SystemTime::now()).0.digest(),
    );
    let mut lease = there.lock(&session, WAIT, now).unwrap().unwrap().1;
    let later = now + Duration::from_secs(600);
    here.read(&session, later).unwrap().unwrap();
    let mut reader = here.lock(&session, WAIT, later).unwrap().unwrap().1;
    reader.touch(later + Duration::from_secs(600)).unwrap();
    lease.commit(&record(2, later), later).unwrap();
    assert_eq!(counted(&here, &session), Some(2));
}

/// Rows of which a clean-up is always a moment faster.
struct CleanedUp(Rows);

impl CustomFunctions for CleanedUp {
    fn save(&self, key: &str, data: &str, expires: u64) -> CustomResult<()> {
        self.0.save(key, data, expires)
    }

    fn save_if(
        &self,
        key: &str,
        before: Option<u64>,
        data: &str,
        expires: u64,
        version: u64,
    ) -> CustomResult<Option<bool>> {
        self.clean_up(u64::MAX)?;
        self.0.save_if(key, before, data, expires, version)
    }

    fn load(&self, key: &str) -> CustomResult<Option<(String, u64)>> {
        self.0.load(key)
    }

    fn clean_up(&self, now: u64) -> CustomResult<u64> {
        self.0.clean_up(now)
    }
}

#[test]
fn an_expired_session_that_a_clean_up_deletes_at_this_moment_is_none() {
    let place = tempfile::tempdir().unwrap();
    let rows = Rows::comparing(&place.path().join("rows"));
    let (now, rows_of_two) = (
        SystemTime::now(),
        Rows::comparing(&place.path().join("rows")),
    );
    let store = CustomStore::new(&config(place.path()), rows).unwrap();
    let (id, lease) = create(&store, 1, now);
    drop(lease);
    let store = CustomStore::new(&config(place.path()), CleanedUp(rows_of_two)).unwrap();
    let locked = store.lock(&id.digest(), WAIT, later(now, 100 * 24 * 3600));
    assert!(locked.unwrap().is_none());
}

#[test]
fn what_another_machine_has_changed_or_ended_is_neither_saved_nor_destroyed() {
    let place = tempfile::tempdir().unwrap();
    let [here, there] = two_machines(place.path(), Rows::comparing);
    let now = SystemTime::now();
    let (id, _) = create(&here, 1, now);
    let take = |store: &CustomStore| store.lock(&id.digest(), WAIT, now).unwrap().unwrap().1;
    // The same record that is saved again has another version.
    for saved in [1, 2] {
        let mut late = take(&there);
        take(&here).commit(&record(saved, now), now).unwrap();
        let refused = late.commit(&record(9, now), now).unwrap_err();
        assert!(matches!(refused, Error::LeaseLost), "{refused}");
        assert_eq!(refused.status(), 503);
        assert!(matches!(late.destroy(), Err(Error::LeaseLost)));
        assert_eq!(counted(&there, &id.digest()), Some(saved));
    }
    let mut late = take(&there);
    take(&here).destroy().unwrap();
    let refused = late.commit(&record(9, now), now).unwrap_err();
    assert!(matches!(refused, Error::LeaseLost), "{refused}");
    assert_eq!(counted(&here, &id.digest()), None);
    drop(late);
    let again = there.create(&id.digest(), &record(1, now), now).unwrap();
    assert!(again.is_some(), "what has ended is in the way");
}

/// Functions whose third save fails: it has saved nothing, or has and cannot say so, nor what is there.
struct Broken {
    rows: Rows,
    saves: AtomicU32,
    is_saved: bool,
}

impl CustomFunctions for Broken {
    fn save(&self, key: &str, data: &str, expires: u64) -> CustomResult<()> {
        let is_third = self.saves.fetch_add(1, Ordering::Relaxed) == 2;
        if !is_third || self.is_saved {
            self.rows.save(key, data, expires)?;
        }
        feel(&AtomicU8::new(is_third.into()))
    }

    fn load(&self, key: &str) -> CustomResult<Option<(String, u64)>> {
        let once = || {
            self.saves
                .compare_exchange(3, 4, Ordering::Relaxed, Ordering::Relaxed)
        };
        feel(&AtomicU8::new((self.is_saved && once().is_ok()).into()))?;
        self.rows.load(key)
    }

    fn clean_up(&self, now: u64) -> CustomResult<u64> {
        self.rows.clean_up(now)
    }
}

#[track_caller]
fn a_first_visit_keeps_its_session(is_saved: bool) {
    let place = tempfile::tempdir().unwrap();
    let functions = Broken {
        rows: rows(place.path()),
        saves: AtomicU32::new(0),
        is_saved,
    };
    let config = config(place.path());
    let store = CustomStore::new(&config, functions).unwrap();
    let client = Client::new(SessionManager::with_store(config, store).unwrap());
    let visits = |request: &mut Request| {
        let session = request.session()?;
        session.insert("n", 1)?;
        session.save()?;
        session.regenerate_id();
        Ok::<_, Error>(Response::text(""))
    };
    let status = if is_saved { 200 } else { 500 };
    assert_eq!(client.get("/").send(visits).status(), status);
    let reads = |request: &mut Request| {
        let snapshot = request.read_session()?.expect("a session");
        Ok::<_, Error>(Response::text(snapshot.require::<u64>("n")?.to_string()))
    };
    assert_eq!(client.get("/").send(reads).body_text(), "1");
}

#[test]
fn a_client_learns_the_id_of_its_session_though_the_change_of_that_fails() {
    a_first_visit_keeps_its_session(false);
}

#[test]
fn a_session_whose_old_id_was_ended_without_an_answer_goes_on_under_the_new_one() {
    a_first_visit_keeps_its_session(true);
}

#[test]
fn a_request_that_only_reads_succeeds_though_another_machine_has_saved() {
    let place = tempfile::tempdir().unwrap();
    let [here, there] = two_machines(place.path(), Rows::comparing);
    let now = SystemTime::now();
    let (id, _) = create(&here, 1, now);
    let take = |store: &CustomStore| store.lock(&id.digest(), WAIT, now).unwrap().unwrap().1;
    let mut late = take(&there);
    take(&here).commit(&record(2, now), now).unwrap();
    late.touch(now + Duration::from_secs(600)).unwrap();
    let refused = late.commit(&record(9, now), now).unwrap_err();
    says(&refused, "another machine*try again");
}
