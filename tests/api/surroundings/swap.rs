//! A directory that is exchanged for a link, or removed, while it is in use.

use rustix::fs::{CWD, RenameFlags, renameat_with};
use testkit::prelude::*;

use super::clean_up;

const SWAPS: usize = 4_000;
/// What only the directory outside has.
const OUTSIDE: u64 = 1_000_000;

fn manager(directory: &Path) -> SessionManager {
    let config = Config::new().set("storageFileDir", directory).unwrap();
    SessionManager::new(config.set("maxSessions", "1000").unwrap()).unwrap()
}

fn count(manager: &SessionManager, cookie: &str) -> Result<u64, Error> {
    let counted = manager.update(cookie, |session| {
        assert!(!session.is_new(), "the session is there all the time");
        let n = session.require::<u64>("n")? + 1;
        assert!(n < OUTSIDE, "a file outside was read");
        session.insert("n", n)?;
        session.insert("x", "x".repeat(usize::try_from(n % 7 * 1000).unwrap()))?;
        Ok(n)
    });
    counted.map(|(n, _)| n)
}

/// The session of a visitor, in this directory; its cookie.
fn begin(directory: &Path, n: u64) -> String {
    let begun = manager(directory).update("", |session| session.insert("n", n));
    header_of(begun.unwrap().1)
}

/// Everything in a directory: contents and times.
fn everything(directory: &Path) -> BTreeMap<String, (Vec<u8>, SystemTime)> {
    let entries = fs::read_dir(directory).unwrap().map(Result::unwrap);
    let seen = entries.map(|entry| {
        let modified = entry.metadata().unwrap().modified().unwrap();
        let name = entry.file_name().into_string().unwrap();
        (name, (fs::read(entry.path()).unwrap(), modified))
    });
    let modified = fs::metadata(directory).unwrap().modified().unwrap();
    let own = (".".to_owned(), (Vec::new(), modified));
    seen.chain([own]).collect()
}

#[test]
fn a_directory_that_is_exchanged_for_a_link_again_and_again_lets_nothing_outside_be_touched() {
    let place = tempfile::tempdir().unwrap();
    let [inside, link, outside] =
        ["sessions", "link", "outside"].map(|name| place.path().join(name));
    let cookie = begin(&inside, 0);
    // Outside lies the same session with another number, and one that has expired.
    fs::create_dir(&outside).unwrap();
    fs::set_permissions(&outside, Permissions::from_mode(0o700)).unwrap();
    for entry in fs::read_dir(&inside).unwrap().map(Result::unwrap) {
        let text = fs::read_to_string(entry.path()).unwrap_or_default();
        fs::write(outside.join(entry.file_name()), text).unwrap();
    }
    let expired = outside.join(format!("{}.json", "a".repeat(64)));
    fs::write(&expired, "precious").unwrap();
    let file = fs::File::options().write(true).open(&expired).unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
    symlink(&outside, &link).unwrap();
    let before = everything(&outside);

    let (done, counted, refused) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let manager = manager(&inside);
                    match count(&manager, &cookie) {
                        Ok(_) => counted.fetch_add(1, Ordering::Relaxed),
                        Err(_) => refused.fetch_add(1, Ordering::Relaxed),
                    };
                    // It may fail, and must do no harm.
                    let _ = manager.delete_expired(&Sweep::new());
                    let _ = manager.update("", |session| session.insert("n", 0));
                }
            });
        }
        let mut swaps = 0;
        let are_enough = |number: &AtomicU64| number.load(Ordering::Relaxed) > 20;
        // To an even number, which leaves the directory in its place.
        while swaps < SWAPS || swaps % 2 == 1 || ![&counted, &refused].into_iter().all(are_enough) {
            assert!(swaps < 1000 * SWAPS, "nothing is counted, or refused");
            renameat_with(CWD, &inside, CWD, &link, RenameFlags::EXCHANGE).unwrap();
            // Now the one is there, and now the other.
            if swaps % 499 == 0 {
                let (status, _) = clean_up(&inside, &[]);
                // It may refuse.
                assert!(status.code().is_some(), "{status}");
            }
            swaps += 1;
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(everything(&outside), before);
    let [counted, refused] = [counted, refused].map(AtomicU64::into_inner);
    let is_it = counted > 0 && refused > 0;
    assert!(is_it, "{counted} counted, {refused} refused");
    assert_eq!(count(&manager(&inside), &cookie).unwrap(), counted + 1);
}

#[test]
fn a_directory_that_is_removed_again_and_again_is_made_again() {
    let place = tempfile::tempdir().unwrap();
    let directory = place.path().join("sessions");
    let (done, made) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                // As a program that runs all the time has one.
                let manager = manager(&directory);
                while !done.load(Ordering::Relaxed) {
                    let begun = manager.update("", |session| session.insert("n", 1));
                    made.fetch_add(begun.is_ok().into(), Ordering::Relaxed);
                    let _ = manager.delete_expired(&Sweep::new());
                }
            });
        }
        let mut removed = 0;
        wait_until("the directory is made often enough", || {
            // It fails when there is none, and when something is made in it meanwhile.
            removed += u64::from(fs::remove_dir_all(&directory).is_ok());
            removed >= 200 && made.load(Ordering::Relaxed) >= 200
        });
        done.store(true, Ordering::Relaxed);
    });
    let cookie = begin(&directory, 1);
    assert_eq!(count(&manager(&directory), &cookie).unwrap(), 2);
}
