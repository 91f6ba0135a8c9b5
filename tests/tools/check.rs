//! `cgi-session check`: each thing that breaks a deployment is found and named.

use testkit::prelude::*;
use testkit::tools::{DAY, SOMEBODY, Site, is_root, owner, session_name};
use testkit::tools::{set_age, set_mode, tool};

/// The findings of a check about one topic that are not `ok`.
fn findings(site: &Site, arguments: &str, topic: &str) -> Vec<Value> {
    let finished = site.check(format!("--json {arguments}").as_str());
    let report = finished.json();
    let problems = report["problems"].as_u64().unwrap();
    let seen = finished.status;
    assert_eq!(seen, Some(i32::from(problems > 0)), "{finished:#?}");
    let findings = report["findings"].as_array().unwrap().iter();
    let bad = findings.filter(|finding| finding["topic"] == topic && finding["level"] != "ok");
    bad.cloned().collect()
}

#[track_caller]
fn finds(site: &Site, arguments: &str, topic: &str, level: &str, remedy: &str) -> Value {
    let found = findings(site, arguments, topic);
    assert_eq!(found.len(), 1, "{found:#?}");
    assert_eq!(found[0]["level"], level, "{found:#?}");
    holds(found[0]["remedy"].as_str().unwrap(), remedy);
    found[0].clone()
}

#[track_caller]
fn finds_problem(site: &Site, arguments: &str, topic: &str, remedy: &str) -> Value {
    finds(site, arguments, topic, "problem", remedy)
}

/// Finds nothing about a topic.
#[track_caller]
fn is_sound(site: &Site, arguments: &str, topic: &str) {
    assert_eq!(findings(site, arguments, topic), Vec::<Value>::new());
}

/// Runs the command that a finding advises, and looks again.
#[track_caller]
fn remedy_repairs(site: &Site, arguments: &str, finding: &Value) {
    let command = finding["remedy"].as_str().unwrap();
    let status = Command::new("sh").args(["-c", command]).status().unwrap();
    assert!(status.success(), "{command}");
    is_sound(site, arguments, finding["topic"].as_str().unwrap());
}

/// Finds a problem, which its remedy repairs.
#[track_caller]
fn finds_and_repairs(site: &Site, arguments: &str, topic: &str, remedy: &str) -> Value {
    let found = finds_problem(site, arguments, topic, remedy);
    remedy_repairs(site, arguments, &found);
    found
}

#[test]
fn a_sound_directory_has_no_problem() {
    let Some(site) = Site::outside_tmp() else {
        return;
    };
    site.session();
    let said = site.check("").exits_with(0).says("0 problems");
    assert_eq!(said.lacks("PROBLEM").stderr, "");
}

#[test]
fn a_check_leaves_nothing_behind() {
    let site = Site::new();
    site.check("");
    assert!(site.names().is_empty());
}

#[test]
fn the_text_says_what_it_is_and_what_to_do() {
    let site = Site::new();
    set_mode(&site.directory, 0o777);
    let (shown, uid) = (site.directory.display(), owner(&site.directory));
    site.check("")
        .exits_with(1)
        .says("PROBLEM  directory: ")
        .says(&format!("{shown} has mode 0777, uid {uid}"))
        .says(&format!("try: chmod 0700 {shown}\n"));
}

#[test]
fn the_configuration_file_is_named() {
    let site = Site::new();
    let file = site.configuration(&format!("storageFileDir = {}", site.directory.display()));
    let mut command = tool("check");
    Finished::of(command.arg("--config").arg(&file))
        .says(&format!("configuration: {} (1 key set", file.display()));
}

#[test]
fn a_configuration_that_everybody_can_write_is_a_problem() {
    let site = Site::new();
    let file = site.configuration("timeout = 5");
    let arguments = format!("--config {}", file.display());
    is_sound(&site, &arguments, "configuration");
    set_mode(&file, 0o666);
    finds_and_repairs(&site, &arguments, "configuration", "chmod o-w ");
}

#[test]
fn a_setting_that_a_redirect_renamed_is_a_warning() {
    let site = Site::new();
    let renamed = "REDIRECT_REDIRECT_CGI_SESSION_TIMEOUT";
    let finished = site.run_with(&[(renamed, "5")], "check --json");
    let finished = finished.complains("is ignored");
    let findings = finished.json()["findings"].clone();
    let is_about = |finding: &&Value| finding["topic"] == "redirect";
    let found = findings.as_array().unwrap().iter().find(is_about).unwrap();
    assert_eq!(found["level"], "warning");
    assert!(found["text"].as_str().unwrap().starts_with(renamed));
    holds(found["remedy"].as_str().unwrap(), "beside the program");
}

