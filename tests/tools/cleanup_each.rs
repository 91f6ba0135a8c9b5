//! `cgi-session cleanup --each PROGRAM` and `expiredBy = cleanup`.

use testkit::machine::block_in;
use testkit::prelude::*;
use testkit::tools::{HOUR, SOMEBODY, Site, Stored, is_installed, owner, set_age, set_mode};

/// Writes a program in sh beside the sessions.
fn program(site: &Site, script: &str) -> PathBuf {
    let path = site.parent().join("each");
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    set_mode(&path, 0o755);
    path
}

/// `cgi-session cleanup` of this site with that program.
fn each(site: &Site, program: &Path, more: impl Words) -> Finished {
    let program = ["cleanup", "--each", program.to_str().unwrap()];
    site.run([&program[..], &more.words()].concat())
}

/// What a program that appends its stdin to `said` was given, one object for each call.
fn given(site: &Site) -> Vec<Value> {
    let said = fs::read_to_string(site.parent().join("said")).unwrap_or_default();
    let calls = said.lines().map(serde_json::from_str);
    calls.map(Result::unwrap).collect()
}

/// A program that appends its stdin to `said`.
fn recorder(site: &Site, status: u8) -> PathBuf {
    let said = site.parent().join("said");
    let said = said.display();
    program(site, &format!("cat >> {said}; exit {status}"))
}

fn time_of(stored: &Stored) -> SystemTime {
    fs::metadata(&stored.path).unwrap().modified().unwrap()
}

#[test]
fn each_expired_session_is_handed_over_once_and_then_deleted() {
    let site = Site::new();
    let (fresh, expired) = (site.session(), site.expired_session());
    let program = recorder(&site, 0);
    each(&site, &program, "--dry-run").exits_with(0);
    assert_eq!((given(&site).len(), expired.path.exists()), (0, true));
    each(&site, &program, "").exits_with(0).says_nothing();
    assert_eq!(given(&site), [json!({ "pageViews": 7 })]);
    assert!(fresh.path.exists() && !expired.path.exists());
    each(&site, &program, "").exits_with(0).says_nothing();
    assert_eq!(given(&site).len(), 1);
}

#[test]
fn the_program_of_the_guide_returns_a_basket() {
    if !is_installed("jq") {
        return;
    }
    let (site, script) = (Site::new(), block_in("docs/guide.md", "return-basket"));
    let expired = site.session();
    let mut session = site.manager().start(expired.cookie().as_bytes()).unwrap();
    session.insert("basket", ["tea"]).unwrap();
    session.commit().unwrap();
    set_age(&expired.path, 2 * HOUR);
    let place = site.parent().to_str().unwrap();
    let program = program(&site, &script.replace("/var/log/shop", place));
    each(&site, &program, "").exits_with(0).says_nothing();
    let baskets = fs::read_to_string(site.parent().join("baskets")).unwrap();
    let digest = expired.digest();
    assert_eq!(baskets, format!("{digest} of a guest gives back tea\n"));
}

#[test]
fn the_program_of_cron_has_it_too_and_the_program_is_told_whose_session_it_is() {
    let site = Site::new();
    let digest = site.session_of("ada");
    set_age(&site.directory.join(format!("{digest}.json")), 2 * HOUR);
    let said = site.parent().join("said");
    let script = "echo \"$SESSION_DIGEST $SESSION_USER\"";
    let program = program(&site, &format!("{script} > {}", said.display()));
    let cleaned = site.cleanup(["--json", "--each", program.to_str().unwrap()]);
    cleaned
        .exits_with(0)
        .reports(&json!({"deleted": 1, "kept": 0}));
    assert_eq!(fs::read_to_string(said).unwrap(), format!("{digest} ada\n"));
}

#[test]
fn the_session_is_locked_while_the_program_runs() {
    let site = Site::new();
    let expired = site.expired_session();
    let path = expired.path.display();
    let script = format!("flock --nonblock {path} true && exit 9; exit 0");
    let program = program(&site, &script);
    each(&site, &program, "").exits_with(0).says_nothing();
    assert!(!expired.path.exists());
}

