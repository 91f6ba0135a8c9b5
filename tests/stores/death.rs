//! Every row of the table "What the next request sees after a death" in `src/store/file.rs`.

use testkit::prelude::*;

use crate::support::{
    DEADLINE, IDLE, Place, ago, ahead, data, file, is_index, marker, no_slot, record, record_until,
    slot,
};

/// Both ways to the session find `expected`, and the next commit mends the file.
#[track_caller]
fn finds(place: &Place, id: &SessionId, expected: u64) {
    assert_eq!(place.read_n(id), Some(expected), "read");
    assert_eq!(place.locked_n(id), Some(expected), "locked");
    place.commit(id, &record(expected + 1));
    assert_eq!(place.read_n(id), Some(expected + 1), "after a commit");
    let text = fs::read(place.store.path(id)).unwrap();
    assert!(serde_json::from_slice::<serde_json::Value>(&text).is_ok());
}

/// A file whose second record is the newer one, cut off after `written` bytes of its slot, over
/// what `before` had left there.
fn torn_second(before: fn(&str) -> Vec<u8>, written: usize) -> (Place, SessionId) {
    let place = Place::new();
    let id = place.plant(|digest| {
        let first = slot(digest, true, 5, 512, &data(5));
        let mut second = before(digest);
        second[..written].copy_from_slice(&slot(digest, false, 6, 512, &data(6))[..written]);
        file(first, second)
    });
    (place, id)
}

fn older_record(digest: &str) -> Vec<u8> {
    slot(digest, false, 4, 512, &data(4_444_444))
}

#[test]
fn death_before_the_write_of_a_commit_or_in_its_header_or_data_leaves_the_record_before() {
    for written in [0, 92, 92 + data(6).len() / 2] {
        let (place, id) = torn_second(older_record, written);
        finds(&place, &id, 5);
    }
}

#[test]
fn death_in_the_first_commit_after_a_creation_leaves_the_record_before() {
    for written in [1, 5, 92, 120] {
        let (place, id) = torn_second(|_| no_slot(512), written);
        finds(&place, &id, 5);
    }
}

#[test]
fn death_at_any_byte_of_the_write_leaves_the_record_before_or_the_new_one() {
    for written in (0..=220).chain([400, 511, 512]) {
        let (place, id) = torn_second(older_record, written);
        let found = place.locked_n(&id).unwrap();
        let expected = match written.cmp(&(92 + data(6).len())) {
            std::cmp::Ordering::Less => 5..=5,
            std::cmp::Ordering::Equal => 5..=6,
            std::cmp::Ordering::Greater => 6..=6,
        };
        assert!(expected.contains(&found), "{written}");
        assert_eq!(place.read_n(&id), Some(found));
    }
}

#[test]
fn death_after_the_write_of_a_commit_leaves_the_new_record() {
    let (place, id) = torn_second(older_record, 512);
    finds(&place, &id, 6);
}

#[test]
fn death_before_the_time_is_set_leaves_the_new_record_and_the_next_lock_mends_the_time() {
    let place = Place::new();
    let end = ahead(10 * IDLE);
    let id = place.create_record(&record_until(1, end));
    let right = place.modified(&id);
    // pwrite(2) set the time; the process died before it set the right one.
    place.set_modified(&id, SystemTime::now());
    assert_eq!(place.read_n(&id), Some(1));
    assert_eq!(place.locked_n(&id), Some(1));
    assert_eq!(place.modified(&id), right);
}

#[test]
fn death_in_a_growth_before_the_rename_leaves_the_record_before_and_clean_up_takes_the_rest() {
    for image in [&b""[..], b"[{\"g\":", &[b' '; 4096]] {
        let place = Place::new();
        let id = place.create(1);
        let orphan = place.file(".tmp-4711-0123456789abcdef");
        fs::write(&orphan, image).unwrap();
        finds(&place, &id, 1);

        assert_eq!(place.sweep(SystemTime::now()).temporary, 0);
        assert!(orphan.exists());
        let old = place.sweep(ahead(62));
        assert_eq!((old.temporary, old.deleted, old.live), (1, 0, 1));
        assert!(!orphan.exists());
    }
}

