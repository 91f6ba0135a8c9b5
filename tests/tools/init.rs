//! `cgi-session init` and `uninstall`.

use rustix::fs::{CWD, Mode, mkfifoat};
use testkit::prelude::*;
use testkit::tools::{SOMEBODY, SOMEBODY_ELSE, Site, is_root, owner, set_mode};

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

/// `init` run by whoever runs the tests, for themselves.
fn init(site: &Site, more: &str) -> Finished {
    let uid = owner(site.parent());
    site.run(format!("init --owner {uid} {more}").as_str())
}

#[test]
fn init_makes_the_directory_and_may_run_again() {
    let site = Site::new();
    fs::remove_dir(&site.directory).unwrap();
    for _ in 0..2 {
        init(&site, "").exits_with(0).says_nothing();
        assert_eq!(mode(&site.directory), 0o700);
    }
    assert!(site.names().is_empty());
    site.session();
    init(&site, "").exits_with(0).says_nothing();
    assert_eq!(site.names().len(), 1);
}

#[test]
fn root_makes_the_directory_for_the_owner_and_removes_it_again() {
    let Some(site) = Site::as_root() else { return };
    fs::remove_dir(&site.directory).unwrap();
    site.refuses("init", 2, "--owner");
    site.prints("init --owner 4711", "");
    let seen = (owner(&site.directory), mode(&site.directory));
    assert_eq!(seen, (SOMEBODY, 0o700));
    site.run("start").exits_with(0).says("sessionId=");
    for name in site.names() {
        assert_eq!(owner(&site.directory.join(name)), SOMEBODY);
    }
    // Without --owner it goes on as the owner; another owner is a contradiction.
    site.prints("init", "");
    site.refuses("init --owner 4712", 1, "chown -R");
    site.refuses(["init", "--owner", "no such user"], 2, "no such user");
    site.prints("uninstall --yes", "1 session removed\n");
    assert!(!site.directory.exists());
}

#[test]
fn root_says_that_the_owner_could_not_remove_the_sessions() {
    let Some(site) = Site::as_root() else { return };
    site.session();
    site.give_to(SOMEBODY);
    set_mode(&site.directory, 0o500);
    let refused = site.run("uninstall --yes --json").exits_with(1);
    let refused = refused.complains("Permission denied");
    assert_eq!(refused.json()["problems"].as_array().unwrap().len(), 1);
    set_mode(&site.directory, 0o700);
    site.prints("uninstall --yes", "1 session removed\n");
    assert!(!site.directory.exists());
}

#[test]
fn root_says_that_something_of_ours_is_left_in_the_directory() {
    let Some(site) = Site::as_root() else { return };
    let index = site.file(&format!("{}.user", "0".repeat(64)));
    site.give_to(SOMEBODY);
    let index = fs::File::open(index).unwrap();
    index.lock().unwrap();
    let left = site.run("uninstall --yes").exits_with(1);
    left.complains("run it again");
    index.unlock().unwrap();
    site.run("uninstall --yes").exits_with(0);
    assert!(!site.directory.exists());
}

#[test]
fn what_stands_in_the_way_is_told() {
    let site = Site::new();
    fs::remove_dir(&site.directory).unwrap();
    fs::write(&site.directory, "a file").unwrap();
    let finished = init(&site, "").exits_with(1);
    finished.complains(site.directory.to_str().unwrap());
    fs::remove_file(&site.directory).unwrap();

    let nowhere = site.parent().join("no/parent");
    let nowhere = [("CGI_SESSION_STORAGE_FILE_DIR", nowhere.to_str().unwrap())];
    let own = format!("init --owner {}", owner(site.parent()));
    let refused = site.run_with(&nowhere, &*own).exits_with(1);
    refused.complains("no/parent");
    fs::create_dir(&site.directory).unwrap();
    set_mode(&site.directory, 0o777);
    init(&site, "").exits_with(1).complains("chmod 0700");
    site.refuses("init --new-key", 2, "storageType = cookie");
}

