//! `cgi-session start`, `get`, `set` and `unset`, as CGI programs in other languages call them.

use testkit::prelude::*;
use testkit::tools::{Site, set_mode};

/// Begins a session as `set_cookie=$(cgi-session start)` does, whose text is the Cookie header too.
fn start(site: &Site) -> String {
    let started = site.run("start").exits_with(0);
    assert_eq!(started.stdout.lines().count(), 1, "{started:?}");
    started.stdout.trim_end().to_owned()
}

#[test]
fn start_makes_a_session_that_holds_nothing_yet() {
    let site = Site::new();
    let cookie = start(&site);
    assert!(cookie.starts_with("sessionId="), "{cookie}");
    assert!(cookie.ends_with("; HttpOnly; SameSite=Lax; Path=/"));
    assert_eq!(site.names().len(), 1);
    site.prints_for(&cookie, "start", "");
    assert!(site.manager().read(&cookie).unwrap().unwrap().is_empty());
}

#[test]
fn start_renews_the_age_of_the_cookie_and_knows_https() {
    let site = Site::new();
    let cookie = start(&site);
    let day = ("CGI_SESSION_COOKIE_MAX_AGE", "1d");
    let again = site.run_with(&[("HTTP_COOKIE", &cookie), ("HTTPS", "on"), day], "start");
    let again = again.exits_with(0).says(&cookie[..50]);
    again.says("; Secure").says("; Max-Age=86400");
}

/// The commands about the session of a visitor.
const OF_VISITOR: [&str; 6] = [
    "start",
    "set key value",
    "get key",
    "unset key",
    "show",
    "destroy",
];

#[test]
fn no_command_looks_for_a_cookie_where_ids_come_in_a_header_field() {
    let site = Site::new();
    let header = ("CGI_SESSION_ID_FROM", "header:X-Session-Id");
    for command in OF_VISITOR {
        let refused = site.run_with(&[("HTTP_COOKIE", "sessionId=x"), header], command);
        let refused = refused.exits_with(78).complains("idFrom = header:");
        assert_eq!(refused.stdout, "");
    }
    assert!(site.names().is_empty());
}

#[test]
fn a_store_in_the_memory_of_another_program_is_refused() {
    let site = Site::new();
    let others = "list,stats,cleanup,destroy --user ada,destroy 012345";
    for command in OF_VISITOR.into_iter().chain(others.split(',')) {
        let refused = site.run_under("storageType = ram", command).exits_with(78);
        assert_eq!(refused.complains("storageType = ram").stdout, "");
    }
}

#[test]
fn what_another_sites_page_sends_without_a_cookie_begins_no_session() {
    let site = Site::new();
    let run = |command: &str, cookie: &str, allowed: &str| {
        let variables = [
            ("HTTP_COOKIE", cookie),
            ("CGI_SESSION_ALLOW_CROSS_SITE_START", allowed),
            ("REQUEST_METHOD", "POST"),
            ("HTTP_SEC_FETCH_SITE", "cross-site"),
        ];
        site.run_with(&variables, command)
    };
    for command in &OF_VISITOR[..2] {
        let refused = run(command, "", "false").exits_with(1);
        assert_eq!(refused.complains("allowCrossSiteStart").stdout, "");
        assert!(site.names().is_empty());
    }
    let begun = run("start", "", "true").exits_with(0).says("sessionId=");
    let set = run("set key value", begun.stdout.trim_end(), "false");
    set.exits_with(0).says_nothing();
}

#[test]
fn a_proxy_that_the_configuration_trusts_says_that_the_client_came_by_https() {
    for (trusted, is_secure) in [("127.0.0.0/8", true), ("10.0.0.0/8", false)] {
        let site = Site::new();
        let proxies = ("CGI_SESSION_TRUSTED_PROXIES", trusted);
        let proxy = ("REMOTE_ADDR", "127.0.0.1");
        let told = site.run_with(
            &[proxies, proxy, ("HTTP_X_FORWARDED_PROTO", "https")],
            "start",
        );
        let told = told.exits_with(0).says("sessionId=");
        assert_eq!(told.stdout.contains("; Secure"), is_secure, "{told:?}");
    }
}

#[test]
fn an_id_of_no_session_is_never_adopted() {
    let site = Site::new();
    let forged = format!("sessionId={}", "a".repeat(40));
    let path = "sessionId=../../../etc/passwd";
    for cookie in [&forged, path, "", ";;=;,sessionId"] {
        site.run_for(cookie, "get name")
            .exits_with(1)
            .says_nothing();
        site.prints_for(cookie, "unset name", "");
        assert!(site.names().is_empty(), "{cookie}");
        let set = site.run_for(cookie, "set name Ada");
        set.exits_with(0).says("sessionId=").lacks(&forged);
        fs::remove_file(site.directory.join(site.names().first().unwrap())).unwrap();
    }
}