#[test]
fn a_directory_to_be_made_is_a_warning() {
    let site = Site::new();
    fs::remove_dir(&site.directory).unwrap();
    let found = finds(&site, "", "directory", "warning", "install -d -m 0700 -o");
    remedy_repairs(&site, "", &found);
}

#[test]
fn a_missing_parent_is_a_problem() {
    let mut site = Site::new();
    site.directory = site.parent().join("not/there");
    finds_and_repairs(&site, "", "directory", "install -d -m 0700 -o");
}

#[test]
fn a_parent_in_which_the_programs_cannot_write_is_a_problem() {
    let Some(site) = Site::as_root() else { return };
    fs::remove_dir(&site.directory).unwrap();
    let command = format!("install -d -m 0700 -o {SOMEBODY} -g {SOMEBODY} ");
    finds_and_repairs(&site, "--as 4711", "directory", &command);
}

#[test]
fn a_parent_that_is_closed_to_the_programs_is_a_problem() {
    let Some(mut site) = Site::as_root() else {
        return;
    };
    let closed = site.parent().join("closed");
    site.directory = closed.join("sessions");
    fs::create_dir_all(&site.directory).unwrap();
    set_mode(&site.directory, 0o700);
    set_mode(&closed, 0o700);
    site.give_to(SOMEBODY);
    // It is closed by root, as /etc/ssl/private is, and nothing of it is to be opened.
    let found = finds_problem(&site, "--as 4711", "directory", "a directory elsewhere");
    assert_eq!(found["path"], closed.to_str().unwrap());
    chown(&closed, Some(SOMEBODY), None).unwrap();
    set_mode(&closed, 0o600);
    finds_and_repairs(&site, "--as 4711", "directory", "chmod u+x");
}

#[test]
fn a_link_is_a_problem_and_its_target_is_named() {
    let site = Site::new();
    let real = site.parent().join("real");
    fs::rename(&site.directory, &real).unwrap();
    symlink(&real, &site.directory).unwrap();
    let real = real.canonicalize().unwrap();
    let remedy = format!("storageFileDir = {}", real.display());
    finds_problem(&site, "", "directory", &remedy);
}

#[test]
fn a_file_in_the_directorys_place_is_a_problem() {
    let site = Site::new();
    fs::remove_dir(&site.directory).unwrap();
    fs::write(&site.directory, "").unwrap();
    finds_problem(&site, "", "directory", "name a directory of its own");
}

#[test]
fn another_owner_is_a_problem() {
    let Some(site) = Site::as_root() else { return };
    site.give_to(SOMEBODY);
    let found = finds_problem(&site, "--as 4712", "directory", "chown -R 4712:4712 ");
    assert_eq!(found["uid"], SOMEBODY);
    assert_eq!(found["mode"], "0700");
    assert_eq!(found["path"], site.directory.to_str().unwrap());
    remedy_repairs(&site, "--as 4712", &found);
}

#[test]
fn sessions_that_live_longer_than_the_timeout_are_a_warning() {
    let site = Site::new();
    let file = site.configuration("timeout = 150");
    let arguments = format!("--config {}", file.display());
    site.session_by(&site.manager_with(&[("timeout", "150m")]));
    is_sound(&site, &arguments, "timeouts");
    let longer = site.manager_with(&[("timeout", "3h")]);
    site.session_by(&longer);
    let advised = format!("cgi-session cleanup {arguments} --idle 150m");
    finds(&site, &arguments, "timeouts", "warning", &advised);
    // A remembered login, which --idle would end.
    let mut login = longer.start("").unwrap();
    login.set_timeout(Some(14 * DAY));
    login.insert("user", "ada").unwrap();
    login.commit().unwrap();
    let found = finds(&site, &arguments, "timeouts", "warning", "one timeout");
    assert_eq!(found["remedy"], "give all programs one timeout");
}

