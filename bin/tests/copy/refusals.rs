//! What a copy does not do, and how it says so.

use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use cgi_session::SessionManager;
use rustix::process::{Pid, Signal, kill_process};

use crate::pair::{Pair, Visitor, WAIT, all, counts, visitor};
use testkit::tools::{
    Finished, SOMEBODY, SOMEBODY_ELSE, is_root, owner, session_name, session_of_a_later_version,
};

type Held = Box<dyn cgi_session::Lease>;

fn hold(manager: &SessionManager, visitor: &Visitor) -> Held {
    let held = manager
        .store()
        .lock(&visitor.digest, WAIT, SystemTime::now());
    held.unwrap().expect("a session").1
}

#[test]
fn a_session_that_somebody_holds_is_told_and_brought_the_next_time() {
    for (holder, existing) in [("old", false), ("old", true), ("new", true)] {
        let pair = Pair::new("file", "sqlite");
        pair.configure("old", "file", "lockTimeout = 1s");
        let [held, free] = [(); 2].map(|()| visitor(&pair.old()));
        if existing {
            pair.copy(&[]).exits_with(0);
            held.count(&pair.old());
        }
        let lease = hold(&pair.manager(holder), &held);
        let told = pair.copy(&[]).exits_with(75);
        let told = told.complains(held.digest.as_str());
        told.complains("still locked").says("not brought: 1 busy");
        assert_eq!(free.counted(&pair.new_one()), Some(0));
        drop(lease);
        pair.copy(&[]).exits_with(0);
        assert_eq!(held.counted(&pair.new_one()), Some(u64::from(existing)));
    }
}

#[test]
fn what_cannot_be_read_is_told_and_left_where_it_is() {
    let pair = Pair::new("file", "sqlite");
    let visitor = visitor(&pair.old());
    let later = pair.directory("old").join(session_name());
    fs::write(&later, session_of_a_later_version()).unwrap();
    let damaged = pair
        .directory("old")
        .join(format!("{}.json", "b".repeat(64)));
    fs::write(&damaged, "x".repeat(1024)).unwrap();
    for arguments in [&["--dry-run"][..], &["--move"]] {
        let told = pair.copy(arguments).exits_with(1);
        let told = told.complains("version 2").complains(&"b".repeat(64));
        assert_eq!(told.stderr.lines().count(), 2, "{told:#?}");
        told.says("not brought: 2 unreadable");
        assert!(later.exists() && damaged.exists());
    }
    assert_eq!(visitor.counted(&pair.new_one()), Some(0));
}

#[test]
fn a_session_too_large_for_the_new_store_is_told_and_stays() {
    let pair = Pair::new("file", "sqlite");
    pair.configure("new", "sqlite", "maxRecordBytes = 256");
    let [small, large] = [(); 2].map(|()| visitor(&pair.old()));
    let mut session = pair.old().start(&large.cookie).unwrap();
    session.insert("padding", "x".repeat(1000)).unwrap();
    session.commit().unwrap();
    let told = pair.copy(&["--move"]).exits_with(1);
    told.complains("maxRecordBytes is 256")
        .says("not brought: 1 failed");
    assert_eq!(small.counted(&pair.new_one()), Some(0));
    assert_eq!(large.counted(&pair.old()), Some(0));
    pair.configure("new", "sqlite", "");
    pair.copy(&["--move"]).exits_with(0);
    assert_eq!(large.counted(&pair.new_one()), Some(0));
}

#[test]
fn a_new_store_is_filled_and_nothing_in_it_evicted() {
    let pair = Pair::new("file", "sqlite");
    pair.configure("new", "sqlite", "maxSessions = 3\nwhenFull = evictOldest");
    let there = visitor(&pair.new_one());
    for _ in 0..5 {
        visitor(&pair.old());
    }
    pair.copy(&["--move"])
        .exits_with(75)
        .complains("maxSessions");
    assert_eq!(all(&pair.new_one()).len(), 3);
    assert_eq!(there.counted(&pair.new_one()), Some(0));
    assert_eq!(all(&pair.old()).len(), 3);
    pair.configure("new", "sqlite", "");
    pair.copy(&["--move"]).exits_with(0);
    assert_eq!((all(&pair.old()).len(), all(&pair.new_one()).len()), (0, 6));
}

#[test]
fn one_store_cannot_be_both() {
    let pair = Pair::new("file", "file");
    let visitor = visitor(&pair.old());
    let link = pair.path().join("link");
    std::os::unix::fs::symlink(pair.directory("old"), link).unwrap();
    let lines = format!(
        "[session]\nstorageFileDir = {}/link/../old\n",
        pair.path().display()
    );
    fs::write(pair.configuration("new"), lines).unwrap();
    let refused = pair.copy(&["--move"]).exits_with(2);
    refused.complains("are the same store");
    assert_eq!(visitor.counted(&pair.old()), Some(0));
}

