//! The CGI runner, without a server: what a program answers when it fails, waits, or is started by hand.

use rustix::fs::{OFlags, fcntl_setfl};
use rustix::io::ioctl_fionread;
use testkit::outside::full_pipe;
use testkit::prelude::*;
use testkit::program::{end_of, piped};

/// A visitor whom the counter has counted once.
fn counted_once(site: &Site) -> String {
    let answer = Cgi::new("counter", site).run().expect(200, "here 1 time");
    answer.id()
}

/// What a page that misbehaves in this way answers the visitor.
#[track_caller]
fn misbehave(site: &Site, id: &str, mode: &str) -> Outcome {
    let request = Cgi::new("misbehave", site).visitor(id);
    request.query(&format!("mode={mode}")).run()
}

#[track_caller]
fn expect_count(site: &Site, id: &str, text: &str) {
    let answer = Cgi::new("counter", site).visitor(id).run();
    answer.expect(200, text);
}

#[test]
fn a_panic_saves_nothing_and_is_answered_with_500() {
    for program in ["misbehave", "misbehave_c"] {
        let site = Site::new();
        let id = counted_once(&site);
        let request = Cgi::new(program, &site).visitor(&id).query("mode=panic");
        let line = format!("{program}: panicked at");
        request.run().expect_failure(500, [&line, "on purpose"]);
        expect_count(&site, &id, "here 2 time");
    }
}

#[test]
fn a_store_that_panics_when_it_saves_is_answered_with_500() {
    let site = Site::with_settings("storageType = custom\n");
    fs::write(site.path().join("save"), "").unwrap();
    let request = Cgi::new("fastcgi_echo", &site).query("mode=count");
    let failed = request.variable("ECHO_DIRECTORY", site.path()).run();
    failed.expect_failure(500, ["fastcgi_echo: panicked at", "as the file save asks"]);
}

#[test]
fn an_error_saves_nothing_and_is_answered_with_500() {
    let site = Site::new();
    let id = counted_once(&site);
    let refused = misbehave(&site, &id, "error");
    refused.expect_failure(500, "misbehave: an error of two lines");
    expect_count(&site, &id, "here 2 time");
}

#[test]
fn a_response_that_reports_a_failure_saves_nothing() {
    let site = Site::new();
    let id = counted_once(&site);
    let answer = misbehave(&site, &id, "5xx").expect(502, "unharmed");
    assert_eq!(answer.header("set-cookie"), None);
    // What it shows may be of the session.
    assert_eq!(answer.header("vary"), Some("Cookie"));
    assert!(answer.header("cache-control").unwrap().contains("no-store"));
    expect_count(&site, &id, "here 2 time");
}

#[test]
fn a_status_that_announces_another_response_is_an_error_and_saves_nothing() {
    let site = Site::new();
    let request = || Cgi::new("app", &site).variable("PATH_INFO", "/statuses");
    for status in ["100", "101", "103", "199"] {
        let query = format!("session=1&status={status}");
        let words = [&*format!("status {status}")];
        request().query(&query).run().expect_failure(500, words);
    }
    assert!(site.files().is_empty());
}

#[test]
fn a_failure_without_a_session_leaves_no_file_and_no_cookie() {
    for mode in ["panic", "error", "5xx"] {
        let site = Site::new();
        let answer = Cgi::new("misbehave", &site).query(&format!("mode={mode}"));
        let answer = answer.run();
        assert!(answer.status >= 500, "{answer:?}");
        assert_eq!(answer.header("set-cookie"), None);
        assert!(!site.sessions().exists());
    }
}

#[test]
fn what_a_client_stored_does_nothing_to_the_terminal_of_who_reads_the_log() {
    let site = Site::new();
    for mode in ["escape", "escape+and+panic"] {
        let request = Cgi::new("misbehave", &site).query(&format!("mode={mode}"));
        let answer = request.run();
        let escaped =
            [r"\u{1b}]0;x\u{7}\u{1b}[2J\u{9b}31m\u{7f}\u{85}\u{2028}\u{202e}  forged:  line"];
        let answer = answer.expect_failure(500, escaped);
        let line = answer.stderr.trim_end_matches('\n');
        assert!(!line.contains(char::is_control), "{line:?}");
    }
}

