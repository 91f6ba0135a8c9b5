//! What is particular to a database: its file, other programs that use it, and damage.

use std::cell::RefCell;
use std::sync::mpsc;

use cgi_session_sqlite::SqliteStore;
use rusqlite::Connection;

use testkit::disk::remount;

use cgi_session::store_contract::{WAIT, counted, create, later, record};
use testkit::prelude::*;

struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Place {
            directory: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("app.db")
    }

    fn store(&self, settings: &[(&str, &str)]) -> SqliteStore {
        store(&self.path(), settings)
    }

    /// Another program with the same database open.
    fn connect(&self) -> Connection {
        Connection::open(self.path()).unwrap()
    }
}

fn store(path: &Path, settings: &[(&str, &str)]) -> SqliteStore {
    let config = Config::new().set("database", path).unwrap();
    let config = settings.iter().fold(config, |config, (key, value)| {
        config.set(key, value).unwrap()
    });
    SqliteStore::new(&config).unwrap()
}

/// A lock, a read and a creation each fail with these words, and the file stays as it is.
#[track_caller]
fn all_fail(path: &Path, words: impl Words) {
    let before = fs::read(path).ok();
    let (store, now) = (store(path, &[]), SystemTime::now());
    let digest = SessionId::generate().unwrap().digest();
    let errors = [
        store.lock(&digest, WAIT, now).map(drop),
        store.read(&digest, now).map(drop),
        store.create(&digest, &record(1, now), now).map(drop),
    ];
    let words = [&words.parts()[..], &[path.to_str().unwrap()]].concat();
    for error in errors {
        fails(error, 500, &words);
    }
    assert_eq!(fs::read(path).ok(), before);
}

#[test]
fn the_database_and_the_files_beside_it_are_for_their_owner_alone() {
    let place = Place::new();
    let store = place.store(&[]);
    let _held = create(&store, 1, SystemTime::now());
    let mut seen = 0;
    for entry in fs::read_dir(place.directory.path()).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode() & 0o077;
        assert_eq!(mode, 0, "{:?}", entry.path());
        seen += 1;
    }
    assert_eq!(seen, 4, "the database, its log, its index, and the locks");
}

#[test]
fn a_clean_up_that_cannot_note_its_end_tells_what_it_has_deleted() {
    let place = Place::new();
    let store = place.store(&[("table", "unnoted")]);
    let now = SystemTime::now();
    drop(create(&store, 1, now));
    let refuse = "CREATE TRIGGER refuse BEFORE INSERT ON unnoted_state \
                  BEGIN SELECT RAISE(ABORT, 'not now'); END";
    place.connect().execute_batch(refuse).unwrap();
    let report = store.delete_expired(&Sweep::new(), later(now, 61)).unwrap();
    assert_eq!(report.deleted, 1);
    let [failure] = &report.failures[..] else {
        panic!("{report:?}");
    };
    assert!(failure.contains("cannot note the clean-up in"), "{failure}");
}

#[test]
fn a_clean_up_in_limited_time_counts_the_live_for_an_observer_alone() {
    let place = Place::new();
    let store = place.store(&[]);
    let now = SystemTime::now();
    drop(create(&store, 1, now));
    let live = |sweep: Sweep<'_>| store.delete_expired(&sweep, now).unwrap().live;
    let limited = Sweep::new().max_time(Duration::MAX);
    let lives = [Sweep::new(), limited, limited.observer(&|_| {})].map(live);
    assert_eq!(lives, [1, 0, 1]);
}

#[test]
fn a_clean_up_by_a_clock_that_is_behind_ends_no_session() {
    let place = Place::new();
    let store = place.store(&[]);
    let now = SystemTime::now();
    let (id, _) = create(&store, 1, now);
    let behind = now - Duration::from_secs(20 * 24 * 3600);
    store.delete_expired(&Sweep::new(), behind).unwrap();
    let read = store.read(&id.digest(), later(now, 1)).unwrap();
    assert!(read.is_some());
}

