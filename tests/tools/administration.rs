//! `cgi-session list`, `show`, `stats` and `destroy`, as administrators use them.

use testkit::prelude::*;
use testkit::tools::{HOUR, SOMEBODY, SOMEBODY_ELSE, Site, is_installed, owner, set_age, set_mode};
use unicode_width::UnicodeWidthStr as _;

/// Puts a session of a later release beside the others; its name and content fit together.
fn file_of_a_later_version(site: &Site) -> PathBuf {
    let path = site.directory.join(testkit::tools::session_name());
    fs::write(&path, testkit::tools::session_of_a_later_version()).unwrap();
    path
}

/// The variables that a command sets.
fn variables_of(command: &Command) -> impl Iterator<Item = (&OsStr, &OsStr)> {
    let variables = command.get_envs();
    variables.filter_map(|(name, value)| Some((name, value?)))
}

#[test]
fn a_live_session_is_listed_with_its_whole_digest_and_its_users_name() {
    let site = Site::new();
    let stored = site.session();
    let of_ada = site.session_of("ada");
    site.expired_session();
    let listed = site.run("list").exits_with(0);
    assert_eq!(listed.stdout.lines().count(), 2, "{listed:#?}");
    let line = |digest: &str| -> Vec<String> {
        let line = listed.stdout.lines().find(|line| line.starts_with(digest));
        let words = line.unwrap().split_whitespace();
        words.map(str::to_owned).collect()
    };
    assert_eq!(&line(stored.digest())[6..], ["-", "\"\""]);
    assert_eq!(&line(&of_ada)[6..], ["ada", "-"]);

    let of_user = site.run("list --user ada --json");
    let of_user = of_user.exits_with(0).json();
    assert_eq!(of_user[0]["digest"], of_ada.as_str());
    assert_eq!(of_user.as_array().unwrap().len(), 1);
    site.prints("list --user nobody", "");
}

/// A command as one types it.
fn on_terminal(site: &Site, line: &str) -> Command {
    let tool = site.about(line.split(' ').next().unwrap());
    let program = format!("{} {line}", tool.get_program().display());
    let mut command = Command::new("script");
    command.args(["--quiet", "--return", "--command", &program, "/dev/null"]);
    command.envs(variables_of(&tool)).env("TERM", "xterm");
    command.stdin(Stdio::null());
    command
}

#[test]
fn what_a_client_has_stored_does_not_control_a_terminal() {
    if !is_installed("script") {
        return;
    }
    let site = Site::new();
    let stored = site.session();
    let hostile = "a\u{1b}[2J\u{9b}2J\u{202e}b\nc";
    let set = site.run_for(stored.cookie(), ["set", "name", hostile]);
    set.exits_with(0);
    site.session_of("ada\u{202e}x");
    let app = "shop\u{202e}";
    let set = site.run_for(stored.cookie(), ["set", "--app", app, "cart", "x"]);
    set.exits_with(0);
    let digest = stored.digest();
    let printed = |line: &str| Finished::of(&mut on_terminal(&site, line)).stdout;
    assert_eq!(
        printed(&format!("get --session {digest} name")),
        "a\\u{1b}[2J\\u{9b}2J\\u{202e}b\r\nc\r\n"
    );
    // JSON stays JSON.
    for (line, place, value) in [
        (format!("get --session {digest} --json name"), "", hostile),
        (format!("show --json {digest}"), "/values//name", hostile),
        (
            "list --user ada\u{202e}x --json".to_owned(),
            "/0/user",
            "ada\u{202e}x",
        ),
    ] {
        let printed = printed(&line);
        assert!(!printed.contains(['\u{9b}', '\u{202e}']), "{printed:?}");
        let json: serde_json::Value = serde_json::from_str(&printed).expect(&printed);
        assert_eq!(json.pointer(place).unwrap(), value, "{line}");
    }
    let counted = printed("stats --json");
    assert!(
        counted.contains("{\"\":1,\"shop\\u202e\":1}"),
        "{counted:?}"
    );
    // Anything else gets what was stored.
    site.prints(
        ["get", "--session", digest, "name"],
        &format!("{hostile}\n"),
    );
    let json = site.run(["show", "--json", digest]).exits_with(0).json();
    assert_eq!(json["values"][""]["name"], hostile);
}

