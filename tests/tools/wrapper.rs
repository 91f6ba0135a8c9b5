//! `cgi-session start PROGRAM`: a whole request, answered by a program in any language.

use std::process::ChildStdout;

use rustix::process::kill_process;
use serde_json::value::RawValue;
use testkit::outside::full_pipe;
use testkit::prelude::*;
use testkit::program::{end_of, piped};
use testkit::tools::Site;

const TYPE: &str = "printf 'Content-Type: text/plain\\n\\n'";

/// The wrapper around a script in sh, as a server starts it, with a temporary directory of its own.
fn wrapper(site: &Site, cookie: &str, script: &str) -> Command {
    wrapper_with(site, cookie, "", script)
}

fn wrapper_with(site: &Site, cookie: &str, options: &str, script: &str) -> Command {
    let temporary = site.parent().join("temporary");
    if !temporary.exists() {
        fs::create_dir(&temporary).unwrap();
    }
    let mut command = site.about("start");
    command.args(options.words()).args(["sh", "-c", script]);
    command
        .env("REQUEST_METHOD", "GET")
        .env("HTTP_COOKIE", cookie)
        .env("TMPDIR", temporary)
        .env("cgi_session", env!("CARGO_BIN_EXE_cgi-session"))
        .stdin(Stdio::null());
    command
}

/// The status of the response, its header fields and its body.
#[derive(Debug)]
struct Page {
    head: String,
    body: String,
    stderr: String,
}

#[track_caller]
fn answer(site: &Site, cookie: &str, script: &str) -> Page {
    page(Finished::of(&mut wrapper(site, cookie, script)))
}

#[track_caller]
fn page(finished: Finished) -> Page {
    let finished = finished.exits_with(0);
    let (head, body) = finished.stdout.split_once("\r\n\r\n").unwrap();
    Page {
        head: head.to_owned(),
        body: body.to_owned(),
        stderr: finished.stderr,
    }
}

impl Page {
    #[track_caller]
    fn has(self, status: &str) -> Self {
        let status = format!("Status: {status}");
        assert!(self.head.starts_with(&status), "{self:#?}");
        self
    }

    /// Expects a page that was sent as the program meant it.
    #[track_caller]
    fn is(self, status: &str, body: &str) -> Self {
        let said = (self.body.as_str(), self.stderr.as_str());
        assert_eq!(said, (body, ""), "{self:#?}");
        self.has(status)
    }

    /// Expects a complete error page, no cookie, and one line on stderr that says this.
    #[track_caller]
    fn fails(self, status: &str, reason: &str) {
        let page = self.has(status);
        let is_whole = page.body.contains("</html>") && !page.head.contains("Set-Cookie");
        assert!(is_whole, "{page:#?}");
        let is_line = page.stderr.contains(reason) && page.stderr.lines().count() == 1;
        assert!(is_line, "{page:#?}");
    }

    #[track_caller]
    fn cookie(&self) -> String {
        let fields = self.head.lines();
        let mut cookies = fields.filter_map(|line| line.strip_prefix("Set-Cookie: "));
        let cookie = cookies.next();
        let cookie = cookie.unwrap_or_else(|| panic!("no cookie: {self:#?}"));
        assert_eq!(cookies.next(), None, "{self:#?}");
        cookie.split(';').next().unwrap().to_owned()
    }
}

/// Nothing of the values may stay behind.
#[track_caller]
fn expect_no_traces(site: &Site) {
    let left = fs::read_dir(site.parent().join("temporary")).unwrap();
    assert_eq!(left.count(), 0);
}

#[test]
fn the_values_are_stored_and_the_cookie_is_put_into_the_header_block() {
    let site = Site::new();
    let script = format!("{TYPE}; echo \"{{\\\"n\\\": [1, 2]}}\" > \"$SESSION_VALUES\"; echo page");
    let first = answer(&site, "", &script).is("200", "page\n");
    let cookie = first.cookie();
    assert!(first.head.contains("Cache-Control: no-store"), "{first:#?}");
    site.prints_for(&cookie, "get n", "[1, 2]\n");
    let script = format!("{TYPE}; cat \"$SESSION_VALUES\"");
    let second = answer(&site, &cookie, &script).is("200", "{\"n\":[1, 2]}\n");
    assert!(!second.head.contains("Set-Cookie"), "{second:#?}");
    expect_no_traces(&site);
}

