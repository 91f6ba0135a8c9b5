//! Records that outgrow their file or leave it half empty, and commits that fail.

use rustix::process::{Resource, Rlimit, setrlimit};

use crate::support::{DEADLINE, IDLE, Place, again_after, ago, ahead, n, record, record_of_size};
use testkit::outside::is_waited_for;
use testkit::prelude::*;

const DIRECTORY: &str = "STORE_TEST_FULL_DIRECTORY";
const ID: &str = "STORE_TEST_FULL_ID";

#[test]
fn a_session_grows_and_shrinks_and_keeps_its_last_record() {
    let place = Place::new();
    let id = place.create(0);
    let sizes = [10, 200, 700, 20_000, 100, 100_000, 5, 900_000, 0, 300];
    for (number, size) in (1..).zip(sizes) {
        place.commit(&id, &record_of_size(number, size));
        assert_eq!(place.read_n(&id), Some(number), "{size}");
        assert_eq!(place.locked_n(&id), Some(number), "{size}");
    }
    let length = fs::metadata(place.store.path(&id)).unwrap().len();
    assert!(length < 10_000, "{length} bytes were not given back");
    assert_eq!(place.names().len(), 1);
}

#[test]
fn one_lease_commits_as_often_as_it_likes() {
    let place = Place::new();
    let id = place.create(0);
    let (_, mut lease) = place.lock(&id).unwrap();
    for number in 1..100 {
        let size = if number % 7 == 0 { 9000 } else { 10 };
        lease
            .commit(&record_of_size(number, size), SystemTime::now())
            .unwrap();
        assert_eq!(place.read_n(&id), Some(number));
    }
}

#[test]
fn who_waits_for_a_file_that_is_replaced_goes_on_to_the_new_one() {
    let place = Place::new();
    let id = place.create(1);
    let path = place.store.path(&id);
    let (_, mut lease) = place.lock(&id).unwrap();
    let waiters = thread::scope(|scope| {
        let waiter = scope.spawn(|| place.locked_n(&id));
        wait_until("somebody waits", || is_waited_for(&path));
        lease
            .commit(&record_of_size(2, 9000), SystemTime::now())
            .unwrap();
        // It holds the new file's lock: the waiter cannot have it yet.
        wait_until("it waits for the new file", || is_waited_for(&path));
        lease
            .commit(&record_of_size(3, 9000), SystemTime::now())
            .unwrap();
        drop(lease);
        waiter.join().unwrap()
    });
    assert_eq!(waiters, Some(3));
}

#[test]
fn a_lower_limit_locks_nobody_out() {
    let place = Place::with(&[("maxRecordBytes", "16777216")]);
    let id = place.create(0);
    place.commit(&id, &record_of_size(1, 6_000_000));
    let lowered = place.another(&[("maxRecordBytes", "2000")]);
    let (stored, mut lease) = lowered
        .lock(&id.digest(), DEADLINE, SystemTime::now())
        .unwrap()
        .unwrap();
    assert_eq!(n(&stored.record), 1);
    lease.commit(&record(2), SystemTime::now()).unwrap();
}

#[test]
fn durable_sessions_read_back_and_share_no_sector() {
    let place = Place::with(&[("durability", "data"), ("shards", "256")]);
    let id = place.create(1);
    place.commit(&id, &record(2));
    place.commit(&id, &record_of_size(3, 9000));
    assert_eq!(place.locked_n(&id), Some(3));
    let length = fs::metadata(place.store.path(&id)).unwrap().len();
    assert!(length.is_multiple_of(8192), "{length}");
    place.lock(&id).unwrap().1.destroy().unwrap();
    assert!(!place.exists(&id));
}

