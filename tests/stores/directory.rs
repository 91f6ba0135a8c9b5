//! The directory itself: made, moved away, removed, replaced.

use testkit::prelude::*;

use crate::support::{Place, record, record_of_size};

#[test]
fn the_directory_is_made_by_the_first_creation_and_by_nothing_else() {
    let place = Place::new();
    let id = SessionId::generate().unwrap();
    assert_eq!((place.read_n(&id), place.locked_n(&id)), (None, None));
    place.sweep(SystemTime::now());
    assert!(!place.path().exists());
    place.create(1);
    assert_eq!(place.sessions(), 1);
}

#[test]
fn a_directory_that_was_moved_away_and_replaced_is_noticed() {
    let place = Place::new();
    let old = place.create(1);
    let away = place.path().with_extension("old");
    fs::rename(place.path(), &away).unwrap();
    fs::create_dir(place.path()).unwrap();
    // What the administrator moved away is gone for every program that still runs.
    wait_until("the move is noticed", || place.read_n(&old).is_none());
    let new = place.create(2);
    assert!(place.exists(&new));
    assert_eq!(fs::read_dir(away).unwrap().count(), 1);
}

#[test]
fn a_directory_that_was_removed_is_made_again_at_once() {
    for (shards, cap) in [("1", "0"), ("1", "5"), ("256", "0"), ("256", "5")] {
        let place = Place::with(&[("shards", shards), ("maxSessions", cap)]);
        let old = place.create(1);
        fs::remove_dir_all(place.path()).unwrap();
        let new = place.create(2);
        assert_eq!(place.locked_n(&new), Some(2), "shards {shards}, cap {cap}");
        assert_eq!(place.locked_n(&old), None);
    }
}

#[test]
fn a_clean_up_of_a_directory_that_was_removed_finds_nothing() {
    let place = Place::new();
    place.create(1);
    fs::remove_dir_all(place.path()).unwrap();
    assert_eq!(place.sweep(SystemTime::now()).examined, 0);
}

#[test]
fn many_first_creations_in_one_shard_all_succeed() {
    // Ids whose digests begin alike: they lie in one shard.
    let mut ids = Vec::new();
    while ids.len() < 8 {
        let id = SessionId::generate().unwrap();
        if id.digest().as_str().starts_with("aa") {
            ids.push(id);
        }
    }
    for _ in 0..20 {
        let place = Place::with(&[("shards", "256")]);
        thread::scope(|scope| {
            for id in &ids {
                let store = place.another(&[]);
                scope.spawn(move || {
                    store
                        .create(&id.digest(), &record(1), SystemTime::now())
                        .unwrap()
                        .unwrap();
                });
            }
        });
        assert_eq!(place.sessions(), ids.len());
    }
}

#[test]
fn a_session_whose_file_was_removed_by_hand_does_not_come_back() {
    let place = Place::new();
    let id = place.create(1);
    let (_, mut lease) = place.lock(&id).unwrap();
    fs::remove_file(place.store.path(&id)).unwrap();
    // It outgrows its file, and the new one would take the name.
    let grown = lease.commit(&record_of_size(2, 9000), SystemTime::now());
    says(&grown.expect_err("an error"), "deleted or replaced");
    drop(lease);
    assert!(!place.exists(&id));
    assert_eq!(place.names(), [""; 0]);
}

#[test]
fn a_session_that_was_moved_away_does_not_come_back_in_the_new_directory() {
    let place = Place::new();
    let id = place.create(1);
    let (_, mut lease) = place.lock(&id).unwrap();
    fs::rename(place.path(), place.path().with_extension("old")).unwrap();
    fs::create_dir(place.path()).unwrap();
    // Wait until the store has seen the new directory.
    let unknown = SessionId::generate().unwrap();
    wait_until("the move is noticed", || {
        place
            .store
            .create(&unknown.digest(), &record(0), SystemTime::now())
            .unwrap();
        place.exists(&unknown)
    });
    let grown = lease.commit(&record_of_size(2, 9000), SystemTime::now());
    assert!(grown.is_err());
    assert!(!place.exists(&id));
}

#[test]
fn destroying_what_was_moved_away_deletes_nothing_else() {
    let place = Place::new();
    let id = place.create(1);
    let (_, lease) = place.lock(&id).unwrap();
    let away = place.path().with_extension("old");
    fs::rename(place.path(), &away).unwrap();
    fs::create_dir(place.path()).unwrap();
    // A backup of the same session.
    let name = place.store.path(&id).file_name().unwrap().to_owned();
    fs::copy(away.join(&name), place.path().join(&name)).unwrap();
    let unknown = SessionId::generate().unwrap();
    wait_until("the move is noticed", || {
        place
            .store
            .create(&unknown.digest(), &record(0), SystemTime::now())
            .unwrap();
        place.exists(&unknown)
    });
    lease.destroy().unwrap();
    assert!(place.exists(&id), "the backup was somebody else's");
    assert!(place.lock(&id).is_some());
}

/// What the library logs in this process.
static LOGGED: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Logger;

impl log::Log for Logger {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }
    fn log(&self, record: &log::Record<'_>) {
        LOGGED.lock().unwrap().push(record.args().to_string());
    }
    fn flush(&self) {}
}

#[test]
fn that_a_directory_was_opened_to_others_while_a_session_was_held_is_logged() {
    log::set_logger(&Logger).unwrap();
    log::set_max_level(log::LevelFilter::Error);
    let place = Place::new();
    let (_, lease) = place.lock(&place.create(1)).unwrap();
    fs::set_permissions(place.path(), Permissions::from_mode(0o777)).unwrap();
    let unknown = SessionId::generate().unwrap().digest();
    let read = || place.store.read(&unknown, SystemTime::now());
    wait_until("it is noticed", || read().is_err());
    lease.destroy().unwrap_err();
    let line = format!(
        "{} can be written by others (mode 0777)",
        place.path().display()
    );
    let logged = LOGGED.lock().unwrap();
    assert!(logged.iter().any(|it| it.contains(&line)), "{logged:?}");
}
