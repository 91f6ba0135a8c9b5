//! A lock that is held for ever costs a bounded number of threads, and no other session its waits. In a process
//! of its own, because it counts its threads.

use testkit::outside::is_waited_for;
use testkit::prelude::*;

#[test]
fn a_lock_that_is_held_for_ever_costs_a_bounded_number_of_threads() {
    let test = "a_lock_that_is_held_for_ever_costs_a_bounded_number_of_threads";
    if !testkit::is_alone(module_path!(), test) {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let config = Config::new().set("storageFileDir", place.path()).unwrap();
    let store = FileStore::new(&config).unwrap();
    let (id, now) = (SessionId::generate().unwrap(), SystemTime::now());
    let lease = store.create(&id.digest(), &Record::new(now), now);
    let lease = lease.unwrap().unwrap();
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
    thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            let found = store.lock(&digest, Duration::from_secs(90), now);
            found.unwrap().is_some()
        });
        wait_until("the other session is waited for", || {
            is_waited_for(&store.path(&other))
        });
        drop(held);
        assert!(waiter.join().unwrap());
    });
    // They all end when the holder lets go, and waiting works again.
    drop(lease);
    wait_until("the threads end", || threads() <= before);
    let locked = store.lock(&id.digest(), Duration::from_secs(30), now);
    assert!(locked.unwrap().is_some());
}

fn threads() -> usize {
    fs::read_dir("/proc/self/task").unwrap().count()
}