#[test]
fn a_session_whose_program_fails_is_kept_for_some_tries_and_its_time_stays() {
    let site = Site::new();
    let expired = site.expired_session();
    let before = time_of(&expired);
    let program = recorder(&site, 3);
    let limited = || each(&site, &program, "--each-tries 3 --json").exits_with(1);
    for attempt in 1..=2 {
        let failed = limited().reports(&json!({"deleted": 0, "kept": 1}));
        failed.complains(&format!("exited with 3 (try {attempt} of 3)"));
        assert_eq!(time_of(&expired), before);
        assert!(site.read(&expired).is_none());
    }
    let failed = limited().reports(&json!({"deleted": 1, "kept": 0}));
    failed.complains("(try 3 of 3); it is deleted");
    assert!(!expired.path.exists());
    assert_eq!(given(&site), vec![json!({ "pageViews": 7 }); 3]);
}

#[test]
fn a_program_that_cannot_be_started_ends_the_clean_up_and_is_no_try() {
    let site = Site::new();
    let nowhere = Path::new("/nope/program");
    let refused = each(&site, nowhere, "").exits_with(2);
    refused.complains("cannot run /nope/program");
    let expired = site.expired_session();
    let before = fs::read(&expired.path).unwrap();
    let closed = program(&site, "");
    set_mode(&closed, 0o644);
    let strange = site.parent().join("strange");
    fs::write(&strange, "#!/nope/interpreter\n").unwrap();
    set_mode(&strange, 0o755);
    for program in [nowhere, &closed, &strange, site.parent()] {
        let refused = each(&site, program, "--each-tries 1");
        refused.exits_with(2).complains("cannot run");
    }
    let nowhere = [("TMPDIR", "/nope")];
    let refused = site.run_with(&nowhere, "cleanup --each true --each-tries 1");
    refused.exits_with(2).complains("/nope");
    assert_eq!(fs::read(&expired.path).unwrap(), before);
    each(&site, Path::new("true"), "").exits_with(0);
    assert!(!expired.path.exists());
}

#[test]
fn a_program_that_hangs_is_ended_and_the_other_sessions_have_their_turn() {
    let site = Site::new();
    for _ in 0..2 {
        site.expired_session();
    }
    let child = site.parent().join("child");
    let script = format!("sleep 600 & echo $! >> {}; wait", child.display());
    let program = program(&site, &script);
    let started = Instant::now();
    let failed = each(&site, &program, "--each-timeout 1s").exits_with(1);
    assert!(started.elapsed() < HOUR / 6, "{failed:?}");
    assert_eq!(failed.stderr.matches("after 1s").count(), 2, "{failed:?}");
    // Beside the lock of the clean-up.
    assert_eq!(site.names().len(), 3);
    for pid in fs::read_to_string(child).unwrap_or_default().lines() {
        let state = || fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let has_ended = |state: String| state.is_empty() || state.contains(") Z ");
        while !has_ended(state()) {
            assert!(started.elapsed() < HOUR / 6, "{}", state());
            thread::yield_now();
        }
    }
}

#[test]
fn a_long_run_shows_its_progress_on_a_terminal_alone() {
    if !is_installed("script") {
        return;
    }
    let site = Site::new();
    // A run of a second needs no bar.
    let program = program(&site, "sleep 1.5");
    site.expired_session();
    each(&site, &program, "").exits_with(0).says_nothing();
    site.expired_session();
    let tool = site.about("cleanup");
    let (tool_at, program) = (tool.get_program().display(), program.display());
    let cleanup = format!("{tool_at} cleanup --each {program}");
    let mut command = Command::new("script");
    command.args(["--quiet", "--return", "--command", &cleanup, "/dev/null"]);
    let variables = tool.get_envs();
    let variables = variables.filter_map(|(name, value)| Some((name, value?)));
    let command = command.envs(variables).env("TERM", "xterm");
    let shown = Finished::of(command.stdin(Stdio::null()));
    shown.exits_with(0).says("1 deleted");
}