#[test]
fn on_a_terminal_sessions_and_findings_take_80_columns_and_colours_that_can_be_refused() {
    if !is_installed("script") {
        return;
    }
    let site = Site::new();
    let stored = site.session();
    site.session_of("a user with a name that is long and takes a line for itself alone");
    // Each of these characters takes two columns.
    site.session_of("漢字漢字漢字漢字漢字漢字");
    // And these two together take more than each alone.
    site.session_of(&"\u{2764}\u{fe0f}".repeat(7));
    let name = "an application with a name that is long and takes a line for itself alone, too";
    let set = site.run_for(stored.cookie(), ["set", "--app", name, "cart", "x"]);
    set.exits_with(0);
    let on_terminal = |subcommand: &str, no_color: &str| {
        let mut command = on_terminal(&site, subcommand);
        Finished::of(command.env("NO_COLOR", no_color)).stdout
    };
    let listed = on_terminal("list", "");
    assert!(listed.starts_with("\u{1b}[1mDIGEST"), "{listed}");
    let listed = on_terminal("list", "1");
    let lines: Vec<_> = listed.lines().collect();
    assert!(lines[0].starts_with("DIGEST"), "{listed}");
    assert_eq!(lines.len(), 5, "{listed}");
    let short = format!("{:.12} ", stored.digest());
    assert!(listed.contains(&short), "{listed}");
    assert!(lines.iter().all(|line| line.width() <= 80), "{listed}");
    let counted = on_terminal("stats", "");
    let bold = "\u{1b}[1msessions       \u{1b}[0m4";
    assert!(counted.contains(bold), "{counted}");
    let counted = on_terminal("stats", "1");
    let is_plain = !counted.contains('\u{1b}');
    assert!(is_plain && counted.contains("application"), "{counted}");
    assert!(counted.lines().all(|line| line.width() <= 80), "{counted}");
    let checked = on_terminal("check", "");
    let green = "\u{1b}[32mok       \u{1b}[0m";
    assert!(checked.contains(green), "{checked}");
    let checked = on_terminal("check", "1");
    assert!(!checked.contains('\u{1b}'), "{checked}");
    let is_whole = |line: &str| line.contains("try: ") || !line.trim_start().contains(' ');
    let fits = |line: &str| line.chars().count() <= 80 || is_whole(line);
    assert!(checked.lines().all(fits), "{checked}");
}

#[test]
fn the_idle_times_that_programs_have_set_are_shown() {
    let site = Site::new();
    site.session();
    let patient = site.session_by(&site.manager_with(&[("timeout", "30d")]));
    let listed = site.run("list").exits_with(0);
    let idle = listed.stdout;
    let idle = idle.lines().map(|line| line.split_whitespace().nth(4));
    let mut idle: Vec<_> = idle.map(Option::unwrap).collect();
    idle.sort_unstable();
    assert_eq!(idle, ["30d", "60m"]);
    let shown = site.run(["show", "--json", patient.digest()]);
    assert_eq!(shown.exits_with(0).json()["idle"], 30 * 24 * 3600);
    let times = "unused for 60m (1 session), 30d (1 session); timeout is 60m here";
    site.check("").says(times);
}

#[test]
fn no_command_of_an_administrator_counts_as_use() {
    let site = Site::new();
    let stored = site.session();
    set_age(&stored.path, HOUR / 2);
    let before = fs::metadata(&stored.path).unwrap().modified().unwrap();
    for arguments in [
        &["list"][..],
        &["show", stored.digest()],
        &["stats"],
        &["get", "--session", stored.digest(), "pageViews"],
    ] {
        site.run(arguments).exits_with(0);
        let after = fs::metadata(&stored.path).unwrap().modified().unwrap();
        assert_eq!(after, before, "{arguments:?}");
    }
}

#[test]
fn a_session_that_cannot_be_read_is_said_on_stderr_and_the_others_are_listed() {
    let site = Site::new();
    let stored = site.session();
    let later = file_of_a_later_version(&site);
    let digest = later.file_stem().unwrap().to_str().unwrap();
    let listed = site.run("list").exits_with(1).says(stored.digest());
    listed
        .complains(digest)
        .complains("version 2")
        .has_lines(1, 1);
    let counted = site.run("stats").exits_with(1).says("sessions       1");
    counted.complains("1 session could not");
    site.refuses(["show", digest], 1, "version 2");
    site.refuses(["destroy", digest], 1, "version 2");
    assert!(later.exists());
}