#[test]
fn death_in_a_growth_after_the_rename_leaves_the_new_record() {
    let place = Place::new();
    let id = place.plant(|digest| file(slot(digest, true, 1002, 4096, &data(7)), no_slot(4096)));
    finds(&place, &id, 7);
}

#[test]
fn death_in_a_creation_leaves_a_damaged_file_that_nobody_sees_and_clean_up_takes() {
    let place = Place::new();
    let whole = |digest: &str| file(slot(digest, true, 1, 512, &data(1)), no_slot(512));
    for written in [0, 1, 92, 120] {
        let id = place.plant(|digest| whole(digest)[..written].to_vec());
        assert_eq!(place.read_n(&id), None, "{written}");
        place.set_modified(&id, ago(IDLE + 62));
        assert_eq!(place.sweep(SystemTime::now()).deleted, 1, "{written}");
        assert!(!place.exists(&id));
    }
}

#[test]
fn death_after_a_creation_leaves_a_session_that_nobody_knows_until_it_expires() {
    let place = Place::new();
    let id = place.create(1);
    place.set_modified(&id, ago(IDLE + 62));
    assert_eq!(place.sweep(SystemTime::now()).deleted, 1);
    assert!(!place.exists(&id));
}

#[test]
fn death_before_the_unlink_of_a_deletion_leaves_the_session() {
    let place = Place::new();
    let id = place.create(3);
    let (_, lease) = place.lock(&id).unwrap();
    drop(lease);
    finds(&place, &id, 3);
}

#[test]
fn death_after_the_unlink_leaves_a_count_one_too_high_that_clean_up_mends() {
    let place = Place::with(&[("maxSessions", "100")]);
    let (_, gone) = (place.create(1), place.create(2));
    assert_eq!(place.count(), 2);
    fs::remove_file(place.store.path(&gone)).unwrap();
    assert_eq!(place.locked_n(&gone), None);
    place.sweep(SystemTime::now());
    assert_eq!(place.count(), 1);
}

#[test]
fn death_in_a_change_of_id_leaves_the_old_id_with_the_old_record() {
    let place = Place::new();
    let old = place.create(1);
    let (_, lease) = place.lock(&old).unwrap();
    let new = place.create(2);
    drop(lease);
    finds(&place, &old, 1);
    place.set_modified(&new, ago(IDLE + 62));
    assert_eq!(place.swept(SystemTime::now()), (1, 1));
}

/// A session that had another id before; the request that changed it has died with the old one's lock.
fn marked(settings: &[(&str, &str)]) -> (Place, SessionId, SessionId) {
    let place = Place::with(settings);
    let old = place.create(1);
    let (_, mut lease) = place.lock(&old).unwrap();
    let now = SystemTime::now();
    let (new, next) = (SessionId::generate().unwrap(), record(2));
    let next = next.succeeding(&old.digest(), now);
    drop(place.store.create(&new.digest(), &next, now).unwrap());
    lease.commit(&marker(now), now).unwrap();
    drop(lease);
    (place, old, new)
}

fn is_marked(place: &Place, id: &SessionId) -> bool {
    let found = place.store.read(&id.digest(), SystemTime::now());
    found.unwrap().is_some_and(|found| found.record.is_marker())
}

#[test]
fn death_after_the_marker_is_written_leaves_it_for_sixty_seconds_and_the_session_under_the_new_id()
{
    let (place, old, new) = marked(&[]);
    assert!(is_marked(&place, &old));
    assert_eq!(place.sweep(ahead(58)).live, 1);
    assert!(is_marked(&place, &old));
    assert_eq!(place.sweep(ahead(63)).live, 1);
    assert!(!place.exists(&old));
    finds(&place, &new, 2);
}