#[test]
fn no_advice_changes_a_directory_that_holds_other_things() {
    let site = Site::new();
    fs::write(site.directory.join("notes.txt"), "").unwrap();
    set_mode(&site.directory, 0o770);
    let directory = |path| [("CGI_SESSION_STORAGE_FILE_DIR", path)];
    for path in [site.directory.to_str().unwrap(), "/tmp"] {
        for command in ["init", "check", "set key value", "list", "cleanup"] {
            let said = site.run_with(&directory(path), command);
            let said = said.lacks("chmod").lacks("chown");
            let text = format!("{}{}", said.stdout, said.stderr);
            assert!(text.contains("name a directory of its own"), "{said:#?}");
        }
    }
    if is_root() {
        let refused = site.run_with(&directory("/"), "init --owner 4711");
        refused.exits_with(1).lacks("chown");
    }
}

#[test]
fn uninstall_asks_unless_it_is_told_not_to() {
    let site = Site::new();
    let stored = site.session();
    site.refuses("uninstall", 2, "--yes");
    assert!(stored.path.exists());
}

#[test]
fn uninstall_removes_what_is_ours_and_leaves_the_rest() {
    let site = Site::new();
    for _ in 0..3 {
        site.session();
    }
    site.expired_session();
    site.cleanup("").exits_with(0);
    let foreign = ["notes.txt", ".tmp-upload", "0123.json"].map(|name| site.file(name));
    let removed = site.run("uninstall --yes").exits_with(0);
    let removed = removed.says("3 sessions removed").has_lines(4, 0);
    removed.says("left alone: notes.txt");
    let left = site.names();
    let left: BTreeSet<_> = left.iter().map(|name| site.directory.join(name)).collect();
    assert_eq!(left, BTreeSet::from(foreign.clone()));
    for path in foreign {
        fs::remove_file(path).unwrap();
    }
    site.prints("uninstall --yes", "0 sessions removed\n");
    assert!(!site.directory.exists());
    site.prints("uninstall --yes", "0 sessions removed\n");
}

#[test]
fn as_json_both_say_what_they_did_and_what_stands_in_the_way() {
    let site = Site::new();
    let shown = site.directory.to_str().unwrap();
    let made = init(&site, "--json").exits_with(0);
    made.reports(&json!({"store": shown, "isReady": true, "problems": []}));
    set_mode(&site.directory, 0o777);
    let refused = init(&site, "--json").exits_with(1);
    let refused = refused.reports(&json!({"isReady": false}));
    holds(refused.json()["problems"][0].to_string(), "chmod 0700");
    set_mode(&site.directory, 0o700);

    site.session();
    site.file("notes.txt");
    let removed = site.run("uninstall --yes --json").exits_with(0);
    removed.reports(&json!({"store": shown, "sessions": 1, "leftAlone": ["notes.txt"]}));
}

#[cfg(feature = "sqlite")]
#[test]
fn root_makes_a_database_for_its_owner_and_goes_on_as_the_owner() {
    let Some(site) = Site::as_root() else { return };
    let database = site.directory.join("sessions.db");
    let lines = format!("storageType = sqlite\ndatabase = {}", database.display());
    site.give_to(SOMEBODY);
    let run = |command: &str| site.run_under(&lines, command);
    run("init").exits_with(2).complains("--owner");
    assert!(!database.exists());
    fs::write(&database, "").unwrap();
    let roots = run("init --owner 4711").exits_with(1);
    let roots = roots.complains("belongs to uid 0");
    roots.complains("chown -R 4711 ");
    fs::remove_file(&database).unwrap();
    let absent = site.directory.join("absent");
    let lines = format!(
        "storageType = sqlite\ndatabase = {}/sessions.db",
        absent.display()
    );
    let refused = site.run_under(&lines, "init --owner 4711").exits_with(1);
    let advice = format!("install -d -m 0700 -o 4711 -g 4711 {}", absent.display());
    refused.complains(&advice).lacks(".locks");
    run("init --owner 4711").exits_with(0).says_nothing();
    assert_eq!(owner(&database), SOMEBODY);
    run("start").exits_with(0).says("sessionId=");
    run("stats").exits_with(0).says("sessions       1");
    run("check").says("it answers");
    for name in site.names() {
        assert_eq!(owner(&site.directory.join(&name)), SOMEBODY, "{name}");
    }
    let removed = run("uninstall --yes").exits_with(0);
    removed.prints("1 session removed\n");
    assert!(!database.exists());
}

