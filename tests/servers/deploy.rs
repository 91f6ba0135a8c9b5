//! The other files of examples/deploy: what cron and systemd make of them.

use std::process::Output;

use testkit::apache::web_user;
use testkit::prelude::*;

fn shipped(name: &str) -> String {
    fs::read_to_string(repository("examples/deploy").join(name)).unwrap()
}

/// The fields of time, the user and the command of the one line that cron obeys.
fn cron_line() -> (Vec<String>, String, String) {
    let table = shipped("cgi-session.cron");
    let is_entry = |line: &&str| line.starts_with(|c: char| c.is_ascii_digit() || c == '*');
    let entries: Vec<_> = table.lines().filter(is_entry).collect();
    assert_eq!(entries.len(), 1, "{entries:?}");
    let is_it = table.ends_with('\n');
    assert!(is_it, "cron passes over a line without an end");
    let mut fields = entries[0].splitn(7, ' ').map(str::to_owned);
    let times = fields.by_ref().take(5).collect();
    (times, fields.next().unwrap(), fields.next().unwrap())
}

/// Runs the command as cron does, with the tool found in this directory.
fn run_as_cron(site: &Site, path: &str) -> Output {
    let (_, _, command) = cron_line();
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", &command]).env_clear().env("PATH", path);
    shell
        .env("CGI_SESSION_CONFIG", site.config())
        .output()
        .unwrap()
}

#[test]
fn cron_deletes_what_has_expired_and_prints_nothing() {
    let site = Site::new();
    Cgi::new("counter", &site).run().expect(200, "here 1 time");
    let expired = site.only_file();
    let long_ago = SystemTime::now() - Duration::from_secs(24 * 3600);
    let file = File::options().write(true).open(&expired).unwrap();
    file.set_modified(long_ago).unwrap();
    Cgi::new("counter", &site).run().expect(200, "here 1 time");

    let tool = tool("cgi-session-cleanup");
    let path = format!("{}:/usr/bin:/bin", tool.parent().unwrap().display());
    let cleaned = run_as_cron(&site, &path);
    assert!(cleaned.status.success(), "{cleaned:?}");
    let is_it = cleaned.stdout.is_empty() && cleaned.stderr.is_empty();
    assert!(is_it, "{cleaned:?}");
    assert_ne!(site.only_file(), expired);
}

#[test]
fn cron_is_silent_where_the_program_was_removed() {
    let cleaned = run_as_cron(&Site::new(), "/usr/bin:/bin");
    let is_it = cleaned.stdout.is_empty() && cleaned.stderr.is_empty();
    assert!(is_it, "{cleaned:?}");
}

#[test]
fn cron_runs_as_the_servers_user_and_knows_the_usual_places() {
    let (times, user, _) = cron_line();
    assert_eq!(times.join(" "), "9,39 * * * *");
    assert_eq!(user, "www-data");
    let places = "PATH=/usr/local/bin:/usr/bin:/bin\n";
    assert!(shipped("cgi-session.cron").contains(places));
}

#[test]
fn systemd_makes_the_directory_for_the_servers_user_alone() {
    let version = Command::new("systemd-tmpfiles").arg("--version").output();
    let version = version.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let number = version
        .unwrap_or_default()
        .split(' ')
        .nth(1)
        .map(str::to_owned);
    if number.is_some_and(|number| number.parse::<u32>().is_ok_and(|number| number < 251)) {
        return testkit::skip("systemd-tmpfiles before 251: it knows no colon");
    }
    if !is_installed("systemd-tmpfiles") || !may_act_as_root() {
        return;
    }
    let owner = web_user().expect("Debian's user www-data");
    let root = tempfile::tempdir().unwrap();
    fs::create_dir_all(root.path().join("var/lib")).unwrap();
    fs::create_dir(root.path().join("etc")).unwrap();
    fs::copy("/etc/passwd", root.path().join("etc/passwd")).unwrap();
    fs::copy("/etc/group", root.path().join("etc/group")).unwrap();
    let path = root.path().join("var/lib/cgi-session");
    for owner in [owner, (1234, 1234)] {
        let made = Command::new("systemd-tmpfiles")
            .arg("--create")
            .arg(format!("--root={}", root.path().display()))
            .arg(repository("examples/deploy/cgi-session.tmpfiles"))
            .status();
        assert!(made.unwrap().success());
        let directory = path.metadata().unwrap();
        assert_eq!(directory.permissions().mode() & 0o7777, 0o700);
        assert_eq!((directory.uid(), directory.gid()), owner);
        // Who has got it since keeps it.
        chown(&path, Some(1234), Some(1234)).unwrap();
    }
}

#[test]
fn the_site_serves_pages_and_programs_under_one_name() {
    let servers = Servers::start("");
    fs::write(servers.site.path().join("pages/index.html"), "a page").unwrap();
    let ways = servers.ways().into_iter();
    for way in ways.filter(|way| way.prefix() == "/cgi-bin/app" && way.is_server("Apache")) {
        let page = way.client().get("/").expect(200, "a page");
        page.expect_cookies(0);
        let counted = way.client().get(&way.path("/counter"));
        counted.expect(200, "here 1 time");
        let missing = way.client().get("/cgi-bin/missing");
        missing.expect(404, "Not Found");
    }
}

#[test]
fn the_site_says_what_is_missing_where_cgi_is_off() {
    if !is_installed("apache2") {
        return;
    }
    let site = Site::new();
    let directory = site.path().display();
    let shipped = repository("examples/deploy/apache-cgi.conf");
    let text = format!(
        "LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so\n\
         ServerName localhost\nDefaultRuntimeDir {directory}\nInclude {}\n",
        shipped.display()
    );
    fs::write(site.path().join("httpd.conf"), text).unwrap();
    let mut check = Command::new("/usr/sbin/apache2");
    let checked = check.arg("-d");
    let checked = checked.arg(site.path()).args(["-f", "httpd.conf", "-t"]);
    let checked = checked.output().unwrap();
    let said = String::from_utf8_lossy(&checked.stderr);
    let is_it = !checked.status.success() && said.contains("run a2enmod cgid");
    assert!(is_it, "{said}");
}