#[test]
fn a_session_is_shown_with_everything_in_it() {
    let site = Site::new();
    let stored = site.session();
    let cart = ["set", "--app", "shop", "--json", "cart", "[17]"];
    site.prints_for(stored.cookie(), ["set", "name", "A\u{1b}[2J"], "");
    site.prints_for(stored.cookie(), cart, "");
    let shown = site.run(["show", stored.digest()]).exits_with(0);
    let shown = shown.says("\"pageViews\": 7").says("application  shop");
    // The id is nobody's business.
    let id = stored.cookie().split_once('=').unwrap().1;
    shown.says("\\u001b[2J").lacks("\u{1b}").lacks(id);

    let json = site.run(["show", "--json", &stored.digest()[..12]]);
    let json = json.exits_with(0).json();
    assert_eq!(json["digest"], stored.digest());
    let values = json!({"": {"pageViews": 7, "name": "A\u{1b}[2J"}, "shop": {"cart": [17]}});
    assert_eq!(json["values"], values);
    let visitor = site.run_for(stored.cookie(), "show --json");
    assert_eq!(visitor.exits_with(0).json(), json);
}

#[test]
fn the_session_of_a_visitor_is_shown_as_a_program_finds_it() {
    let site = Site::new();
    let stored = site.session();
    let token = SessionId::generate().unwrap();
    let mut private = site.manager().start_with_id(&token).unwrap();
    private.insert("validator", "secret").unwrap();
    private.set_private();
    private.commit().unwrap();
    let private = format!("sessionId={}", token.secret());
    let dead = format!("sessionId={}", "a".repeat(SessionId::LENGTH));
    for cookies in [&private, &dead] {
        let refused = site.run_for(cookies, "show").exits_with(1);
        refused.complains("leads to no session").lacks("secret");
        let both = format!("{cookies}; {}", stored.cookie());
        let shown = site.run_for(&both, "show").exits_with(0);
        shown.says(stored.digest()).says("pageViews");
    }
}

#[test]
fn a_digest_that_names_no_session_or_several_is_refused() {
    let site = Site::new();
    let digest = site.session().digest().to_owned();
    for command in ["show", "destroy"] {
        let unknown = "0".repeat(64);
        site.refuses([command, &unknown], 1, "there is no session");
        site.refuses([command, "0123456789"], 1, "there is no session");
        for bad in ["abc", "../../../etc/passwd", "", &"a".repeat(65)] {
            site.refuses([command, bad], 2, "is no digest");
        }
        site.refuses([command], 2, "HTTP_COOKIE");
    }
    // A second session whose digest begins in the same way; what is in it does not matter.
    let other = format!("{}{}", &digest[..20], "0".repeat(44));
    fs::write(site.directory.join(format!("{other}.json")), "").unwrap();
    site.run(["show", &digest[..20]]).exits_with(0);
    let path = site.directory.join(format!("{other}.json"));
    fs::remove_file(path).unwrap();
    site.prints(["destroy", &digest.to_uppercase()[..20]], "");
    site.prints("list", "");
}

#[test]
fn the_beginning_of_two_digests_is_ambiguous() {
    let site = Site::new();
    let config = cgi_session::Config::new().set("storageFileDir", &site.directory);
    let store = cgi_session::FileStore::new(config.unwrap()).unwrap();
    let digests = ["1", "2"].map(|last| "ab".repeat(10) + &last.repeat(44));
    for digest in &digests {
        let session = cgi_session::SessionDigest::parse(digest.as_bytes()).unwrap();
        let now = std::time::SystemTime::now();
        let record = cgi_session::Record::new(now);
        let created = cgi_session::Store::create(&store, &session, &record, now);
        drop(created.unwrap().unwrap());
    }
    for command in ["show", "destroy"] {
        site.refuses([command, "ababab"], 2, "2 digests");
    }
    for digest in digests {
        site.prints(["destroy", &digest[..21]], "");
    }
}

