//! The examples behind a real Apache, with the site and the settings that are shipped.

use testkit::apache::{Apache, with_both};
use testkit::client::Answer;
use testkit::wait_until;

/// How often a request is repeated that a server could answer by luck.
const REPEATS: usize = 30;

const FORM: &str =
    "POST /cgi-bin/counter HTTP/1.1\r\nContent-Type: application/x-www-form-urlencoded\r\n";

#[test]
fn a_visitor_is_counted_and_gets_one_cookie() {
    with_both("", |apache| {
        let (mut visitor, mut other) = (apache.client(), apache.client());
        visitor
            .get("/cgi-bin/counter")
            .expect(200, "here 1 time")
            .expect_cookies(1);
        visitor
            .get("/cgi-bin/counter")
            .expect(200, "here 2 time")
            .expect_cookies(0);
        other
            .get("/cgi-bin/counter")
            .expect(200, "here 1 time")
            .expect_cookies(1);
        visitor
            .get("/cgi-bin/counter")
            .expect(200, "here 3 time")
            .expect_cookies(0);
        assert_eq!(apache.site().files().len(), 2);
        apache.expect_silent_programs();
    });
}

#[test]
fn the_cookie_and_the_cache_headers_are_those_of_the_settings() {
    with_both("cookiePath = /cgi-bin\ncookieMaxAge = 2h\n", |apache| {
        let answer = apache.client().get("/cgi-bin/counter").expect_cookies(1);
        let cookie = &answer.set_cookies()[0];
        for part in ["HttpOnly", "SameSite=Lax", "Path=/cgi-bin", "Max-Age=7200"] {
            assert!(cookie.contains(part), "{cookie}");
        }
        assert!(!cookie.contains("Secure"), "{cookie}");
        let cache = answer.header("cache-control");
        assert_eq!(
            cache.as_deref(),
            Some("no-store, no-cache, must-revalidate")
        );
        assert_eq!(answer.header("vary").as_deref(), Some("Cookie"));
    });
}

#[test]
fn the_form_is_begun_followed_closed_and_then_names_the_missing_key() {
    with_both("", |apache| {
        let mut visitor = apache.client();
        let form = "myname=O%27Neil+%26+Sons&firstname=J%C3%BCrgen";
        visitor
            .post("/cgi-bin/begin", form)
            .expect(200, "Your name is O'Neil &amp; Sons")
            .expect_cookies(1);
        for _ in 0..2 {
            visitor
                .get("/cgi-bin/follow")
                .expect(200, "Your first name is Jürgen")
                .expect_cookies(0);
        }
        visitor
            .get("/cgi-bin/follow?close=1")
            .expect(200, "Your first name is Jürgen")
            .expect_cookies(1);
        assert_eq!((visitor.id(), apache.site().files().len()), (None, 0));
        visitor
            .get("/cgi-bin/follow")
            .expect(404, "no value for \"firstname\"")
            .expect_cookies(0);
        assert_eq!(apache.site().files().len(), 0);
        apache.expect_silent_programs();
    });
}

#[test]
fn the_form_can_be_sent_by_get() {
    with_both("", |apache| {
        let mut visitor = apache.client();
        visitor
            .get("/cgi-bin/begin?myname=Doe&firstname=Jo")
            .expect(200, "Your name is Doe");
        visitor
            .get("/cgi-bin/follow")
            .expect(200, "Your first name is Jo");
    });
}

#[test]
fn a_cookie_of_a_closed_session_gives_no_session_back() {
    with_both("", |apache| {
        let mut visitor = apache.client();
        visitor
            .post("/cgi-bin/begin", "myname=Doe&firstname=Jo")
            .expect_cookies(1);
        let mut window = visitor.clone();
        visitor.get("/cgi-bin/follow?close=1").expect(200, "Jo");
        let id = window.id().unwrap().to_owned();
        window
            .get("/cgi-bin/follow")
            .expect(404, "firstname")
            .expect_cookies(0);
        window
            .get("/cgi-bin/counter")
            .expect(200, "here 1 time")
            .expect_cookies(1);
        assert_ne!(window.id(), Some(id.as_str()));
    });
}

#[test]
fn a_visit_is_the_first_then_welcome_back_then_destroyed() {
    with_both("", |apache| {
        let mut visitor = apache.client();
        for destroy in ["GET", "POST"] {
            visitor
                .get("/cgi-bin/visit")
                .expect(200, "first visit")
                .expect_cookies(1);
            let id = visitor.id().unwrap().to_owned();
            visitor
                .get("/cgi-bin/visit")
                .expect(200, "Welcome back")
                .expect_cookies(0);
            let deleted = match destroy {
                "GET" => visitor.get("/cgi-bin/visit?destroy=True"),
                _ => visitor.post("/cgi-bin/visit", "destroy=True"),
            };
            deleted.expect(200, "is deleted").expect_cookies(1);
            assert_eq!((visitor.id(), apache.site().files().len()), (None, 0));
            visitor
                .get("/cgi-bin/visit")
                .expect(200, "first visit")
                .expect_cookies(1);
            assert_ne!(visitor.id(), Some(id.as_str()));
            visitor
                .get("/cgi-bin/visit?destroy=True")
                .expect(200, "is deleted");
        }
    });
}