#[test]
fn death_before_the_time_of_a_marker_is_set_leaves_it_and_the_next_lock_and_clean_up_mend_the_rest()
{
    let (place, old, new) = marked(&[("maxSessions", "100")]);
    place.set_modified(&old, SystemTime::now());
    place.set_count(2);
    assert!(is_marked(&place, &old));
    assert!(place.lock(&old).unwrap().0.record.is_marker());
    assert_eq!(place.modified(&old), SystemTime::UNIX_EPOCH);
    assert_eq!((place.sweep(SystemTime::now()).live, place.count()), (1, 1));
    finds(&place, &new, 2);
}

/// A session of a user, and the path of the user's index.
fn logged_in() -> (Place, SessionId, std::path::PathBuf) {
    let place = Place::new();
    let id = place.create_record(&record(1).with_user(Some("ada")));
    let names = place.names();
    let index = names.iter().find(|name| is_index(name)).unwrap();
    let index = place.file(index);
    (place, id, index)
}

#[track_caller]
fn finds_of_user(place: &Place, ids: &[&SessionId]) {
    let now = SystemTime::now();
    let mut found = place.store.sessions_of("ada", now).unwrap();
    let mut expected: Vec<_> = ids.iter().map(|id| id.digest()).collect();
    found.sort_by_key(ToString::to_string);
    expected.sort_by_key(ToString::to_string);
    assert_eq!(found, expected);
}

#[test]
fn death_while_an_index_gets_a_session_leaves_a_torn_line_that_the_next_login_mends() {
    for written in 0..=65 {
        let (place, id, index) = logged_in();
        let line = format!("{}\n", "b".repeat(64));
        let text = fs::read_to_string(&index).unwrap() + &line[..written];
        fs::write(&index, text).unwrap();
        finds_of_user(&place, &[&id]);
        let next = place.create_record(&record(2).with_user(Some("ada")));
        finds_of_user(&place, &[&id, &next]);
        let length = fs::metadata(&index).unwrap().len();
        assert_eq!(length, if written == 65 { 3 * 65 } else { 2 * 65 });
    }
}

#[test]
fn death_after_an_index_got_a_session_leaves_one_that_is_not_the_users() {
    let (place, id, index) = logged_in();
    // In the index, but its record is still that of nobody.
    let other = place.create(2);
    let text = fs::read_to_string(&index).unwrap() + &format!("{}\n", other.digest());
    fs::write(&index, text).unwrap();
    finds_of_user(&place, &[&id]);
    place.commit(&other, &record(3).with_user(Some("ada")));
    finds_of_user(&place, &[&id, &other]);
}

#[test]
fn death_while_an_index_loses_a_session_leaves_the_others_in_it() {
    for blank in 0..=64 {
        let (place, gone, index) = logged_in();
        let id = place.create_record(&record(2).with_user(Some("ada")));
        let mut text = fs::read(&index).unwrap();
        fs::remove_file(place.store.path(&gone)).unwrap();
        text[..blank].fill(b' ');
        fs::write(&index, text).unwrap();
        finds_of_user(&place, &[&id]);
        place.lock(&id).unwrap().1.destroy().unwrap();
        finds_of_user(&place, &[]);
    }
}

#[test]
fn death_while_an_index_is_made_smaller_leaves_the_old_one_and_clean_up_takes_the_rest() {
    let (place, id, index) = logged_in();
    let orphan = place.file(".tmp-4711-0123456789abcdef");
    fs::write(&orphan, &fs::read(&index).unwrap()[..40]).unwrap();
    finds_of_user(&place, &[&id]);
    assert_eq!(place.sweep(ahead(62)).temporary, 1);
    assert!(!orphan.exists() && index.exists());
    finds_of_user(&place, &[&id]);
}

#[test]
fn death_in_a_clean_up_leaves_the_rest_to_the_next() {
    let place = Place::new();
    for n in 0..10 {
        let id = place.create(n);
        place.set_modified(&id, ago(IDLE + 62));
    }
    let first = place
        .store
        .delete_expired(&Sweep::new().max_files(4), SystemTime::now());
    assert_eq!(first.unwrap().deleted, 4);
    let second = place.sweep(SystemTime::now());
    assert_eq!((second.deleted, place.sessions()), (6, 0));
}

const DIRECTORY: &str = "STORE_TEST_DIRECTORY";
const ID: &str = "STORE_TEST_ID";

