//! `cgi-session init` and `uninstall`.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{CWD, Mode, mkfifoat};
use testkit::tools::{Finished, SOMEBODY, SOMEBODY_ELSE, Site, is_root, owner, set_mode};

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

/// `init` run by whoever runs the tests, for themselves.
fn init(site: &Site) -> Command {
    let mut command = site.about("init");
    let uid = owner(site.parent()).to_string();
    command.args(["--owner", &uid]);
    command
}

#[test]
fn init_makes_the_directory_and_may_run_again() {
    let site = Site::new();
    fs::remove_dir(&site.directory).unwrap();
    for _ in 0..2 {
        Finished::of(&mut init(&site)).exits_with(0).says_nothing();
        assert_eq!(mode(&site.directory), 0o700);
    }
    assert!(site.names().is_empty());
    site.session();
    Finished::of(&mut init(&site)).exits_with(0).says_nothing();
    assert_eq!(site.names().len(), 1);
}

#[test]
fn root_makes_the_directory_for_the_owner_and_removes_it_again() {
    let Some(site) = Site::as_root() else { return };
    fs::remove_dir(&site.directory).unwrap();
    site.refuses(&["init"], 2, "--owner");
    let somebody = SOMEBODY.to_string();
    site.prints(&["init", "--owner", &somebody], "");
    let seen = (owner(&site.directory), mode(&site.directory));
    assert_eq!(seen, (SOMEBODY, 0o700));
    site.run(&["start"]).exits_with(0).says("sessionId=");
    for name in site.names() {
        assert_eq!(owner(&site.directory.join(name)), SOMEBODY);
    }
    // Without --owner it goes on as the owner; another owner is a contradiction.
    site.prints(&["init"], "");
    let other = SOMEBODY_ELSE.to_string();
    site.refuses(&["init", "--owner", &other], 1, "chown -R");
    site.refuses(&["init", "--owner", "no such user"], 2, "no such user");
    site.prints(&["uninstall", "--yes"], "1 session removed\n");
    assert!(!site.directory.exists());
}

#[test]
fn what_stands_in_the_way_is_told() {
    let site = Site::new();
    fs::remove_dir(&site.directory).unwrap();
    fs::write(&site.directory, "a file").unwrap();
    let finished = Finished::of(&mut init(&site)).exits_with(1);
    finished.complains(site.directory.to_str().unwrap());
    fs::remove_file(&site.directory).unwrap();

    let mut orphan = init(&site);
    let nowhere = site.parent().join("no/parent");
    orphan.env("CGI_SESSION_STORAGE_FILE_DIR", nowhere);
    let refused = Finished::of(&mut orphan).exits_with(1);
    refused.complains("no/parent");
    fs::create_dir(&site.directory).unwrap();
    set_mode(&site.directory, 0o777);
    let refused = Finished::of(&mut init(&site)).exits_with(1);
    refused.complains("chmod 0700");
    site.refuses(&["init", "--new-key"], 2, "storageType = cookie");
}

#[test]
fn no_advice_changes_a_directory_that_holds_other_things() {
    let site = Site::new();
    fs::write(site.directory.join("notes.txt"), "").unwrap();
    set_mode(&site.directory, 0o770);
    let commands = ["init", "check", "set key value", "list", "cleanup"];
    for directory in [site.directory.as_path(), Path::new("/tmp")] {
        for line in commands {
            let mut words = line.split(' ');
            let mut command = site.about(words.next().unwrap());
            command.args(words);
            command.env("CGI_SESSION_STORAGE_FILE_DIR", directory);
            let said = Finished::of(&mut command);
            let text = format!("{}{}", said.stdout, said.stderr);
            let lacks_it = !text.contains("chmod") && !text.contains("chown");
            assert!(lacks_it, "{said:#?}");
            assert!(text.contains("name a directory of its own"), "{said:#?}");
        }
    }
    if is_root() {
        let mut command = site.tool("init");
        command.env("CGI_SESSION_STORAGE_FILE_DIR", "/");
        command.args(["--owner", &SOMEBODY.to_string()]);
        let refused = Finished::of(&mut command).exits_with(1);
        assert!(!refused.stderr.contains("chown"), "{refused:?}");
    }
}

#[test]
fn uninstall_asks_unless_it_is_told_not_to() {
    let site = Site::new();
    let stored = site.session();
    site.refuses(&["uninstall"], 2, "--yes");
    assert!(stored.path.exists());
}