#[test]
fn the_table_is_not_counted_for_each_new_session() {
    let place = Place::new();
    let now = SystemTime::now();
    let noted = || -> u64 {
        let question = "SELECT value FROM Session_state WHERE name = 'count'";
        let value = place.connect().query_row(question, [], |row| row.get(0));
        value.unwrap()
    };
    let delete = || place.connect().execute_batch("DELETE FROM Session");
    let store = place.store(&[("maxSessions", "10")]);
    let count = || {
        drop(create(&store, 1, now));
        noted()
    };
    assert_eq!(count(), 1);
    delete().unwrap();
    assert_eq!(count(), 2);
    let (id, lease) = create(&store, 7, now);
    drop(lease);
    let taken = store.create(&id.digest(), &record(7, now), now).unwrap();
    assert!(taken.is_none());
    assert_eq!(noted(), 3, "what is taken is none more");
    store.delete_expired(&Sweep::new(), now).unwrap();
    assert_eq!(count(), 3, "a clean-up has it counted again");

    let store = place.store(&[("maxSessions", "2"), ("whenFull", "refuse")]);
    let is_refused = |now| {
        let id = SessionId::generate().unwrap().digest();
        let created = store.create(&id, &record(1, now), now).map(drop);
        matches!(created, Err(Error::Full { limit: 2 }))
    };
    assert!(is_refused(now));
    delete().unwrap();
    assert!(is_refused(later(now, 0)), "it was counted");
    assert!(!is_refused(later(now, 1)), "it is a minute old");
    assert_eq!(noted(), 1);
}

#[test]
fn a_lock_may_be_waited_for_longer_than_sqlite_can_count() {
    let place = Place::new();
    let store = place.store(&[("lockTimeout", "36500d")]);
    let id = stored(&store, 1);
    assert_eq!(counted(&store, &id.digest()), Some(1));
}

#[test]
fn what_a_process_left_that_died_while_it_made_the_database_is_one_with_the_first_session() {
    let place = Place::new();
    fs::write(place.path(), "").unwrap();
    let store = place.store(&[]);
    let id = stored(&store, 1);
    assert_eq!(counted(&store, &id.digest()), Some(1));
}

#[test]
fn the_database_is_named_by_a_path_or_a_url_and_by_nothing_else() {
    for (name, path) in [
        ("/var/lib/a.db", "/var/lib/a.db"),
        ("sqlite:/var/lib/a.db", "/var/lib/a.db"),
        ("sqlite:///var/lib/a.db", "/var/lib/a.db"),
    ] {
        assert_eq!(store(Path::new(name), &[]).path(), Path::new(path));
    }
    for name in ["", "a.db", "sqlite:a.db", "mysql://localhost/a"] {
        let config = Config::new().set("database", name).unwrap();
        let error = SqliteStore::new(&config).unwrap_err().to_string();
        assert!(error.contains("the absolute path of a file"), "{error}");
    }
}

