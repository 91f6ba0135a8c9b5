//! `cgi-session check --stress`: one line says whether sessions are safe, and nothing is left of the
//! trial, however it ends.

use testkit::prelude::*;
use testkit::tools::{SOMEBODY, Site, is_root, owner, set_mode};

const DEADLINE: Duration = Duration::from_secs(120);

/// The finding about the trial.
fn finding(finished: &Finished) -> Value {
    let report = finished.json();
    let mut findings = report["findings"].as_array().unwrap().iter();
    let found = findings.find(|finding| finding["topic"] == "stress");
    found.unwrap_or_else(|| panic!("{finished:#?}")).clone()
}

/// The directories of trials among the sessions.
fn places(site: &Site) -> Vec<PathBuf> {
    let names = site.names().into_iter();
    let places = names.filter(|name| name.starts_with(".cgi-session-stress-"));
    places.map(|name| site.directory.join(name)).collect()
}

#[track_caller]
fn is_as_before(site: &Site) {
    assert_eq!(site.names(), BTreeSet::new());
}

fn stress(site: &Site, arguments: &str) -> Command {
    let mut command = site.about("check");
    command.arg("--stress").args(arguments.words());
    command
}

/// A trial that is long enough for this machine.
#[track_caller]
fn trial(command: impl Fn() -> Command, is_enough: impl Fn(&Finished) -> bool) -> Finished {
    let mut tried = Vec::new();
    for seconds in ["3", "12", "60"] {
        let finished = Finished::of(command().args(["--seconds", seconds]));
        if is_enough(&finished) {
            return finished;
        }
        tried.push(finished);
    }
    panic!("too little was tried: {tried:#?}");
}

fn has_a_verdict(finished: &Finished) -> bool {
    !finished.stdout.contains("too little was tried")
}

/// A trial that goes on until it is ended, and has begun.
fn begin(site: &Site) -> Child {
    let mut command = stress(site, "--seconds 600");
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let begun = || {
        let mut places = places(site);
        places.retain(|place| place.join("sessions").exists());
        places.len()
    };
    let before = begun();
    let child = command.spawn().unwrap();
    let started = Instant::now();
    while begun() == before {
        assert!(started.elapsed() < DEADLINE, "it does not begin");
        thread::sleep(Duration::from_millis(5));
    }
    child
}

/// How a trial ended, and what it said.
fn ended(mut child: Child) -> (ExitStatus, String) {
    let status = child.wait().unwrap();
    let mut said = String::new();
    child.stderr.unwrap().read_to_string(&mut said).unwrap();
    (status, said)
}
#[test]
fn a_trial_says_in_one_line_that_sessions_are_safe_and_leaves_nothing() {
    let Some(site) = Site::outside_tmp() else {
        return;
    };
    let session = site.session();
    let said = trial(|| stress(&site, ""), has_a_verdict).exits_with(0);
    let line = said.stdout.lines().find(|line| line.contains("stress: "));
    let line = line.unwrap_or_else(|| panic!("{said:#?}"));
    assert!(line.contains("stress: sessions are safe on "), "{line}");
    let end = "none lost, none doubled, nothing left behind";
    assert!(line.ends_with(end), "{line}");
    assert_eq!(said.stderr, "");
    assert!(site.read(&session).is_some());
    assert_eq!(site.names().len(), 1);
}

#[test]
fn a_trial_counts_for_programs_what_it_did() {
    let site = Site::new();
    let command = || {
        let mut command = stress(&site, "--json");
        // Its own durability and shards are what counts.
        command.env("CGI_SESSION_SHARDS", "256");
        command.env("CGI_SESSION_DURABILITY", "data");
        // Limits of the site are none of the trial.
        command.env("CGI_SESSION_MIN_FREE_SPACE", "100%");
        command.env("CGI_SESSION_MAX_KEY_LENGTH", "1");
        command.env("CGI_SESSION_TABLE", "t".repeat(63));
        // Nor is where its ids come from.
        command.env("CGI_SESSION_ID_FROM", "header:X-Session-Id");
        command
    };
    let has_done_everything = |finished: &Finished| {
        let found = finding(finished);
        if !has_a_verdict(finished) {
            return false;
        }
        assert_eq!(found["level"], "ok", "{found:#}");
        assert_eq!(found["figures"]["violations"], Value::Array(Vec::new()));
        let mut keys = ["increments", "processes", "killed", "reads"].into_iter();
        keys.all(|key| found["figures"][key].as_u64().unwrap() > 0)
    };
    trial(command, has_done_everything);
    is_as_before(&site);
}

