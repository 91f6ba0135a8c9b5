//! The directory made beforehand, and everything of ours removed again.

use crate::support::{Place, record, skip};
use testkit::prelude::*;

#[track_caller]
fn lines(errors: &[Error]) -> Vec<String> {
    errors.iter().map(Error::one_line).collect()
}

/// These problems, each in a line of its own, and no other.
#[track_caller]
fn has_problems(place: &Place, expected: &[&str]) {
    let found = lines(&place.store.install());
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (line, part) in found.iter().zip(expected) {
        assert!(line.contains(part), "{line}");
    }
}

#[test]
fn an_installed_store_is_an_empty_directory_and_may_be_installed_again() {
    for shards in ["1", "256"] {
        let place = Place::with(&[("shards", shards)]);
        for _ in 0..2 {
            has_problems(&place, &[]);
            let mode = fs::metadata(place.path()).unwrap().permissions().mode();
            assert_eq!(mode & 0o7777, 0o700);
            assert_eq!(place.names(), [""; 0]);
        }
        let id = place.create(1);
        has_problems(&place, &[]);
        assert_eq!(place.locked_n(&id), Some(1));
    }
}

#[test]
fn every_problem_of_a_directory_is_told_and_not_only_the_first() {
    let place = Place::new();
    place.store.install();
    fs::set_permissions(place.path(), Permissions::from_mode(0o777)).unwrap();
    if chown(place.path(), Some(4711), None).is_err() {
        skip("not allowed to give a directory away");
        return;
    }
    has_problems(&place, &["belongs to uid 4711", "chmod 0700"]);
}

#[test]
fn locks_and_shards_that_root_has_left_are_problems() {
    let place = Place::with(&[("shards", "256")]);
    place.store.install();
    fs::write(place.file(".gc"), "").unwrap();
    fs::create_dir(place.file(".count")).unwrap();
    fs::create_dir(place.file("ab")).unwrap();
    if chown(place.file(".gc"), Some(4711), None).is_err() {
        skip("not allowed to give a file away");
        return;
    }
    chown(place.file("ab"), Some(4711), None).unwrap();
    fs::set_permissions(place.file("ab"), Permissions::from_mode(0o700)).unwrap();
    has_problems(
        &place,
        &[
            ".gc belongs to uid 4711",
            ".count is a directory",
            "ab/ belongs to uid 4711",
        ],
    );
}

#[test]
fn a_disk_without_room_is_a_problem() {
    let Some(disk) = SmallDisk::mount("size=256k") else {
        return;
    };
    let below = disk.path().join("sessions");
    let store = Place::new().another(&[
        ("storageFileDir", below.to_str().unwrap()),
        ("minFreeSpace", "50%"),
    ]);
    assert_eq!(lines(&store.install()), [""; 0]);
    let filled = fs::write(disk.path().join("filler"), vec![1; 1 << 20]);
    assert!(filled.is_err(), "the disk is full");
    let found = lines(&store.install());
    assert_eq!(found.len(), 2, "{found:#?}");
    assert!(found[0].contains("50% must be"), "{found:#?}");
    assert!(found[1].contains("No space left on device"), "{found:#?}");
    assert_eq!(fs::read_dir(&below).unwrap().count(), 0);
}

#[test]
fn everything_of_the_store_is_removed_and_the_directory_with_it() {
    for shards in ["1", "256"] {
        let place = Place::with(&[("shards", shards), ("maxSessions", "100")]);
        for number in 0..20 {
            place.create(number);
            place.create_record(&record(number).with_user(Some("ada")));
        }
        let damaged = place.plant(|_| b"rubbish".to_vec());
        assert_eq!(place.locked_n(&damaged), None);
        fs::write(place.file(".tmp-1-0123456789abcdef"), "").unwrap();
        place.sweep(SystemTime::now());
        let done = place.store.uninstall();
        assert_eq!(lines(&done.errors), [""; 0]);
        assert_eq!((done.sessions, done.foreign), (40, Vec::new()), "{shards}");
        assert!(!place.path().exists());
        // Nothing left to do is no error either.
        let again = place.store.uninstall();
        assert!(again.sessions == 0 && again.errors.is_empty());
        assert!(!place.path().exists());
        // And the next session finds everything as at the first time.
        let id = place.create(1);
        assert_eq!(place.locked_n(&id), Some(1));
    }
}

#[test]
fn what_is_not_ours_is_named_and_stays() {
    let place = Place::with(&[("shards", "256")]);
    let id = place.create(1);
    let shard = &id.digest().to_string()[..2];
    let mut foreign = ["precious.txt".to_owned(), format!("{shard}/precious.json")];
    foreign.sort();
    for name in &foreign {
        fs::write(place.file(name), "precious").unwrap();
    }
    let done = place.store.uninstall();
    assert_eq!(lines(&done.errors), [""; 0]);
    let mut named = done.foreign;
    named.sort();
    assert_eq!((done.sessions, named), (1, foreign.to_vec()));
    for name in &foreign {
        assert_eq!(fs::read(place.file(name)).unwrap(), b"precious");
    }
    assert_eq!(place.names().len(), 2);
}

#[test]
fn a_session_in_use_is_named_and_stays_with_its_index() {
    let place = Place::new();
    let user = record(7).with_user(Some("ada"));
    let (id, other) = (place.create_record(&user), place.create_record(&user));
    let (_, mut lease) = place.lock(&id).unwrap();
    let done = place.store.uninstall();
    let found = lines(&done.errors);
    let has_it = found.len() == 1 && found[0].contains("is in use");
    assert!(has_it, "{found:?}");
    assert!(found[0].contains(&id.digest().to_string()), "{found:?}");
    assert_eq!(done.sessions, 1);
    assert!(!place.exists(&other));
    lease
        .commit(&record(8).with_user(Some("ada")), SystemTime::now())
        .unwrap();
    drop(lease);
    let listed = place.store.sessions_of("ada", SystemTime::now()).unwrap();
    assert_eq!(listed, [id.digest()]);
    assert_eq!(place.locked_n(&id), Some(8));
    let done = place.store.uninstall();
    assert_eq!((done.sessions, done.errors.len()), (1, 0));
    assert!(!place.path().exists());
}

#[test]
fn nothing_is_removed_beside_a_clean_up() {
    let place = Place::new();
    let id = place.create(1);
    fs::write(place.file(".gc"), "").unwrap();
    let sweep = fs::File::open(place.file(".gc")).unwrap();
    sweep.lock().unwrap();
    let done = place.store.uninstall();
    let found = lines(&done.errors);
    let has_it = found.len() == 1 && found[0].contains(".gc is in use");
    assert!(has_it, "{found:?}");
    assert_eq!((done.sessions, place.locked_n(&id)), (0, Some(1)));
}

#[test]
fn a_link_under_a_sessions_name_is_named_and_not_followed() {
    let place = Place::new();
    let elsewhere = tempfile::tempdir().unwrap();
    let target = elsewhere.path().join("target");
    fs::write(&target, "precious").unwrap();
    let id = place.create(1);
    fs::remove_file(place.store.path(&id)).unwrap();
    symlink(&target, place.store.path(&id)).unwrap();
    let done = place.store.uninstall();
    let found = lines(&done.errors);
    let has_it = found.len() == 1 && found[0].contains("symbolic link");
    assert!(has_it, "{found:?}");
    assert_eq!(fs::read(&target).unwrap(), b"precious");
    assert!(place.exists(&id));
}