#[test]
fn a_manager_keeps_its_sessions_in_the_database_that_the_configuration_names() {
    let place = Place::new();
    let config = Config::new().set("storageType", "sqlite").unwrap();
    let config = config.set("database", place.path()).unwrap();
    let config = config.set("table", "visitors").unwrap();
    let manager = SessionManager::with_kinds(config, &[cgi_session_sqlite::SQLITE]).unwrap();
    change(&manager, b"", |it| it.insert("n", 1).unwrap());
    let sql = "SELECT record, length(session), user FROM visitors";
    let row = place
        .connect()
        .query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)));
    let (text, length, user): (String, u64, Option<String>) = row.unwrap();
    assert!(text.ends_with(r#""values":{"":{"n":1}}}"#), "{text}");
    assert_eq!((length, user), (64, None));
}

#[test]
fn while_another_program_writes_a_reader_does_not_wait_and_a_writer_waits_in_bounds() {
    let place = Place::new();
    let store = place.store(&[("lockTimeout", "1s")]);
    let now = SystemTime::now();
    let patient = place.store(&[("lockTimeout", "90s")]);
    let (id, mut lease) = create(&store, 1, now);
    let other = place.connect();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let started = Instant::now();
    assert_eq!(counted(&patient, &id.digest()), Some(1));
    // That it was read would have to be noted by now.
    let read = patient.read(&id.digest(), later(now, 30)).unwrap();
    assert!(read.is_some());
    lease.touch(later(now, 30)).unwrap();
    assert!(started.elapsed() < Duration::from_secs(30));

    let busy = lease.commit(&record(2, now), now).unwrap_err();
    assert_eq!(busy.status(), 503);
    let text = busy.to_string();
    assert!(text.contains("app.db") && text.contains("1.0 s"), "{text}");
    assert_eq!(counted(&store, &id.digest()), Some(1));
    let another = SessionId::generate().unwrap().digest();
    let busy = store.create(&another, &record(1, now), now).map(drop);
    assert!(matches!(busy, Err(Error::Busy { .. })));

    other.execute_batch("ROLLBACK").unwrap();
    lease.commit(&record(3, now), now).unwrap();
    assert_eq!(counted(&store, &id.digest()), Some(3));
}

#[test]
fn whoever_makes_the_table_waits_for_another_program_that_is_about_to_write() {
    let place = Place::new();
    let other = place.connect();
    other
        .execute_batch("CREATE TABLE another (value); BEGIN IMMEDIATE;")
        .unwrap();

    let store = place.store(&[("lockTimeout", "60s")]);
    let (sender, receiver) = mpsc::channel();
    let maker = thread::spawn(move || {
        let digest = SessionId::generate().unwrap().digest();
        let now = SystemTime::now();
        let created = store
            .create(&digest, &record(1, now), now)
            .map(|lease| lease.is_some());
        sender.send(created).unwrap();
    });
    let early = receiver.recv_timeout(Duration::from_millis(500));
    assert!(early.is_err(), "it did not wait: {early:?}");
    other.execute_batch("COMMIT").unwrap();
    assert!(receiver.recv().unwrap().unwrap());
    maker.join().unwrap();
}

#[test]
fn a_program_that_has_the_database_for_itself_is_named_as_the_reason() {
    let place = Place::new();
    drop(create(&place.store(&[]), 1, SystemTime::now()));
    let other = place.connect();
    let exclusive = "PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE; COMMIT";
    other.execute_batch(exclusive).unwrap();
    let store = place.store(&[("lockTimeout", "1s")]);
    let digest = SessionId::generate().unwrap().digest();
    let busy = store.read(&digest, SystemTime::now()).unwrap_err();
    assert!(busy.to_string().contains("that has the database"), "{busy}");
    drop(other);
    assert!(store.read(&digest, SystemTime::now()).unwrap().is_none());
}

#[test]
fn a_file_that_is_no_database_is_left_alone_and_the_error_says_what_to_do() {
    let place = Place::new();
    let text = "these are my notes, and no database of anybody's\n".repeat(100);
    fs::write(place.path(), text).unwrap();
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o600)).unwrap();
    all_fail(&place.path(), "not a database*put a backup in its place");
}

#[test]
fn a_damaged_database_is_left_alone_and_the_error_says_what_to_do() {
    let place = Place::new();
    let now = SystemTime::now();
    let id = stored(&place.store(&[]), 1);
    // Without the log, where the damage would be mended from.
    let mode = "PRAGMA journal_mode = DELETE";
    let mode = place
        .connect()
        .query_row(mode, [], |row| row.get::<_, String>(0));
    assert_eq!(mode.unwrap(), "delete");
    let mut bytes = fs::read(place.path()).unwrap();
    bytes[100..].fill(0x55);
    fs::write(place.path(), &bytes).unwrap();
    all_fail(&place.path(), "malformed*put a backup in its place");
    let read = place.store(&[]).read(&id.digest(), now);
    assert!(read.is_err());
}