#[test]
fn values_that_the_program_does_not_read_are_no_failure() {
    let site = Site::new();
    let mut session = site.manager().start("").unwrap();
    session.insert("long", "x".repeat(900_000)).unwrap();
    session.commit().unwrap();
    for name in site.names() {
        set_age(&site.directory.join(name), 2 * HOUR);
    }
    let program = program(&site, "exit 0");
    each(&site, &program, "").exits_with(0).says_nothing();
    assert_eq!(site.names().len(), 1);
}

#[test]
fn a_session_in_use_is_left_for_the_next_time_and_so_is_what_is_beyond_the_limit() {
    let site = Site::new();
    let program = recorder(&site, 0);
    let held = site.expired_session();
    let holder = File::open(&held.path).unwrap();
    holder.lock().unwrap();
    let left = each(&site, &program, "--json").exits_with(0);
    left.reports(&json!({"busy": 1, "deleted": 0}));
    holder.unlock().unwrap();
    let _others = (site.expired_session(), site.expired_session());
    let limited = each(&site, &program, "--json --max-files 2");
    limited.reports(&json!({"deleted": 2, "kept": 1, "stoppedEarly": true}));
    assert_eq!(given(&site).len(), 2);
}

#[test]
fn logging_out_and_the_marker_of_a_changed_id_call_nothing() {
    let site = Site::new();
    let ended = site.session();
    let manager = site.manager();
    let mut changed = manager.start("").unwrap();
    changed.insert("pageViews", 1).unwrap();
    let cookie = changed.commit().unwrap().unwrap().to_string();
    change(&manager, &cookie, cgi_session::Session::regenerate_id);
    site.run(["destroy", ended.digest()]).exits_with(0);
    let program = recorder(&site, 0);
    let report = each(&site, &program, "--json").exits_with(0).json();
    assert_eq!((&report["live"], given(&site).len()), (&1.into(), 0));
}

#[test]
fn as_root_the_program_runs_as_the_owner_of_the_directory() {
    let Some(site) = Site::as_root() else { return };
    site.expired_session();
    site.give_to(SOMEBODY);
    set_mode(site.parent(), 0o777);
    let program = recorder(&site, 0);
    each(&site, &program, "").exits_with(0).says_nothing();
    assert_eq!(owner(&site.parent().join("said")), SOMEBODY);
}

#[test]
fn with_expired_by_cleanup_only_the_clean_up_deletes_and_expired_sessions_are_invisible() {
    let site = Site::new();
    let expired = site.expired_session();
    let by_cleanup = ("expiredBy", "cleanup");
    let manager = site.manager_with(&[by_cleanup, ("maxSessions", "1"), ("whenFull", "refuse")]);
    assert!(manager.existing(expired.cookie()).unwrap().is_none());
    let mut other = manager.start(expired.cookie()).unwrap();
    other.insert("pageViews", 1).unwrap();
    let full = other.commit();
    assert!(matches!(full, Err(Error::Full { .. })));
    site.prints("list", "");
    assert!(expired.path.exists());
    let program = recorder(&site, 0);
    each(&site, &program, "").exits_with(0).says_nothing();
    assert_eq!(given(&site), [json!({ "pageViews": 7 })]);
    assert!(!expired.path.exists());
}

