//! Where a CGI program finds its settings, and what it says about wrong ones.

use cgi_session::Origin;
use testkit::copy;
use testkit::prelude::*;

/// A copy of the counter in a directory of its own, with this file beside it.
fn counter_beside(site: &Site, settings: &str) -> PathBuf {
    let programs = site.path().join("cgi-bin");
    fs::create_dir(&programs).unwrap();
    copy(&example("counter"), &programs);
    fs::write(programs.join("cgi-session.ini"), settings).unwrap();
    programs.join("counter")
}

fn settings(site: &Site, more: &str) -> String {
    let directory = site.sessions();
    format!(
        "[session]\nstorageFileDir = {}\n{more}",
        directory.display()
    )
}

#[test]
fn the_file_beside_the_program_is_found_without_any_environment() {
    let site = Site::new();
    let counter = counter_beside(&site, &settings(&site, "cookiePath = /shop\n"));
    // As suexec starts programs: no variable of ours gets through.
    let answer = Cgi::at(&counter).run().expect(200, "here 1 time");
    let cookie = answer.header("set-cookie").unwrap();
    assert!(cookie.ends_with("; Path=/shop"), "{cookie}");
    assert_eq!(site.files().len(), 1);
}

#[test]
fn a_file_that_the_environment_names_comes_before_the_one_beside_the_program() {
    let site = Site::new();
    let counter = counter_beside(&site, "[session]\nstorageFileDir = /nowhere/at/all\n");
    let request = Cgi::at(&counter).variable("CGI_SESSION_CONFIG", site.config());
    request.run().expect(200, "here 1 time");
}

#[test]
fn the_environment_overrides_single_keys() {
    let site = Site::with_settings("cookieMaxAge = 1h\n");
    let elsewhere = site.path().join("elsewhere");
    let request = Cgi::new("counter", &site).variable("CGI_SESSION_STORAGE_FILE_DIR", &elsewhere);
    let request = request.variable("CGI_SESSION_COOKIE_PATH", "/x");
    let answer = request.run().expect(200, "here 1 time");
    let cookie = answer.header("set-cookie").unwrap();
    assert!(cookie.ends_with("; Path=/x; Max-Age=3600"), "{cookie}");
    assert!(elsewhere.is_dir() && !site.sessions().exists());
    let request = Cgi::new("counter", &site).variable("CGI_SESSION_TIMEUOT", "1");
    let words = ["CGI_SESSION_TIMEUOT", "did you mean timeout?"];
    request.run().expect_failure(500, words);
}

#[test]
fn an_unknown_key_is_named_with_file_line_and_neighbour() {
    let site = Site::new();
    let counter = counter_beside(&site, &settings(&site, "\ntimeuot = 5\n"));
    let file = counter.with_file_name("cgi-session.ini");
    let place = format!("{}:4: timeuot", file.display());
    let words = [place.as_str(), "unknown key", "did you mean timeout?"];
    Cgi::at(&counter).run().expect_failure(500, words);
    assert!(!site.sessions().exists());
}

#[test]
fn a_directory_that_nobody_set_is_asked_for() {
    let site = Site::new();
    let counter = counter_beside(&site, "[session]\n");
    let beside = counter.with_file_name("cgi-session.ini");
    let words = [
        "storageFileDir is not set",
        "storageFileDir = /var/lib/cgi-session",
        beside.to_str().unwrap(),
    ];
    Cgi::at(&counter).run().expect_failure(500, words);
    // Without a file, the one to write is named: under suexec no variable would arrive.
    fs::remove_file(&beside).unwrap();
    let answer = Cgi::at(&counter).run().expect_failure(500, words);
    let lacks_it = !answer.stderr.contains("set CGI_SESSION_");
    assert!(lacks_it, "{}", answer.stderr);
}

#[test]
fn a_setting_that_a_redirect_renamed_is_told_and_not_obeyed() {
    let site = Site::new();
    let counter = counter_beside(&site, &settings(&site, ""));
    let elsewhere = site.path().join("elsewhere");
    let renamed = "REDIRECT_CGI_SESSION_STORAGE_FILE_DIR";
    let request = || Cgi::at(&counter).variable(renamed, &elsewhere);
    let answer = request().run().expect_complete("here 1 time");
    let told = format!("{renamed} is ignored");
    assert!(answer.stderr.contains(&told), "{}", answer.stderr);
    assert_eq!(answer.stderr.lines().count(), 1);
    let beside = counter.with_file_name("cgi-session.ini");
    fs::remove_file(&beside).unwrap();
    let words = ["storageFileDir is not set", &told, beside.to_str().unwrap()];
    request().run().expect_failure(500, words);
    assert!(!elsewhere.exists());
}

#[test]
fn a_file_that_is_named_but_missing_is_an_error() {
    let site = Site::new();
    let missing = site.path().join("missing.ini");
    let request = Cgi::new("counter", &site).variable("CGI_SESSION_CONFIG", &missing);
    let words = ["cannot read the configuration", missing.to_str().unwrap()];
    request.run().expect_failure(500, words);
}

#[test]
fn the_cookie_is_secure_when_the_request_came_by_https() {
    let site = Site::new();
    let answer = Cgi::new("counter", &site).variable("HTTPS", "on").run();
    assert!(answer.header("set-cookie").unwrap().contains("; Secure"));
    let site = Site::with_settings("cookieSecure = true\ncookieName = __Host-id\n");
    let answer = Cgi::new("counter", &site).run();
    let cookie = answer.header("set-cookie").unwrap();
    let has_it = cookie.starts_with("__Host-id=") && cookie.contains("; Secure");
    assert!(has_it, "{cookie}");
}

#[test]
fn the_shipped_file_shows_every_key_with_its_default() {
    let text = fs::read_to_string(repository("examples/deploy/cgi-session.ini")).unwrap();
    for key in Config::keys() {
        let shown = text.lines().find_map(|line| {
            let (name, value) = line.trim_start_matches('#').split_once(" =")?;
            (name == key).then(|| value.trim())
        });
        let shown = shown.unwrap_or_else(|| panic!("{key} is missing"));
        let default = Config::new().get(key).unwrap();
        if key == "storageFileDir" {
            assert_eq!(shown, "/var/lib/cgi-session");
        } else if shown.is_empty() {
            assert_eq!(default, "", "{key}");
        } else {
            let set = Config::new().set(key, shown).unwrap();
            assert_eq!(set.get(key).unwrap(), default, "{key}");
        }
    }
}

#[test]
fn the_shipped_file_sets_nothing_but_the_directory() {
    let config = Config::load(&repository("examples/deploy/cgi-session.ini")).unwrap();
    let set = Config::keys().filter(|key| config.origin(key) != Origin::Default);
    let set: Vec<_> = set.collect();
    assert_eq!(set, ["storageFileDir"]);
}