#[test]
fn the_line_proposed_for_cron_cleans_up_this_store() {
    let site = Site::new();
    let directory = site.directory.display();
    let file = site.configuration(&format!("storageFileDir = {directory}"));
    let by_file = || {
        let mut command = tool("check");
        command.current_dir(site.parent());
        command.arg("--config").arg(file.file_name().unwrap());
        command
    };
    // By a file, and by the environment, which cron does not have.
    for check in [&by_file as &dyn Fn() -> Command, &|| site.about("check")] {
        set_age(&site.expired_session().path, 2 * DAY);
        set_age(&site.file(".gc"), 2 * DAY);
        let report = Finished::of(check().arg("--json")).json();
        let mut found = report["findings"].as_array().unwrap().iter();
        let found = found.find(|it| it["topic"] == "cleanUp").unwrap();
        let (place, line) = found["remedy"]
            .as_str()
            .unwrap()
            .split_once(": 09")
            .unwrap();
        holds(place, "crontab -e as ");
        let (_, line) = line.split_once(" * * * * ").unwrap();
        let mut cron = Command::new("sh");
        let cron = cron.env_clear().env("PATH", "/usr/bin:/bin");
        Finished::of(cron.args(["-c", line]))
            .exits_with(0)
            .says_nothing();
        assert_eq!(site.names(), BTreeSet::from([".gc".to_owned()]));
    }
    if is_root() {
        site.give_to(SOMEBODY);
        set_age(&site.file(".gc"), 2 * DAY);
        // Cron takes no number for a user.
        finds_problem(&site, "--as 4711", "cleanUp", "crontab -e as root, and");
    }
}

#[test]
fn root_checks_as_the_owner_and_leaves_nothing_of_roots() {
    let Some(site) = Site::as_root() else { return };
    site.session();
    site.give_to(SOMEBODY);
    let report = site.check("--json").json();
    assert_eq!(report["uid"], SOMEBODY);
    for name in site.names() {
        assert_eq!(owner(&site.directory.join(name)), SOMEBODY);
    }
}

#[test]
fn a_directory_that_others_can_write_is_a_problem() {
    let site = Site::new();
    for mode in [0o770, 0o722, 0o777] {
        set_mode(&site.directory, mode);
        finds_and_repairs(&site, "", "directory", "chmod 0700");
    }
    set_mode(&site.directory, 0o755);
    finds(&site, "", "directory", "warning", "chmod 0700");
}

#[test]
fn a_parent_that_everybody_can_write_is_a_problem() {
    let site = Site::new();
    is_sound(&site, "", "parent");
    set_mode(site.parent(), 0o777);
    finds_and_repairs(&site, "", "parent", "chmod +t");
}

#[test]
fn a_directory_where_nothing_can_be_made_is_a_problem() {
    let site = Site::new();
    if is_root() {
        // Root can write everywhere; whoever it acts as cannot.
        site.give_to(SOMEBODY);
    }
    set_mode(&site.directory, 0o500);
    let found = finds_and_repairs(&site, "", "trial", "install -d -m 0700");
    let text = found["text"].as_str().unwrap();
    assert!(text.contains("cannot create a file"), "{text}");
    assert!(text.contains("Permission denied"), "{text}");
}

#[test]
fn a_directory_in_tmp_is_a_problem() {
    let site = Site::in_place(Path::new("/tmp"));
    let remedy = "storageFileDir = /var/lib/cgi-session";
    let found = finds_problem(&site, "", "temporary", remedy);
    holds(found["remedy"].as_str().unwrap(), "stay behind");
    assert!(found["text"].as_str().unwrap().contains("PrivateTmp"));
    // Of two commands the first is run.
    fs::remove_dir(&site.directory).unwrap();
    let said = site.check("").stdout;
    let (_, first) = said.split_once("try: install").unwrap();
    holds(first.lines().next().unwrap(), remedy);
}

#[test]
fn a_directory_in_memory_is_a_warning() {
    let memory = Path::new("/dev/shm");
    let is_tmpfs = fs::read_to_string("/proc/mounts")
        .is_ok_and(|mounts| mounts.lines().any(|line| line.contains(" /dev/shm tmpfs ")));
    if !is_tmpfs || tempfile::tempdir_in(memory).is_err() {
        testkit::tools::skip("no tmpfs on /dev/shm");
        return;
    }
    let site = Site::in_place(memory);
    let found = finds(&site, "", "fileSystem", "warning", "on a disk");
    assert!(found["text"].as_str().unwrap().contains("tmpfs"));
}

#[test]
fn a_directory_in_a_document_root_is_a_problem() {
    let Some(site) = Site::outside_tmp() else {
        return;
    };
    is_sound(&site, "", "documentRoot");
    for sign in ["index.html", ".htaccess"] {
        let sign = site.parent().join(sign);
        fs::write(&sign, "").unwrap();
        finds_problem(&site, "", "documentRoot", "storageFileDir = ");
        fs::remove_file(sign).unwrap();
    }
    let mut below = site;
    below.directory = below.parent().join("public_html/sessions");
    fs::create_dir_all(&below.directory).unwrap();
    finds_problem(&below, "", "documentRoot", "storageFileDir = ");
}