#[test]
fn a_look_creates_nothing_unless_asked() {
    with_both("", |apache| {
        let mut visitor = apache.client();
        for _ in 0..3 {
            visitor
                .get("/cgi-bin/lookup")
                .expect(200, "no session")
                .expect_cookies(0);
        }
        assert_eq!(apache.site().files().len(), 0);
        visitor
            .get("/cgi-bin/lookup?create=1")
            .expect(200, "my_data")
            .expect_cookies(1);
        let id = visitor.id().unwrap().to_owned();
        visitor
            .get("/cgi-bin/lookup")
            .expect(200, "some data")
            .expect_cookies(0);
        visitor
            .get("/cgi-bin/lookup?expire=1&create=1")
            .expect(200, "my_data")
            .expect_cookies(1);
        assert_ne!(visitor.id(), Some(id.as_str()));
        visitor
            .get("/cgi-bin/lookup?expire=1")
            .expect(200, "no session")
            .expect_cookies(1);
        assert_eq!((visitor.id(), apache.site().files().len()), (None, 0));
    });
}

#[test]
fn head_is_answered_without_a_body_and_counts_like_get() {
    with_both("", |apache| {
        let mut visitor = apache.client();
        let answer = visitor.head("/cgi-bin/counter").expect_cookies(1);
        assert_eq!((answer.status.as_u16(), answer.body.as_str()), (200, ""));
        visitor.get("/cgi-bin/counter").expect(200, "here 2 time");
    });
}

#[test]
fn a_redirect_reaches_the_client() {
    with_both("", |apache| {
        let answer = apache.client().get("/cgi-bin/misbehave?mode=redirect");
        let answer = answer.expect(303, "See").expect_cookies(1);
        let location = answer.header("location").unwrap();
        assert!(location.ends_with("/elsewhere?a=b%20c"), "{location}");
    });
}

#[test]
fn a_failing_program_is_answered_completely_and_logged_on_one_line() {
    with_both("", |apache| {
        let mut visitor = apache.client();
        visitor.get("/cgi-bin/counter").expect(200, "here 1 time");
        for mode in ["panic", "error", "5xx"] {
            let answer = visitor.get(&format!("/cgi-bin/misbehave?mode={mode}"));
            assert!(answer.status.is_server_error(), "{answer:?}");
            answer.expect_cookies(0);
        }
        visitor.get("/cgi-bin/counter").expect(200, "here 2 time");
        // Apache may log a line after it has sent the answer.
        wait_until("two lines are logged", || {
            apache.said_by_programs().len() >= 2
        });
        let said = apache.said_by_programs();
        assert_eq!(said.len(), 2, "{said:#?}");
    });
}

#[test]
fn a_body_that_nobody_reads_never_costs_the_answer() {
    with_both("", |apache| {
        let mut visitor = apache.client();
        for body in [vec![b'x'; 3], vec![b'x'; 300 << 10]] {
            let head = format!("{FORM}Content-Length: {}\r\n", body.len());
            repeat(|| visitor.request(&head, &body));
        }
    });
}

#[test]
fn a_body_in_chunks_is_answered_completely() {
    with_both("", |apache| {
        let mut visitor = apache.client();
        let head = format!("{FORM}Transfer-Encoding: chunked\r\n");
        repeat(|| visitor.request(&head, b"3\r\na=b\r\n5\r\n&c=de\r\n0\r\n\r\n"));
        visitor.request(
            head.replace("counter", "begin"),
            b"9\r\nmyname=Do\r\n10\r\ne&firstname=Jo&c\r\n0\r\n\r\n",
        );
        visitor
            .get("/cgi-bin/follow")
            .expect(200, "Your first name is Jo");
        apache.expect_silent_programs();
    });
}

#[test]
fn a_large_answer_arrives_whole() {
    with_both("", |apache| {
        let answer = apache.client().get("/cgi-bin/misbehave?mode=large");
        assert_eq!(answer.body.len(), 4 << 20);
    });
}

#[test]
fn bytes_that_are_not_utf_8_disturb_nobody() {
    with_both("", |apache| {
        let mut visitor = apache.client();
        visitor.get("/cgi-bin/counter").expect(200, "here 1 time");
        let head = b"GET /cgi-bin/counter/caf%e9?q=%ff HTTP/1.1\r\nX-Odd: \xff\xfe\r\n";
        visitor
            .request(head, b"")
            .expect(200, "here 2 time")
            .expect_cookies(0);
        apache.expect_silent_programs();
    });
}

#[test]
fn the_settings_beside_the_programs_are_not_served() {
    with_both("", |apache| {
        apache
            .client()
            .get("/cgi-bin/cgi-session.ini")
            .expect(403, "Forbidden");
    });
}

#[track_caller]
fn repeat(mut request: impl FnMut() -> Answer) {
    let complete = (0..REPEATS).filter(|_| request().status.as_u16() == 200);
    assert_eq!(complete.count(), REPEATS);
}

#[test]
fn the_sessions_belong_to_the_servers_user_and_to_nobody_else() {
    use std::os::unix::fs::MetadataExt as _;
    with_both("", |apache: &Apache| {
        apache.client().get("/cgi-bin/counter").expect_cookies(1);
        let file = apache.site().only_file().metadata().unwrap();
        let directory = apache.site().sessions().metadata().unwrap();
        assert_eq!((file.mode() & 0o7777, file.uid()), (0o600, directory.uid()));
    });
}
