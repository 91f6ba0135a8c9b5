//! What lies under a session's name and is no session: nothing is followed, nothing hangs, nothing
//! is touched.

use rustix::fs::{CWD, FileType, Mode};
use testkit::prelude::*;

use crate::support::{DEADLINE, IDLE, Place, ago, ends, skip};

/// What lock, read and clean-up say to `put` under a session's name.
struct Answers {
    place: Place,
    id: SessionId,
    lock: Option<String>,
    read: Option<String>,
    failures: Vec<String>,
}

fn answers(put: impl FnOnce(&Path)) -> Answers {
    let place = Place::new();
    let id = place.create(1);
    let path = place.store.path(&id);
    fs::remove_file(&path).unwrap();
    put(&path);
    ends(move || {
        let now = SystemTime::now();
        let told = |error: Error| error.one_line();
        let lock = place
            .store
            .lock(&id.digest(), DEADLINE, now)
            .err()
            .map(told);
        let read = place.store.read(&id.digest(), now).err().map(told);
        let later = now + std::time::Duration::from_secs(2 * IDLE);
        let report = place.sweep(later);
        Answers {
            place,
            id,
            lock,
            read,
            failures: report.failures,
        }
    })
}

impl Answers {
    /// Everybody refuses it for this reason, and it is still there.
    #[track_caller]
    fn are_refusals(&self, reason: &str) {
        for answer in [&self.lock, &self.read] {
            let answer = answer.as_ref().expect("an error");
            assert!(answer.contains(reason), "{answer}");
            assert!(answer.contains("left alone"), "{answer}");
            assert!(!answer.contains(self.id.secret()));
        }
        assert!(self.place.exists(&self.id), "it was deleted");
        assert_eq!(self.failures.len(), 1, "{:?}", self.failures);
    }
}

#[test]
fn a_pipe_is_refused_and_nobody_waits_for_its_other_end() {
    let mode = Mode::from_raw_mode(0o600);
    answers(|path| rustix::fs::mknodat(CWD, path, FileType::Fifo, mode, 0).unwrap())
        .are_refusals("is not a regular file");
}

#[test]
fn a_socket_is_refused() {
    answers(|path| {
        // A socket's path is at most 108 bytes long, so it is made under a short one.
        let short = tempfile::tempdir().unwrap();
        UnixListener::bind(short.path().join("s")).unwrap();
        fs::rename(short.path().join("s"), path).unwrap();
    })
    .are_refusals("is not a regular file");
}

#[test]
fn a_directory_is_refused() {
    let answers = answers(|path| fs::create_dir(path).unwrap());
    assert!(answers.lock.unwrap().contains("is a directory"));
    assert!(answers.read.unwrap().contains("is not a regular file"));
    assert!(answers.place.exists(&answers.id));
}

#[test]
fn a_symbolic_link_is_refused_and_its_target_untouched() {
    let elsewhere = tempfile::tempdir().unwrap();
    let target = elsewhere.path().join("target");
    fs::write(&target, "precious").unwrap();
    crate::support::set_modified(&target, ago(100 * IDLE));
    let before = fs::metadata(&target).unwrap().modified().unwrap();
    answers(|path| symlink(&target, path).unwrap()).are_refusals("is a symbolic link");
    assert_eq!(fs::read(&target).unwrap(), b"precious");
    assert_eq!(fs::metadata(&target).unwrap().modified().unwrap(), before);
}

#[test]
fn a_link_to_nothing_and_a_link_to_itself_are_refused() {
    answers(|path| symlink("nothing", path).unwrap()).are_refusals("is a symbolic link");
    answers(|path| symlink(path, path).unwrap()).are_refusals("is a symbolic link");
}

#[test]
fn a_hard_link_is_refused_and_its_other_name_untouched() {
    let place = Place::new();
    let (victim, id) = (place.create(1), place.create(2));
    let before = fs::read(place.store.path(&victim)).unwrap();
    fs::remove_file(place.store.path(&id)).unwrap();
    fs::hard_link(place.store.path(&victim), place.store.path(&id)).unwrap();
    for id in [&victim, &id] {
        let error = place
            .store
            .lock(&id.digest(), DEADLINE, SystemTime::now())
            .err()
            .unwrap();
        assert!(error.to_string().contains("more than one name"), "{error}");
        let hint = error.hint().unwrap();
        assert!(hint.contains("remove its other name"), "{hint}");
    }
    place.set_modified(&id, ago(100 * IDLE));
    let report = place.sweep(SystemTime::now());
    assert_eq!((report.deleted, report.failures.len()), (0, 2));
    assert_eq!(fs::read(place.store.path(&victim)).unwrap(), before);
}

#[test]
fn a_huge_file_is_refused_and_not_read() {
    let answers = answers(|path| {
        let file = File::create(path).unwrap();
        file.set_len(5 << 30).unwrap();
        file.write_all_at(b"[{\"g\":", 0).unwrap();
    });
    answers.are_refusals("has 5368709120 bytes");
}

#[test]
fn an_empty_file_is_damaged() {
    let answers = answers(|path| drop(File::create(path).unwrap()));
    assert_eq!((answers.lock, answers.read), (None, None));
    assert!(!answers.place.exists(&answers.id));
}

