//! A lock that nobody ever lets go costs a bounded number of threads. Alone in this program, because
//! it counts the threads of the whole process.

use std::fs;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use cgi_session::{Config, Error, FileStore, Record, SessionId, Store};

#[test]
fn a_lock_that_is_held_for_ever_costs_a_bounded_number_of_threads() {
    let place = tempfile::tempdir().unwrap();
    let config = Config::new().set("storageFileDir", place.path()).unwrap();
    let store = FileStore::new(&config).unwrap();
    let (id, now) = (SessionId::generate().unwrap(), SystemTime::now());
    let lease = store
        .create(&id.digest(), &Record::new(now), now)
        .unwrap()
        .unwrap();
    let before = threads();
    for _ in 0..200 {
        let refused = store.lock(&id.digest(), Duration::from_millis(1), now);
        assert!(matches!(refused, Err(Error::Busy { .. })));
    }
    assert!(threads() > before, "a wait needs a thread");
    assert!(threads() <= before + 64, "{} threads", threads());
    // They all end when the holder lets go, and waiting works again.
    drop(lease);
    let deadline = Instant::now() + Duration::from_secs(30);
    while threads() > before {
        assert!(Instant::now() < deadline, "{} threads are left", threads());
        thread::yield_now();
    }
    assert!(
        store
            .lock(&id.digest(), Duration::from_secs(30), now)
            .unwrap()
            .is_some()
    );
}

fn threads() -> usize {
    fs::read_dir("/proc/self/task").unwrap().count()
}