#[test]
fn the_values_lie_where_nobody_else_can_read_them() {
    let site = Site::new();
    let script =
        format!("{TYPE}; stat -c %a \"$SESSION_VALUES\" \"$(dirname \"$SESSION_VALUES\")\"");
    answer(&site, "", &script).is("200", "600\n700\n");
}

#[test]
fn commands_inside_work_on_the_file_and_change_nothing_before_the_end() {
    let site = Site::new();
    let stored = site.session();
    let script = format!(
        "{TYPE}; $cgi_session set --add 1 pageViews; $cgi_session set name Ada; \
         $cgi_session get name; $cgi_session start; $cgi_session unset pageViews; \
         $cgi_session get pageViews || echo none; $cgi_session get --app shop name 2>&1"
    );
    let page = answer(&site, stored.cookie(), &format!("{script} | sed s/:.*//"));
    page.is("200", "8\nAda\nnone\ncgi-session\n");
    let values = site.read(&stored).unwrap();
    assert_eq!(values.keys().collect::<Vec<_>>(), ["name"]);
}

#[test]
fn a_value_that_the_program_leaves_as_it_is_keeps_its_end() {
    let site = Site::new();
    // Until the program has run before the values end.
    for life in (0..8).map(|doubled| Duration::from_secs(1 << doubled)) {
        let mut session = site.manager().start("").unwrap();
        let begun = Instant::now();
        let code = json!({"a": 4, "b": 7});
        session.insert_for("code", code, life).unwrap();
        session.insert_for("other", 1, life).unwrap();
        let cookie = &header_of(session.commit().unwrap());
        let json = r#"{"code": {"b": 7, "a": 4}, "other": 2}"#;
        let script = format!("{TYPE}; echo '{json}' > \"$SESSION_VALUES\"");
        answer(&site, cookie, &script).is("200", "");
        if begun.elapsed() < life {
            return wait_until("the end of what was left as it was", || {
                let values = site.manager().read(cookie).unwrap().unwrap();
                values.keys().eq(["other"])
            });
        }
    }
    panic!("the program takes two minutes");
}

