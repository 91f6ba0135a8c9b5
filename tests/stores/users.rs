//! The index by user: every session of a user is found by it, whatever happens meanwhile.

use rustix::fs::{CWD, FileType, Mode};
use testkit::prelude::*;

use crate::support::{DEADLINE, IDLE, Place, ago, ahead, ends, is_index, record};

/// The SHA-256 of `ada`, from sha256sum(1).
const ADA: &str = "fdee430d40bd57deeac186cd9790033d0f06f909a8806e7ce6e717ab7c7d5029";

fn of(user: &str) -> Record {
    record(1).with_user(Some(user))
}

#[track_caller]
fn found(store: &FileStore, user: &str) -> BTreeSet<String> {
    let sessions = store.sessions_of(user, SystemTime::now()).unwrap();
    let set: BTreeSet<_> = sessions.iter().map(ToString::to_string).collect();
    assert_eq!(set.len(), sessions.len(), "named twice");
    set
}

fn set(ids: &[&SessionId]) -> BTreeSet<String> {
    ids.iter().map(|id| id.digest().to_string()).collect()
}

/// The only index there is.
#[track_caller]
fn index(place: &Place) -> PathBuf {
    let all = indexes(place);
    assert_eq!(all.len(), 1, "{all:?}");
    place.file(&all[0])
}

fn indexes(place: &Place) -> Vec<String> {
    let names = place.names().into_iter();
    names.filter(|name| is_index(name)).collect()
}

#[track_caller]
fn destroy(place: &Place, id: &SessionId) {
    place.lock(id).expect("a session").1.destroy().unwrap();
}

/// Digests of no session, one a line.
fn nobody(lines: u64) -> String {
    (0..lines).fold(String::new(), |text, n| text + &format!("{n:064x}\n"))
}

#[test]
fn an_index_is_named_by_the_hash_of_its_user_and_holds_one_digest_a_line() {
    let place = Place::new();
    let id = place.create_record(&of("ada"));
    let index = index(&place);
    let name = index.file_name().unwrap().to_str().unwrap();
    assert_eq!(name, format!("{ADA}.user"));
    let text = fs::read_to_string(&index).unwrap();
    assert_eq!(text, format!("{}\n", id.digest()));
    let mode = fs::metadata(&index).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
}

#[test]
fn sessions_without_a_user_make_no_index() {
    let place = Place::new();
    let id = place.create(1);
    place.commit(&id, &record(2));
    destroy(&place, &id);
    place.create(3);
    assert_eq!(indexes(&place), [""; 0]);
}

#[test]
fn a_session_that_gets_a_user_later_is_found() {
    let place = Place::new();
    let id = place.create(1);
    place.commit(&id, &of("ada"));
    assert_eq!(found(&place.store, "ada"), set(&[&id]));
    // A record that grows is a new file of the same session.
    let large = crate::support::record_of_size(2, 9000);
    place.commit(&id, &large.with_user(Some("ada")));
    assert_eq!(found(&place.store, "ada"), set(&[&id]));
    let lines = fs::read_to_string(index(&place)).unwrap();
    assert_eq!(lines.lines().count(), 1);
}

#[test]
fn a_session_that_changes_its_user_is_found_under_the_new_one_only() {
    let place = Place::new();
    let id = place.create_record(&of("ada"));
    place.commit(&id, &of("grace"));
    assert_eq!(found(&place.store, "ada"), set(&[]));
    assert_eq!(found(&place.store, "grace"), set(&[&id]));
    place.commit(&id, &of("ada"));
    assert_eq!(found(&place.store, "ada"), set(&[&id]));
    place.commit(&id, &record(2));
    assert_eq!(found(&place.store, "ada"), set(&[]));
    assert_eq!(indexes(&place), [""; 0], "what lists nothing is gone");
}

#[test]
fn a_user_who_logs_out_everywhere_leaves_no_index() {
    let place = Place::new();
    let ids: Vec<_> = (0..3).map(|_| place.create_record(&of("ada"))).collect();
    destroy(&place, &ids[1]);
    assert_eq!(found(&place.store, "ada"), set(&[&ids[0], &ids[2]]));
    destroy(&place, &ids[0]);
    destroy(&place, &ids[2]);
    assert_eq!(found(&place.store, "ada"), set(&[]));
    assert_eq!(indexes(&place), [""; 0]);
}

#[test]
fn a_session_that_changes_its_id_all_the_time_is_always_found() {
    let place = Place::new();
    let first = place.create_record(&of("ada"));
    thread::scope(|scope| {
        let changing = scope.spawn(|| {
            let mut current = first;
            for _ in 0..300 {
                let (stored, lease) = place.lock(&current).unwrap();
                current = place.create_record(&stored.record);
                lease.destroy().unwrap();
            }
        });
        while !changing.is_finished() {
            assert!(!found(&place.store, "ada").is_empty(), "it was missed");
        }
    });
}