#[test]
fn a_value_whose_end_has_come_is_handed_out_to_nobody() {
    let site = Site::new();
    let stored = site.session();
    let mut session = site.manager().start(stored.cookie()).unwrap();
    let second = Duration::from_secs(1);
    session.insert_for("code", 4711, second).unwrap();
    session.insert_for("name", "Ada", 3600 * second).unwrap();
    session.commit().unwrap();
    let get = |key| site.run(["get", "--session", stored.digest(), key]);
    get("name").exits_with(0).prints("Ada\n");
    wait_until("the value's end", || get("code").status == Some(1));
    get("name").exits_with(0).prints("Ada\n");
}

#[test]
fn where_no_session_may_begin_there_is_nothing_to_unset() {
    let site = Site::new();
    let of_another_site = [
        ("REQUEST_METHOD", "POST"),
        ("HTTP_SEC_FETCH_SITE", "cross-site"),
    ];
    let refused = site.run_with(&of_another_site, "set name Ada");
    refused.exits_with(1).complains("allowCrossSiteStart");
    let unset = site.run_with(&of_another_site, "unset name");
    unset.exits_with(0).says_nothing();
}

#[test]
fn text_is_printed_as_it_is_and_other_values_as_json() {
    let site = Site::new();
    let cookie = start(&site);
    let set = |arguments: &dyn Words| site.run_for(&cookie, arguments).exits_with(0).prints("");
    let get = |command: &str| site.run_for(&cookie, command).exits_with(0).stdout;
    set(&["set", "name", "Ada \"the first\"\n--"]);
    assert_eq!(get("get name"), "Ada \"the first\"\n--\n");
    let seen = get("get --json name");
    assert_eq!(seen, "\"Ada \\\"the first\\\"\\n--\"\n");
    let cart = "[17, {\"n\": 18446744073709551615}]";
    set(&["set", "--json", "cart", cart]);
    assert_eq!(get("get cart"), format!("{cart}\n"));
    set(&"set number 5");
    assert_eq!(get("get --json number"), "\"5\"\n");
    set(&"unset name");
    for command in ["get name", "get --json name"] {
        site.run_for(&cookie, command).exits_with(1).says_nothing();
    }
}

#[test]
fn what_follows_the_key_is_a_value_whatever_it_begins_with() {
    let site = Site::new();
    let cookie = start(&site);
    for value in ["--session=0", "--help", "-5", "--", "", "-"] {
        site.prints_for(&cookie, ["set", "x", value], "");
        site.prints_for(&cookie, "get x", &format!("{value}\n"));
    }
}

#[test]
fn set_without_a_session_makes_one_and_prints_its_cookie() {
    let site = Site::new();
    let cookie = site.run("set name Ada").exits_with(0).stdout;
    site.prints_for(cookie.trim_end(), "get name", "Ada\n");
    let counted = site.run("set --add 1 pageViews").exits_with(0);
    let lines: Vec<_> = counted.stdout.lines().collect();
    assert_eq!((lines.len(), lines[0]), (2, "1"));
    site.prints_for(lines[1], "set --add 1 pageViews", "2\n");
}

#[test]
fn a_change_prints_the_cookie_whenever_one_is_due() {
    let site = Site::new();
    let day = ("CGI_SESSION_COOKIE_MAX_AGE", "1d");
    for command in ["set name Ada", "unset name"] {
        let cookie = start(&site);
        let run = || site.run_with(&[("HTTP_COOKIE", &cookie), day], command);
        run().exits_with(0).says("; Max-Age=86400");
        run().exits_with(0).prints("");
    }
    let keys = site.parent().join("keys");
    fs::write(&keys, "0".repeat(128)).unwrap();
    set_mode(&keys, 0o600);
    let keys = keys.to_str().unwrap();
    let run = |cookie: &str, command: &str| {
        let variables = [
            ("HTTP_COOKIE", cookie),
            ("CGI_SESSION_STORAGE_TYPE", "cookie"),
            ("CGI_SESSION_SECRET_KEY_FILE", keys),
        ];
        site.run_with(&variables, command).exits_with(0).stdout
    };
    let empty = run("", "start");
    let named = run(empty.trim_end(), "set name Ada");
    assert_eq!(run(named.trim_end(), "get name"), "Ada\n");
    let counted = run(named.trim_end(), "set --add 1 n");
    let counted = counted.strip_prefix("1\n").unwrap().trim_end();
    assert_eq!(run(counted, "set --add 1 n").lines().next(), Some("2"));
    let without = run(counted, "unset name");
    assert_eq!(run(without.trim_end(), "get n"), "1\n");
    assert_eq!(run(without.trim_end(), "unset name"), "");
}

#[test]
fn a_number_is_added_to_a_number_alone() {
    let site = Site::new();
    let cookie = start(&site);
    let add = |number: &str| site.run_for(&cookie, ["set", "--add", number, "n"]);
    add("2.5").exits_with(0).prints("2.5\n");
    add("-0.5").exits_with(0).prints("2.0\n");
    add("1e400").exits_with(2);
    add("x").exits_with(2);
    site.prints_for(&cookie, "set --json n 18446744073709551615", "");
    add("1").exits_with(1).complains("64 bits");
    site.run_for(&cookie, "set n text").exits_with(0);
    add("1").exits_with(1).complains("\"n\"");
    site.prints_for(&cookie, "get n", "text\n");
}