/// The child's part of the tests below: takes the lock, says so, and never lets go.
#[test]
fn child_that_holds_a_lock_until_it_is_killed() {
    let Some(directory) = std::env::var_os(DIRECTORY) else {
        return;
    };
    let store = FileStore::new(Config::new().set("storageFileDir", directory).unwrap()).unwrap();
    let id = SessionId::parse(std::env::var(ID).unwrap().as_bytes()).unwrap();
    let held = store
        .lock(&id.digest(), DEADLINE, SystemTime::now())
        .unwrap();
    assert!(held.is_some());
    println!("\nlocked");
    std::thread::sleep(DEADLINE);
}

#[test]
fn a_killed_holder_frees_its_lock_at_once() {
    let place = Place::new();
    let id = place.create(1);
    let mut child = testkit::again(module_path!(), "child_that_holds_a_lock_until_it_is_killed");
    let child = child.env(DIRECTORY, place.path()).env(ID, id.secret());
    let mut child = Killed(child.stdout(Stdio::piped()).spawn().unwrap());
    let lines = BufReader::new(child.0.stdout.take().unwrap()).lines();
    assert!(lines.map_while(Result::ok).any(|line| line == "locked"));

    let (wait, now) = (Duration::from_millis(20), SystemTime::now());
    let busy = place.store.lock(&id.digest(), wait, now);
    let text = busy.err().expect("it is locked").to_string();
    let holder = format!("by process {} (", child.0.id());
    assert!(text.contains(&holder), "{text}");
    // A reader does not mind.
    assert_eq!(place.read_n(&id), Some(1));

    child.0.kill().unwrap();
    finds(&place, &id, 1);
}

#[test]
fn files_are_0600_and_directories_0700_whatever_the_umask_is() {
    for umask in ["000", "022", "077", "777"] {
        let place = Place::with(&[("shards", "256")]);
        let status = crate::support::again_after(
            &format!("umask {umask}"),
            "death::child_that_makes_every_kind_of_file",
        )
        .env(DIRECTORY, place.path())
        .status()
        .unwrap();
        assert!(status.success());
        let mut seen = Vec::new();
        let mut folders = vec![place.path().to_owned()];
        assert_eq!(mode(place.path()), 0o700);
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
                let path = entry.path();
                if path.is_dir() {
                    assert_eq!(mode(&path), 0o700, "{umask} {path:?}");
                    folders.push(path);
                } else {
                    assert_eq!(mode(&path), 0o600, "{umask} {path:?}");
                    let name = entry.file_name().into_string().unwrap();
                    seen.push(name.rsplit('.').next().unwrap().to_owned());
                }
            }
        }
        seen.sort();
        assert_eq!(seen, ["corrupt", "count", "gc", "json", "json", "user"]);
    }
}

fn mode(path: &std::path::Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

/// The child's part: a creation, a growth, a file set aside, a clean-up.
#[test]
fn child_that_makes_every_kind_of_file() {
    let Some(directory) = std::env::var_os(DIRECTORY) else {
        return;
    };
    let config = Config::new().set("storageFileDir", directory).unwrap();
    let config = config.set("shards", "256").unwrap();
    let store = FileStore::new(config.set("maxSessions", "100").unwrap()).unwrap();
    let now = SystemTime::now();
    let ids: Vec<_> = (0..3).map(|_| SessionId::generate().unwrap()).collect();
    for id in &ids {
        store
            .create(&id.digest(), &record(1), now)
            .unwrap()
            .unwrap();
    }
    let (_, mut lease) = store
        .lock(&ids[0].digest(), DEADLINE, now)
        .unwrap()
        .unwrap();
    lease
        .commit(
            &crate::support::record_of_size(2, 9000).with_user(Some("ada")),
            now,
        )
        .unwrap();
    fs::write(store.path(&ids[1]), "rubbish").unwrap();
    let found = store.lock(&ids[1].digest(), DEADLINE, now).unwrap();
    assert!(found.is_none());
    store.delete_expired(&Sweep::new(), now).unwrap();
}
