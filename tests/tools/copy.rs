//! `cgi-session copy`: sessions arrive as they were, nothing newer is overwritten, and what cannot be brought is reported.

use testkit::engines;
use testkit::prelude::*;
use testkit::tools::{
    SOMEBODY, SOMEBODY_ELSE, is_root, owner, session_name, session_of_a_later_version, set_age,
    set_mode, tool,
};

const MINUTE: Duration = Duration::from_secs(60);

/// Two stores and their configuration files.
struct Pair(TempDir);

/// A client whose session counts from zero.
struct Client {
    digest: SessionDigest,
    cookie: String,
}

impl Pair {
    fn new(old: &str, new: &str) -> Self {
        let pair = Pair(tempfile::tempdir().unwrap());
        set_mode(pair.0.path(), 0o711);
        for (name, kind) in [("old", old), ("new", new)] {
            pair.configure(name, kind, "");
        }
        let is_local = |kind: &str| matches!(kind, "file" | "sqlite");
        for (name, kind) in [("old", old), ("new", new)] {
            // Where an engine has no owner, root does not create what a database lacks.
            if kind != "file" && !(is_local(old) && is_local(new)) {
                assert!(pair.manager(name).install().is_empty());
            }
        }
        pair
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn configure(&self, name: &str, kind: &str, more: &str) {
        let directory = self.path(name);
        let place = match kind {
            "file" => format!("storageFileDir = {}", directory.display()),
            "sqlite" => format!("database = {}/sessions.db", directory.display()),
            engine => {
                let pair = self.0.path().file_name().unwrap().to_str().unwrap();
                let pair = pair.replace(|c: char| !c.is_ascii_alphanumeric(), "_");
                let url = engines::url(engine).unwrap();
                format!("database = {url}\ntable = {pair}_{name}")
            }
        };
        if !directory.exists() {
            fs::create_dir(&directory).unwrap();
            set_mode(&directory, 0o700);
        }
        let text = format!("[session]\nstorageType = {kind}\n{place}\n{more}\n");
        fs::write(self.path(&format!("{name}.ini")), text).unwrap();
    }

    fn manager(&self, name: &str) -> SessionManager {
        let config = Config::load(&self.path(&format!("{name}.ini")));
        cgi_session_tools::stores::manager(config.unwrap()).unwrap()
    }

    fn both(&self) -> (SessionManager, SessionManager) {
        (self.manager("old"), self.manager("new"))
    }

    fn command(&self, from: &str, to: &str) -> Command {
        let mut command = tool("copy");
        for (option, name) in [("--from", from), ("--to", to)] {
            command.arg(option).arg(self.path(&format!("{name}.ini")));
        }
        command
    }

    #[track_caller]
    fn copy(&self, arguments: impl Words) -> Finished {
        Finished::of(self.command("old", "new").args(arguments.words()))
    }

    /// Copies, and compares the numbers that are not zero.
    #[track_caller]
    fn counts(&self, arguments: &str, expected: &[(&str, u64)]) {
        let finished = self.copy(&*format!("{arguments} --json"));
        let report = finished.exits_with(0).json();
        let members = report.as_object().unwrap().iter();
        let numbers = members.filter_map(|(name, value)| Some((name.as_str(), value.as_u64()?)));
        let found = numbers.filter(|it| it.1 > 0 && it.0 != "examined");
        let found: BTreeMap<_, _> = found.collect();
        assert_eq!(found, expected.iter().copied().collect());
    }
}

fn client(manager: &SessionManager) -> Client {
    let cookie = header_of(change(manager, "", |it| it.insert("count", 0).unwrap()));
    let digest = manager.session_id(&cookie).unwrap().digest();
    Client { digest, cookie }
}

impl Client {
    /// Counts on if there is a session; tells whether there was.
    fn count(&self, manager: &SessionManager) -> bool {
        let Some(mut session) = manager.existing(&self.cookie).unwrap() else {
            return false;
        };
        let count: u64 = session.require("count").unwrap();
        session.insert("count", count + 1).unwrap();
        session.commit().unwrap();
        true
    }