#[test]
fn a_log_that_nobody_reads_stops_no_request() {
    let site = Site::new();
    let id = Cgi::new("counter", &site).run().id();
    for mode in ["error", "panic", "escape"] {
        let (log, stderr) = full_pipe();
        let request = Cgi::new("misbehave", &site).visitor(&id);
        let request = request.query(&format!("mode={mode}"));
        let mut command = request.command();
        command.stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(stderr);
        let child = command.spawn().unwrap();
        let (status, head, _) = end_of(child);
        let is_it = status.success() && head.starts_with("Status: 500 ");
        assert!(is_it, "{head}");
        drop(log);
    }
    let next = Cgi::new("counter", &site).visitor(&id);
    next.run().expect(200, "here 2 time");
}

#[test]
fn what_was_committed_before_a_panic_stays() {
    let site = Site::new();
    let id = counted_once(&site);
    let refused = misbehave(&site, &id, "commit+and+panic");
    refused.expect_failure(500, "after the commit");
    expect_count(&site, &id, "here 1001 time");
}

/// Nobody else knows it, and the old one has ended.
#[test]
fn a_new_id_that_was_stored_reaches_the_client_of_a_request_that_fails_afterwards() {
    for way in ["and+panic", "and+error", "in+an+update"] {
        let site = Site::new();
        let id = counted_once(&site);
        let answer = misbehave(&site, &id, &format!("new+id+{way}"));
        assert_eq!(answer.status, 500, "{answer:?}");
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert_ne!(answer.id(), id);
        expect_count(&site, &answer.id(), "here 1001 time");
    }
}

#[test]
fn a_session_that_was_stored_first_reaches_the_client_of_a_request_that_fails_afterwards() {
    for mode in ["commit+and+panic", "commit+and+5xx"] {
        let site = Site::new();
        let request = Cgi::new("misbehave", &site).query(&format!("mode={mode}"));
        let answer = request.run();
        assert!(answer.status >= 500, "{answer:?}");
        expect_count(&site, &answer.id(), "here 1001 time");
    }
}

#[test]
fn what_a_request_leaves_for_the_next_is_not_used_up_when_it_opens_its_session_again() {
    let site = Site::new();
    let id = counted_once(&site);
    let ask = |mode| misbehave(&site, &id, mode).body;
    assert_eq!(ask("leave+a+note+and+come+back"), "None");
    assert_eq!(ask("note"), "Some(\"for the next\")");
    assert_eq!(ask("note"), "None");
}

#[test]
fn a_type_that_no_longer_fits_is_reported_with_the_session_and_the_key() {
    let site = Site::new();
    let id = counted_once(&site);
    let digest = SessionId::parse(id.as_bytes()).unwrap().digest();
    for mode in ["another+type", "another+struct"] {
        let refused = misbehave(&site, &id, mode);
        let words = ["\"pageViews\" does not fit", digest.as_str()];
        refused.expect_failure(500, words);
    }
}

#[test]
fn a_flash_value_is_used_up_by_the_first_page_that_reads_it_and_by_no_other_request() {
    let site = Site::new();
    let id = counted_once(&site);
    let ask = |mode: &str| {
        let request = Cgi::new("misbehave", &site).visitor(&id);
        request.query(&format!("mode={mode}"))
    };
    let left = "Some(\"for the next\")";
    ask("leave+a+note+and+come+back").run();
    ask("").run().expect(200, "unharmed");
    ask("note").method("HEAD").run();
    for (name, value) in [
        ("HTTP_SEC_PURPOSE", "prefetch;prerender"),
        ("HTTP_PURPOSE", "prefetch"),
        ("HTTP_X_MOZ", "Prefetch"),
    ] {
        ask("note").variable(name, value).run().expect(200, left);
    }
    ask("leave+a+note+and+come+back").run().expect(200, left);
    let page = ask("note").variable("HTTP_SEC_PURPOSE", "other");
    page.run().expect(200, left);
    ask("note").run().expect(200, "None");
}

