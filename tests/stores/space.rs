//! `minFreeSpace`: no new session of nobody on a disk that is nearly full.

use cgi_session::Result;

use crate::support::{DEADLINE, IDLE, Place, ahead, n, record, record_of_size};
use testkit::prelude::*;

/// A store with this floor below `directory`.
fn store(directory: &Path, floor: &str) -> FileStore {
    let sessions = directory.join("sessions");
    Place::new().another(&[
        ("storageFileDir", sessions.to_str().unwrap()),
        ("minFreeSpace", floor),
    ])
}

fn create(store: &FileStore, record: &Record) -> (SessionId, Result<Option<Box<dyn Lease>>>) {
    let id = SessionId::generate().unwrap();
    let lease = store.create(&id.digest(), record, SystemTime::now());
    (id, lease)
}

#[track_caller]
fn refuses(store: &FileStore, reason: &str) {
    let (id, lease) = create(store, &record(1));
    let error = lease.err().expect("there is too little space");
    assert!(matches!(error, Error::LowSpace { .. }), "{error}");
    assert_eq!(error.status(), 503);
    assert!(error.one_line().contains(reason), "{}", error.one_line());
    assert!(!store.path(&id).exists());
}

#[test]
fn below_the_floor_no_new_session_is_made_and_those_there_go_on() {
    let directory = tempfile::tempdir().unwrap();
    let (id, lease) = create(&store(directory.path(), "0"), &record(1));
    drop(lease.unwrap().unwrap());
    // More than any disk has.
    let store = store(directory.path(), "9999999999G");
    refuses(&store, "bytes are free, ");

    let now = SystemTime::now();
    let (stored, mut lease) = store.lock(&id.digest(), DEADLINE, now).unwrap().unwrap();
    assert_eq!(n(&stored.record), 1);
    lease.commit(&record(2), now).unwrap();
    lease.commit(&record_of_size(3, 9000), now).unwrap();
    lease.touch(now).unwrap();
    // A new id is refused, and the old one loses nothing.
    refuses(&store, "minFreeSpace");
    drop(lease);
    let seen = n(&store.read(&id.digest(), now).unwrap().unwrap().record);
    assert_eq!(seen, 3);
}

#[test]
fn below_the_floor_users_still_log_in() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(directory.path(), "9999999999G");
    let user = record(1).with_user(Some("ada"));
    assert!(create(&store, &user).1.unwrap().is_some());
    refuses(&store, "minFreeSpace");
}

#[test]
fn above_the_floor_sessions_are_made() {
    for floor in ["0", "1", "0%"] {
        let directory = tempfile::tempdir().unwrap();
        let lease = create(&store(directory.path(), floor), &record(1)).1;
        assert!(lease.unwrap().is_some(), "{floor}");
    }
}

#[test]
fn a_refused_session_is_not_counted() {
    let place = Place::with(&[("minFreeSpace", "9999999999G"), ("maxSessions", "2")]);
    for _ in 0..5 {
        refuses(&place.store, "minFreeSpace");
    }
    let store = place.another(&[("minFreeSpace", "0"), ("whenFull", "refuse")]);
    for _ in 0..2 {
        assert!(create(&store, &record(1)).1.unwrap().is_some());
    }
}

#[test]
fn a_part_of_the_space_is_kept_free() {
    let Some(disk) = SmallDisk::mount("size=1m") else {
        return;
    };
    let store = store(disk.path(), "50%");
    drop(create(&store, &record(1)).1.unwrap().unwrap());
    let filler = disk.path().join("filler");
    fs::write(&filler, vec![1; 600 << 10]).unwrap();
    refuses(&store, "% of the bytes are free, 50% must be");
    fs::remove_file(&filler).unwrap();
    assert!(create(&store, &record(1)).1.unwrap().is_some());
}

#[test]
fn a_hundredth_of_the_space_is_kept_free_unless_it_is_said_otherwise() {
    let Some(disk) = SmallDisk::mount("size=4m") else {
        return;
    };
    let sessions = disk.path().join("sessions");
    let store = Place::new().another(&[("storageFileDir", sessions.to_str().unwrap())]);
    let (id, lease) = create(&store, &record(1));
    drop(lease.unwrap().unwrap());
    let filler = disk.path().join("filler");
    // All but the last 32 KiB, which are less than a hundredth.
    let free = rustix::fs::statvfs(disk.path()).unwrap();
    let rest = usize::try_from(free.f_bavail * free.f_frsize).unwrap() - (32 << 10);
    fs::write(&filler, vec![1; rest]).unwrap();
    refuses(&store, "% of the bytes are free, 1% must be");
    let now = SystemTime::now();
    let (_, mut lease) = store.lock(&id.digest(), DEADLINE, now).unwrap().unwrap();
    lease.commit(&record_of_size(2, 9000), now).unwrap();
}

#[test]
fn a_part_of_the_inodes_is_kept_free() {
    let Some(disk) = SmallDisk::mount("size=10m,nr_inodes=20") else {
        return;
    };
    let store = store(disk.path(), "50%");
    drop(create(&store, &record(1)).1.unwrap().unwrap());
    for n in 0..10 {
        fs::write(disk.path().join(n.to_string()), "").unwrap();
    }
    refuses(&store, "% of the inodes are free, 50% must be");
}

#[test]
fn a_clean_up_makes_the_room_that_its_lock_needs() {
    let Some(disk) = SmallDisk::mount("size=10m,nr_inodes=20") else {
        return;
    };
    let store = store(disk.path(), "0");
    let id = create(&store, &record(1)).0;
    let filler = |n: u32| disk.path().join(n.to_string());
    let full = (0..30).find(|n| fs::write(filler(*n), "").is_err());
    assert!(full.is_some());
    // Nothing has expired, and it is no failure.
    let swept = store
        .delete_expired(&Sweep::new(), SystemTime::now())
        .unwrap();
    assert_eq!((swept.live, swept.deleted), (1, 0));
    assert_eq!(store.last_sweep(SystemTime::now()), None);

    let swept = store
        .delete_expired(&Sweep::new(), ahead(100 * IDLE))
        .unwrap();
    assert_eq!((swept.deleted, swept.failures), (1, Vec::new()));
    assert!(!store.path(&id).exists());
    assert!(store.last_sweep(SystemTime::now()).is_some());
}
