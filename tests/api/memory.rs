//! The memory store and its snapshot file: what a new store finds, and what it refuses.

use std::sync::mpsc;

use cgi_session::{MemoryStore, SweepEvent};
use rustix::fs::{CWD, FileType, Mode};
use testkit::prelude::*;

const WAIT: Duration = Duration::from_secs(30);

/// A directory with room for one snapshot.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Place(tempfile::tempdir().unwrap())
    }

    fn snapshot(&self) -> PathBuf {
        self.0.path().join("snapshot")
    }

    fn config(&self) -> Config {
        config(&self.snapshot())
    }

    #[track_caller]
    fn store(&self) -> MemoryStore {
        MemoryStore::new(self.config()).unwrap()
    }

    /// A place whose snapshot holds one session.
    fn with_one() -> (Self, SessionId) {
        let place = Place::new();
        let store = place.store();
        let id = create(&store, 1);
        store.flush().unwrap();
        drop(store);
        (place, id)
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.0.path()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    }
}

fn config(snapshot: &Path) -> Config {
    let config = Config::new().set("storageType", "ram").unwrap();
    let config = config.set("lockTimeout", "1s").unwrap();
    config.set("snapshotFile", snapshot).unwrap()
}

fn record(n: u64) -> Record {
    Record::new(SystemTime::now()).with_values(format!(r#"{{"":{{"n":{n}}}}}"#).into_bytes())
}

fn n(record: &Record) -> u64 {
    let values: serde_json::Value = serde_json::from_slice(record.values()).unwrap();
    values[""]["n"].as_u64().unwrap()
}

fn create(store: &impl Store, number: u64) -> SessionId {
    create_at(store, &record(number), SystemTime::now())
}

fn create_at(store: &impl Store, record: &Record, now: SystemTime) -> SessionId {
    let id = SessionId::generate().unwrap();
    let lease = store.create(&id.digest(), record, now).unwrap();
    assert!(lease.is_some());
    id
}

fn commit(store: &impl Store, id: &SessionId, record: &Record) {
    let now = SystemTime::now();
    let (_, mut lease) = store.lock(&id.digest(), WAIT, now).unwrap().unwrap();
    lease.commit(record, now).unwrap();
}

fn read_n(store: &impl Store, id: &SessionId) -> Option<u64> {
    let stored = store.read(&id.digest(), SystemTime::now()).unwrap();
    stored.map(|stored| n(&stored.record))
}

#[test]
fn a_new_store_finds_what_the_last_one_kept() {
    let place = Place::new();
    let store = place.store();
    let ids: Vec<_> = (0..100).map(|number| create(&store, number)).collect();
    let user = record(5).with_user(Some("ada"));
    commit(&store, &ids[5], &user);
    let now = SystemTime::now();
    let (_, lease) = store.lock(&ids[7].digest(), WAIT, now).unwrap().unwrap();
    lease.destroy().unwrap();
    store.flush().unwrap();
    drop(store);
    assert_eq!(place.names(), ["snapshot", "snapshot.lock"]);

    let store = place.store();
    for (number, id) in (0..).zip(&ids) {
        let expected = Some(number).filter(|number| *number != 7);
        assert_eq!(read_n(&store, id), expected);
    }
    let found = store.sessions_of("ada", SystemTime::now()).unwrap();
    assert_eq!(found, [ids[5].digest()]);
    // A destroyed one may be begun again, and a living one is locked as ever.
    commit(&store, &ids[0], &record(1000));
    assert_eq!(read_n(&store, &ids[0]), Some(1000));
}

#[test]
fn without_a_snapshot_file_nothing_is_written() {
    let config = Config::new().set("storageType", "ram").unwrap();
    let store = MemoryStore::new(&config).unwrap();
    create(&store, 1);
    store.flush().unwrap();
}

#[test]
fn a_snapshot_is_written_only_when_something_has_changed() {
    let place = Place::new();
    let store = place.store();
    store.flush().unwrap();
    assert_eq!(place.names(), ["snapshot.lock"]);
    let id = create(&store, 1);
    let written = |store: &MemoryStore| {
        store.flush().unwrap();
        fs::metadata(place.snapshot()).unwrap().ino()
    };
    let first = written(&store);
    assert_eq!(written(&store), first);
    commit(&store, &id, &record(2));
    let second = written(&store);
    assert_ne!(second, first);
    assert_eq!(written(&store), second);
    // What was only used lives longer for it, after a restart too.
    assert_eq!(read_n(&store, &id), Some(2));
    assert_ne!(written(&store), second);
}

#[test]
fn expired_sessions_are_neither_kept_nor_found() {
    let place = Place::new();
    let store = place.store();
    let long_ago = SystemTime::now() - Duration::from_secs(2 * 3600);
    let expired = create_at(&store, &record(1), long_ago);
    let live = create(&store, 2);
    store.flush().unwrap();
    drop(store);
    let text = fs::read_to_string(place.snapshot()).unwrap();
    assert!(!text.contains(&expired.digest().to_string()));
    assert!(text.contains(&live.digest().to_string()));

    // It expires while no program runs.
    let config = place.config().set("timeout", "1s").unwrap();
    let (head, rest) = text.split_once("\"lastAccess\":").unwrap();
    let (_, rest) = rest.split_once(',').unwrap();
    let aged = format!("{head}\"lastAccess\":1000,{rest}");
    let body = aged.rsplit_once("{\"sessions\"").unwrap().0;
    let hash = xxhash_rust::xxh3::xxh3_64(body.as_bytes());
    let aged = format!("{body}{{\"sessions\":1,\"h\":\"{hash:016x}\"}}\n");
    fs::write(place.snapshot(), aged).unwrap();
    let store = MemoryStore::new(&config).unwrap();
    let report = store.delete_expired(&Sweep::new(), SystemTime::now());
    let report = report.unwrap();
    assert_eq!((report.examined, read_n(&store, &live)), (0, None));
}

#[test]
fn a_clock_that_was_ahead_puts_off_neither_a_clean_up_nor_the_end_of_a_session() {
    const YEAR: Duration = Duration::from_secs(366 * 24 * 3600);
    let store = MemoryStore::new(Config::new()).unwrap();
    let now = SystemTime::now();
    let id = create_at(&store, &record(1), now + YEAR);
    store.delete_expired(&Sweep::new(), now + YEAR).unwrap();
    assert_eq!(store.last_sweep(now), None);
    store.delete_expired(&Sweep::new(), now).unwrap();
    assert_eq!(store.last_sweep(now), Some(Duration::ZERO));
    let later = now + Duration::from_secs(2 * 3600);
    assert!(store.read(&id.digest(), later).unwrap().is_none());
}

fn capped(when_full: &str) -> MemoryStore {
    let config = Config::new().set("maxSessions", "1600").unwrap();
    MemoryStore::new(config.set("whenFull", when_full).unwrap()).unwrap()
}

#[test]
fn at_the_cap_room_is_made_for_many_new_sessions_at_once() {
    let store = capped("evictOldest");
    let now = SystemTime::now();
    let at = |second| now + Duration::from_secs(second);
    let ids = (0..1600).map(|second| create_at(&store, &record(1), at(second)));
    let ids: Vec<_> = ids.collect();
    let (_, in_use) = store
        .lock(&ids[0].digest(), WAIT, at(1600))
        .unwrap()
        .unwrap();
    create_at(&store, &record(1), at(1601));
    let is_there = |id: &SessionId| {
        let stored = store.peek(&id.digest(), at(1601)).unwrap();
        stored.is_some()
    };
    let there: Vec<_> = ids.iter().map(is_there).collect();
    // All but the 101 that were used the longest time ago, of which one is in use.
    assert!(there[0] && there[1..102].iter().all(|is_there| !is_there));
    assert!(there[102..].iter().all(|is_there| *is_there));
    drop(in_use);
}

#[test]
fn a_full_store_that_refuses_looks_for_expired_sessions_every_ten_seconds() {
    let store = capped("refuse");
    let now = SystemTime::now();
    let at = |second| now + Duration::from_secs(second);
    let try_at = |second| {
        let id = SessionId::generate().unwrap();
        let created = store.create(&id.digest(), &record(1), at(second));
        created.map(|lease| assert!(lease.is_some()))
    };
    for _ in 0..1600 {
        try_at(0).unwrap();
    }
    for second in [3592, 3599, 3601] {
        let full = try_at(second);
        assert!(matches!(full, Err(Error::Full { limit: 1600 })), "{full:?}");
    }
    try_at(3602).unwrap();
    let seen = store.delete_expired(&Sweep::new(), at(3602)).unwrap().live;
    assert_eq!(seen, 1);
}

#[test]
fn no_id_is_in_a_snapshot() {
    let (place, id) = Place::with_one();
    let text = fs::read_to_string(place.snapshot()).unwrap();
    assert!(!text.contains(id.secret()));
    assert!(text.contains(&id.digest().to_string()));
    let mode = fs::metadata(place.snapshot()).unwrap().mode();
    assert_eq!(mode & 0o7777, 0o600);
}

#[test]
fn a_snapshot_and_its_lock_are_0600_whatever_the_umask_is() {
    let test = "a_snapshot_and_its_lock_are_0600_whatever_the_umask_is";
    if !testkit::is_alone(module_path!(), test) {
        return;
    }
    let place = Place::new();
    rustix::process::umask(Mode::from_raw_mode(0o777));
    let store = place.store();
    create(&store, 1);
    store.flush().unwrap();
    for name in ["snapshot", "snapshot.lock"] {
        let mode = fs::metadata(place.0.path().join(name)).unwrap().mode();
        assert_eq!(mode & 0o7777, 0o600, "{name}");
    }
}

/// A store that cannot be made says why, and leaves what is there as it is.
#[track_caller]
fn refused(place: &Place, parts: &str) {
    let path = place.snapshot();
    let before = path.symlink_metadata().unwrap();
    let config = place.config();
    let (sender, receiver) = std::sync::mpsc::channel();
    thread::spawn(move || sender.send(MemoryStore::new(&config).err()));
    let told = receiver.recv_timeout(WAIT).expect("it hangs");
    let line = told.expect("an error").one_line();
    for part in parts.split('*').chain(path.to_str()) {
        assert!(line.contains(part), "{line}");
    }
    let after = path.symlink_metadata().unwrap();
    assert_eq!((after.ino(), after.len()), (before.ino(), before.len()));
}

#[test]
fn a_damaged_snapshot_is_refused_and_stays() {
    let (place, _) = Place::with_one();
    let whole = fs::read(place.snapshot()).unwrap();
    for length in [0, 1, 8, 20, whole.len() / 2, whole.len() - 1] {
        fs::write(place.snapshot(), &whole[..length]).unwrap();
        refused(&place, "no whole snapshot*move it away");
    }
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    fs::write(place.snapshot(), flipped).unwrap();
    refused(&place, "no whole snapshot*move it away");
}

#[track_caller]
fn refused_after(change: impl FnOnce(&Path), parts: &str) {
    let (place, _) = Place::with_one();
    change(&place.snapshot());
    refused(&place, parts);
}

#[test]
fn what_is_not_our_file_alone_is_refused_and_stays() {
    let later = |path: &Path| fs::write(path, "{\"v\":2,\"more\":true}\n...\n").unwrap();
    refused_after(later, "later release*version 2*use that release");
    for mode in [0o644, 0o640, 0o622] {
        let open = |path: &Path| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        refused_after(open, "is open to others*chmod 0600");
    }
    let target = |path: &Path| path.with_file_name("target");
    let linked = |path: &Path| {
        fs::rename(path, target(path)).unwrap();
        symlink(target(path), path).unwrap();
    };
    refused_after(linked, "is a symbolic link");
    let named_twice = |path: &Path| fs::hard_link(path, target(path)).unwrap();
    refused_after(named_twice, "more than one name");
    for kind in [FileType::Fifo, FileType::Socket] {
        let other = |path: &Path| {
            fs::remove_file(path).unwrap();
            rustix::fs::mknodat(CWD, path, kind, Mode::from_raw_mode(0o600), 0).unwrap();
        };
        refused_after(other, "is not a regular file");
    }
    let given_away = |path: &Path| chown(path, Some(4711), None).unwrap();
    if rustix::process::geteuid().is_root() {
        refused_after(given_away, "belongs to uid 4711");
    } else {
        testkit::skip::skip("not allowed to give a file away");
    }
}

#[test]
fn links_where_the_lock_and_the_next_snapshot_go_touch_no_other_file() {
    let place = Place::new();
    let target = place.0.path().join("target");
    fs::write(&target, "precious").unwrap();
    symlink(&target, place.0.path().join("snapshot.lock")).unwrap();
    let error = MemoryStore::new(place.config()).err().unwrap();
    assert!(error.one_line().contains("symbolic link"), "{error}");
    fs::remove_file(place.0.path().join("snapshot.lock")).unwrap();
    let store = place.store();
    symlink(&target, place.0.path().join("snapshot.tmp")).unwrap();
    create(&store, 1);
    store.flush().unwrap();
    assert_eq!(fs::read(&target).unwrap(), b"precious");
    assert_eq!(place.names(), ["snapshot", "snapshot.lock", "target"]);
}

#[test]
fn a_snapshot_in_a_directory_that_is_missing_is_refused() {
    let place = Place::new();
    let missing = place.0.path().join("missing/snapshot");
    let error = MemoryStore::new(config(&missing)).err().unwrap();
    let line = error.one_line();
    assert!(line.contains("missing/snapshot.lock"), "{line}");
    assert!(line.contains("snapshotFile must lie in"), "{line}");
}

#[test]
fn one_snapshot_serves_one_store_at_a_time() {
    let place = Place::new();
    let store = place.store();
    create(&store, 1);
    store.flush().unwrap();
    refused(&place, "is the snapshot of*storageType = file");
    let clone = store.clone();
    drop(store);
    refused(&place, "is the snapshot of");
    drop(clone);
    place.store();
}

#[test]
fn a_snapshot_that_fails_leaves_the_last_one_and_is_tried_again() {
    let place = Place::new();
    let store = place.store();
    let id = create(&store, 1);
    store.flush().unwrap();
    let before = fs::read(place.snapshot()).unwrap();
    commit(&store, &id, &record(2));
    let in_the_way = place.0.path().join("snapshot.tmp");
    fs::create_dir(&in_the_way).unwrap();
    for _ in 0..2 {
        let error = store.flush().unwrap_err();
        assert!(matches!(error, Error::Io { .. }), "{error}");
        assert!(error.one_line().contains("snapshot.tmp"), "{error}");
    }
    assert_eq!(fs::read(place.snapshot()).unwrap(), before);
    assert_eq!(read_n(&store, &id), Some(2));
    fs::remove_dir(in_the_way).unwrap();
    store.flush().unwrap();
    drop(store);
    assert_eq!(read_n(&place.store(), &id), Some(2));
}

#[test]
fn a_store_that_is_removed_takes_its_snapshot_with_it() {
    let (place, id) = Place::with_one();
    let store = place.store();
    let done = store.uninstall();
    assert!(done.errors.is_empty() && done.foreign.is_empty());
    assert_eq!(done.sessions, 1);
    store.flush().unwrap();
    assert_eq!(place.names(), ["snapshot.lock"]);
    drop(store);
    assert_eq!(read_n(&place.store(), &id), None);
}

/// What a change of id leaves now under the id before.
fn marker(now: SystemTime) -> Record {
    let now = now.duration_since(SystemTime::UNIX_EPOCH);
    let now = now.unwrap().as_secs();
    let end = now + 61;
    let text =
        format!(r#"{{"v":1,"created":{now},"expires":{end},"replaced":"marker","values":{{}}}}"#);
    Record::from_json(text.into_bytes()).unwrap()
}

#[test]
fn a_marker_is_kept_over_a_restart_until_its_time_is_over() {
    let place = Place::new();
    let store = place.store();
    let now = SystemTime::now();
    let id = create(&store, 1);
    commit(&store, &id, &marker(now));
    store.flush().unwrap();
    drop(store);
    let store = place.store();
    let found = store.read(&id.digest(), now).unwrap();
    assert!(found.is_some_and(|found| found.record.is_marker()));
    let later = now + Duration::from_secs(63);
    store.delete_expired(&Sweep::new(), later).unwrap();
    assert!(store.read(&id.digest(), now).unwrap().is_none());
}

#[test]
fn a_session_whose_id_changes_all_the_time_is_in_every_snapshot() {
    let place = Place::new();
    let store = place.store();
    let is_done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let now = SystemTime::now();
            let mut current = create(&store, 1);
            while !is_done.load(Ordering::Relaxed) {
                let found = store.lock(&current.digest(), WAIT, now).unwrap();
                let (stored, mut lease) = found.unwrap();
                let next = stored.record.succeeding(&current.digest(), now);
                current = create_at(&store, &next, now);
                lease.commit(&marker(now), now).unwrap();
                lease.destroy().unwrap();
            }
        });
        while !place.snapshot().exists() {
            store.flush().unwrap();
        }
        for _ in 0..100 {
            store.flush().unwrap();
            let text = fs::read_to_string(place.snapshot()).unwrap();
            let all = text.matches("\"session\":").count();
            let sessions = all - text.matches("\"replaced\":\"marker\"").count();
            assert!(sessions == 1 || sessions == 2, "{sessions}");
        }
        is_done.store(true, Ordering::Relaxed);
    });
}