#[test]
fn under_a_replaced_id_no_other_session_of_the_user_is_ended() {
    let site = Site::new();
    let old = counted_once(&site);
    let manager = manager_of(&site);
    let mut session = manager.start(format!("sessionId={old}")).unwrap();
    session.set_user(Some("ada")).unwrap();
    // As the request below leaves it: it changes nothing.
    session.remove("pageViews");
    session.commit().unwrap();
    let mut session = manager.start(format!("sessionId={old}")).unwrap();
    session.regenerate_id_with_grace(Duration::from_secs(60));
    let new = session.commit().unwrap().unwrap().to_string();
    let new = &new["sessionId=".len()..][..40];
    let refused = misbehave(&site, &old, "log+out+elsewhere");
    refused.expect_failure(503, "the session has a new id");
    let kept = manager.read(format!("sessionId={new}")).unwrap();
    assert_eq!(kept.unwrap().user(), Some("ada"));
}

#[test]
fn who_ends_the_others_leaves_nothing_to_be_read_under_the_ids_before() {
    let site = Site::new();
    let old = counted_once(&site);
    let manager = manager_of(&site);
    let mut session = manager.start(format!("sessionId={old}")).unwrap();
    session.set_user(Some("ada")).unwrap();
    session.commit().unwrap();
    let mut session = manager.start(format!("sessionId={old}")).unwrap();
    session.regenerate_id_with_grace(Duration::from_secs(60));
    session.save().unwrap();
    let new = session.id().unwrap().secret().to_owned();
    session.commit().unwrap();
    let read = |id: &str| manager.read(format!("sessionId={id}")).unwrap();
    assert!(read(&old).is_some());
    misbehave(&site, &new, "log+out+elsewhere").expect(200, "");
    assert!(read(&old).is_none());
    assert_eq!(read(&new).unwrap().user(), Some("ada"));
}

/// What another program of the site does.
fn manager_of(site: &Site) -> SessionManager {
    SessionManager::new(Config::load(&site.config()).unwrap()).unwrap()
}

#[test]
fn a_session_that_another_manager_of_the_request_opens_is_busy() {
    let site = Site::with_settings("lockTimeout = 1s\n");
    let id = counted_once(&site);
    let refused = misbehave(&site, &id, "twice");
    refused.expect_failure(503, "the session was still locked after");
    expect_count(&site, &id, "here 2 time");
}

#[test]
fn a_killed_holder_frees_its_lock_and_saved_nothing() {
    // Apache sends the second at its Timeout, or when the client has gone.
    for signal in [Signal::KILL, Signal::TERM] {
        let site = Site::new();
        let id = counted_once(&site);
        let mut holder = Holding::start(&site, Some(&id), &[]).child;
        send(signal, &holder);
        assert_eq!(holder.wait().unwrap().signal(), Some(signal.as_raw()));
        expect_count(&site, &id, "here 2 time");
    }
}

#[test]
fn head_is_answered_with_the_length_of_the_page_and_without_the_page() {
    let site = Site::new();
    let request = Cgi::new("lookup", &site).method("HEAD");
    let (status, head, stderr) = end_of(piped(&mut request.command()));
    assert!(status.success() && stderr.is_empty(), "{stderr}");
    let page = Cgi::new("lookup", &site).run().expect(200, "no session");
    let length = format!("Content-Length: {}\r\n\r\n", page.body.len());
    assert!(head.ends_with(&length), "{head}");
}

#[test]
fn a_redirect_says_its_status_and_encodes_its_target() {
    let site = Site::new();
    let answer = Cgi::new("misbehave", &site).query("mode=redirect").run();
    let answer = answer.expect(303, "See");
    assert_eq!(
        answer.header("location"),
        Some("/elsewhere?a=b%20c%0D%0AX:%20y")
    );
}

