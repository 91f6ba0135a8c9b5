//! A lock that is held for ever costs a bounded number of threads, and no other session its waits. Alone in this program, because
//! it counts the threads of the whole process.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
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
    // Other sessions are waited for as ever.
    let other = SessionId::generate().unwrap();
    let digest = other.digest();
    let held = store.create(&digest, &Record::new(now), now).unwrap();
    let number = fs::metadata(store.path(&other)).unwrap().ino();
    thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            let found = store.lock(&digest, Duration::from_secs(90), now);
            found.unwrap().is_some()
        });
        let is_awaited = |line: &str| line.contains("->") && line.contains(&format!(":{number} "));
        eventually("the other session is waited for", || {
            let locks = fs::read_to_string("/proc/locks").unwrap();
            locks.lines().any(is_awaited)
        });
        drop(held);
        assert!(waiter.join().unwrap());
    });
    // They all end when the holder lets go, and waiting works again.
    drop(lease);
    eventually("the threads end", || threads() <= before);
    assert!(
        store
            .lock(&id.digest(), Duration::from_secs(30), now)
            .unwrap()
            .is_some()
    );
}

#[track_caller]
fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(Instant::now() < deadline, "never: {what}");
        thread::yield_now();
    }
}

fn threads() -> usize {
    fs::read_dir("/proc/self/task").unwrap().count()
}