/// A site with `storageType = cookie`, and the file of its keys, which does not exist yet.
fn with_keys(site: &Site) -> (PathBuf, impl Fn(&str) -> Finished) {
    let keys = site.parent().join("keys");
    let lines = format!("storageType = cookie\nsecretKeyFile = {}", keys.display());
    let owner = format!("init --owner {}", owner(site.parent()));
    let run = move |command: &str| site.run_under(&lines, &*command.replace("init", &owner));
    (keys, run)
}

fn lines(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.ends_with('\n'));
    text.lines().map(str::to_owned).collect()
}

#[test]
fn a_missing_file_of_keys_is_made_and_a_new_key_comes_first() {
    let site = Site::new();
    let (keys, run) = with_keys(&site);
    let made = format!(
        "init --config {} --owner www-data",
        site.parent().join("site.ini").display()
    );
    run("start").exits_with(78).complains(&made);
    run("init").exits_with(0).says_nothing();
    let first = lines(&keys);
    let is_digit = |digit: u8| matches!(digit, b'0'..=b'9' | b'a'..=b'f');
    assert_eq!((first.len(), first[0].len(), mode(&keys)), (1, 128, 0o600));
    assert!(first[0].bytes().all(is_digit), "{first:?}");

    run("init").exits_with(0).says_nothing();
    assert_eq!(lines(&keys), first);
    run("init --new-key").exits_with(0).says_nothing();
    let second = lines(&keys);
    assert_eq!((second.len(), &second[1]), (2, &first[0]));
    assert_ne!(second[0], second[1]);
    assert_eq!(mode(&keys), 0o600);

    run("uninstall").exits_with(2).complains("--yes");
    run("uninstall --yes").exits_with(0).says("removed");
    assert!(!keys.exists());
    run("uninstall --yes").exits_with(0).says_nothing();
}

#[test]
fn a_file_of_keys_is_read_as_the_programs_read_it() {
    let site = Site::new();
    let (keys, run) = with_keys(&site);
    let key = "aB".repeat(64);
    fs::write(&keys, format!("\u{feff}# ours\r\n\n {key}\r\n")).unwrap();
    set_mode(&keys, 0o600);
    run("start").exits_with(0).says("sessionId=");
    run("init").exits_with(0).says_nothing();
    run("init --new-key").exits_with(0).says_nothing();
    assert_eq!(lines(&keys)[1], "# ours");
    run("start").exits_with(0).says("sessionId=");
    run("uninstall --yes").exits_with(0).says("removed");
    assert!(!keys.exists());
}

#[test]
fn a_link_to_the_file_of_keys_is_not_replaced_by_a_new_key() {
    let site = Site::new();
    let (keys, run) = with_keys(&site);
    let target = site.parent().join("target");
    run("init").exits_with(0);
    fs::rename(&keys, &target).unwrap();
    symlink(&target, &keys).unwrap();
    run("init").exits_with(0).says_nothing();
    let refused = run("init --new-key").exits_with(1);
    refused.complains("is a symbolic link");
    assert!(keys.is_symlink());
    assert_eq!(lines(&target).len(), 1);
}

#[cfg(feature = "sqlite")]
#[test]
fn sqlite_without_a_database_is_said_to_have_none() {
    let site = Site::new();
    for command in ["init", "cleanup", "list"] {
        let refused = site.run_under("storageType = sqlite", command);
        refused.exits_with(78).complains("database is not set");
    }
}

#[test]
fn a_file_that_holds_no_keys_is_left_alone() {
    let site = Site::new();
    let (keys, run) = with_keys(&site);
    fs::write(&keys, "secret\n").unwrap();
    set_mode(&keys, 0o644);
    for command in ["init", "init --new-key"] {
        let refused = run(command).exits_with(1).complains("128 digits");
        let refused = refused.complains("move it away, and run this again");
        // It may be any file.
        refused.lacks("chmod").lacks("secret\n");
    }
    set_mode(&keys, 0o600);
    run("start")
        .exits_with(78)
        .complains("move it away, and make it with");
    run("uninstall --yes").exits_with(0).says("left alone");
    assert_eq!(fs::read_to_string(&keys).unwrap(), "secret\n");
    fs::write(&keys, "0".repeat(128) + "\n").unwrap();
    set_mode(&keys, 0o644);
    run("start")
        .exits_with(78)
        .complains("delete the lines below the new one");
    run("init").exits_with(1).complains("chmod 0600");
}

