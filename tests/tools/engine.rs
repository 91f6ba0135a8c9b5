//! The tools and a store in an engine: they say where it is and what is wrong with it, and look for no files.

use cgi_session_tools::stores::manager;
use testkit::prelude::*;
use testkit::tools::{HOUR, program, set_mode};

/// A server, and the configuration of a site that keeps its sessions there.
struct Site {
    place: TempDir,
    server: RedisServer,
}

impl Site {
    /// `None` where there is no server and nobody insists on one.
    fn new(settings: &str) -> Option<Self> {
        let server = RedisServer::start(settings)?;
        let place = tempfile::tempdir().unwrap();
        let site = Site { place, server };
        let url = site.server.url();
        let lines = format!("[session]\nstorageType = redis\ndatabase = {url}\n");
        fs::write(site.configuration(), lines).unwrap();
        set_mode(&site.configuration(), 0o600);
        Some(site)
    }

    fn configuration(&self) -> PathBuf {
        self.place.path().join("site.ini")
    }

    fn command(&self, arguments: &str) -> Command {
        let mut command = program(env!("CARGO_BIN_EXE_cgi-session"));
        command.env("CGI_SESSION_CONFIG", self.configuration());
        command.args(arguments.words());
        command
    }

    #[track_caller]
    fn run(&self, arguments: &str) -> Finished {
        Finished::of(&mut self.command(arguments))
    }

    #[track_caller]
    fn refuses(&self, arguments: &str, status: i32, complaint: &str) {
        let finished = self.run(arguments);
        finished.exits_with(status).complains(complaint);
    }

    fn store_session(&self) {
        let manager = manager(Config::load(&self.configuration()).unwrap());
        let mut session = manager.unwrap().start("").unwrap();
        session.insert("pageViews", 7).unwrap();
        session.commit().unwrap();
    }

    fn keys(&self) -> String {
        self.server.tell("KEYS *")
    }
}

/// What a check found about these topics.
fn findings(finished: &Finished, topics: &[&str]) -> Vec<Value> {
    let report = finished.json();
    let found = report["findings"].as_array().unwrap().clone();
    let is_wanted = |finding: &Value| topics.contains(&finding["topic"].as_str().unwrap());
    found.into_iter().filter(is_wanted).collect()
}

#[test]
fn a_check_names_the_engine_and_its_version_and_looks_for_no_files() {
    let Some(site) = Site::new("") else { return };
    let url = site.server.url();
    let checked = site.run("check").exits_with(0);
    let checked = checked.says(&format!("ok       store: {url}, Redis "));
    checked.says("0 problems");
    let checked = site.run("check --json");
    let of_files = "directory trial place fileSystem space inodes".split(' ');
    let of_files: Vec<_> = of_files.collect();
    assert_eq!(findings(&checked, &of_files), Vec::<Value>::new());
    assert_eq!(site.keys(), "", "a check changes nothing");
}

#[test]
fn a_check_says_what_is_wrong_with_the_engine_and_what_to_do() {
    let Some(site) = Site::new("--maxmemory 100mb --maxmemory-policy allkeys-lru") else {
        return;
    };
    let checked = site.run("check --json").exits_with(1);
    let found = findings(&checked, &["store"]);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0]["level"], "problem");
    assert!(found[0]["text"].as_str().unwrap().contains("allkeys-lru"));
    assert_eq!(found[0]["remedy"], "set maxmemory-policy noeviction");

    let settings = fs::read_to_string(site.configuration()).unwrap();
    let files = "databaseCertFile = /absent.pem\ndatabaseKeyFile = /absent.key\n";
    fs::write(site.configuration(), format!("{settings}{files}")).unwrap();
    site.run("check")
        .exits_with(1)
        .says("databaseCertFile = /absent.pem");
    fs::write(site.configuration(), settings).unwrap();

    let mut site = site;
    site.server.kill();
    let checked = site.run("check").exits_with(1);
    checked.says("PROBLEM  store: ").says(&site.server.url());
    site.refuses("stats", 75, &site.server.url());
    site.run("init --json").exits_with(1);
}