#[test]
fn uninstall_removes_what_is_ours_and_leaves_the_rest() {
    let site = Site::new();
    for _ in 0..3 {
        site.session();
    }
    site.expired_session();
    site.cleanup(&[]).exits_with(0);
    let foreign = ["notes.txt", ".tmp-upload", "0123.json"].map(|name| site.file(name));
    let removed = site.run(&["uninstall", "--yes"]).exits_with(0);
    let removed = removed.says("3 sessions removed");
    let removed = removed.says("left alone: notes.txt");
    assert_eq!(removed.stdout.lines().count(), 4, "{removed:?}");
    let left = site.names();
    let left: BTreeSet<_> = left.iter().map(|name| site.directory.join(name)).collect();
    assert_eq!(left, BTreeSet::from(foreign.clone()));
    for path in foreign {
        fs::remove_file(path).unwrap();
    }
    site.prints(&["uninstall", "--yes"], "0 sessions removed\n");
    assert!(!site.directory.exists());
    site.prints(&["uninstall", "--yes"], "0 sessions removed\n");
}

#[test]
fn as_json_both_say_what_they_did_and_what_stands_in_the_way() {
    let site = Site::new();
    let shown = site.directory.to_str().unwrap();
    let made = Finished::of(init(&site).arg("--json")).exits_with(0).json();
    assert_eq!(made["store"], shown);
    let seen = (&made["isReady"], made["problems"].to_string());
    assert_eq!(seen, (&true.into(), "[]".to_owned()));
    set_mode(&site.directory, 0o777);
    let refused = Finished::of(init(&site).arg("--json")).exits_with(1);
    assert_eq!(refused.json()["isReady"], false);
    let problem = refused.json()["problems"][0].to_string();
    assert!(problem.contains("chmod 0700"), "{problem}");
    set_mode(&site.directory, 0o700);

    site.session();
    site.file("notes.txt");
    let removed = site.run(&["uninstall", "--yes", "--json"]);
    let removed = removed.exits_with(0).json();
    let seen = (&removed["store"], &removed["sessions"]);
    assert_eq!(seen, (&shown.into(), &1.into()));
    assert_eq!(removed["leftAlone"][0], "notes.txt");
}

#[cfg(feature = "sqlite")]
#[test]
fn root_makes_a_database_for_its_owner_and_goes_on_as_the_owner() {
    let Some(site) = Site::as_root() else { return };
    let database = site.directory.join("sessions.db");
    let lines = format!("storageType = sqlite\ndatabase = {}", database.display());
    let file = site.configuration(&lines);
    site.give_to(SOMEBODY);
    let run = |arguments: &[&str]| {
        let mut command = testkit::tools::program(env!("CARGO_BIN_EXE_cgi-session"));
        Finished::of(command.args(arguments).arg("--config").arg(&file))
    };
    run(&["init"]).exits_with(2).complains("--owner");
    assert!(!database.exists());
    let made = run(&["init", "--owner", &SOMEBODY.to_string()]);
    made.exits_with(0).says_nothing();
    assert_eq!(owner(&database), SOMEBODY);
    run(&["start"]).exits_with(0).says("sessionId=");
    run(&["stats"]).exits_with(0).says("sessions       1");
    run(&["check"]).exits_with(0).says("it answers");
    for name in site.names() {
        assert_eq!(owner(&site.directory.join(&name)), SOMEBODY, "{name}");
    }
    let removed = run(&["uninstall", "--yes"]).exits_with(0);
    removed.prints("1 session removed\n");
    assert!(!database.exists());
}

/// A site with `storageType = cookie`, and the file of its keys, which does not exist yet.
fn with_keys(site: &Site) -> (PathBuf, impl Fn(&[&str]) -> Finished) {
    let keys = site.parent().join("keys");
    let lines = format!("storageType = cookie\nsecretKeyFile = {}", keys.display());
    let file = site.configuration(&lines);
    let uid = owner(site.parent()).to_string();
    let run = move |arguments: &[&str]| {
        let (subcommand, rest) = arguments.split_first().unwrap();
        let mut command = testkit::tools::tool(subcommand);
        command.arg("--config").arg(&file).args(rest);
        if *subcommand == "init" {
            command.args(["--owner", &uid]);
        }
        Finished::of(&mut command)
    };
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
    run(&["init"]).exits_with(0).says_nothing();
    let first = lines(&keys);
    let is_digit = |digit: u8| matches!(digit, b'0'..=b'9' | b'a'..=b'f');
    assert_eq!((first.len(), first[0].len(), mode(&keys)), (1, 128, 0o600));
    assert!(first[0].bytes().all(is_digit), "{first:?}");

    run(&["init"]).exits_with(0).says_nothing();
    assert_eq!(lines(&keys), first);
    run(&["init", "--new-key"]).exits_with(0).says_nothing();
    let second = lines(&keys);
    assert_eq!((second.len(), &second[1]), (2, &first[0]));
    assert_ne!(second[0], second[1]);
    assert_eq!(mode(&keys), 0o600);

    run(&["uninstall"]).exits_with(2).complains("--yes");
    run(&["uninstall", "--yes"]).exits_with(0).says("removed");
    assert!(!keys.exists());
    run(&["uninstall", "--yes"]).exits_with(0).says_nothing();
}