#[test]
fn output_that_is_lost_is_a_failure_and_a_reader_that_has_seen_enough_is_none() {
    let site = Site::new();
    site.session();
    let commands = "stats --prometheus,list --json,set key value,config,cleanup --verbose,\
        cleanup --dry-run,man,list --help,--version";
    for arguments in commands.split(',').map(|it| it.words()) {
        let mut command = site.about(arguments[0]);
        let full = File::options().write(true).open("/dev/full").unwrap();
        command.args(&arguments[1..]).stdout(full);
        let failed = Finished::of(&mut command).exits_with(1);
        failed.complains("cannot write to stdout: No space left on device");
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        command.stdout(writer);
        Finished::of(&mut command).exits_with(0).says_nothing();
    }
}

#[test]
fn the_statistics_count_sessions_bytes_and_applications() {
    let site = Site::new();
    let stored = site.session();
    site.session();
    site.expired_session();
    site.run_for(stored.cookie(), "set --app shop cart x")
        .exits_with(0);
    let counted = site.run("stats --json").exits_with(0);
    let applications = json!({"": 2, "shop": 1});
    let expected = json!({"sessions": 2, "maxSessions": 0, "applications": applications});
    let json = counted.reports(&expected).json();
    assert!(json["bytes"].as_u64().unwrap() > 100 && json["lastCleanUpSecondsAgo"].is_null());
    site.cleanup("").exits_with(0);
    let said = site.run("stats").exits_with(0);
    let mut lines = said.stdout.lines();
    let clean_up = lines.find_map(|line| line.strip_prefix("last clean-up  "));
    let age = clean_up.and_then(|text| text.strip_suffix("s ago"));
    assert!(age.is_some_and(|age| age.parse::<u8>().is_ok()), "{said:?}");
    said.says("cap            none");
}

#[test]
fn the_sessions_of_a_user_are_listed_with_the_browsers_that_were_recorded() {
    let site = Site::new();
    let values = r#"{"":{"n":1},"@":{"devices":{"first":{"agent":"Phone/1","address":"192.0.2.0/24"},"last":{"agent":"D\u001besk/2"}}}}"#;
    let now = SystemTime::now();
    let record = Record::new(now).with_values(values.as_bytes().to_vec());
    let record = record.with_user(Some("ada"));
    let id = SessionId::generate().unwrap();
    let manager = site.manager();
    drop(manager.store().create(&id.digest(), &record, now).unwrap());
    site.session_of("grace");
    let listed = site.run("list --user ada").exits_with(0);
    assert_eq!(listed.stdout.lines().count(), 3, "{}", listed.stdout);
    let listed = listed.says("    made by 192.0.2.0/24 Phone/1\n");
    listed.says("    used by - D\\u{1b}esk/2\n");
    let json = site.run("list --json --user ada").json();
    assert_eq!(json[0]["devices"]["first"]["agent"], "Phone/1");
    assert_eq!(site.run("list").stdout.lines().count(), 2);
}

#[test]
fn a_site_without_sessions_has_an_empty_list() {
    let site = Site::new();
    fs::remove_dir(&site.directory).unwrap();
    site.prints("list", "");
    site.prints("list --json", "[]\n");
    site.run("stats").exits_with(0).says("sessions       0");
    assert!(!site.directory.exists());
}

#[test]
fn a_time_to_wait_that_is_none_is_refused_by_the_name_of_its_option() {
    let site = Site::new();
    for wrong in ["soon", "0"] {
        let refused = site.run(["destroy", "--user", "ada", "--wait", wrong]);
        refused
            .exits_with(2)
            .complains("--wait")
            .lacks("lockTimeout");
    }
}

#[test]
fn destroy_waits_for_the_request_that_holds_the_session_and_not_for_ever() {
    let site = Site::new();
    let stored = site.session();
    let manager = site.manager();
    let held = manager.start(stored.cookie()).unwrap();
    let soon = [("CGI_SESSION_LOCK_TIMEOUT", "1s")];
    let refused = site.run_with(&soon, ["destroy", stored.digest()]);
    refused.exits_with(75).complains("still locked");

    let mut patient = site.about("destroy").arg(stored.digest()).spawn().unwrap();
    held.commit().unwrap();
    assert!(patient.wait().unwrap().success());
    assert!(site.read(&stored).is_none());
    // A request that comes with the old cookie begins anew.
    assert!(manager.start(stored.cookie()).unwrap().is_new());
}