#[test]
fn bad_keys_and_values_are_wrong_usage_and_change_nothing() {
    let site = Site::new();
    let cookie = start(&site);
    let before = fs::read(site.directory.join(site.names().first().unwrap())).unwrap();
    let long = "k".repeat(129);
    let deep = format!("{}{}", "[".repeat(110), "]".repeat(110));
    for (arguments, status, complaint) in [
        (&["set", &long, "x"][..], 2, "at most 128"),
        (&["set", "", "x"], 2, "empty"),
        (&["set", "--json", "x", "[1,"], 2, "not JSON"),
        (&["set", "--json", "x", "1 2"], 2, "not JSON"),
        (&["set", "--json", "x", &deep], 1, "nested"),
        (&["set", "x"], 2, "VALUE"),
        (&["set", "--add", "1", "x", "y"], 2, "no VALUE"),
        (&["set", "x", "y", "z"], 2, "\"z\""),
        (&["set", "x", "y", "--session", "z"], 2, "before KEY"),
        (&["set", "x", "--add", "1"], 2, "before KEY"),
        (&["set"], 2, "KEY"),
        (&["get"], 2, "KEY"),
        (&["set", "x", &"y".repeat(1 << 16)], 1, "maxRecordBytes"),
    ] {
        let variables = [
            ("HTTP_COOKIE", &*cookie),
            ("CGI_SESSION_MAX_RECORD_BYTES", "10000"),
        ];
        let finished = site.run_with(&variables, arguments).exits_with(status);
        assert_eq!(finished.complains(complaint).stdout, "");
    }
    let after = fs::read(site.directory.join(site.names().first().unwrap())).unwrap();
    assert_eq!(before, after);
}

#[test]
fn an_application_has_values_of_its_own() {
    let site = Site::new();
    let cookie = start(&site);
    site.prints_for(&cookie, "set --app shop x 1", "");
    let nothing = site.run_for(&cookie, "get x").exits_with(1);
    nothing.says_nothing();
    site.prints_for(&cookie, "get --app shop x", "1\n");
    let shop = site.manager_with(&[("app", "shop")]);
    let seen = shop.read(&cookie).unwrap().unwrap();
    assert_eq!(seen.require::<String>("x").unwrap(), "1");
}

#[test]
fn an_administrator_reads_and_changes_by_digest() {
    let site = Site::new();
    let stored = site.session();
    let digest = stored.digest();
    site.prints(["get", "--session", digest, "pageViews"], "7\n");
    site.prints(["set", "--session", &digest[..9], "theme", "dark"], "");
    let add = ["set", "--session", digest, "--add", "1", "pageViews"];
    site.prints(add, "8\n");
    site.prints(["unset", "--session", digest, "theme"], "");
    let seen = site.read(&stored).unwrap();
    let found = (seen.require::<u64>("pageViews").unwrap(), seen.len());
    assert_eq!(found, (8, 1));
    let nobody = "0".repeat(64);
    for command in ["get --session ID x", "set --session ID x y"] {
        let command = command.replace("ID", &nobody);
        site.refuses(command.as_str(), 1, "there is no session");
    }
    site.prints(["unset", "--session", &nobody, "x"], "");
}

#[test]
fn a_session_that_a_request_holds_is_75() {
    let site = Site::new();
    let stored = site.session();
    let held = site.manager().start(stored.cookie()).unwrap();
    let soon = ("CGI_SESSION_LOCK_TIMEOUT", "1s");
    for command in ["set x y", "unset x", "start", "destroy"] {
        let finished = site.run_with(&[soon, ("HTTP_COOKIE", stored.cookie())], command);
        let finished = finished.exits_with(75).complains("still locked");
        assert_eq!(finished.stdout, "");
    }
    // A reader waits for nobody.
    site.prints_for(stored.cookie(), "get pageViews", "7\n");
    drop(held);
}

#[test]
fn a_session_that_has_another_id_by_now_is_75() {
    let site = Site::new();
    let stored = site.session();
    let mut session = site.manager().start(stored.cookie()).unwrap();
    session.regenerate_id();
    session.commit().unwrap();
    let finished = site.run_for(stored.cookie(), "set x y").exits_with(75);
    assert_eq!(finished.stdout, "");
}

#[test]
fn root_makes_no_directory_that_the_programs_could_not_open() {
    if !testkit::tools::is_root() {
        return;
    }
    let site = Site::new();
    fs::remove_dir(&site.directory).unwrap();
    for command in ["start", "set x y"] {
        site.refuses(command, 78, "--owner www-data");
    }
    assert!(!site.directory.exists());
}
