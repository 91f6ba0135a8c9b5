//! Answers: what a client, a cache or another site gets to see.

use super::trace::{Trace, under_strace};
use testkit::prelude::*;
use testkit::program::Cgi;

#[test]
fn g1_no_byte_of_what_a_client_calls_its_id_is_in_the_answer_or_the_log() {
    for value in [
        "x\r\nSet-Cookie: evil=1",
        "evil\nX-Evil: 1",
        "evil\r",
        "\"evil\"",
        "evil<script>",
        "evil%0d%0aevil",
    ] {
        let site = Site::new();
        let request = Cgi::new("counter", &site).cookie(format!("sessionId={value}"));
        let outcome = request.run().expect(200, "1 time");
        let all = format!("{:?} {} {}", outcome.headers, outcome.body, outcome.stderr);
        assert!(!all.to_lowercase().contains("evil"), "{all}");
    }
}

#[test]
fn g2_no_imitation_of_a_guarded_name_is_taken_for_it() {
    let site = Site::with_settings("\ncookieName = __Host-id\ncookieSecure = true\n");
    let first = Cgi::new("counter", &site).run().expect(200, "1 time");
    let cookie = first.header("set-cookie").unwrap();
    let value = cookie.strip_prefix("__Host-id=").unwrap();
    let id = value.split(';').next().unwrap();
    let count = |header: &[u8]| {
        let header = OsStr::from_bytes(header);
        let outcome = Cgi::new("counter", &site).cookie(header).run();
        let is_known = outcome.header("set-cookie").is_none();
        outcome.expect(200, "time");
        is_known
    };
    for imitation in [
        "%5F%5FHost-id",
        "__Host%2Did",
        "__host-id",
        "__HOST-ID",
        "__Host-id ",
        "_ _Host-id",
        "__Host.id",
        "__Host[id]",
        "..__Host-id",
        "$__Host-id",
        "__Host-id[]",
        "\u{a0}__Host-id",
        "\u{2000}__Host-id",
        "__Host-id\u{85}",
        "\u{b}__Host-id",
        "\u{c}__Host-id",
        "a,__Host-id",
        "a=1,__Host-id",
        "a=1, __Host-id",
        "a=\"; b,__Host-id",
    ] {
        // A blank before the sign is no part of a name; a browser takes it away itself.
        let is_same = imitation.trim_matches(' ') == "__Host-id";
        let is_known = count(format!("{imitation}={id}").as_bytes());
        assert_eq!(is_known, is_same, "{imitation:?}");
    }
    assert!(count(format!("a=1; __Host-id={id}").as_bytes()));
}

#[test]
fn h2_no_cache_keeps_a_cookie_or_gives_one_visitors_page_to_another() {
    for limiter in ["nocache", "private", "public", "none"] {
        let site = Site::with_settings(&format!("\ncacheLimiter = {limiter}\n"));
        let outcome = Cgi::new("counter", &site).run().expect(200, "1 time");
        assert!(outcome.header("set-cookie").is_some());
        let cache = outcome.header("cache-control").unwrap();
        let is_kept_out = cache.contains("no-store") || cache.contains("private");
        assert!(is_kept_out, "{limiter}: {cache}");
        assert_eq!(outcome.header("vary"), Some("Cookie"), "{limiter}");
        let again = Cgi::new("counter", &site).visitor(&outcome.id());
        let again = again.run().expect(200, "2 time");
        assert_eq!(again.header("vary"), Some("Cookie"), "{limiter}");
    }
}

#[test]
fn j_a_request_uses_no_network_whatever_the_client_calls_its_proxy() {
    let answer = |proxy: Option<&str>| {
        let site = Site::new();
        let request = Cgi::new("counter", &site);
        let request = match proxy {
            Some(proxy) => request.variable("HTTP_PROXY", proxy),
            None => request,
        };
        let out = tempfile::NamedTempFile::new().unwrap();
        let command = under_strace(&request.command(), &["-e", "trace=%network"], out.path())?;
        let outcome = request.run_by(command);
        let calls = std::fs::read_to_string(out.path()).unwrap();
        // Looking at what descriptor 0 is; a socket there would mean FastCGI.
        let looks = ["getsockname(0", "getpeername(0", "getsockopt(0"];
        let is_other = |call: &&str| !looks.iter().any(|look| call.contains(look));
        let others = calls.lines();
        let others = others.filter(|call| call.contains('(')).filter(is_other);
        assert_eq!(others.count(), 0, "{calls}");
        assert!(outcome.header("set-cookie").is_some());
        Some((outcome.status, outcome.body))
    };
    assert_eq!(answer(None), answer(Some("http://127.0.0.1:9/")));
}

#[test]
fn j_a_trace_shows_a_connection() {
    // Without this, that no connection was seen could mean that none can be seen.
    let mut command = testkit::again(module_path!(), "child_that_connects");
    command.env("CONNECTS", "1");
    if let Some(trace) = Trace::of(&command, &["-e", "trace=%network"]) {
        assert!(trace.all().iter().any(|call| call.contains("connect(")));
    }
}

/// The child's part.
#[test]
fn child_that_connects() {
    if std::env::var_os("CONNECTS").is_some() {
        // Nobody listens there, and that is no matter.
        let _ = std::net::TcpStream::connect("127.0.0.1:9");
    }
}