    fn counted(&self, manager: &SessionManager) -> Option<u64> {
        let snapshot = manager.read(&self.cookie).unwrap()?;
        snapshot.get("count").unwrap()
    }

    fn file(&self) -> String {
        format!("{}.json", self.digest)
    }

    fn hold(&self, manager: &SessionManager) -> impl Drop {
        let store = manager.store();
        let held = store.lock(&self.digest, MINUTE, SystemTime::now());
        held.unwrap().unwrap().1
    }
}

/// Stores a record, last used so many minutes ago.
fn store(manager: &SessionManager, record: &Record, minutes: u32) -> SessionDigest {
    let (digest, now) = (SessionId::generate().unwrap().digest(), SystemTime::now());
    let lease = manager.store().create(&digest, record, now).unwrap();
    lease.unwrap().touch(now - minutes * MINUTE).unwrap();
    digest
}

/// The records of all live sessions, byte for byte, with their ends, roughly.
fn all(manager: &SessionManager) -> BTreeMap<String, (String, u64)> {
    let mut found = BTreeMap::new();
    let listed = manager.for_each(|session, stored| {
        let stored = stored.unwrap();
        let left = manager.end_of(&stored).duration_since(SystemTime::now());
        // A store rounds the last use, and a use that is a little later need not be noted.
        let roughly = (left.unwrap().as_secs() + 600) / 1200;
        let record = String::from_utf8(stored.record.to_json()).unwrap();
        // The mark of a copy.
        let record = match record.split_once("{\t") {
            Some((head, values)) => format!("{head}{{{}", values.get(16..).unwrap()),
            None => record,
        };
        found.insert(session.to_string(), (record, roughly));
        ControlFlow::Continue(())
    });
    listed.unwrap();
    found
}

/// Every pair of stores that processes can share, as far as their engines are installed.
fn pairs() -> Vec<(&'static str, &'static str)> {
    let mut pairs = vec![("file", "sqlite"), ("sqlite", "file")];
    pairs.extend(engines::installed().flat_map(|engine| [("file", engine), (engine, "sqlite")]));
    pairs
}

#[test]
fn sessions_arrive_whole_in_another_store_and_in_files_again() {
    for (old, new) in pairs() {
        let pair = Pair::new(old, new);
        let (old, new) = pair.both();
        let plain = Record::new(SystemTime::now() - 60 * MINUTE);
        let odd = br#"{ "": {"a" : [1, 2.50, "\u00e4\n"],"":null}, "shop":{"cart":{}} }"#;
        let large = format!(r#"{{"":{{"padding":"{}"}}}}"#, "x".repeat(100_000));
        for values in [&b"{}"[..], odd, large.as_bytes()] {
            store(&old, &plain.with_values(values.to_vec()), 35);
        }
        store(&old, &plain.clone().with_user(Some("b\u{fc}cher \"q\"")), 5);
        let mut session = old.start("").unwrap();
        session.set_timeout(Some(15 * MINUTE));
        session.set_user(Some("ada")).unwrap();
        session.flash("notice", "Hello").unwrap();
        session.commit().unwrap();
        let replaced = client(&old);
        let mut session = old.start(&replaced.cookie).unwrap();
        session.regenerate_id_with_grace(10 * MINUTE);
        session.commit().unwrap();
        pair.counts("", &[("copied", 7)]);
        assert_eq!(all(&old), all(&new));
        let id = new.existing(&replaced.cookie).unwrap().unwrap();
        assert!(id.is_replaced());
        drop(id);
        pair.configure("third", "file", "shards = 256");
        let mut back = pair.command("new", "third");
        let back = Finished::of(&mut back).exits_with(0);
        back.says("7 sessions copied; ");
        assert_eq!(all(&old), all(&pair.manager("third")));
        assert_eq!(new.destroy_sessions_of("ada", None).unwrap(), 1);
    }
}

#[test]
fn a_repeated_copy_brings_what_is_new_or_was_used_and_overwrites_nothing_newer() {
    let pair = Pair::new("file", "sqlite");
    let (old, new) = pair.both();
    let [changed, newer, same] = [(); 3].map(|()| client(&old));
    pair.counts("--dry-run", &[("copied", 3)]);
    assert!(!pair.path("new/sessions.db").exists());
    pair.counts("", &[("copied", 3)]);
    pair.counts("", &[("unchanged", 3)]);
    assert!(changed.count(&old) && newer.count(&old));
    assert!(newer.count(&new) && newer.count(&new) && newer.count(&new));
    // Its use in the old store was before that in the new one.
    let path = pair.path("old").join(format!("{}.json", newer.digest));
    set_age(&path, 2 * MINUTE);
    let added = client(&old);
    let expected = ["copied", "updated", "unchanged", "newerThere"].map(|name| (name, 1));
    pair.counts("--dry-run", &expected);
    pair.counts("", &expected);
    let counted = [&changed, &newer, &same, &added].map(|it| it.counted(&new));
    assert_eq!(counted, [Some(1), Some(3), Some(0), Some(0)]);
    let expected = [("moved", 4), ("unchanged", 3), ("newerThere", 1)];
    pair.counts("--move", &expected);
    assert!(all(&old).is_empty());
    assert_eq!(newer.counted(&new), Some(3));
    pair.counts("", &[]);
}

#[test]
fn what_was_saved_in_the_new_store_is_not_overwritten_when_the_old_one_is_only_read_later() {
    for (old, new) in pairs() {
        let pair = Pair::new(old, new);
        let (old, new) = pair.both();
        let [saved, read, named] = [(); 3].map(|()| client(&old));
        pair.copy("").exits_with(0);
        let now = SystemTime::now();
        // Saved in the new store, without a change of its values.
        change(&new, &named.cookie, |it| it.set_user(Some("ada")).unwrap());
        new.store().read(&named.digest, now + 5 * MINUTE).unwrap();
        // Read in the new store and saved in the old one before: the copy is of an older state.
        assert!(read.count(&old));
        new.store().read(&read.digest, now + 5 * MINUTE).unwrap();
        // Saved in the new store, and read in the old one later.
        assert!(saved.count(&new));
        old.store().read(&saved.digest, now + 5 * MINUTE).unwrap();
        for arguments in ["--dry-run", "", "--move"] {
            let told = pair.copy(arguments).exits_with(1);
            let (file, digest) = (pair.path("new.ini"), &saved.digest);
            let end = format!("cgi-session destroy --config {} {digest}", file.display());
            let told = told.complains(&end);
            told.says("left out: 1 in conflict");
        }
        let counted = |manager| [&saved, &read].map(|it| it.counted(manager));
        assert_eq!(counted(&new), [Some(1), Some(1)]);
        assert_eq!(counted(&old), [Some(0), None]);
        let named = new.peek(&named.digest).unwrap().unwrap();
        assert_eq!(named.record.user(), Some("ada"));
        new.destroy_by_digest(&saved.digest).unwrap();
        pair.counts("--move", &[("copied", 1), ("moved", 1)]);
        assert_eq!(counted(&new), [Some(0), Some(1)]);
    }
}

#[test]
fn a_session_lives_as_long_as_its_last_use_and_the_rules_of_the_new_store_say() {
    let pair = Pair::new("file", "sqlite");
    pair.configure("new", "sqlite", "timeout = 50");
    let (old, new) = pair.both();
    let record = Record::new(SystemTime::now() - 60 * MINUTE);
    let used = [10, 45, 55].map(|minutes| store(&old, &record, minutes))[1];
    pair.counts("", &[("copied", 2), ("expired", 1)]);
    let now = SystemTime::now();
    old.store().read(&used, now).unwrap().unwrap();
    pair.counts("", &[("renewed", 1), ("unchanged", 1), ("expired", 1)]);
    let stored = new.peek(&used).unwrap().unwrap();
    let apart = now.duration_since(stored.last_access);
    assert!(apart.is_ok_and(|apart| apart < 3 * MINUTE));
}

#[test]
fn what_has_ended_in_the_old_store_ends_in_the_new_one_when_that_is_asked_for() {
    let pair = Pair::new("file", "sqlite");
    let (old, new) = pair.both();
    let record = Record::new(SystemTime::now() - 60 * MINUTE);
    let [ended, _] = [30, 5].map(|minutes| store(&old, &record, minutes));
    let [saved_there, renamed_there, damaged] = [(); 3].map(|()| client(&old));
    pair.copy("").exits_with(0);
    let mut session = new.start(&renamed_there.cookie).unwrap();
    session.regenerate_id();
    session.commit().unwrap();
    old.destroy_by_digest(&ended).unwrap();
    old.destroy_by_digest(&saved_there.digest).unwrap();
    assert!(saved_there.count(&new));
    // What a change of id leaves under the old one is not copied.
    change(&old, client(&old).cookie, Session::regenerate_id);
    let created_there = client(&new);
    // The copy is the only one that can be read.
    let path = pair.path("old").join(format!("{}.json", damaged.digest));
    fs::write(path, "x".repeat(1024)).unwrap();
    for arguments in ["--dry-run --delete-gone", ""] {
        let told = pair.copy(arguments).exits_with(1);
        told.says("alone: 1 session; only if no program uses it yet, --delete-gone");
    }
    let told = pair.copy("--delete-gone --json").exits_with(1);
    told.reports(&json!({"gone": 1, "goneDeleted": 1}));
    for kept in [&saved_there, &damaged, &created_there] {
        assert!(kept.counted(&new).is_some());
    }
    assert_eq!(all(&new).len(), 6);
    pair.copy("--move --delete-gone").exits_with(2);
}

#[test]
fn a_session_that_was_moved_is_no_copy_that_has_lost_its_session() {
    let pair = Pair::new("file", "sqlite");
    let (old, new) = pair.both();
    let [before, after] = [(); 2].map(|()| client(&old));
    pair.copy("").exits_with(0);
    pair.counts("--move", &[("unchanged", 2), ("moved", 2)]);
    client(&old);
    pair.counts("--delete-gone", &[("copied", 1)]);
    let counted = [before, after].map(|it| it.counted(&new));
    assert_eq!(counted, [Some(0), Some(0)]);
}

#[test]
fn a_session_whose_move_was_cut_off_is_no_copy() {
    let pair = Pair::new("file", "file");
    let (old, new) = pair.both();
    let moved = client(&old);
    pair.copy("").exits_with(0);
    // As if the program had been killed before the session ended here.
    let text = fs::read(pair.path("old").join(moved.file())).unwrap();
    pair.counts("--move", &[("unchanged", 1), ("moved", 1)]);
    fs::write(pair.path("old").join(moved.file()), &text).unwrap();
    pair.counts("--move", &[("unchanged", 1), ("moved", 1)]);
    fs::write(pair.path("old").join(moved.file()), &text).unwrap();
    assert!(moved.count(&old));
    pair.counts("--move", &[("updated", 1), ("moved", 1)]);
    client(&old);
    pair.counts("--delete-gone", &[("copied", 1)]);
    assert_eq!(moved.counted(&new), Some(1));
}

#[test]
fn a_copy_that_is_in_use_is_left_and_all_others_without_a_session_are_deleted() {
    let pair = Pair::new("file", "sqlite");
    pair.configure("new", "file", "lockTimeout = 1s");
    let (old, new) = pair.both();
    let clients = [(); 4].map(|()| client(&old));
    pair.copy("").exits_with(0);
    let [kept, held, others @ ..] = &clients;
    for client in &clients[1..] {
        old.destroy_by_digest(&client.digest).unwrap();
    }
    let lease = held.hold(&new);
    let told = pair.copy("--delete-gone").exits_with(75);
    let told = told.complains(held.digest.as_str());
    told.says("2 deleted there; left out: 1 busy");
    drop(lease);
    assert!(others.iter().all(|it| it.counted(&new).is_none()));
    assert!(kept.counted(&new).is_some() && held.counted(&new).is_some());
}

/// Clients that count in every store in which they find their sessions, while copies are killed at any moment.
fn nothing_is_lost(arguments: &str, stores: &str, last: &str) {
    for (old, new) in pairs() {
        let pair = Pair::new(old, new);
        let old = pair.manager("old");
        let clients: Vec<_> = (0..30).map(|_| (client(&old), AtomicU64::new(0))).collect();
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    let managers: Vec<_> = stores
                        .words()
                        .into_iter()
                        .map(|name| pair.manager(name))
                        .collect();
                    while !is_over.load(Ordering::Relaxed) {
                        let (client, counted) = &clients[fastrand::usize(..clients.len())];
                        assert!(managers.iter().any(|manager| client.count(manager)));
                        counted.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            for _ in 0..15 {
                let mut command = pair.command("old", "new");
                command.args(arguments.words());
                command.stdout(Stdio::null()).stderr(Stdio::null());
                let mut child = command.spawn().unwrap();
                thread::sleep(Duration::from_micros(fastrand::u64(..40_000)));
                child.kill().unwrap();
                child.wait().unwrap();
            }
            is_over.store(true, Ordering::Relaxed);
        });
        pair.copy(last).exits_with(0);
        let new = pair.manager("new");
        for (client, counted) in &clients {
            assert_eq!(client.counted(&new), Some(counted.load(Ordering::Relaxed)));
        }
        assert_eq!(all(&new).len(), clients.len());
    }
}

#[test]
fn what_is_counted_in_the_old_store_meanwhile_is_in_the_new_one_after_the_last_run() {
    nothing_is_lost("", "old", "");
}

#[test]
fn what_is_counted_in_both_stores_during_a_move_is_in_the_new_one_after_it() {
    nothing_is_lost("--move", "old new", "--move");
}

#[test]
fn an_interrupted_copy_exits_with_130_and_the_next_one_brings_the_rest() {
    // A copy that was over before the signal came tells nothing: the next one has more to do.
    for sessions in (0..6).map(|turn| 200 << turn) {
        let pair = Pair::new("sqlite", "file");
        let (old, new) = pair.both();
        let record = Record::new(SystemTime::now()).with_values(br#"{"":{"n":1}}"#.to_vec());
        for _ in 0..sessions {
            store(&old, &record, 1);
        }
        let mut command = pair.command("old", "new");
        let child = command.stdout(Stdio::null());
        let mut child = child.stderr(Stdio::null()).spawn().unwrap();
        wait_until("the first session arrives", || !all(&new).is_empty());
        // It may have ended by itself, and is not waited for yet.
        send(Signal::INT, &child);
        let code = child.wait().unwrap().code();
        if code == Some(0) {
            continue;
        }
        assert_eq!(code, Some(130));
        assert!(all(&new).len() < sessions);
        pair.copy("").exits_with(0);
        assert_eq!(all(&new).len(), sessions);
        return;
    }
    panic!("no copy was interrupted");
}

#[test]
fn a_session_that_is_in_use_is_reported_and_brought_the_next_time() {
    let pair = Pair::new("file", "sqlite");
    pair.configure("old", "file", "lockTimeout = 1s");
    let (old, new) = pair.both();
    let [held, free] = [(); 2].map(|()| client(&old));
    let lease = held.hold(&old);
    let told = pair.copy("").exits_with(75);
    let told = told.complains(held.digest.as_str());
    told.complains("still locked").says("left out: 1 busy");
    assert_eq!((held.counted(&new), free.counted(&new)), (None, Some(0)));
    drop(lease);
    pair.copy("").exits_with(0);
    assert_eq!(held.counted(&new), Some(0));
}

#[test]
fn what_cannot_be_brought_is_reported_and_left_where_it_is() {
    let pair = Pair::new("file", "sqlite");
    let small = client(&pair.manager("old"));
    let damaged = format!("{}.json", "b".repeat(64));
    let put = |name: &str, text| fs::write(pair.path("old").join(name), text).unwrap();
    put(&session_name(), session_of_a_later_version());
    put(&damaged, "x".repeat(1024));
    pair.configure("new", "sqlite", "maxRecordBytes = 256");
    let (old, new) = pair.both();
    let large = format!(r#"{{"":{{"padding":"{}"}}}}"#, "x".repeat(300));
    let large = Record::new(SystemTime::now()).with_values(large.into_bytes());
    store(&old, &large, 0);
    let told = pair.copy("--move").exits_with(1);
    let told = told.complains("version 2").complains(&"b".repeat(64));
    let told = told.complains("maxRecordBytes is 256");
    assert_eq!(told.stderr.lines().count(), 3, "{told:#?}");
    told.says("left out: 2 unreadable, 1 failed");
    assert_eq!(fs::read_dir(pair.path("old")).unwrap().count(), 3);
    assert_eq!(small.counted(&new), Some(0));
}

#[test]
fn a_new_store_is_filled_and_nothing_in_it_evicted() {
    let pair = Pair::new("file", "sqlite");
    pair.configure("new", "sqlite", "maxSessions = 3\nwhenFull = evictOldest");
    let (old, new) = pair.both();
    let there = client(&new);
    for _ in 0..5 {
        client(&old);
    }
    pair.copy("--move").exits_with(75).complains("maxSessions");
    assert_eq!((all(&new).len(), all(&old).len()), (3, 3));
    assert_eq!(there.counted(&new), Some(0));
}

#[test]
fn stores_that_cannot_be_copied_are_refused() {
    let pair = Pair::new("file", "file");
    for (kind, reason) in [
        ("cookie", "at the clients"),
        ("ram", "in the memory of one program"),
        ("custom", "only the program"),
    ] {
        let text = format!("[session]\nstorageType = {kind}\n");
        fs::write(pair.path("other.ini"), text).unwrap();
        for (from, to) in [("old", "other"), ("other", "new")] {
            let refused = Finished::of(&mut pair.command(from, to));
            refused.exits_with(2).complains(reason);
        }
    }
    std::os::unix::fs::symlink(pair.path("old"), pair.path("link")).unwrap();
    let directory = pair.path("link/../old");
    let text = format!("[session]\nstorageFileDir = {}\n", directory.display());
    fs::write(pair.path("same.ini"), text).unwrap();
    let refused = Finished::of(&mut pair.command("old", "same"));
    refused.exits_with(2).complains("are the same store");
    let mut command = pair.command("old", "new");
    command.env("CGI_SESSION_STORAGE_TYPE", "file");
    let refused = Finished::of(&mut command).exits_with(2);
    refused.complains("CGI_SESSION_STORAGE_TYPE is set");
    let old = pair.path("old.ini");
    let refused = pair.copy(["--config", old.to_str().unwrap()]);
    refused.exits_with(2).complains("--from");
    fs::remove_dir(pair.path("old")).unwrap();
    pair.copy("").exits_with(1).complains("does not exist");
}

#[test]
fn root_copies_as_the_owner_and_leaves_nothing_of_roots() {
    if !is_root() {
        return;
    }
    let pair = Pair::new("file", "sqlite");
    client(&pair.manager("old"));
    pair.configure("third", "file", "");
    let third = ("third", SOMEBODY_ELSE);
    for (name, uid) in [("old", SOMEBODY), ("new", SOMEBODY), third] {
        let mut command = Command::new("chown");
        command.args(["-R", &format!("{uid}:{uid}")]);
        command.arg(pair.path(name));
        assert!(command.status().unwrap().success());
    }
    pair.copy("").exits_with(0);
    for name in ["old", "new"] {
        for entry in fs::read_dir(pair.path(name)).unwrap() {
            assert_eq!(owner(&entry.unwrap().path()), SOMEBODY);
        }
    }
    let refused = Finished::of(&mut pair.command("old", "third"));
    refused.exits_with(78).complains("no user can use both");
}