#[test]
fn a_server_that_keeps_nothing_on_disk_is_a_warning() {
    let Some(site) = Site::new("--appendonly no") else {
        return;
    };
    let found = findings(&site.run("check --json").exits_with(0), &["store"]);
    let levels: Vec<_> = found.iter().map(|finding| &finding["level"]).collect();
    assert_eq!(levels, ["ok", "warning"], "{found:?}");
    holds(found[1]["text"].as_str().unwrap(), "appendonly yes");
}

#[test]
fn init_and_uninstall_say_as_json_what_they_did() {
    let Some(site) = Site::new("") else { return };
    let url = site.server.url();
    let made = site.run("init --json").exits_with(0);
    made.reports(&json!({"store": url, "isReady": true}));
    site.store_session();
    site.server.tell("SET other 1");
    site.server.tell("SET Session:mine 1");
    site.refuses("uninstall", 2, &url);
    let removed = site.run("uninstall --yes --json").exits_with(0);
    let left = json!(["key Session:mine"]);
    removed.reports(&json!({"store": url, "sessions": 1, "leftAlone": left}));
    assert!(site.keys().contains("other"));
}

#[test]
fn a_clean_up_names_the_engine() {
    let Some(site) = Site::new("") else { return };
    site.store_session();
    let mut command = program(env!("CARGO_BIN_EXE_cgi-session-cleanup"));
    command.env("CGI_SESSION_CONFIG", site.configuration());
    let url = site.server.url();
    let cleaned = Finished::of(command.arg("-v")).exits_with(0);
    cleaned.says(&format!("{url}: 0 sessions deleted (0 B), 1 live"));
    Finished::of(command.arg("--json")).reports(&json!({"store": url}));
}

/// A trial that is long enough for this machine.
#[track_caller]
fn trial(run: impl Fn(&str) -> Finished) -> Finished {
    let seconds = ["3", "12", "60"].into_iter();
    let trials = seconds.map(|seconds| run(&format!("check --stress --seconds {seconds}")));
    let mut enough = trials.skip_while(|it| it.stdout.contains("too little was tried"));
    enough.next().expect("a trial").exits_with(0)
}

#[test]
fn a_trial_names_the_engine_and_leaves_nothing_in_it() {
    let Some(site) = Site::new("") else { return };
    site.store_session();
    let before = site.keys();
    // As a trial that was killed would leave it.
    let left = "HSET Session_storm_sessions:sweep ended 1";
    site.server.tell(left);
    let tried = trial(|arguments| site.run(arguments));
    let expected = format!("stress: sessions are safe on {} (Redis ", site.server.url());
    tried.says(&expected).says("none lost, none doubled");
    assert_eq!(site.keys(), before);
}

#[test]
fn an_interrupted_trial_leaves_nothing_in_the_engine_either() {
    let Some(site) = Site::new("") else { return };
    let mut command = site.command("check --stress --seconds 600");
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    wait_until("the trial begins", || {
        site.keys().contains("_storm_sessions")
    });
    assert_eq!(interrupted(child), Some(130));
    assert_eq!(site.keys(), "");
}

fn interrupted(mut child: Child) -> Option<i32> {
    send(Signal::INT, &child);
    child.wait().unwrap().code()
}

/// The tool, about tables in an engine of this kind.
fn about_tables(place: &TempDir, kind: &str, arguments: &str) -> Finished {
    let url = testkit::engines::url(kind).unwrap();
    let file = place.path().join("site.ini");
    let lines = format!("[session]\nstorageType = {kind}\ndatabase = {url}\ntable = Tools\n");
    fs::write(&file, lines).unwrap();
    set_mode(&file, 0o600);
    let mut command = program(env!("CARGO_BIN_EXE_cgi-session"));
    command.env("CGI_SESSION_CONFIG", file);
    Finished::of(command.args(arguments.words()))
}

/// The tables of this test: others use the server at the same time.
fn own_tables(kind: &str) -> Vec<String> {
    let all = testkit::engines::tables(kind);
    let own = all.split(' ').filter(|table| table.starts_with("Tools"));
    own.map(str::to_owned).collect()
}