#[test]
fn the_order_of_keys_and_every_digit_are_stored() {
    let site = Site::new();
    let stored = site.session();
    for (menu, number) in [
        (r#"{"b":2,"a":"1"}"#, "0.1"),
        (r#"{"a":"1","b":2}"#, "0.10"),
    ] {
        let json = format!(r#"{{"menu":{menu},"n":{number}}}"#);
        let script = format!("{TYPE}; echo '{json}' > \"$SESSION_VALUES\"");
        answer(&site, stored.cookie(), &script).is("200", "");
        let values = site.read(&stored).unwrap();
        let read = ["menu", "n"].map(|key| values.require::<Box<RawValue>>(key).unwrap());
        assert_eq!(read.each_ref().map(|it| it.get()), [menu, number]);
    }
}

#[test]
fn additions_inside_at_once_all_count() {
    let site = Site::new();
    let one = "$cgi_session set --add 1 n >/dev/null &";
    let script = format!("{TYPE}; {} wait; $cgi_session get n", one.repeat(10));
    answer(&site, "", &script).is("200", "10\n");
}

#[test]
fn a_program_that_fails_saves_nothing_and_the_client_gets_a_complete_page() {
    let site = Site::new();
    let stored = site.session();
    let before = fs::read(&stored.path).unwrap();
    let change = "$cgi_session set --add 1 pageViews >/dev/null";
    let done = format!("{change}; {TYPE}");
    let storing = |values: &str| format!("{TYPE}; echo '{values}' > $SESSION_VALUES");
    for (script, reason) in [
        (format!("{done}; echo page; exit 3"), "sh exited with 3"),
        (format!("{done}; kill -9 $$"), "signal 9"),
        (format!("{change}; echo '<html>'"), "no CGI head"),
        (change.to_owned(), "no empty line"),
        (storing("[1]"), "not one JSON object"),
        (storing("{\"a\": 1"), "not one JSON object"),
        (storing("{\"a\": 1, \"a\": 2}"), "twice"),
        (format!("{done}; head -c 70000000 /dev/zero"), "64 MiB"),
    ] {
        answer(&site, stored.cookie(), &script).fails("500", reason);
        assert_eq!(fs::read(&stored.path).unwrap(), before, "{script}");
    }
    let get = [("REQUEST_METHOD", "GET")];
    let missing = site.run_with(&get, "start /nonexistent/program --help");
    page(missing).fails("500", "/nonexistent/program");
    expect_no_traces(&site);
}

#[test]
fn an_empty_array_is_no_values() {
    let site = Site::new();
    let stored = site.session();
    // With a byte order mark, too.
    for text in ["[]", " [ ]\n", "\\357\\273\\277[]"] {
        site.prints_for(stored.cookie(), "set a b", "");
        let script =
            format!("{TYPE}; printf '{text}' > $SESSION_VALUES; $cgi_session get a || echo none");
        answer(&site, stored.cookie(), &script).is("200", "none\n");
        assert_eq!(site.read(&stored).unwrap().keys().count(), 0);
    }
}

#[test]
fn a_key_or_value_that_cannot_be_stored_is_named_to_the_log_and_the_client() {
    let site = Site::new();
    let stored = site.session();
    let before = fs::read(&stored.path).unwrap();
    let deep = "[".repeat(200) + &"]".repeat(200);
    for (value, reason) in [
        ("\"\\\\udcff\"", "surrogate"),
        ("[\"\\\\ud800\\\\u0041\"]", "surrogate"),
        ("\"\\377\"", "unicode"),
        ("NaN", "expected value"),
        ("1e999", "out of range"),
        (deep.as_str(), "nested deeper"),
    ] {
        let script =
            format!("{TYPE}; printf '{{\"ok\": 1, \"na<me\": {value}}}' > $SESSION_VALUES");
        let page = answer(&site, stored.cookie(), &script);
        assert!(page.body.contains("<code>na&lt;me</code>"), "{page:#?}");
        let is_named = page.stderr.contains("na<me") && page.stderr.contains(reason);
        assert!(is_named, "{page:#?}");
        let in_session = format!("nothing was saved (session {})", stored.digest());
        page.fails("400", &in_session);
        assert_eq!(fs::read(&stored.path).unwrap(), before, "{value}");
    }
    for key in ["\\\\udcff", "\\377"] {
        let script = format!("{TYPE}; printf '{{\"{key}\": 1}}' > $SESSION_VALUES");
        answer(&site, stored.cookie(), &script).fails("400", "utf-8");
    }
    for (key, reason) in [("", "it is empty"), ("longer", "6 bytes, of at most 5")] {
        let script = format!("{TYPE}; echo '{{\"ok\": 1, \"{key}\": 1}}' > $SESSION_VALUES");
        let mut command = wrapper(&site, stored.cookie(), &script);
        let page = page(Finished::of(command.env("CGI_SESSION_MAX_KEY_LENGTH", "5")));
        let code = format!("<code>{key}</code>");
        assert!(page.body.contains(&code), "{page:#?}");
        page.fails("400", reason);
        assert_eq!(fs::read(&stored.path).unwrap(), before, "{key}");
    }
    expect_no_traces(&site);
}

#[test]
fn a_log_that_nobody_reads_does_not_keep_the_session_locked() {
    let site = Site::new();
    let (_log, stderr) = full_pipe();
    let script = format!("{TYPE}; echo '{{\"a\": NaN}}' > $SESSION_VALUES");
    let mut command = wrapper(&site, site.session().cookie(), &script);
    let child = command.stdout(Stdio::piped()).stderr(stderr).spawn();
    let (status, head, _) = end_of(child.unwrap());
    assert!(
        status.success() && head.starts_with("Status: 400"),
        "{head}"
    );
}

#[test]
fn values_that_are_no_file_or_have_no_end_are_refused_at_once() {
    let site = Site::new();
    let stored = site.session();
    let pipe = "rm \"$SESSION_VALUES\"; mkfifo \"$SESSION_VALUES\"";
    for (change, reason) in [
        (pipe, "no regular file"),
        ("ln -sf /dev/zero \"$SESSION_VALUES\"", "no regular file"),
        ("truncate -s 100M \"$SESSION_VALUES\"", "longer than 64 MiB"),
    ] {
        let script = format!("{TYPE}; {change}");
        answer(&site, stored.cookie(), &script).fails("500", reason);
    }
}

#[test]
fn what_a_killed_wrapper_leaves_is_removed_by_the_next_and_by_the_clean_up() {
    let site = Site::new();
    let (running, running_path) = started(&site, site.session().cookie());
    for remover in ["start", "cleanup"] {
        let (mut killed, path) = started(&site, site.session().cookie());
        let program = fs::read_to_string(path.with_extension("pid")).unwrap();
        killed.kill().unwrap();
        killed.wait().unwrap();
        assert!(path.exists());
        if remover == "start" {
            answer(&site, "", TYPE).is("200", "");
        } else {
            let mut cleanup = site.cleanup_program();
            cleanup.env("TMPDIR", site.parent().join("temporary"));
            cleanup.arg("--storage-file-dir").arg(&site.directory);
            Finished::of(&mut cleanup).exits_with(0).says_nothing();
        }
        assert!(!path.parent().unwrap().exists() && running_path.exists());
        let program = Pid::from_raw(program.trim().parse().unwrap());
        // It may have ended by itself.
        let _ = kill_process(program.unwrap(), Signal::KILL);
    }
    fs::write(&running_path, "{\"go\": 1}").unwrap();
    page(running.wait_with_output().unwrap().into()).is("200", "done\n");
    expect_no_traces(&site);
}

#[test]
fn a_cookie_of_the_sessions_name_is_left_out_and_all_others_are_sent() {
    let site = Site::new();
    let fields = ["sessionId=theirs; Path=/", "theme=dark", "sessionIds=1"];
    let script = format!(
        "$cgi_session set a b; printf 'Set-Cookie: %s\\n' '{}'; {TYPE}",
        fields.join("' '")
    );
    let page = answer(&site, "", &script).has("200");
    let sent = page
        .head
        .lines()
        .filter(|it| it.starts_with("Set-Cookie: "));
    let sent: Vec<_> = sent.map(|it| &it["Set-Cookie: ".len()..]).collect();
    assert_eq!(sent[..2], fields[1..], "{page:#?}");
    let own = sent[2].split(';').next().unwrap();
    site.prints_for(own, "get a", "b\n");
    assert_eq!(sent.len(), 3, "{page:#?}");
    let is_told = page.stderr.contains("sets the cookie sessionId");
    assert!(is_told && page.stderr.lines().count() == 1, "{page:#?}");
}

#[test]
fn a_page_with_a_server_error_saves_nothing_either() {
    let site = Site::new();
    let script =
        "$cgi_session set a b; printf 'Status: 503 Busy\\nContent-Type: text/plain\\n\\nlater'";
    let page = answer(&site, "", script).is("503", "later");
    assert!(!page.head.contains("Set-Cookie"), "{page:#?}");
    assert!(site.names().is_empty());
}

#[test]
fn a_status_without_content_has_none_and_head_has_the_length_that_the_program_tells() {
    let site = Site::new();
    let script =
        "printf 'Status: 304 Not Modified\\nContent-Type: text/plain\\nETag: \"a\"\\n\\na page'";
    let page = answer(&site, "", script).is("304 Not Modified", "");
    assert!(page.head.contains("\r\nEtag: \"a\""), "{page:#?}");
    assert!(!page.head.contains("Content-"), "{page:#?}");
    let script = "printf 'Content-Type: text/plain\\nContent-Length: 6\\n\\n'";
    let mut head = wrapper(&site, "", script);
    let page = self::page(Finished::of(head.env("REQUEST_METHOD", "HEAD"))).is("200", "");
    assert!(page.head.contains("Content-Length: 6"), "{page:#?}");
}

#[test]
fn a_program_that_puts_nothing_in_leaves_no_session() {
    let site = Site::new();
    let page = answer(&site, "", &format!("{TYPE}; echo page")).is("200", "page\n");
    assert!(!page.head.contains("Set-Cookie") && site.names().is_empty());
}

#[test]
fn a_session_ends_by_command_or_when_its_file_is_deleted() {
    let site = Site::new();
    for end in ["$cgi_session destroy", "rm \"$SESSION_VALUES\""] {
        let stored = site.session();
        let script = format!("{TYPE}; {end}; $cgi_session get pageViews || echo gone");
        let page = answer(&site, stored.cookie(), &script).is("200", "gone\n");
        assert_eq!(page.cookie(), "sessionId=");
        assert!(!stored.path.exists());
    }
    let script =
        format!("{TYPE}; $cgi_session destroy; $cgi_session set a b 2>/dev/null || echo no");
    answer(&site, site.session().cookie(), &script).is("200", "no\n");
}

#[test]
fn the_body_of_the_request_is_the_programs_to_read() {
    let site = Site::new();
    let mut command = wrapper(&site, "", &format!("{TYPE}; cat"));
    command.env("REQUEST_METHOD", "POST");
    command.env("CONTENT_LENGTH", "5");
    let mut child = piped(&mut command);
    child.stdin.take().unwrap().write_all(b"a=b&c").unwrap();
    page(child.wait_with_output().unwrap().into()).is("200", "a=b&c");
}

#[test]
fn nothing_after_the_program_is_an_option() {
    let site = Site::new();
    let script = format!("{TYPE}; echo \"$@\"");
    let mut command = wrapper(&site, "", &script);
    command.args(["sh", "--config", "/nonexistent", "--app=x", "--help", "--"]);
    page(Finished::of(&mut command)).is("200", "--config /nonexistent --app=x --help --\n");
}

#[test]
fn output_that_a_process_in_the_background_may_still_write_is_not_waited_for() {
    let site = Site::new();
    let started = Instant::now();
    let script = format!("{TYPE}; echo page; sleep 60 2>/dev/null & echo $! >&2");
    let page = answer(&site, "", &script);
    assert!(started.elapsed() < Duration::from_secs(30));
    assert_eq!(page.body, "page\n");
    let sleeper = page.stderr.trim().parse().ok().and_then(Pid::from_raw);
    kill_process(sleeper.unwrap(), Signal::TERM).unwrap();
}

#[test]
fn a_second_request_of_the_session_waits_for_the_first() {
    let site = Site::new();
    let stored = site.session();
    let (first, path) = started(&site, stored.cookie());
    let mut second = wrapper(&site, stored.cookie(), TYPE);
    second.env("CGI_SESSION_LOCK_TIMEOUT", "1s");
    let busy = page(Finished::of(&mut second));
    assert!(busy.head.contains("Retry-After"), "{busy:#?}");
    busy.fails("503", "still locked");
    // The program waits until its file has another content.
    fs::write(&path, "{\"go\": 1}").unwrap();
    page(first.wait_with_output().unwrap().into()).is("200", "done\n");
    assert!(site.read(&stored).unwrap().contains("go"));
}

#[test]
fn where_there_is_no_place_for_the_values_the_error_names_it() {
    let site = Site::new();
    let mut command = wrapper(&site, "", TYPE);
    command.env("TMPDIR", "/nope");
    page(Finished::of(&mut command)).fails("500", "directory for the values in /nope");
}

#[test]
fn a_wrapper_under_nohup_is_not_ended_by_a_hangup() {
    let site = Site::new();
    let script = format!("kill -HUP $PPID; sleep 0.3; {TYPE}; echo done");
    let wrapper = wrapper(&site, "", &script);
    let mut nohup = Command::new("nohup");
    nohup.arg(wrapper.get_program()).args(wrapper.get_args());
    nohup.envs(
        wrapper
            .get_envs()
            .filter_map(|(name, value)| Some((name, value?))),
    );
    page(Finished::of(nohup.stdin(Stdio::null()))).is("200", "done\n");
}

#[test]
fn a_wrapper_that_is_told_to_end_saves_nothing_and_ends_its_program() {
    for signal in [
        Signal::TERM,
        Signal::INT,
        Signal::HUP,
        Signal::QUIT,
        Signal::USR1,
    ] {
        let site = Site::new();
        let stored = site.session();
        let (first, path) = started(&site, stored.cookie());
        let program = fs::read_to_string(path.with_extension("pid")).unwrap();
        send(signal, &first);
        let ended = Finished::from(first.wait_with_output().unwrap());
        let ended = ended.exits_with(128 + signal.as_raw());
        assert_eq!(ended.complains("nothing was saved").stdout, "");
        assert!(has_ended(program.trim()));
        let views = site.read(&stored).unwrap().require::<u64>("pageViews");
        assert_eq!(views.unwrap(), 7);
        expect_no_traces(&site);
    }
}

/// Whether a process is no more, or nothing but an exit status that somebody will ask for.
fn has_ended(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.map_or(true, |stat| stat.contains(") Z "))
}

/// Starts a program that waits, and the file of its values.
fn started(site: &Site, cookie: &str) -> (Child, PathBuf) {
    let script = format!(
        "$cgi_session set --add 1 pageViews >/dev/null; echo $$ > ${{SESSION_VALUES%.json}}.pid; \
         echo \"$SESSION_VALUES\" >&2; \
         until grep -q go \"$SESSION_VALUES\"; do sleep 0.01; done; {TYPE}; echo done"
    );
    let mut command = wrapper(site, cookie, &script);
    let mut child = piped(&mut command);
    let mut line = String::new();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    stderr.read_line(&mut line).unwrap();
    assert!(line.starts_with('/'), "{line}");
    let path = PathBuf::from(line.trim_end());
    // What follows is for whoever waits for the end.
    assert!(stderr.buffer().is_empty());
    child.stderr = Some(stderr.into_inner());
    (child, path)
}

#[test]
fn under_an_id_that_was_changed_no_program_is_run_and_no_tool_finds_a_session() {
    let site = Site::new();
    let stored = site.session();
    let new = &header_of(change(&site.manager(), stored.cookie(), |it| {
        it.regenerate_id();
    }));
    let ran = site.parent().join("ran");
    let script = format!("{TYPE}; touch {}", ran.display());
    answer(&site, stored.cookie(), &script).fails("503", "the session has a new id");
    assert!(!ran.exists());
    let digest = stored.digest();
    for arguments in ["get pageViews", "set pageViews 1"]
        .map(str::to_owned)
        .into_iter()
        .chain(["show", "destroy"].map(|command| format!("{command} {digest}")))
    {
        let finished = site.run_for(stored.cookie(), arguments.as_str());
        assert_ne!(finished.status, Some(0), "{arguments:?}: {finished:?}");
    }
    assert_eq!(site.run("stats --json").json()["sessions"], 1);
    let listed = site.run("list --json").stdout;
    assert_eq!(listed.matches("digest").count(), 1);
    // Neither was changed by any of this.
    answer(&site, stored.cookie(), &script).fails("503", "the session has a new id");
    site.run_for(new, "get pageViews").exits_with(0);
}

#[test]
fn a_configuration_that_cannot_be_used_is_a_complete_page() {
    let site = Site::new();
    let mut command = wrapper(&site, "", TYPE);
    command.env("CGI_SESSION_TIMEOUT", "soon");
    page(Finished::of(&mut command)).fails("500", "CGI_SESSION_TIMEOUT");
}

#[test]
fn one_wrapper_inside_another_is_refused_at_once() {
    let site = Site::new();
    let stored = site.session();
    let script = format!("$cgi_session start sh -c \"{TYPE}\" 2>/dev/null");
    answer(&site, stored.cookie(), &script).is("500", &error_page_body());
}

fn error_page_body() -> String {
    let site = Site::new();
    answer(&site, "", "exit 1").body
}

#[test]
fn started_by_hand_it_says_how_to_try_it() {
    let site = Site::new();
    let advice = "REQUEST_METHOD=GET cgi-session start sh";
    site.refuses("start sh script", 2, advice);
}

/// A wrapper that passes the output on, and what it sends, behind the header block.
fn stream(site: &Site, cookie: &str, script: &str) -> (Child, BufReader<ChildStdout>) {
    let mut child = piped(&mut wrapper_with(site, cookie, "--stream", script));
    let mut sent = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while line != "\r\n" {
        line.clear();
        assert!(sent.read_line(&mut line).unwrap() > 0, "there is no head");
    }
    (child, sent)
}

#[test]
fn a_stream_is_passed_on_as_it_comes_once_its_values_are_stored() {
    let site = Site::new();
    let stored = site.session();
    let script = format!(
        "$cgi_session set a b; {TYPE}; echo first; until test -e $TMPDIR/go; do sleep 0.01; done; \
         $cgi_session get a; for late in 'set a late' 'set --add 1 n' 'unset a' destroy; do \
         $cgi_session $late 2>&1; echo $?; done | sort -ru; head -c 70000000 /dev/zero"
    );
    let (child, mut sent) = stream(&site, stored.cookie(), &script);
    let mut next = || {
        let mut line = String::new();
        sent.read_line(&mut line).unwrap();
        line
    };
    assert_eq!(next(), "first\n");
    // It is stored, and held no more.
    let values = site.run_for(stored.cookie(), "get a").exits_with(0);
    values.says("b");
    fs::write(site.parent().join("temporary/go"), "").unwrap();
    assert_eq!(next(), "b\n");
    for expected in ["nothing can be changed any more\n", "1\n"] {
        let line = next();
        assert!(line.ends_with(expected), "{line}");
    }
    assert_eq!(io::copy(&mut sent, &mut io::sink()).unwrap(), 70_000_000);
    let (status, _, stderr) = end_of(child);
    assert!(status.success() && stderr.is_empty(), "{stderr}");
    let kept = site.read(&stored).unwrap();
    assert_eq!(kept.get::<String>("a").unwrap().as_deref(), Some("b"));
    fs::remove_file(site.parent().join("temporary/go")).unwrap();
    expect_no_traces(&site);
}

#[test]
fn a_stream_that_nobody_reads_ends_its_program() {
    let site = Site::new();
    let script = format!("{TYPE}; echo $$; while echo more; do :; done; sleep 1000");
    let (child, mut sent) = stream(&site, "", &script);
    let mut pid = String::new();
    sent.read_line(&mut pid).unwrap();
    drop(sent);
    let (_, _, stderr) = end_of(child);
    assert_eq!(stderr, "");
    let gone = format!("/proc/{}", pid.trim());
    assert!(!PathBuf::from(gone).exists());
    expect_no_traces(&site);
}

#[test]
fn a_program_of_a_stream_without_a_body_runs_to_its_end() {
    let site = Site::new();
    for status in [204, 205, 304] {
        let ended = site.parent().join(status.to_string());
        let script = format!(
            "echo Status: {status}; {TYPE}; for i in 1 2 3; do sleep 0.1; echo left out; done; touch {}",
            ended.display()
        );
        let answer = page(Finished::of(&mut wrapper_with(
            &site, "", "--stream", &script,
        )));
        answer.is(&status.to_string(), "");
        assert!(ended.exists(), "{status}");
    }
    expect_no_traces(&site);
}

#[test]
fn a_program_that_fails_before_its_head_has_no_stream_and_later_a_cut_one() {
    let site = Site::new();
    let begin = |script: &str| {
        let mut wrapper = wrapper_with(&site, "", "--stream", script);
        page(Finished::of(&mut wrapper))
    };
    begin("$cgi_session set a 1; exit 3").fails("500", "exited with 3; nothing was saved");
    begin("echo; echo").fails("500", "nothing was saved");
    assert!(site.names().is_empty());
    let cut = begin(&format!(
        "$cgi_session set a 1; {TYPE}; echo some; sleep 0.2; exit 3"
    ));
    assert_eq!(cut.body, "some\n");
    assert!(cut.stderr.contains("cut off: sh exited with 3"), "{cut:#?}");
    let listed = site.run("list --json").exits_with(0).json();
    assert_eq!(listed.as_array().unwrap().len(), 1);
    expect_no_traces(&site);
}