#[test]
fn a_directory_a_link_and_a_file_that_others_may_write_are_refused() {
    let place = Place::new();
    fs::create_dir(place.path()).unwrap();
    all_fail(&place.path(), "is a directory");
    fs::remove_dir(place.path()).unwrap();
    symlink("/etc/passwd", place.path()).unwrap();
    all_fail(&place.path(), "is not a regular file");
    fs::remove_file(place.path()).unwrap();
    fs::write(place.path(), "").unwrap();
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o666)).unwrap();
    all_fail(&place.path(), "0666*chmod 0600");
    fs::remove_file(place.path()).unwrap();
    fs::set_permissions(place.directory.path(), Permissions::from_mode(0o1777)).unwrap();
    all_fail(&place.path(), "everybody can write*a directory of its own");
    assert_eq!(place.store(&[]).install().len(), 1);
    assert!(!place.path().exists());
}

#[test]
fn a_database_in_a_directory_that_is_not_there_is_an_error_only_for_whoever_stores() {
    let place = Place::new();
    let store = store(&place.path().join("missing/app.db"), &[]);
    let (digest, now) = (SessionId::generate().unwrap().digest(), SystemTime::now());
    assert!(store.read(&digest, now).unwrap().is_none());
    let error = store
        .create(&digest, &record(1, now), now)
        .map(drop)
        .unwrap_err();
    says(&error, "missing/app.db");
}

#[test]
fn on_a_read_only_disk_nothing_is_lost_and_the_error_says_what_to_do() {
    let Some(disk) = SmallDisk::mount("size=1m") else {
        return;
    };
    let path = disk.path().join("app.db");
    let now = SystemTime::now();
    let id = stored(&store(&path, &[]), 1);
    remount(disk.path(), "ro");
    let read_only = store(&path, &[]);
    let errors = [
        read_only.lock(&id.digest(), WAIT, now).map(drop),
        read_only
            .create(&id.digest(), &record(2, now), now)
            .map(drop),
        read_only.delete_expired(&Sweep::new(), now).map(drop),
    ];
    for error in errors {
        let line = error.unwrap_err().one_line();
        assert!(
            line.contains(path.to_str().unwrap()) && line.contains("try: "),
            "{line}"
        );
    }
    drop(read_only);
    remount(disk.path(), "rw");
    assert_eq!(counted(&store(&path, &[]), &id.digest()), Some(1));
}