#[test]
fn a_trial_that_is_interrupted_leaves_nothing() {
    for (signal, status) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let site = Site::new();
        let child = begin(&site);
        send(signal, &child);
        let (ended, said) = ended(child);
        assert_eq!(ended.code(), Some(status), "{said}");
        assert!(said.contains("interrupted"), "{said}");
        is_as_before(&site);
    }
}
#[test]
fn what_a_killed_trial_left_is_removed_by_the_next_and_no_trial_that_runs() {
    let site = Site::new();
    let under_way = begin(&site);
    let living = places(&site);
    let killed = begin(&site);
    send(Signal::KILL, &killed);
    assert_eq!(ended(killed).0.signal(), Some(9));
    assert_eq!(places(&site).len(), 2);
    trial(|| stress(&site, ""), has_a_verdict).says("sessions are safe on ");
    assert_eq!(places(&site), living);
    send(Signal::TERM, &under_way);
    assert_eq!(ended(under_way).0.code(), Some(143));
}
#[test]
fn root_tries_as_the_owner_of_the_directory() {
    let Some(site) = Site::as_root() else { return };
    site.give_to(SOMEBODY);
    let child = begin(&site);
    let place = places(&site).remove(0);
    assert_eq!(owner(&place.join("sessions")), SOMEBODY);
    let mode = fs::metadata(&place).unwrap().mode() & 0o7777;
    assert_eq!((owner(&place), mode), (SOMEBODY, 0o700));
    send(Signal::TERM, &child);
    assert_eq!(ended(child).0.code(), Some(143));
    is_as_before(&site);

    let finished = trial(|| stress(&site, "--json --as 4711"), has_a_verdict);
    assert_eq!(finding(&finished)["level"], "ok", "{finished:#?}");
    assert_eq!(finished.json()["uid"], SOMEBODY);
    is_as_before(&site);
}

#[test]
fn root_makes_no_trial_of_its_own_where_another_user_could_replace_it() {
    let Some(site) = Site::as_root() else { return };
    chown(site.parent(), Some(SOMEBODY), Some(SOMEBODY)).unwrap();
    let finished = Finished::of(&mut stress(&site, "--json")).exits_with(1);
    let found = finding(&finished);
    assert_eq!(found["level"], "problem", "{found:#}");
    let file = site.nothing_set();
    let check = format!("cgi-session check --config {}", file.display());
    let remedy = format!("{check} --stress --as {SOMEBODY}");
    assert_eq!(found["remedy"], remedy.as_str(), "{found:#}");
    is_as_before(&site);
}
#[test]
fn a_directory_in_which_the_user_cannot_write_is_a_problem() {
    let site = Site::new();
    if is_root() {
        site.give_to(SOMEBODY);
    }
    set_mode(&site.directory, 0o500);
    let finished = Finished::of(&mut stress(&site, "--json")).exits_with(1);
    let found = finding(&finished);
    assert_eq!(found["level"], "problem", "{found:#}");
    holds(found["text"].as_str().unwrap(), "Permission denied");
}

#[test]
fn a_trial_is_made_in_the_file_system_that_is_mounted_for_the_sessions() {
    let Some(site) = Site::as_root() else { return };
    let Some(_mounted) = SmallDisk::mount_on(&site.directory, "size=1g") else {
        return;
    };
    let directory = site.directory.display();
    let expected = format!("sessions are safe on {directory} (tmpfs): ");
    trial(|| stress(&site, ""), has_a_verdict).says(&expected);
    is_as_before(&site);
}

/// As on a network file system without locks: everybody gets every lock at once.
#[test]
fn where_locks_do_nothing_a_trial_says_what_is_wrong_and_what_to_do() {
    let site = Site::new();
    let library = site.parent().join("no_lock.so");
    let source = site.parent().join("no_lock.c");
    fs::write(&source, "int flock(int file, int how) { return 0; }\n").unwrap();
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-o"]).arg(&library);
    assert!(compiler.arg(&source).status().unwrap().success());

    let mut command = stress(&site, "--seconds 60 --json");
    let finished = Finished::of(command.env("LD_PRELOAD", &library)).exits_with(1);
    let found = finding(&finished);
    assert_eq!(found["level"], "problem", "{found:#}");
    let text = found["text"].as_str().unwrap();
    assert!(text.starts_with("sessions are NOT safe on "), "{text}");
    let remedy = found["remedy"].as_str().unwrap();
    let has_it = remedy.contains("storageFileDir on another local file system");
    assert!(has_it, "{remedy}");
    // Which promise breaks first is a matter of luck.
    let violations = found["figures"]["violations"].as_array().unwrap();
    let first = violations[0].as_str().unwrap();
    assert!(text.ends_with(&format!("; {first}")), "{text}\n{first}");
    is_as_before(&site);
}

#[test]
fn seconds_are_from_one_to_a_week_and_of_a_trial() {
    let site = Site::new();
    for wrong in ["0", "604801", "-1", "soon"] {
        site.run(["check", "--stress", "--seconds", wrong])
            .exits_with(2);
    }
    site.refuses("check --seconds 5", 2, "--stress");
}

#[test]
fn stores_without_files_have_nothing_to_try() {
    for (kind, reason) in [
        ("ram", "in the memory of one program"),
        ("cookie", "at the clients"),
        ("custom", "none that this tool has"),
    ] {
        let Some(site) = Site::outside_tmp() else {
            return;
        };
        let keys = site.parent().join("keys");
        fs::write(&keys, "0".repeat(128)).unwrap();
        set_mode(&keys, 0o600);
        let keys = ("CGI_SESSION_SECRET_KEY_FILE", keys.to_str().unwrap());
        let storage = [("CGI_SESSION_STORAGE_TYPE", kind), keys];
        let told = site.run_with(&storage, "check --stress --json");
        let found = finding(&told.exits_with(0));
        let text = found["text"].as_str().unwrap();
        assert!(text.contains(reason), "{text}");
        assert!(text.contains("nothing to try"), "{text}");
    }
}
