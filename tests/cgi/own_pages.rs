//! Error pages and a logger of the program's own.

use testkit::prelude::*;

/// Expects the program's page, and what the library's says besides.
#[track_caller]
fn expect_page(outcome: &Outcome, status: u16, text: &str) {
    assert_eq!(outcome.status, status, "{outcome:#?}");
    assert_eq!(outcome.body, format!("<html>own page: {text}</html>"));
    let length = outcome.body.len().to_string();
    assert_eq!(outcome.header("content-length"), Some(length.as_str()));
    holds(outcome.header("cache-control").unwrap(), "no-store");
    assert_eq!(outcome.header("set-cookie"), None);
}

/// The line of the program's logger.
#[track_caller]
fn logged(outcome: &Outcome) -> &str {
    let mut lines = outcome.stderr.lines();
    let line = lines.find(|line| line.starts_with("cgi_session::request:"));
    line.unwrap_or_else(|| panic!("{outcome:#?}"))
}

#[test]
fn a_page_of_the_programs_own_says_what_failed_in_the_clients_language() {
    let site = Site::new();
    let ask = |language: &str, mode: &str| {
        let request = Cgi::new("own_pages", &site).query(&format!("mode={mode}"));
        request.variable("HTTP_ACCEPT_LANGUAGE", language).run()
    };
    let built_in = "The server could not answer this request. Please try again later.";
    expect_page(&ask("en", "fail"), 500, built_in);
    expect_page(&ask("de", "fail"), 500, "Das hat nicht geklappt.");
    expect_page(&ask("de", "panic"), 500, "Das hat nicht geklappt.");
    let many = format!("fail&{}", "x&".repeat(1001));
    let useless = "The server cannot use this request.";
    expect_page(&ask("en", &many), 400, useless);
    let failed = ask("xx", "fail");
    assert_eq!(failed.status, 500);
    assert!(failed.body.contains(built_in) && !failed.body.contains("own page"));
    assert_eq!(ask("de", "").expect(200, "ok").body, "ok");
}

#[test]
fn no_other_request_waits_for_the_session_while_the_page_is_made() {
    let site = Site::with_settings("lockTimeout = 1s\n");
    let id = Cgi::new("own_pages", &site).run().id();
    for mode in ["fail", "panic"] {
        let request = Cgi::new("own_pages", &site).query(&format!("mode={mode}"));
        let request = request.variable("HTTP_ACCEPT_LANGUAGE", "the session");
        expect_page(&request.visitor(&id).run(), 500, "it is free");
    }
}

#[test]
fn a_page_may_be_a_file_and_one_that_is_a_stream_is_the_librarys() {
    let site = Site::new();
    let text = "long ".repeat(20_000);
    let page = format!("<html>own page: {text}</html>");
    fs::write(site.path().join("error.html"), page).unwrap();
    let request = || Cgi::new("own_pages", &site).query("mode=fail");
    expect_page(&request().variable("PAGES", site.path()).run(), 500, &text);
    let stream = request().variable("CONTENT_TYPE", "text/stream").run();
    assert!(stream.body.contains("could not answer"), "{stream:#?}");
}

#[test]
fn a_logger_of_the_programs_own_gets_the_session_the_wait_and_the_holder() {
    let site = Site::with_settings("lockTimeout = 1s\n");
    let id = Cgi::new("own_pages", &site).run().id();
    let digest = SessionId::parse(id.as_bytes()).unwrap().digest();
    let request = Cgi::new("own_pages", &site).visitor(&id);
    let failed = request.query("mode=fail").run();
    let line = logged(&failed);
    let expected =
        format!("cgi_session::request: session={digest} text=on purpose (session {digest})");
    assert_eq!(line, expected);
    // The line of the log that every program writes is there, too, and once.
    let seen = failed.stderr.matches("own_pages: on purpose").count();
    assert_eq!(seen, 1, "{failed:#?}");
    for mode in ["panic", "stream", "file"] {
        let request = Cgi::new("own_pages", &site).visitor(&id);
        let failed = request.query(&format!("mode={mode}")).run();
        let line = logged(&failed);
        let expected = format!("cgi_session::request: session={digest} text=");
        let has_it = line.starts_with(&expected) && line.contains("on purpose");
        assert!(has_it, "{line}");
    }
    let manager = SessionManager::new(Config::load(&site.config()).unwrap()).unwrap();
    let held = manager.start(format!("sessionId={id}")).unwrap();
    let busy = Cgi::new("own_pages", &site).visitor(&id).run();
    let text = "The server is busy, or cannot reach your session at the moment. Please try again.";
    expect_page(&busy, 503, text);
    assert_eq!(busy.header("retry-after"), Some("5"));
    let line = logged(&busy);
    let (wait, process) = (format!(" session={digest} waitedMs=1"), std::process::id());
    for words in [&wait, " holder=", &process.to_string()] {
        assert!(line.contains(words), "{line}");
    }
    drop(held);
}