#[test]
fn with_expired_by_cleanup_a_request_leaves_what_its_lifetime_has_ended_to_the_clean_up() {
    let site = Site::new();
    let manager = site.manager_with(&[("expiredBy", "cleanup"), ("lifetime", "1s")]);
    let mut session = manager.start("").unwrap();
    session.insert("pageViews", 7).unwrap();
    session.save().unwrap();
    let id = session.id().unwrap().clone();
    drop(session);
    let cookie = format!("sessionId={}", id.secret());
    wait_until("it is too old", || manager.read(&cookie).unwrap().is_none());
    assert!(manager.existing(&cookie).unwrap().is_none());
    manager.start(&cookie).unwrap().destroy().unwrap();
    assert!(!manager.destroy_by_digest(&id.digest()).unwrap());
    let store = FileStore::new(manager.config()).unwrap();
    set_age(&store.path(&id), 2 * HOUR);
    let program = recorder(&site, 0);
    each(&site, &program, "").exits_with(0).says_nothing();
    assert_eq!(given(&site), [json!({ "pageViews": 7 })]);
}

#[test]
fn a_clean_up_that_is_ended_ends_its_program_and_counts_no_try() {
    let site = Site::new();
    let expired = site.expired_session();
    let before = fs::read(&expired.path).unwrap();
    let pid = site.parent().join("pid");
    let shown = pid.display();
    let script = format!("echo $$ > {shown}.new; mv {shown}.new {shown}; exec sleep 1000");
    let program = program(&site, &script);
    let mut command = site.about("cleanup");
    command.args(["--each-timeout", "10m", "--each"]);
    command.arg(&program);
    let child = command.stderr(Stdio::piped()).spawn().unwrap();
    wait_until("the program runs", || pid.exists());
    send(Signal::QUIT, &child);
    let ended = Finished::from(child.wait_with_output().unwrap());
    ended.exits_with(131).complains("was interrupted");
    let pid = fs::read_to_string(pid).unwrap();
    assert!(!Path::new("/proc").join(pid.trim()).exists());
    assert_eq!(fs::read(&expired.path).unwrap(), before);
}

#[test]
fn a_clean_up_that_is_ended_between_two_programs_says_so() {
    let site = Site::new();
    site.expired_sessions(2);
    let program = program(&site, "kill -TERM $PPID");
    let ended = each(&site, &program, "").exits_with(143);
    ended.complains("run it again for the rest");
    assert!(!site.names().is_empty());
}

#[test]
fn a_clean_up_under_nohup_is_not_ended_by_a_hangup() {
    let site = Site::new();
    site.expired_session();
    let program = program(&site, "kill -HUP $PPID; sleep 0.3");
    let mut nohup = Command::new("nohup");
    let cleanup = site.about("cleanup");
    nohup.arg(cleanup.get_program()).args(cleanup.get_args());
    nohup.envs(
        cleanup
            .get_envs()
            .filter_map(|(name, value)| Some((name, value?))),
    );
    nohup.arg("--each").arg(&program).stdin(Stdio::null());
    Finished::of(&mut nohup).exits_with(0);
}

#[test]
fn a_store_that_deletes_by_itself_is_refused() {
    let site = Site::new();
    let lines = "storageType = ram\nexpiredBy = cleanup";
    let refused = site.run_under(lines, "cleanup").exits_with(78);
    let refused = refused.complains("expiredBy");
    refused.complains("storageType = file");
    let refused = site.run_under("storageType = ram", "cleanup --each /bin/true");
    refused.exits_with(78).complains("storageType = ram");
}

#[test]
fn an_id_that_a_program_gives_is_free_once_its_expired_session_was_cleaned_up() {
    let site = Site::new();
    let expired = site.expired_session();
    let manager = site.manager_with(&[("expiredBy", "cleanup")]);
    let secret = expired.cookie().split_once('=').unwrap().1.to_owned();
    let id = cgi_session::SessionId::parse(secret.as_bytes()).unwrap();
    let again = || {
        let mut again = manager.start_with_id(&id).unwrap();
        again.insert("pageViews", 1).unwrap();
        again.commit()
    };
    let refused = again().unwrap_err();
    assert!(refused.one_line().contains("expiredBy"), "{refused}");
    each(&site, &recorder(&site, 0), "").exits_with(0);
    again().unwrap();
}