#[test]
fn a_day_without_clean_up_is_a_problem() {
    let site = Site::new();
    is_sound(&site, "", "cleanUp");
    set_age(&site.file(".gc"), 2 * DAY);
    let found = finds_problem(&site, "", "cleanUp", "cgi-session cleanup");
    assert!(found["text"].as_str().unwrap().contains("2d ago"));
    site.cleanup("").exits_with(0);
    is_sound(&site, "", "cleanUp");
}

#[test]
fn old_sessions_that_nobody_ever_cleaned_are_a_problem() {
    let site = Site::new();
    set_age(&site.session().path, 2 * DAY);
    finds_problem(&site, "", "cleanUp", "cgi-session cleanup");
}

#[test]
fn foreign_and_damaged_files_are_warnings() {
    let site = Site::new();
    site.file("notes.txt");
    site.file(&format!("{}.corrupt", "b2".repeat(32)));
    let foreign = finds(&site, "", "foreign", "warning", "elsewhere");
    holds(foreign["text"].as_str().unwrap(), "1 file (notes.txt)");
    set_mode(&site.directory, 0o770);
    finds_problem(&site, "", "directory", "this one holds notes.txt, too");
    set_mode(&site.directory, 0o700);
    finds(&site, "", "damaged", "warning", "error log");
}

#[test]
fn a_session_with_a_second_name_is_a_problem() {
    let site = Site::new();
    let stored = site.session();
    is_sound(&site, "", "linked");
    let copy = site.parent().join("copy");
    fs::hard_link(&stored.path, &copy).unwrap();
    finds_problem(&site, "", "linked", "remove the other names");
    fs::remove_file(copy).unwrap();
    is_sound(&site, "", "linked");
}

#[test]
fn sessions_of_another_value_of_shards_are_a_warning() {
    let site = Site::new();
    site.session();
    is_sound(&site, "", "shards");
    fs::create_dir(site.directory.join("a1")).unwrap();
    site.file(&format!("a1/{}", session_name()));
    let found = finds(&site, "", "shards", "warning", "cgi-session copy");
    assert!(found["text"].as_str().unwrap().contains("1 file (a1/"));
}

#[test]
fn a_link_with_a_sessions_name_is_a_problem() {
    let site = Site::new();
    symlink("/etc/hostname", site.directory.join(session_name())).unwrap();
    finds_problem(&site, "", "irregular", "! -type f");
}

#[test]
fn files_that_root_left_are_a_problem() {
    let Some(site) = Site::as_root() else { return };
    site.give_to(SOMEBODY);
    File::create(site.directory.join(".gc")).unwrap();
    finds_and_repairs(&site, "", "owner", "chown -R 4711");
}

#[test]
fn a_user_that_does_not_exist_is_a_wrong_command_line() {
    let checked = Site::new().check(["--as", "no such user"]);
    checked.exits_with(2).complains("no such user");
}

#[test]
fn other_stores_have_no_directory_to_check() {
    let site = Site::new();
    let checked = site.run_under("storageType = ram", "check");
    checked.exits_with(0).says("storageType = ram");
}

#[test]
fn a_file_of_keys_that_no_program_can_use_is_a_problem() {
    let Some(site) = Site::outside_tmp() else {
        return;
    };
    let keys = site.parent().join("keys");
    let lines = format!("storageType = cookie\nsecretKeyFile = {}", keys.display());
    let check = || site.run_under(&lines, "check");
    check().exits_with(1).says("PROBLEM  store: secretKeyFile");
    fs::write(&keys, "0".repeat(128)).unwrap();
    set_mode(&keys, 0o644);
    check().exits_with(1).says("others can read it");
    set_mode(&keys, 0o600);
    check().exits_with(0).says("0 problems");
    if is_root() {
        let roots = site.run_under(&lines, "check --as 4711").exits_with(1);
        roots.says(&format!("chown 4711 {}", keys.display()));
    }
    fs::write(&keys, "junk").unwrap();
    check().exits_with(1).says("line 1 holds no key");
    let checked = site.run_under("storageType = cookie", "check");
    checked.exits_with(1).says("needs secretKeyFile");
    fs::write(site.parent().join("index.html"), "").unwrap();
    // Another key would end all sessions, and the sessions' directory is no place for it.
    let command = format!("try: mv -n {} /etc/cgi-session.key", keys.display());
    let checked = check().exits_with(1).says(&command);
    checked.says("secretKeyFile = /etc/cgi-session.key");
    fs::remove_file(&keys).unwrap();
    check().exits_with(1).lacks("mv -n");
}