#[test]
fn an_expired_row_is_handed_over_before_it_is_deleted_and_kept_while_that_fails() {
    let place = tempfile::tempdir().unwrap();
    let (file, said) = (place.path().join("site.ini"), place.path().join("said"));
    let program_of = |status: u8| {
        let path = place.path().join("each");
        let script = format!("#!/bin/sh\ncat >> {}\nexit {status}\n", said.display());
        fs::write(&path, script).unwrap();
        set_mode(&path, 0o755);
        path
    };
    let file_of_database = format!("sqlite:{}", place.path().join("database").display());
    for (kind, url) in [
        ("sqlite", Some(file_of_database)),
        ("postgres", testkit::engines::url("postgres")),
        ("mysql", testkit::engines::url("mysql")),
    ] {
        let Some(url) = url else { continue };
        let lines = format!("[session]\nstorageType = {kind}\ndatabase = {url}\ntable = Expired\n");
        let rules = "expiredBy = cleanup\nmaxSessions = 1\nwhenFull = refuse\n";
        fs::write(&file, lines + rules).unwrap();
        set_mode(&file, 0o600);
        let run = |arguments: &str| {
            let mut command = program(env!("CARGO_BIN_EXE_cgi-session"));
            command.env("CGI_SESSION_CONFIG", &file);
            Finished::of(command.args(arguments.words()))
        };
        if kind != "sqlite" {
            run("init").exits_with(0);
        }
        let manager = manager(Config::load(&file).unwrap()).unwrap();
        let (id, past) = (SessionId::generate().unwrap(), SystemTime::now() - 3 * HOUR);
        let record = Record::new(past).with_values(br#"{"":{"pageViews":7}}"#.to_vec());
        let created = manager.store().create(&id.digest(), &record, past).unwrap();
        drop(created.unwrap());

        // Neither a visitor who comes too late nor the next one deletes it.
        let mut other = manager.start(format!("sessionId={}", id.secret())).unwrap();
        other.insert("pageViews", 1).unwrap();
        assert!(matches!(other.commit(), Err(Error::Full { .. })), "{kind}");
        let each = |status, tries| {
            let each = format!(
                "--each {} --each-tries {tries}",
                program_of(status).display()
            );
            run(&format!("cleanup --json {each}"))
        };
        let cleaned = each(3, "2").exits_with(1).complains("(try 1 of 2)");
        cleaned.reports(&json!({"kept": 1, "deleted": 0}));
        let found = manager.existing(format!("sessionId={}", id.secret()));
        assert!(found.unwrap().is_none());
        let cleaned = each(0, "2").exits_with(0);
        cleaned.reports(&json!({"kept": 0, "deleted": 1}));
        let seen = fs::read_to_string(&said).unwrap();
        assert_eq!(seen, "{\"pageViews\":7}\n".repeat(2));
        fs::remove_file(&said).unwrap();
        run("uninstall --yes").exits_with(0);
    }
}

#[test]
fn tables_are_checked_made_tried_and_removed() {
    for (kind, name) in [("postgres", "PostgreSQL 1"), ("mysql", "MariaDB 1")] {
        if testkit::engines::url(kind).is_none() {
            continue;
        }
        let place = tempfile::tempdir().unwrap();
        let run = |arguments: &str| about_tables(&place, kind, arguments);
        let before = own_tables(kind);
        let checked = run("check").exits_with(1).says("PROBLEM  store: ");
        checked.says("run `cgi-session init`");
        assert_eq!(own_tables(kind), before, "a check makes nothing");
        let made = run("init --json").exits_with(0);
        made.reports(&json!({"isReady": true}));
        run("check").exits_with(0).says(&format!(", {name}"));
        run("start").exits_with(0).says("sessionId=");
        run("stats").exits_with(0).says("sessions       1");

        let made = own_tables(kind);
        let tried = trial(run);
        let tried = tried.says("stress: sessions are safe on ");
        tried.says(name).says("none lost, none doubled");
        assert_eq!(own_tables(kind), made, "of a trial nothing is left");
        run("stats").exits_with(0).says("sessions       1");
        let removed = run("uninstall --yes").exits_with(0);
        removed.says("1 session removed");
        assert_eq!(own_tables(kind), before);
    }
}
