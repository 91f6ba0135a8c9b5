//! What a client may send: cookies, bodies and bytes of every kind, and what comes of each.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use testkit::prelude::*;
use testkit::program::piped;

const UNKNOWN: &str = "0123456789abcdef0123456789abcdef01234567";

/// A site, and a visitor whom the counter has counted once.
fn site_and_visitor() -> (Site, String) {
    let site = Site::new();
    let id = Cgi::new("counter", &site)
        .run()
        .expect(200, "here 1 time")
        .id();
    (site, id)
}

/// Sends this header with `ID` for the visitor's id, and expects that the visitor is known.
#[track_caller]
fn expect_known(header: &[u8]) {
    let (site, id) = site_and_visitor();
    let header = replace_id(header, &id);
    let answer = Cgi::new("counter", &site).cookie(OsStr::from_bytes(&header));
    let answer = answer.run();
    let answer = answer.expect(200, "here 2 time");
    assert_eq!(answer.header("set-cookie"), None);
    assert_eq!(site.files().len(), 1);
}

/// Sends this header and expects that the visitor is a new one.
#[track_caller]
fn expect_new(header: &[u8]) {
    let (site, id) = site_and_visitor();
    let header = replace_id(header, &id);
    let answer = Cgi::new("counter", &site).cookie(OsStr::from_bytes(&header));
    let answer = answer.run();
    let new_id = answer.expect(200, "here 1 time").id();
    assert!(new_id != id && new_id != UNKNOWN);
    assert_eq!(site.files().len(), 2);
}

fn replace_id(header: &[u8], id: &str) -> Vec<u8> {
    match header.windows(2).position(|window| window == b"ID") {
        Some(at) => [&header[..at], id.as_bytes(), &header[at + 2..]].concat(),
        None => header.to_vec(),
    }
}

/// What a browser is to send back after each of the tests of the IETF's working group on cookies, if
/// `HTTP_STATE` names their `parser.json` (<https://github.com/abarth/http-state>), of which no licence is
/// stated, so that no copy lies here. Nothing differs: each value comes as it was sent. What those tests say
/// of Set-Cookie is for browsers.
#[test]
fn cookies_are_read_as_the_tests_of_rfc_6265_have_them_sent() {
    let Some(file) = std::env::var_os("HTTP_STATE") else {
        testkit::skip("HTTP_STATE names no parser.json");
        return;
    };
    let site = Site::new();
    let cases: serde_json::Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let mut tried = 0;
    for case in cases.as_array().unwrap() {
        let text = |cookie: &serde_json::Value, part| cookie[part].as_str().unwrap().to_owned();
        let sent = case["sent"].as_array().unwrap().iter();
        let sent = sent.map(|cookie| (text(cookie, "name"), text(cookie, "value")));
        let sent: Vec<_> = sent.collect();
        let pairs = sent.iter().map(|(name, value)| format!("{name}={value}"));
        let pairs = pairs.collect::<Vec<_>>().join("; ");
        for (name, _) in &sent {
            let named = utf8_percent_encode(name, NON_ALPHANUMERIC);
            let request = Cgi::new("app", &site).variable("PATH_INFO", "/statuses");
            let request = request.query(&format!("named={named}"));
            let shown = request.cookie(&pairs).run();
            let (_, first) = sent.iter().find(|(known, _)| known == name).unwrap();
            assert_eq!(&shown.body, first, "{case}");
            tried += 1;
        }
    }
    assert!(tried > 100, "{tried}");
}

#[test]
fn nothing_beside_our_cookie_hides_it() {
    // Linux hands over 128 KiB in one variable.
    let (many, long) = ("a=b; ".repeat(10_000), "x".repeat(130_000));
    for header in [
        &b"sessionId=; sessionId=../../etc/passwd; sessionId=ID"[..],
        b"\xff\xfe=\xfd; sessionId=ID",
        b"a=\"1; sessionId=ID",
        b"=; ;;, =x; sessionId; sessionId=ID",
        format!("{many}sessionId=ID").as_bytes(),
        format!("a={long}; sessionId=ID").as_bytes(),
    ] {
        expect_known(header);
    }
}

#[test]
fn a_header_without_a_good_id_makes_a_new_visitor() {
    for header in [
        &b""[..],
        b"sessionId=",
        b"sessionId=../../../etc/passwd",
        b"sessionId=0123456789ABCDEF0123456789ABCDEF01234567",
        b"sessionId=ID0",
        b"sessionId=ID/../x",
        b"sessionId=\"ID\"",
        b"a=1, sessionId=ID",
        b"a=\"1, sessionId=ID\"",
        b"sessionId=\xff\xfe",
        b"SESSIONID=ID",
        b"sessionId",
        b"sessionId=0123456789abcdef0123456789abcdef01234567",
    ] {
        expect_new(header);
    }
}