#[test]
fn a_store_that_nobody_else_can_read_is_refused() {
    for (kind, reason) in [
        ("cookie", "at the clients"),
        ("ram", "in the memory of one program"),
        ("custom", "only the program"),
    ] {
        for name in ["old", "new"] {
            let pair = Pair::new("file", "file");
            let text = format!("[session]\nstorageType = {kind}\n");
            fs::write(pair.configuration(name), text).unwrap();
            pair.copy(&[]).exits_with(2).complains(reason);
        }
    }
}

#[test]
fn what_would_hold_for_both_stores_is_refused() {
    let pair = Pair::new("file", "sqlite");
    let mut command = pair.command("old", "new");
    command.env("CGI_SESSION_STORAGE_TYPE", "file");
    command.env("CGI_SESSION_STORAGE_FILE_DIR", pair.directory("new"));
    Finished::of(&mut command)
        .exits_with(2)
        .complains("CGI_SESSION_STORAGE_TYPE is set");
    let mut command = pair.command("old", "new");
    command.arg("--config").arg(pair.configuration("old"));
    Finished::of(&mut command).exits_with(2).complains("--from");
    fs::remove_dir(pair.directory("old")).unwrap();
    pair.copy(&[]).exits_with(1).complains("does not exist");
}

#[test]
fn the_journal_of_other_stores_is_refused_and_that_of_another_run_waited_for() {
    let pair = Pair::new("file", "sqlite");
    visitor(&pair.old());
    pair.copy(&[]).exits_with(0);
    let journal = File::open(pair.journal()).unwrap();
    journal.lock().unwrap();
    let refused = pair.copy(&[]).exits_with(75);
    refused.complains("another run is using it");
    // A child that another test starts just now may have the file, too.
    journal.unlock().unwrap();
    pair.configure("third", "file", "");
    let mut command = pair.command("old", "third");
    command.arg("--journal").arg(pair.journal());
    Finished::of(&mut command)
        .exits_with(2)
        .complains("the journal of other stores")
        .complains("--journal");
    assert!(all(&pair.manager("third")).is_empty());
}

#[test]
fn a_run_that_is_interrupted_says_so_and_the_next_one_goes_on() {
    let pair = Pair::new("file", "sqlite");
    pair.configure("old", "file", "lockTimeout = 1s");
    let visitors: Vec<_> = (0..20).map(|_| visitor(&pair.old())).collect();
    let leases: Vec<_> = visitors[..6]
        .iter()
        .map(|it| hold(&pair.old(), it))
        .collect();
    let mut command = pair.command("old", "new");
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let started = Instant::now();
    // What is free is there: now it waits for the others, one after the other.
    while all(&pair.new_one()).len() < 14 {
        assert!(started.elapsed() < WAIT, "it does not get on");
        thread::sleep(Duration::from_millis(5));
    }
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
    kill_process(pid.unwrap(), Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let mut said = String::new();
    child.stderr.unwrap().read_to_string(&mut said).unwrap();
    assert!(said.contains("run it again for the rest"), "{said}");
    drop(leases);
    let expected = counts(20, &[("copied", 6), ("unchanged", 14)]);
    assert_eq!(pair.counts(&[], 0), expected);
}

#[test]
fn root_copies_as_the_owner_and_leaves_nothing_of_roots() {
    if !is_root() {
        return;
    }
    let pair = Pair::new("file", "sqlite");
    let visitor = visitor(&pair.old());
    give(&pair, "old", SOMEBODY);
    chown(pair.directory("new"), Some(SOMEBODY), Some(SOMEBODY)).unwrap();
    for _ in 0..2 {
        pair.copy(&[]).exits_with(0);
    }
    assert_eq!(owner(&pair.journal()), SOMEBODY);
    for name in ["old", "new"] {
        for entry in fs::read_dir(pair.directory(name)).unwrap() {
            let path = entry.unwrap().path();
            assert_eq!(owner(&path), SOMEBODY, "{}", path.display());
        }
    }
    let mode = fs::metadata(pair.journal()).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);

    pair.configure("third", "file", "");
    give(&pair, "third", SOMEBODY_ELSE);
    let mut command = pair.command("old", "third");
    Finished::of(&mut command)
        .exits_with(78)
        .complains("nobody can use both");
    let seen = fs::read_dir(pair.directory("new")).unwrap();
    assert!(seen.count() > 0 && visitor.cookie.starts_with("sessionId="));
}

fn give(pair: &Pair, name: &str, uid: u32) {
    let directory = pair.directory(name);
    let mut command = Command::new("chown");
    command.args(["-R", &format!("{uid}:{uid}")]).arg(directory);
    assert!(command.status().unwrap().success());
}