const SNAPSHOT: &str = "MEMORY_TEST_SNAPSHOT";
const ID: &str = "MEMORY_TEST_ID";

/// The child's part of the test below: counts and keeps each count until it is killed.
#[test]
fn child_that_writes_snapshots_until_it_is_killed() {
    let Some(snapshot) = std::env::var_os(SNAPSHOT) else {
        return;
    };
    let store = MemoryStore::new(config(Path::new(&snapshot))).unwrap();
    let id = SessionId::parse(std::env::var(ID).unwrap().as_bytes()).unwrap();
    let now = SystemTime::now();
    println!();
    for _ in 0.. {
        let (stored, mut lease) = store.lock(&id.digest(), WAIT, now).unwrap().unwrap();
        let number = n(&stored.record) + 1;
        lease.commit(&record(number), now).unwrap();
        drop(lease);
        store.flush().unwrap();
        println!("kept {number}");
    }
}

#[test]
fn a_writer_killed_at_any_moment_leaves_a_whole_snapshot() {
    let place = Place::new();
    let store = place.store();
    let id = create(&store, 0);
    // Large enough for a snapshot to take a while.
    let filler = format!(r#"{{"":{{"x":"{}"}}}}"#, "x".repeat(1000));
    let filler = record(0).with_values(filler.into_bytes());
    for _ in 0..300 {
        create_at(&store, &filler, SystemTime::now());
    }
    store.flush().unwrap();
    drop(store);
    let mut kept = 0;
    let child = "child_that_writes_snapshots_until_it_is_killed";
    for killing in 0..12u8 {
        let mut child = testkit::again(module_path!(), child);
        let child = child.env(SNAPSHOT, place.snapshot()).env(ID, id.secret());
        // Somewhere in the next one: each time a little later.
        let spins = u32::from(killing) * 2000;
        let last = testkit::kill_after(child, "kept ", (killing % 3).into(), spins);
        kept = last.parse().unwrap();
        let found = read_n(&place.store(), &id).unwrap();
        assert!(found == kept || found == kept + 1, "{found} after {kept}");
    }
    assert!(kept > 12);
}

#[test]
fn an_observer_of_a_clean_up_may_use_the_store() {
    let store = Place::new().store();
    let long_ago = SystemTime::now() - Duration::from_secs(2 * 3600);
    let id = create_at(&store, &record(1), long_ago);
    let (over, is_over) = mpsc::channel();
    thread::spawn(move || {
        let now = SystemTime::now();
        let looks = |_: SweepEvent<'_>| assert!(store.peek(&id.digest(), now).unwrap().is_none());
        let report = store.delete_expired(&Sweep::new().observer(&looks), now);
        over.send(report.unwrap().deleted).unwrap();
    });
    assert_eq!(is_over.recv_timeout(DEADLINE), Ok(1));
}