#[test]
fn of_several_failures_destroy_ends_with_75_only_if_each_says_try_again() {
    let site = Site::new();
    let (held, none) = (site.session(), "0".repeat(64));
    let path = held.path.clone();
    let manager = site.manager();
    let session = manager.start(held.cookie()).unwrap();
    let soon = [("CGI_SESSION_LOCK_TIMEOUT", "1s")];
    let (held, none) = (held.digest(), none.as_str());
    for (named, status) in [([held, none], 1), ([none, held], 1), ([held, held], 75)] {
        let refused = site.run_with(&soon, ["destroy", named[0], named[1]]);
        refused.exits_with(status).has_lines(0, 2);
    }
    drop(session);
    // One that is gone lets no other live, however they are named.
    let refused = site.run(["destroy", &none[..12], &held[..12]]);
    refused.exits_with(1).has_lines(0, 1);
    assert!(!path.exists());
}

#[test]
fn all_sessions_of_a_user_are_destroyed_and_those_of_others_stay() {
    let site = Site::new();
    for user in ["ada", "ada", "bob"] {
        site.session_of(user);
    }
    site.prints("destroy --user ada", "");
    let left = site.run("list --json").exits_with(0).json();
    let seen = (left.as_array().unwrap().len(), &left[0]["user"]);
    assert_eq!(seen, (1, &json!("bob")));
    let again = site.run("destroy --user ada").exits_with(0).has_lines(0, 1);
    again.complains("no session of user \"ada\"");
    for wrong in [&["ada", "0123456789"][..], &[""]] {
        site.refuses([&["destroy", "--user"], wrong].concat(), 2, "--user");
    }
}

#[test]
fn a_user_whose_session_is_held_is_waited_for_longer_and_all_others_end() {
    let site = Site::new();
    let (stored, other) = (site.session(), site.session_of("ada"));
    let manager = site.manager();
    let mut held = manager.start(stored.cookie()).unwrap();
    held.set_user(Some("ada")).unwrap();
    held.save().unwrap();
    let left = "1 of the user's sessions could not be ended, all others are: the session was";
    site.refuses("destroy --user ada --wait 1s", 75, left);
    site.run(["show", &other]).exits_with(1);

    let soon = ("CGI_SESSION_LOCK_TIMEOUT", "1s");
    let mut patient = site.about("destroy");
    let patient = patient.env(soon.0, soon.1).args(["--user", "ada"]);
    let mut patient = patient.spawn().unwrap();
    // Twice as long as what it would have waited for one session.
    for _ in 0..2 {
        let refused = site.run_with(&[soon], ["destroy", stored.digest()]);
        refused.exits_with(75);
    }
    assert!(patient.try_wait().unwrap().is_none());
    held.commit().unwrap();
    assert!(patient.wait().unwrap().success());
    assert!(site.read(&stored).is_none());
}

#[test]
fn what_an_old_id_still_shows_ends_with_the_session_and_with_its_user() {
    let site = Site::new();
    let manager = site.manager();
    for by_user in [false, true] {
        let old = site.session();
        let mut session = manager.start(old.cookie()).unwrap();
        session.set_user(Some("ada")).unwrap();
        session.commit().unwrap();
        let mut session = manager.start(old.cookie()).unwrap();
        session.regenerate_id_with_grace(Duration::from_secs(60));
        session.save().unwrap();
        let new = session.id().unwrap().digest().to_string();
        session.commit().unwrap();
        assert!(site.read(&old).is_some());
        for list in [
            &["list", "--json"][..],
            &["list", "--json", "--user", "ada"],
        ] {
            let listed = site.run(list).exits_with(0).json();
            let digests: Vec<_> = listed.as_array().unwrap().iter().collect();
            assert_eq!(digests.len(), 1, "{listed}");
            assert_eq!(digests[0]["digest"], *new);
        }
        assert_eq!(site.run("stats --json").json()["sessions"], 1);
        let which: &[&str] = if by_user { &["--user", "ada"] } else { &[&new] };
        site.run([&["destroy"], which].concat()).exits_with(0);
        assert!(site.read(&old).is_none());
        site.prints("list --json", "[]\n");
    }
}