#[test]
fn a_file_that_holds_no_keys_is_left_alone() {
    let site = Site::new();
    let (keys, run) = with_keys(&site);
    fs::write(&keys, "secret\n").unwrap();
    set_mode(&keys, 0o644);
    for arguments in [&["init"][..], &["init", "--new-key"]] {
        let refused = run(arguments).exits_with(1).complains("128 digits");
        let lacks_it = !refused.stderr.contains("chmod");
        assert!(lacks_it, "it may be any file: {refused:?}");
        assert!(!refused.stderr.contains("secret\n"));
    }
    let removed = run(&["uninstall", "--yes"]).exits_with(0);
    removed.says("left alone");
    assert_eq!(fs::read_to_string(&keys).unwrap(), "secret\n");
    fs::write(&keys, "0".repeat(128) + "\n").unwrap();
    run(&["init"]).exits_with(1).complains("chmod 0600");
}

#[test]
fn the_file_of_keys_belongs_to_who_reads_it() {
    let Some(site) = Site::as_root() else { return };
    let keys = site.parent().join("keys");
    let lines = format!("storageType = cookie\nsecretKeyFile = {}", keys.display());
    let file = site.configuration(&lines);
    let run = |arguments: &[&str]| {
        let mut command = testkit::tools::tool("init");
        Finished::of(command.arg("--config").arg(&file).args(arguments))
    };
    run(&[]).exits_with(2).complains("--owner");
    let made = run(&["--owner", &SOMEBODY.to_string()]);
    made.exits_with(0).says_nothing();
    assert_eq!(owner(&keys), SOMEBODY);
    run(&["--new-key"]).exits_with(0).says_nothing();
    assert_eq!((owner(&keys), mode(&keys)), (SOMEBODY, 0o600));
    let refused = run(&["--owner", &SOMEBODY_ELSE.to_string()]);
    refused.exits_with(1).complains("chown");
}

#[test]
fn where_another_user_could_replace_what_root_makes_that_user_makes_it() {
    let Some(site) = Site::as_root() else { return };
    fs::remove_dir(&site.directory).unwrap();
    let give = |uid| std::os::unix::fs::chown(site.parent(), Some(uid), Some(uid)).unwrap();
    let somebody = SOMEBODY.to_string();
    give(SOMEBODY_ELSE);
    site.refuses(&["init", "--owner", &somebody], 1, "Permission denied");
    give(SOMEBODY);
    site.prints(&["init", "--owner", &somebody], "");
    assert_eq!(owner(&site.directory), SOMEBODY);
    site.run(&["uninstall", "--yes"]).exits_with(0);
    assert!(!site.directory.exists());

    let (keys, run) = with_keys(&site);
    mkfifoat(CWD, &keys, Mode::RUSR | Mode::WUSR).unwrap();
    std::os::unix::fs::chown(&keys, Some(SOMEBODY), Some(SOMEBODY)).unwrap();
    for command in [&["init"][..], &["uninstall", "--yes"]] {
        run(command).exits_with(1).complains("no regular file");
    }
    fs::remove_file(&keys).unwrap();
    run(&["init"]).exits_with(0).says_nothing();
    assert_eq!((owner(&keys), mode(&keys)), (SOMEBODY, 0o600));
    run(&["uninstall", "--yes"]).exits_with(0).says("removed");
    assert!(!keys.exists());

    // Where it is a directory of root's that all can write to, no command is advised: it may be one that others need.
    give(0);
    set_mode(site.parent(), 0o777);
    let refused = run(&["uninstall", "--yes"]).exits_with(1);
    let refused = refused.complains("(mode 0777), so root does nothing");
    let refused = refused.complains("choose another path");
    let lacks_it = !refused.stderr.contains("chmod") && !refused.stderr.contains("chown");
    assert!(lacks_it, "{refused:?}");
}

#[test]
fn no_advice_changes_a_directory_that_users_share_though_it_is_empty() {
    let site = Site::new();
    for mode in [0o1777, 0o2775] {
        set_mode(&site.directory, mode);
        let refused = Finished::of(&mut init(&site)).exits_with(1);
        let refused = refused.complains("name a directory of its own");
        assert!(!refused.stderr.contains("chmod"), "{refused:?}");
    }
}

#[test]
fn a_path_in_an_advised_command_is_one_word() {
    let mut site = Site::new();
    site.directory = site.parent().join("it's mine");
    fs::create_dir(&site.directory).unwrap();
    set_mode(&site.directory, 0o770);
    let advice = r"chmod 0700 '/";
    let refused = Finished::of(&mut init(&site)).exits_with(1);
    refused.complains(advice).complains(r"/it'\''s mine'");
}