#[test]
fn a_file_of_another_user_is_refused() {
    if !rustix::process::geteuid().is_root() {
        skip("not root, who alone can give files away");
        return;
    }
    let place = Place::new();
    let id = place.create(1);
    let path = place.store.path(&id);
    std::os::unix::fs::chown(&path, Some(1234), Some(1234)).unwrap();
    place.set_modified(&id, ago(100 * IDLE));
    let before = fs::read(&path).unwrap();
    let now = SystemTime::now();
    for error in [
        place.store.lock(&id.digest(), DEADLINE, now).err(),
        place.store.read(&id.digest(), now).err(),
    ] {
        let line = error.expect("an error").one_line();
        assert!(line.contains("belongs to uid 1234"), "{line}");
        assert!(line.contains("must run as one user"), "{line}");
    }
    let report = place.sweep(now);
    assert_eq!((report.deleted, report.failures.len()), (0, 1));
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn a_file_without_permissions_is_an_error_that_says_so() {
    if rustix::process::geteuid().is_root() {
        skip("root may open every file");
        return;
    }
    let answers = answers(|path| {
        File::create(path).unwrap();
        fs::set_permissions(path, Permissions::from_mode(0o0)).unwrap();
    });
    assert!(answers.lock.unwrap().contains("Permission denied"));
    assert!(answers.place.exists(&answers.id));
}

#[test]
fn a_directory_that_others_can_write_in_is_refused() {
    for mode in [0o777, 0o770, 0o1777] {
        let place = Place::new();
        fs::create_dir(place.path()).unwrap();
        fs::set_permissions(place.path(), Permissions::from_mode(mode)).unwrap();
        let line = refusal(&place);
        assert!(line.contains("can be written by others"), "{line}");
        // Users share one that is sticky.
        let is_shared = mode == 0o1777;
        assert_eq!(line.contains("chmod 0700"), !is_shared, "{line}");
        assert_eq!(place.names(), [""; 0]);
    }
}

#[test]
fn a_running_program_notices_that_others_can_write_in_its_directory() {
    let place = Place::new();
    let id = place.create(1);
    let set_mode = |mode| fs::set_permissions(place.path(), Permissions::from_mode(mode)).unwrap();
    set_mode(0o770);
    let read = || place.store.read(&id.digest(), SystemTime::now());
    wait_until("the mode is noticed", || read().is_err());
    says(&read().unwrap_err(), "can be written by others");
    set_mode(0o700);
    assert_eq!(place.read_n(&id), Some(1));
}

#[test]
fn a_directory_that_is_a_link_or_a_file_is_refused() {
    let place = Place::new();
    let elsewhere = tempfile::tempdir().unwrap();
    symlink(elsewhere.path(), place.path()).unwrap();
    let line = refusal(&place);
    assert!(line.contains("is a symbolic link"), "{line}");
    assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 0);

    fs::remove_file(place.path()).unwrap();
    fs::write(place.path(), "a file").unwrap();
    holds(refusal(&place), "is not a directory");
}

#[test]
fn a_directory_of_another_user_is_refused() {
    if !rustix::process::geteuid().is_root() {
        skip("not root, who alone can give files away");
        return;
    }
    let place = Place::new();
    fs::create_dir(place.path()).unwrap();
    std::os::unix::fs::chown(place.path(), Some(1234), None).unwrap();
    holds(refusal(&place), "belongs to uid 1234");
}

#[test]
fn a_directory_whose_parent_is_missing_is_an_error_with_the_command_that_mends_it() {
    let place = Place::new();
    let below = place.path().join("missing").join("sessions");
    let store = place.another(&[("storageFileDir", below.to_str().unwrap())]);
    let id = SessionId::generate().unwrap();
    let error = store.create(&id.digest(), &crate::support::record(1), SystemTime::now());
    let line = error.err().expect("an error").one_line();
    assert!(line.contains("No such file or directory"), "{line}");
    assert!(line.contains("install -d -m 0700"), "{line}");
}

/// Why a session cannot be created; whether one can be looked for does not matter.
#[track_caller]
fn refusal(place: &Place) -> String {
    let id = SessionId::generate().unwrap();
    let created = place
        .store
        .create(&id.digest(), &crate::support::record(1), SystemTime::now());
    let line = created.err().expect("an error").one_line();
    assert!(!line.contains(id.secret()));
    line
}

#[test]
fn a_count_or_sweep_lock_that_leads_elsewhere_is_refused_and_its_target_untouched() {
    for name in [".count", ".gc"] {
        for hard in [true, false] {
            let place = Place::with(&[("maxSessions", "1")]);
            let elsewhere = place.path().with_extension("target");
            fs::write(&elsewhere, "precious").unwrap();
            fs::create_dir(place.path()).unwrap();
            fs::set_permissions(place.path(), Permissions::from_mode(0o700)).unwrap();
            if hard {
                fs::hard_link(&elsewhere, place.file(name)).unwrap();
            } else {
                symlink(&elsewhere, place.file(name)).unwrap();
            }
            let before = fs::metadata(&elsewhere).unwrap().modified().unwrap();
            refusal(&place);
            let swept = place.store.delete_expired(&Sweep::new(), SystemTime::now());
            assert!(swept.is_err(), "{name}");
            assert_eq!(fs::read(&elsewhere).unwrap(), b"precious", "{name}");
            let after = fs::metadata(&elsewhere).unwrap().modified().unwrap();
            assert_eq!(after, before);
        }
    }
}

#[test]
fn a_link_where_a_damaged_file_is_to_be_kept_is_not_followed() {
    let place = Place::new();
    let id = place.create(1);
    let target = place.path().with_extension("target");
    fs::write(&target, "precious").unwrap();
    symlink(&target, place.file(&format!("{}.corrupt", id.digest()))).unwrap();
    fs::write(place.store.path(&id), "damaged").unwrap();
    assert_eq!(place.locked_n(&id), None);
    assert_eq!(fs::read(&target).unwrap(), b"precious");
}