#[test]
fn a_visitor_is_logged_out_with_the_cookie_that_removes_the_cookie() {
    let site = Site::new();
    let stored = site.session();
    let removal = site.run_for(stored.cookie(), "destroy").exits_with(0);
    removal.says("sessionId=;").says("Max-Age=0");
    assert!(site.read(&stored).is_none());
    // The cookie of a session that is gone goes too; of rubbish there is nothing to remove.
    let again = site.run_for(stored.cookie(), "destroy").exits_with(0);
    again.says("sessionId=;");
    site.prints_for("sessionId=../../x; \u{fffd}", ["destroy"], "");
    site.prints_for("", "destroy", "");
}

#[test]
fn root_acts_as_the_owner_of_the_directory() {
    let Some(site) = Site::as_root() else { return };
    let stored = site.session();
    site.give_to(SOMEBODY);
    site.run("list").exits_with(0).says(stored.digest());
    let padding = "x".repeat(5000);
    let set = ["set", "--session", stored.digest(), "padding", &padding];
    site.prints(set, "");
    let seen = owner(&stored.path);
    assert_eq!(seen, SOMEBODY, "a file that grew is a new file");
    site.run(["destroy", stored.digest()]).exits_with(0);
    assert!(!stored.path.exists());
}

#[test]
fn a_directory_of_somebody_else_is_not_looked_into() {
    let Some(site) = Site::as_root() else { return };
    site.session();
    site.give_to(SOMEBODY);
    // Where everybody can reach it, as the built one may not be; by cp, so that it is closed for writing.
    let program = site.parent().join("cgi-session");
    let copied = Command::new("cp")
        .arg(env!("CARGO_BIN_EXE_cgi-session"))
        .arg(&program)
        .status();
    assert!(copied.unwrap().success());
    let owner = "sudo -u '#4711'";
    let file = site.nothing_set().display().to_string();
    for (command, advice) in [
        ("list", owner),
        ("stats", owner),
        ("init", owner),
        (
            "check",
            &*format!("try: sudo cgi-session check --config {file} --as 4711"),
        ),
    ] {
        let about = site.about(command);
        let mut other = Command::new(&program);
        other.args(about.get_args());
        other.envs(variables_of(&about));
        let finished = Finished::of(other.uid(SOMEBODY_ELSE).gid(SOMEBODY_ELSE));
        assert_ne!(finished.status, Some(0), "{finished:?}");
        let said = finished.stdout + &finished.stderr;
        assert!(said.contains("sessions") && said.contains(advice), "{said}");
        // The programs of the site would lose it.
        let given_away = format!("-g {SOMEBODY_ELSE} {}", site.directory.display());
        assert!(!said.contains(&given_away), "{said}");
    }
}

#[test]
fn a_configuration_that_cannot_be_used_is_78() {
    let site = Site::new();
    let commands = "list,show 0123456789,stats,destroy 0123456789,get key,set key value,\
        unset key,start,init";
    for command in commands.split(',') {
        let refused = site.run_under("", command).exits_with(78);
        refused.complains("storageFileDir is not set");
    }
    let missing = site.run("list --config /nonexistent/site.ini");
    missing.exits_with(78).complains("/nonexistent/site.ini");
}

#[test]
fn what_another_user_has_closed_is_named_with_what_opens_it() {
    let Some(mut site) = Site::as_root() else {
        return;
    };
    let stored = site.session();
    site.give_to(SOMEBODY);
    chown(&stored.path, Some(0), Some(0)).unwrap();
    let remedy = format!("try: chown -R 4711 {}", stored.path.display());
    site.refuses(["show", stored.digest()], 1, &remedy);

    let file = site.configuration("timeout = 5");
    set_mode(&file, 0o600);
    let mut check = site.about("check");
    check.args(["--as", "4711", "--config"]).arg(&file);
    let checked = Finished::of(&mut check).exits_with(78);
    checked.complains(&format!("try: chmod 0644 {}", file.display()));

    let closed = site.parent().join("closed");
    site.directory = closed.join("sessions");
    fs::create_dir_all(&site.directory).unwrap();
    set_mode(&closed, 0o700);
    site.give_to(SOMEBODY);
    for command in ["init --owner 4711", "list"] {
        let refused = site.run(command).exits_with(1).lacks("install -d");
        refused.complains("closed to it; name a directory elsewhere");
    }
}