#[test]
fn on_a_full_disk_a_commit_fails_and_the_record_before_stays() {
    let Some(disk) = SmallDisk::mount("size=1m") else {
        return;
    };
    let store = store(
        &disk.path().join("app.db"),
        &[("maxRecordBytes", "8388608")],
    );
    let now = SystemTime::now();
    let (id, mut lease) = create(&store, 1, now);
    let text = format!(r#"{{"":{{"count":2,"x":"{}"}}}}"#, "x".repeat(4 << 20));
    let error = lease
        .commit(&record(2, now).with_values(text.into_bytes()), now)
        .unwrap_err();
    says(&error, "make room");
    assert_eq!(counted(&store, &id.digest()), Some(1));
    lease.commit(&record(3, now), now).unwrap();
    assert_eq!(counted(&store, &id.digest()), Some(3));
}

#[test]
fn a_row_that_was_deleted_by_hand_does_not_come_back_by_a_commit() {
    let place = Place::new();
    let store = place.store(&[]);
    let now = SystemTime::now();
    let (id, mut lease) = create(&store, 1, now);
    place.connect().execute("DELETE FROM Session", []).unwrap();
    is_lost(lease.commit(&record(2, now), now));
    lease.touch(later(now, 10)).unwrap();
    // Nor under another id.
    is_lost(lease.check());
    assert_eq!(counted(&store, &id.digest()), None);
}

#[test]
fn a_database_that_is_moved_away_takes_its_sessions_with_it_and_a_new_one_is_made() {
    let place = Place::new();
    let store = place.store(&[]);
    let now = SystemTime::now();
    let id = stored(&store, 1);
    for name in ["app.db", "app.db-wal", "app.db-shm"] {
        let from = place.directory.path().join(name);
        fs::rename(&from, from.with_extension(format!("{name}.away"))).unwrap();
    }
    assert_eq!(counted(&store, &id.digest()), None);
    let (new, _) = create(&store, 2, now);
    assert_eq!(counted(&store, &new.digest()), Some(2));
    assert!(place.path().is_file());
}

#[test]
fn a_row_that_is_no_record_is_no_session_and_is_shown_to_the_administrator() {
    let place = Place::new();
    let store = place.store(&[]);
    let now = SystemTime::now();
    let id = stored(&store, 1);
    for (text, reason) in [("rubbish", "no record"), (r#"{"v":2}"#, "later release")] {
        let sql = "UPDATE Session SET record = ?1";
        place.connect().execute(sql, [text]).unwrap();
        let shown = RefCell::new(Vec::new());
        let mut visit = |_: &_, stored: Result<_, Error>| {
            let reason = stored.map(drop).unwrap_err().one_line();
            shown.borrow_mut().push(reason);
            std::ops::ControlFlow::Continue(())
        };
        store.for_each(&mut visit, now).unwrap();
        let shown = shown.into_inner();
        assert!(shown.len() == 1 && shown[0].contains(reason), "{shown:?}");
    }
    assert!(store.lock(&id.digest(), WAIT, now).is_err());
    for columns in ["record = 5", "used = 'rubbish'", "expires = 'rubbish'"] {
        let sql = format!("UPDATE Session SET {columns}");
        place.connect().execute(&sql, []).unwrap();
        assert!(store.lock(&id.digest(), WAIT, now).unwrap().is_none());
        assert!(store.read(&id.digest(), now).unwrap().is_none());
        assert!(store.peek(&id.digest(), now).unwrap().is_none());
        let mut reasons = Vec::new();
        let mut visit = |_: &_, stored: Result<_, Error>| {
            reasons.push(stored.map(drop).unwrap_err().one_line());
            std::ops::ControlFlow::Continue(())
        };
        store.for_each(&mut visit, now).unwrap();
        assert!(matches!(&reasons[..], [reason] if reason.contains("no record")));
    }
}

/// How many sessions a listing shows. One that shows too many comes to no end by itself.
fn shown(store: &SqliteStore, now: SystemTime) -> usize {
    let mut shown = 0;
    let mut visit = |_: &_, _: Result<_, Error>| {
        shown += 1;
        match shown {
            1000 => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        }
    };
    store.for_each(&mut visit, now).unwrap();
    shown
}

#[test]
fn a_listing_comes_to_its_end_once_whatever_the_names_are() {
    let place = Place::new();
    let store = place.store(&[]);
    assert!(store.install().is_empty());
    // A page ends with a text that is not UTF-8, and the last one with what is no text.
    let insert = "WITH RECURSIVE number (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < 300) \
                  INSERT INTO Session (session, record, expires, used) \
                  SELECT printf('%c%063x', substr('cd', 1 + (n >= 256), 1), n), 'x', 9999999999, 5 FROM number \
                  UNION ALL VALUES (CAST(X'63FF' AS TEXT), 'x', 9999999999, 5), (X'62', 'x', 9999999999, 5)";
    place.connect().execute(insert, []).unwrap();
    assert_eq!(shown(&store, SystemTime::now()), 300);
}

#[test]
fn names_that_are_no_text_are_no_sessions_and_stay() {
    let place = Place::new();
    let store = place.store(&[]);
    let now = SystemTime::now();
    let digest = SessionDigest::parse(&[b'c'; 64]).unwrap();
    drop(store.create(&digest, &record(1, now), now).unwrap());
    let insert = "INSERT INTO Session (session, record, expires, used) \
                  VALUES (X'61', 'x', 5, 5), (X'FF', 'x', 5, 5), (X'62', 'x', 9999999999, 5)";
    place.connect().execute(insert, []).unwrap();
    assert_eq!(shown(&store, now), 1);
    let report = store.delete_expired(&Sweep::new(), later(now, 61)).unwrap();
    assert_eq!((report.deleted, report.foreign), (1, 2));
    let left = "SELECT count(*) FROM Session";
    let left = place.connect().query_row(left, [], |row| row.get(0));
    assert_eq!(left, Ok(3));
}

#[test]
fn a_clean_up_comes_to_its_end_once_whatever_the_names_and_times_are() {
    let of_names = "(X'61', 'x', 5, 5), (X'FF', 'x', 5, 5), (CAST(X'FF' AS TEXT), 'x', 5, 5)";
    for (others, expected) in [
        (of_names, (150, 3)),
        ("(printf('%064x', 151), 'x', 7.5, 5)", (151, 0)),
        ("('of another', 'x', 7.5, 5.5)", (150, 1)),
    ] {
        let place = Place::new();
        let store = place.store(&[]);
        assert!(store.install().is_empty());
        let insert = format!(
            "WITH RECURSIVE number (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < 150) \
             INSERT INTO Session (session, record, expires, used) \
             SELECT printf('%064x', n), 'x', 5, 5 FROM number UNION ALL VALUES {others}"
        );
        place.connect().execute(&insert, []).unwrap();
        // It stops by itself: the time is for one that does not.
        let sweep = Sweep::new().max_time(Duration::from_secs(10));
        for dry_run in [true, false] {
            let report = store.delete_expired(&sweep.dry_run(dry_run), SystemTime::now());
            let report = report.unwrap();
            assert_eq!((report.deleted, report.foreign), expected, "{others}");
            assert!(!report.stopped_early, "{others}");
        }
    }
}

#[test]
fn a_use_that_a_clock_ahead_has_noted_counts_as_one_of_now_where_idle_times_count() {
    let place = Place::new();
    let now = SystemTime::now();
    create(&place.store(&[]), 1, later(now, 40 * 24 * 60));
    let config = Config::new().set("storageType", "sqlite").unwrap();
    let config = config.set("database", place.path()).unwrap();
    let manager = SessionManager::with_kinds(config, &[cgi_session_sqlite::SQLITE]).unwrap();
    let sweep = Sweep::new().idle(Duration::from_secs(1800));
    assert_eq!(manager.delete_expired(&sweep).unwrap().deleted, 0);
    let end = "SELECT expires FROM Session";
    let end = place.connect().query_row(end, [], |row| row.get(0));
    let hours = later(now, 120).duration_since(UNIX_EPOCH).unwrap();
    assert!(end.is_ok_and(|end: u64| end < hours.as_secs()));
}

#[test]
fn what_else_is_in_the_database_stays_and_is_named_when_the_store_is_uninstalled() {
    let place = Place::new();
    let store = place.store(&[]);
    create(&store, 1, SystemTime::now());
    place
        .connect()
        .execute_batch("CREATE TABLE notes (text)")
        .unwrap();
    let done = store.uninstall();
    assert!(done.errors.is_empty(), "{done:?}");
    assert_eq!(done.sessions, 1);
    assert_eq!(done.foreign, ["table notes"]);
    let tables = "SELECT group_concat(name) FROM sqlite_schema";
    let tables = place
        .connect()
        .query_row(tables, [], |row| row.get::<_, String>(0));
    assert_eq!(tables.unwrap(), "notes");
}