#[test]
fn who_stores_nothing_leaves_no_file_no_lock_no_directory_and_no_cookie() {
    let site = Site::new();
    let headers = [
        String::new(),
        "sessionId=".to_owned(),
        "sessionId=../x".to_owned(),
        format!("sessionId={UNKNOWN}"),
    ];
    for program in ["lookup", "follow"] {
        for header in &headers {
            let answer = Cgi::new(program, &site).cookie(header).run();
            let is_fine = answer.status < 500 && answer.stderr.is_empty();
            assert!(is_fine, "{answer:?}");
            assert_eq!(answer.header("set-cookie"), None);
            assert!(!site.sessions().exists());
        }
    }
    site.make_sessions(None);
    for header in headers {
        let looked = Cgi::new("lookup", &site).cookie(header).run();
        looked.expect(200, "no session");
        assert_eq!(site.sessions().read_dir().unwrap().count(), 0);
    }
}

#[test]
fn an_environment_that_is_not_utf_8_disturbs_nobody() {
    let (site, id) = site_and_visitor();
    let odd = OsStr::from_bytes(b"\xff\xfe\x80");
    let answer = Cgi::new("counter", &site)
        .visitor(&id)
        .variable("HTTP_USER_AGENT", odd)
        .variable("PATH_INFO", odd)
        .variable("QUERY_STRING", odd);
    let answer = answer.variable(odd, odd).run();
    answer.expect(200, "here 2 time");
}

#[test]
fn a_method_that_is_none_is_answered() {
    let (site, id) = site_and_visitor();
    for method in [&b""[..], b"\xff", b"get", b"A B", b"PROPFIND"] {
        let request = Cgi::new("counter", &site).visitor(&id);
        let request = request.variable("REQUEST_METHOD", OsStr::from_bytes(method));
        request.run().expect(200, "you've been here");
    }
}

#[test]
fn a_body_that_ends_early_is_answered_with_400_and_stores_nothing() {
    let site = Site::new();
    let request = Cgi::new("begin", &site).form("myname=Doe&firstname=Jo");
    let answer = request.variable("CONTENT_LENGTH", "1000").run();
    answer.expect_failure(400, "977 bytes before its CONTENT_LENGTH");
    assert!(!site.sessions().exists());
}

#[test]
fn a_content_length_beyond_all_numbers_is_more_than_any_program_accepts() {
    let site = Site::new();
    let request = Cgi::new("begin", &site).form("myname=Doe&firstname=Jo");
    let answer = request.variable("CONTENT_LENGTH", "9".repeat(26)).run();
    answer.expect_failure(413, "larger than this program accepts");
    assert!(!site.sessions().exists());
}

#[test]
fn a_body_is_read_to_its_content_length_and_no_further() {
    let site = Site::new();
    let request = Cgi::new("begin", &site).form("myname=Doe&firstname=Jo");
    let answer = request.variable("CONTENT_LENGTH", "10").run();
    answer.expect(200, "Your name is Doe");
    assert_eq!(site.files().len(), 1);
}

#[test]
fn a_content_length_that_is_no_number_is_as_good_as_none() {
    for length in ["-1", "abc", "0x17"] {
        let site = Site::new();
        let request = Cgi::new("begin", &site).form("myname=Doe&firstname=Jo");
        let answer = request.variable("CONTENT_LENGTH", length).run();
        answer.expect(200, "Your name is Doe");
    }
}

#[test]
fn a_request_that_tells_of_no_body_has_none() {
    let site = Site::new();
    let request = Cgi::new("begin", &site).form("myname=Doe&firstname=Jo");
    let request = request.variable("CONTENT_LENGTH", "");
    let chunked = Cgi::new("begin", &site).form("myname=Doe&firstname=Jo");
    let chunked = chunked.variable("CONTENT_LENGTH", "");
    let chunked = chunked.variable("HTTP_TRANSFER_ENCODING", "chunked");
    let seen = [request, chunked].map(|it| it.run().expect(200, "Your name is"));
    assert_eq!(seen.map(|it| it.body.contains("Doe")), [false, true]);
}

#[test]
fn a_body_that_is_too_slow_is_answered_with_408_and_saves_nothing() {
    let site = Site::with_settings("bodyTimeout = 1s\nbodyMinRate = 1000\n");
    let request = Cgi::new("app", &site).variable("PATH_INFO", "/upload");
    let request = request.method("POST").variable("CONTENT_LENGTH", "1000");
    let mut child = piped(&mut request.command());
    let mut stdin = child.stdin.take().unwrap();
    let drip = thread::spawn(move || {
        while stdin.write_all(b"x").is_ok() {
            thread::sleep(Duration::from_millis(20));
        }
    });
    Outcome::of(child).expect_failure(408, "it came too slowly");
    drip.join().unwrap();
    assert!(site.files().is_empty());
}