/// The child's part of the test below: the second slot can be written only up to its spaces.
#[test]
fn child_whose_write_stops_behind_the_record() {
    let Some(directory) = std::env::var_os(DIRECTORY) else {
        return;
    };
    let store = FileStore::new(Config::new().set("storageFileDir", directory).unwrap()).unwrap();
    let id = SessionId::parse(std::env::var(ID).unwrap().as_bytes()).unwrap();
    let now = SystemTime::now();
    let other = SessionId::generate().unwrap().digest();
    drop(store.create(&other, &record(1), now).unwrap());
    // Lowered when the store has asked for it, so that only the kernel knows it.
    let length = fs::metadata(store.path(&id)).unwrap().len();
    let limit = Rlimit {
        // Between the record and the end of its slot.
        current: Some(length / 2 + 10_240),
        maximum: None,
    };
    setrlimit(Resource::Fsize, limit).unwrap();
    let (_, mut lease) = store.lock(&id.digest(), DEADLINE, now).unwrap().unwrap();
    assert!(lease.commit(&record_of_size(2, 3000), now).is_err());
}

#[test]
fn a_commit_that_fails_behind_the_record_has_not_happened() {
    let place = Place::new();
    let id = place.create_record(&record_of_size(1, 30_000));
    let name = "size::child_whose_write_stops_behind_the_record";
    let output = again_after("trap '' XFSZ", name)
        .env(DIRECTORY, place.path())
        .env(ID, id.secret())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!((place.read_n(&id), place.locked_n(&id)), (Some(1), Some(1)));
}

/// What is much smaller than its file gets a smaller one, for which there may be no room.
#[test]
fn on_a_full_disk_what_became_much_smaller_is_saved() {
    let Some(disk) = SmallDisk::mount("size=256k") else {
        return;
    };
    let below = disk.path().join("sessions");
    let place = Place::new();
    let store = place.another(&[("storageFileDir", below.to_str().unwrap())]);
    let (id, now) = (SessionId::generate().unwrap(), SystemTime::now());
    let created = store.create(&id.digest(), &record_of_size(1, 30_000), now);
    drop(created.unwrap().unwrap());
    let filled = fs::write(disk.path().join("filler"), vec![1; 1 << 20]);
    assert!(filled.is_err(), "the disk is full");
    let (_, mut lease) = store.lock(&id.digest(), DEADLINE, now).unwrap().unwrap();
    lease.commit(&record(2), now).unwrap();
    drop(lease);
    let seen = n(&store.read(&id.digest(), now).unwrap().unwrap().record);
    assert_eq!(seen, 2);
    fs::remove_file(disk.path().join("filler")).unwrap();
    let large = fs::metadata(store.path(&id)).unwrap().len();
    let (_, mut lease) = store.lock(&id.digest(), DEADLINE, now).unwrap().unwrap();
    lease.commit(&record(3), now).unwrap();
    assert!(fs::metadata(store.path(&id)).unwrap().len() < large);
}

#[test]
fn a_full_disk_is_named_and_no_wrong_advice_given() {
    let Some(disk) = SmallDisk::mount("size=256k") else {
        return;
    };
    let below = disk.path().join("sessions");
    let place = Place::new();
    let store = place.another(&[("storageFileDir", below.to_str().unwrap())]);
    let create = |record| {
        store.create(
            &SessionId::generate().unwrap().digest(),
            &record,
            SystemTime::now(),
        )
    };
    drop(create(record(1)).unwrap());
    let line = create(record_of_size(1, 500_000)).err().unwrap().one_line();
    assert!(line.contains("No space left on device"), "{line}");
    assert!(!line.contains("install -d"), "{line}");
}

#[test]
fn times_far_from_ours_harm_no_commit() {
    let place = Place::new();
    for time in [
        SystemTime::UNIX_EPOCH,
        ago(100 * 365 * 24 * 3600 / 2),
        ahead(IDLE),
    ] {
        let id = place.create(1);
        let (_, mut lease) = place.lock(&id).unwrap();
        lease.commit(&record(2), time).unwrap();
        lease.touch(time).unwrap();
    }
}