#[test]
fn a_snapshot_that_cannot_be_written_is_a_problem_and_nothing_is_left_of_a_trial() {
    let site = Site::new();
    let check = |path: &Path| {
        let lines = format!("storageType = ram\nsnapshotFile = {}", path.display());
        site.run_under(&lines, "check --json").json()["findings"].clone()
    };
    let absent = check(&site.parent().join("absent/snapshot"));
    holds(absent.to_string(), "cannot make");
    let there = check(&site.directory.join("snapshot"));
    assert!(!there.to_string().contains("cannot make"), "{there}");
    assert!(site.names().is_empty());
}

#[test]
fn a_store_that_no_tool_knows_is_cleaned_up_by_the_programs_or_never() {
    let site = Site::new();
    let custom = "storageType = custom\ncleanUpDelay = 0";
    let checked = site.run_under(custom, "check").exits_with(0);
    checked.says("warning  cleanUp: ");
    let checked = site.run_under("storageType = custom", "check");
    checked.exits_with(0).lacks("cleanUp: ");
}

/// The findings about a database, as another user if root runs the tests.
#[cfg(feature = "sqlite")]
fn of_database(site: &Site, database: &Path, more: &str) -> Finished {
    let lines = format!("storageType = sqlite\ndatabase = {}", database.display());
    let user = if is_root() { "--as 4711 " } else { "" };
    site.run_under(&lines, &*format!("check {user}{more}"))
}

#[cfg(feature = "sqlite")]
#[test]
fn a_database_that_no_program_can_make_is_a_problem() {
    let Some(site) = Site::as_root() else { return };
    let check = |path: &str| of_database(&site, &site.parent().join(path), "");
    let absent = check("absent/sessions.db").exits_with(1);
    let absent = absent.says("try: install -d -m 0700 -o 4711 -g 4711 ");
    absent.says("/absent\n").lacks("the first session makes it");
    let roots = check("sessions/sessions.db").exits_with(1);
    roots.says("try: if it holds sessions alone: install -d");
    site.give_to(SOMEBODY);
    check("sessions/sessions.db").says("the first session makes it");
}

#[cfg(feature = "sqlite")]
#[test]
fn a_database_where_others_can_get_at_it_is_a_problem() {
    let Some(site) = Site::outside_tmp() else {
        return;
    };
    if is_root() {
        site.give_to(SOMEBODY);
    }
    let database = site.directory.join("sessions.db");
    of_database(&site, &database, "").exits_with(0);
    set_mode(&site.directory, 0o777);
    let checked = of_database(&site, &database, "").exits_with(1);
    checked
        .says("everybody can write")
        .says("a directory of its own");
    set_mode(&site.directory, 0o700);
    fs::write(site.parent().join("index.html"), "").unwrap();
    let checked = of_database(&site, &database, "").exits_with(1);
    checked.says("database = /var/lib/cgi-session/sessions.db");
}

#[test]
fn remedies_name_the_configuration_and_the_users_of_the_programs() {
    let Some(site) = Site::as_root() else { return };
    let engine = "storageType = redis\ndatabase = redis://:secret@127.0.0.1:1/0";
    let checked = site.run_under(engine, "check").exits_with(1);
    let file = site.parent().join("site.ini");
    let command = format!("try: cgi-session check --config {} --as ", file.display());
    // The web server's programs would lose a file of root's group.
    checked.says(&command).says("try: chgrp ").lacks("chgrp 0 ");
}

#[test]
fn commands_that_a_message_names_are_for_the_same_configuration() {
    let site = Site::new();
    fs::write(site.directory.join(session_name()), "junk").unwrap();
    let directory = site.directory.display();
    let lines = format!("storageFileDir = {directory}");
    let file = site.parent().join("site.ini");
    let names = |lines: &str, arguments: &str, command: &str| {
        let finished = site.run_under(lines, arguments);
        let said = format!("{}{}", finished.stdout, finished.stderr);
        let expected = format!("{command} --config {}", file.display());
        holds(&said, expected.as_str());
    };
    for (arguments, command) in [
        ("check", "cgi-session list"),
        ("check", "cgi-session config"),
        ("stats", "cgi-session list"),
        ("show junk", "cgi-session list"),
        ("show", "cgi-session list"),
        ("destroy", "cgi-session list"),
    ] {
        names(&lines, arguments, command);
    }
    let by_header = lines + "\nidFrom = header:X-Session";
    names(&by_header, "show", "cgi-session start");
}