#[test]
fn sixteen_threads_that_log_one_user_in_at_once_are_all_found() {
    for shards in ["1", "256"] {
        let place = Place::with(&[("shards", shards)]);
        let all = thread::scope(|scope| {
            let log_in = || -> Vec<SessionId> {
                let mut mine = Vec::new();
                for round in 0..25 {
                    mine.push(place.create_record(&of("ada")));
                    if round % 3 == 0 {
                        destroy(&place, &mine.remove(0));
                    }
                }
                mine
            };
            let logins: Vec<_> = (0..16).map(|_| scope.spawn(log_in)).collect();
            let ended = logins.into_iter().map(|login| login.join().unwrap());
            ended.flatten().collect::<Vec<_>>()
        });
        assert_eq!(all.len(), 16 * 16);
        let expected: BTreeSet<_> = all.iter().map(|id| id.digest().to_string()).collect();
        assert_eq!(found(&place.store, "ada"), expected, "{shards}");
    }
}

#[test]
fn an_expired_session_is_not_found_and_its_index_goes_with_the_clean_up_after() {
    for shards in ["1", "256"] {
        let place = Place::with(&[("shards", shards)]);
        let id = place.create_record(&of("ada"));
        place.set_modified(&id, ago(IDLE + 62));
        assert_eq!(found(&place.store, "ada"), set(&[]));
        for _ in 0..2 {
            let later = ahead(2 * IDLE);
            let report = place.sweep(later);
            assert_eq!((report.failures, report.foreign), (Vec::new(), 0));
        }
        assert_eq!((place.sessions(), indexes(&place).len()), (0, 0));
    }
}

#[test]
fn a_clean_up_makes_an_index_smaller_that_is_mostly_out_of_date() {
    let place = Place::new();
    let [one, two] = [(); 2].map(|()| place.create_record(&of("ada")));
    let path = index(&place);
    fs::write(&path, nobody(10) + &fs::read_to_string(&path).unwrap()).unwrap();
    crate::support::set_modified(&path, ago(2 * IDLE));
    let dry = Sweep::new().dry_run(true);
    place.store.delete_expired(&dry, SystemTime::now()).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().len(), 12 * 65);
    let report = place.store.delete_expired(&Sweep::new(), SystemTime::now());
    assert_eq!(report.unwrap().failures, [""; 0]);
    assert_eq!(fs::metadata(&path).unwrap().len(), 2 * 65);
    assert_eq!(found(&place.store, "ada"), set(&[&one, &two]));
}

#[test]
fn an_index_in_use_is_left_alone_by_a_clean_up_and_waited_for_by_no_reader() {
    let place = Place::new();
    let id = place.create_record(&of("ada"));
    let path = index(&place);
    let text = nobody(10) + &fs::read_to_string(&path).unwrap();
    fs::write(&path, &text).unwrap();
    crate::support::set_modified(&path, ago(2 * IDLE));
    let held = fs::File::open(&path).unwrap();
    held.lock().unwrap();
    place.sweep(SystemTime::now());
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
    assert_eq!(found(&place.store, "ada"), set(&[&id]));
}

#[test]
fn an_index_that_has_doubled_is_looked_through_by_the_next_login() {
    let place = Place::new();
    let id = place.create_record(&of("ada"));
    let path = index(&place);
    let text = nobody(63) + &fs::read_to_string(&path).unwrap();
    fs::write(&path, &text).unwrap();
    let next = place.create_record(&of("ada"));
    assert_eq!(fs::metadata(&path).unwrap().len(), 2 * 65);
    assert_eq!(found(&place.store, "ada"), set(&[&id, &next]));
    // Also when it names none that is left.
    fs::write(&path, nobody(128)).unwrap();
    let last = place.create_record(&of("ada"));
    assert_eq!(fs::metadata(&path).unwrap().len(), 65);
    assert_eq!(found(&place.store, "ada"), set(&[&last]));
}

#[test]
fn rubbish_in_an_index_is_ignored() {
    let rubbish = [
        "rubbish\n".to_owned(),
        "x".repeat(1000),
        "\n".repeat(200),
        format!("{}\n", "A".repeat(64)),
        "\u{0}".repeat(130),
        nobody(3),
    ];
    for text in rubbish {
        let place = Place::new();
        let id = place.create_record(&of("ada"));
        let path = index(&place);
        let line = fs::read_to_string(&path).unwrap();
        fs::write(&path, line + &text).unwrap();
        let next = place.create_record(&of("ada"));
        assert_eq!(found(&place.store, "ada"), set(&[&id, &next]), "{text:?}");
        destroy(&place, &id);
        assert_eq!(found(&place.store, "ada"), set(&[&next]), "{text:?}");
    }
}