#[test]
fn a_reader_who_leaves_disturbs_nobody_and_what_was_committed_stays() {
    let site = Site::new();
    let id = counted_once(&site);
    for (program, mode) in [
        ("misbehave", ""),
        ("misbehave", "mode=large"),
        ("misbehave_c", "mode=large"),
    ] {
        let request = Cgi::new(program, &site).visitor(&id).query(mode);
        let mut program = piped(&mut request.command());
        drop(program.stdout.take());
        drop(program.stdin.take());
        let (status, _, stderr) = end_of(program);
        assert!(status.success() && stderr.is_empty(), "{status} {stderr}");
        expect_count(&site, &id, "here 1001 time");
    }
}

#[test]
fn a_descriptor_that_does_not_wait_is_waited_for() {
    let site = Site::new();
    let request = Cgi::new("misbehave", &site).query("mode=large");
    let (mut page, out) = io::pipe().unwrap();
    fcntl_setfl(&out, OFlags::NONBLOCK).unwrap();
    let mut command = request.command();
    let mut child = command.stdin(Stdio::null()).stdout(out).spawn().unwrap();
    drop(command);
    let mut read = Vec::new();
    page.read_to_end(&mut read).unwrap();
    assert!(child.wait().unwrap().success());
    assert!(read.ends_with(&vec![b'x'; 4 << 20]), "{} bytes", read.len());

    let upload = Cgi::new("app", &site).variable("PATH_INFO", "/upload");
    let upload = upload.method("POST").variable("CONTENT_LENGTH", "2");
    let (body, mut client) = io::pipe().unwrap();
    fcntl_setfl(&body, OFlags::NONBLOCK).unwrap();
    let mut command = upload.command();
    let program = command.stdin(body).stdout(Stdio::piped());
    let program = program.stderr(Stdio::piped()).spawn().unwrap();
    drop(command);
    client.write_all(b"a").unwrap();
    wait_until("the program reads", || has_read_all(&client));
    client.write_all(b"b").unwrap();
    Outcome::of(program).expect(200, "2 bytes received");
}

/// Whether the other end of the pipe has taken everything.
fn has_read_all(pipe: &io::PipeWriter) -> bool {
    ioctl_fionread(pipe).unwrap() == 0
}

#[test]
fn closed_descriptors_disturb_nobody() {
    let site = Site::new();
    for program in ["counter", "counter_c"] {
        let id = counted_once(&site);
        let request = Cgi::new(program, &site).visitor(&id);
        for closed in ["<&-", ">&-", "2>&-", "<&- >&-", "<&- >&- 2>&-"] {
            let mut shell = request.by_shell(&format!("exec \"$0\" {closed}"));
            let (status, _, stderr) = end_of(piped(&mut shell));
            let is_it = status.success() && stderr.is_empty();
            assert!(is_it, "{program} {closed}: {status} {stderr}");
        }
        expect_count(&site, &id, "here 7 time");
    }
}

#[test]
fn a_program_that_no_server_started_explains_itself() {
    for program in ["counter", "counter_c"] {
        let mut command = Command::new(example(program));
        let (status, stdout, explained) = end_of(piped(command.env_clear()));
        assert_eq!((status.code(), stdout.as_str()), (Some(2), ""));
        holds(
            &explained,
            "a web server starts it*REQUEST_METHOD=GET*cgi-bin",
        );
        // musl tells a C main's program none of its arguments. PROGRAMS are static ones.
        let is_musl = cfg!(target_env = "musl") || env::var_os("PROGRAMS").is_some();
        if program == "counter_c" && is_musl {
            continue;
        }
        // What is asked for is no error.
        let (status, help, stderr) = end_of(piped(command.arg("--help")));
        let seen = (status.code(), help, stderr.as_str());
        assert_eq!(seen, (Some(0), explained, ""));
    }
}

#[test]
fn a_program_in_a_terminal_explains_itself_there() {
    if !is_installed("script") {
        return;
    }
    let program = example("counter");
    let mut command = Command::new("script");
    command
        .args(["--quiet", "--return", "--command"])
        .arg(program);
    command.arg("/dev/null").env_remove("REQUEST_METHOD");
    let (status, terminal, _) = end_of(piped(&mut command));
    assert_eq!(status.code(), Some(2), "{terminal}");
    assert!(terminal.contains("a web server starts it"), "{terminal}");
}