#[test]
fn the_file_of_keys_belongs_to_who_reads_it() {
    let Some(site) = Site::as_root() else { return };
    let keys = site.parent().join("keys");
    let lines = format!("storageType = cookie\nsecretKeyFile = {}", keys.display());
    let run = |more: &str| site.run_under(&lines, &*format!("init {more}"));
    run("").exits_with(2).complains("--owner");
    run("--owner 4711").exits_with(0).says_nothing();
    assert_eq!(owner(&keys), SOMEBODY);
    run("--new-key").exits_with(0).says_nothing();
    assert_eq!((owner(&keys), mode(&keys)), (SOMEBODY, 0o600));
    run("--owner 4712").exits_with(1).complains("chown");
    // The system takes it for no change of the owner.
    let no_user = format!("--owner {}", u32::MAX);
    run(&no_user).exits_with(2).complains("no such user");
}

#[test]
fn where_another_user_could_replace_what_root_makes_that_user_makes_it() {
    let Some(site) = Site::as_root() else { return };
    fs::remove_dir(&site.directory).unwrap();
    let give = |uid| std::os::unix::fs::chown(site.parent(), Some(uid), Some(uid)).unwrap();
    give(SOMEBODY_ELSE);
    site.refuses("init --owner 4711", 1, "Permission denied");
    give(SOMEBODY);
    site.prints("init --owner 4711", "");
    assert_eq!(owner(&site.directory), SOMEBODY);
    site.run("uninstall --yes").exits_with(0);
    assert!(!site.directory.exists());

    let (keys, run) = with_keys(&site);
    mkfifoat(CWD, &keys, Mode::RUSR | Mode::WUSR).unwrap();
    std::os::unix::fs::chown(&keys, Some(SOMEBODY), Some(SOMEBODY)).unwrap();
    for command in ["init", "uninstall --yes"] {
        run(command).exits_with(1).complains("no regular file");
    }
    fs::remove_file(&keys).unwrap();
    run("init").exits_with(0).says_nothing();
    assert_eq!((owner(&keys), mode(&keys)), (SOMEBODY, 0o600));
    run("uninstall --yes").exits_with(0).says("removed");
    assert!(!keys.exists());

    // Where it is a directory of root's that all can write to, no command is advised: it may be one that others need.
    give(0);
    set_mode(site.parent(), 0o777);
    let refused = run("uninstall --yes").exits_with(1);
    let refused = refused.complains("(mode 0777), so root does nothing");
    let refused = refused.complains("choose another path");
    refused.lacks("chmod").lacks("chown");
}

#[test]
fn root_follows_no_link_that_another_user_could_have_made() {
    let Some(site) = Site::as_root() else { return };
    let (theirs, of_root) = (site.parent().join("theirs"), site.parent().join("root"));
    for directory in [&theirs, &of_root] {
        fs::create_dir(directory).unwrap();
    }
    set_mode(&of_root, 0o700);
    symlink(&of_root, theirs.join("link")).unwrap();
    std::os::unix::fs::chown(&theirs, Some(SOMEBODY), Some(SOMEBODY)).unwrap();
    // A link of root's does not hide one of theirs.
    symlink(theirs.join("link"), site.parent().join("shop")).unwrap();
    let place = site.parent().display();
    for path in ["theirs/link", "shop"] {
        for lines in [
            format!("storageFileDir = {place}/{path}/sessions"),
            format!("storageType = cookie\nsecretKeyFile = {place}/{path}/keys"),
        ] {
            let refused = site.run_under(&lines, "init --owner 4711");
            refused.exits_with(1).complains("Permission denied");
        }
    }
    assert_eq!(fs::read_dir(&of_root).unwrap().count(), 0);
}

#[test]
fn no_advice_changes_a_directory_that_users_share_though_it_is_empty() {
    let site = Site::new();
    for mode in [0o1777, 0o2775] {
        set_mode(&site.directory, mode);
        let refused = init(&site, "").exits_with(1).lacks("chmod");
        refused.complains("name a directory of its own");
    }
}

#[test]
fn a_path_in_an_advised_command_is_one_word() {
    let mut site = Site::new();
    site.directory = site.parent().join("it's mine");
    fs::create_dir(&site.directory).unwrap();
    set_mode(&site.directory, 0o770);
    let refused = init(&site, "").exits_with(1);
    refused
        .complains(r"chmod 0700 '/")
        .complains(r"/it'\''s mine'");
}