/// What lies in an index's place is named and left alone, and nothing is made by its side.
fn refuses(put: impl FnOnce(&PathBuf), reason: &str) {
    let place = Place::new();
    place.create_record(&of("ada"));
    let path = index(&place);
    fs::remove_file(&path).unwrap();
    put(&path);
    let before = place.sessions();
    let (place, told) = ends(move || {
        let now = SystemTime::now();
        let id = SessionId::generate().unwrap();
        let listed = place.store.sessions_of("ada", now).err();
        let created = place.store.create(&id.digest(), &of("ada"), now).err();
        place.sweep(ahead(IDLE - 60));
        let told = [listed, created].map(|error| error.expect("an error").one_line());
        (place, told)
    });
    for line in told {
        let has_it = line.contains(reason) && line.contains("left alone");
        assert!(has_it, "{line}");
        assert!(line.contains(ADA), "{line}");
    }
    assert_eq!(place.sessions(), before);
    assert!(path.symlink_metadata().is_ok(), "it was deleted");
}

#[test]
fn what_is_no_file_in_an_indexs_place_is_refused() {
    let mode = Mode::from_raw_mode(0o600);
    refuses(
        |path| rustix::fs::mknodat(CWD, path, FileType::Fifo, mode, 0).unwrap(),
        "is not a regular file",
    );
    refuses(|path| fs::create_dir(path).unwrap(), "is ");
}

#[test]
fn a_link_in_an_indexs_place_is_not_followed() {
    let elsewhere = tempfile::tempdir().unwrap();
    let target = elsewhere.path().join("target");
    fs::write(&target, "precious").unwrap();
    refuses(|path| symlink(&target, path).unwrap(), "is a symbolic link");
    let link = |path: &PathBuf| symlink("nothing", path).unwrap();
    refuses(link, "is a symbolic link");
    let hard_link = |path: &PathBuf| fs::hard_link(&target, path).unwrap();
    refuses(hard_link, "more than one name");
    assert_eq!(fs::read(&target).unwrap(), b"precious");
}

#[test]
fn an_index_larger_than_any_user_needs_is_refused() {
    refuses(
        |path| {
            let file = fs::File::create(path).unwrap();
            file.set_len(5 << 30).unwrap();
        },
        "has 5368709120 bytes",
    );
}

const DIRECTORY: &str = "STORE_TEST_USERS_DIRECTORY";

/// The child's part of the test below: logs users in and out and changes them until it is killed.
#[test]
fn child_that_logs_in_and_out_until_it_is_killed() {
    let Some(directory) = std::env::var_os(DIRECTORY) else {
        return;
    };
    let store = FileStore::new(Config::new().set("storageFileDir", directory).unwrap()).unwrap();
    let now = SystemTime::now();
    let create = |user| {
        let id = SessionId::generate().unwrap();
        let lease = store.create(&id.digest(), &of(user), now).unwrap();
        (id, lease.expect("a new id"))
    };
    let mut kept: Vec<(SessionId, u64)> = Vec::new();
    println!();
    for round in 0.. {
        let (id, mut lease) = create("ada");
        lease.commit(&of("grace"), now).unwrap();
        let large = crate::support::record_of_size(1, 3000);
        lease.commit(&large.with_user(Some("ada")), now).unwrap();
        drop(lease);
        kept.push((id, round));
        if kept.len() > 4 {
            let (id, _) = kept.remove(0);
            let (_, lease) = store.lock(&id.digest(), DEADLINE, now).unwrap().unwrap();
            lease.destroy().unwrap();
        }
        println!("round {round}");
    }
}

#[test]
fn whenever_a_process_is_killed_no_session_is_missing_from_its_users_index() {
    let place = Place::new();
    let child = "child_that_logs_in_and_out_until_it_is_killed";
    for killing in 0..40u8 {
        let mut child = testkit::again(module_path!(), child);
        let child = child.env(DIRECTORY, place.path());
        // Somewhere in the next round: each time a little later.
        let spins = u32::from(killing) * 500;
        testkit::kill_after(child, "round ", (killing % 7).into(), spins);
        expect_nobody_missing(&place);
    }
}

#[track_caller]
fn expect_nobody_missing(place: &Place) {
    let users = ["ada", "grace"];
    let listed = users.map(|user| found(&place.store, user));
    let mut visit = |session: &SessionDigest, stored: cgi_session::Result<cgi_session::Stored>| {
        let record = stored.unwrap().record;
        let user = users.iter().position(|user| record.user() == Some(*user));
        let user = user.expect("every session here has a user");
        let has_it = listed[user].contains(&session.to_string());
        assert!(has_it, "{}", users[user]);
        ControlFlow::Continue(())
    };
    place.store.for_each(&mut visit, SystemTime::now()).unwrap();
}