/// How long a request with this variable takes whose server leaves stdin open and writes nothing.
fn time_with_open_stdin(name: &str, value: &str) -> Duration {
    let site = Site::new();
    let request = Cgi::new("counter", &site).method("OPTIONS");
    let mut command = request.variable(name, value).command();
    let started = Instant::now();
    let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = pipes.spawn().unwrap();
    let stdin = child.stdin.take().unwrap();
    let mut page = String::new();
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_to_string(&mut page).unwrap();
    let took = started.elapsed();
    drop(stdin);
    assert!(child.wait().unwrap().success());
    assert!(page.starts_with("Status: 200"), "{page}");
    took
}

#[test]
fn a_body_that_no_header_field_tells_of_is_not_waited_for() {
    let waited = time_with_open_stdin("HTTP_TRANSFER_ENCODING", "chunked");
    for value in ["", "0"] {
        // A busy machine may take as long once.
        let is_quick = |_| time_with_open_stdin("CONTENT_LENGTH", value) < waited;
        assert!((0..10).any(is_quick), "{value:?}");
    }
}

#[test]
fn a_form_that_is_too_long_is_answered_with_413() {
    let site = Site::new();
    let form = format!("myname={}", "x".repeat(2 << 20));
    let answer = Cgi::new("begin", &site).form(&form).run();
    answer.expect_failure(413, "larger than this program accepts");
    assert!(!site.sessions().exists());
}

#[test]
fn a_form_or_a_query_of_too_many_fields_is_answered_with_400() {
    let site = Site::new();
    let words = ["the request holds 1001 fields, of at most 1000 (maxFormFields)"];
    let fields = |number| "&a=1&".repeat(number);
    let form = |number| Cgi::new("begin", &site).form(&fields(number)).run();
    form(1001).expect_failure(400, words);
    form(1000).expect(200, "Your name");
    let query = |number| Cgi::new("lookup", &site).query(&fields(number)).run();
    query(1001).expect_failure(400, words);
    query(1000).expect(200, "no session");
    // The program needs no configuration to know that this is too much.
    let without = Cgi::at(&example("lookup")).query(&fields(1001)).run();
    without.expect_failure(400, words);

    let site = Site::with_settings("maxFormFields = 2\n");
    for program in ["begin", "lookup"] {
        let ask = |query: &str| Cgi::new(program, &site).query(query).run();
        ask("myname=a&firstname=b&c").expect_failure(400, "3 fields, of at most 2");
        ask("&myname=a&&firstname=b&").expect(200, "");
    }
}

#[test]
fn a_form_that_was_refused_is_refused_again() {
    let multipart = "--x\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n";
    let named = multipart.replace("\"a\"", &format!("{:?}", "a".repeat(4000))) + "\r\n";
    let long = "a=1&".to_owned() + &"b".repeat(2 << 20) + "&a=2";
    for (content_type, length, body, status) in [
        ("", "1000", "a=1", 400),
        ("", "", &*"a=1&".repeat(1001), 400),
        ("", "", &long, 413),
        ("", "9000000", &long, 413),
        ("multipart/form-data; boundary=x", "1000", multipart, 400),
        (
            "multipart/form-data; boundary=x",
            "",
            &(multipart.to_owned() + &long),
            413,
        ),
        (
            "multipart/form-data; boundary=x",
            "",
            &multipart.repeat(1001),
            400,
        ),
        (
            "multipart/form-data; boundary=x",
            "",
            &named.repeat(300),
            413,
        ),
    ] {
        // Without the feature it is no form at all, which is 415.
        let is_form = cfg!(feature = "multipart") || content_type.is_empty();
        let status = if is_form { status } else { 415 };
        let request = Request::builder().method("POST").body(body);
        let request = request.param("CONTENT_LENGTH", length);
        let mut request = request.param("CONTENT_TYPE", content_type).build();
        let first = request.form("a").unwrap_err();
        assert_eq!(first.status().as_u16(), status, "{first}");
        for _ in 0..2 {
            let seen = request.form("a").unwrap_err().to_string();
            assert_eq!(seen, first.to_string());
        }
    }
}

#[test]
fn a_form_of_another_type_is_answered_with_415() {
    let site = Site::new();
    let request = Cgi::new("begin", &site).form("{}");
    let answer = request.variable("CONTENT_TYPE", "application/json").run();
    answer.expect_failure(415, "application/x-www-form-urlencoded");
}

#[test]
fn a_form_with_bytes_of_every_kind_is_shown_as_text() {
    let site = Site::new();
    let answer = Cgi::new("begin", &site).form("myname=%3Cb%3E%ff%00%22&firstname=%zz&&=&%");
    let answer = answer.run();
    answer.expect(200, "Your name is &lt;b&gt;\u{fffd}\0\"");
}
