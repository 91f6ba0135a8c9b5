//! The page that shows the session file.

use ureq::http::StatusCode;

use crate::server::Server;

#[test]
fn a_visitor_sees_the_own_file_but_not_the_id() {
    let (server, visitor) = Server::visited();
    let cookie = visitor.get("/cgi-bin/counter").set_cookie.remove(0);
    let id = cookie.split(['=', ';']).nth(1).unwrap();
    let name = server.session_files()[0].file_name().unwrap().to_owned();

    let page = visitor.get("/inspect");
    page.says(name.to_str().unwrap())
        .says("generation 1, current")
        .says("never written");
    assert!(!page.text.contains(id));
}

#[test]
fn the_page_says_until_when_the_session_lives_and_whose_it_is() {
    let (_server, visitor) = Server::visited();
    visitor.get("/cgi-bin/login");
    visitor
        .get("/inspect")
        .says("<dt>User</dt><dd>not logged in</dd>")
        .says("<dt>Applications</dt><dd>none</dd>")
        .says(", 60 minutes after the last use</dd>")
        .says("<dt>Ends in any case</dt><dd>in 29 days</dd>");
    let send = |page, fields| visitor.submit(page, page, fields);
    let ada = [("name", "ada"), ("password", "lovelace")];
    send("/cgi-bin/login", &ada).says("ada is logged in.");
    let idle = [("do", "idle"), ("choice", "2 hours")];
    send("/cgi-bin/features", &idle);
    visitor
        .get("/inspect/file")
        .says("<dt>User</dt><dd>ada</dd>")
        .says("<dt>Applications</dt><dd>auth (reserved)</dd>")
        .says(", 2 hours after the last use</dd>");
}

#[test]
fn the_slots_take_turns() {
    let (_server, visitor) = Server::visited();
    for _ in 0..3 {
        visitor.get("/cgi-bin/counter");
    }
    let part = visitor.get("/inspect/file");
    part.says("generation 2, previous")
        .says("generation 3, current");
    assert!(!part.text.contains("<html"), "{}", part.text);
    visitor.get("/cgi-bin/counter");
    visitor
        .get("/inspect/file")
        .says("generation 4, current")
        .says("generation 3, previous");
}

#[test]
fn who_has_no_session_gets_none_by_looking() {
    let server = Server::start();
    for path in ["/inspect", "/inspect/file"] {
        let page = server.visitor().get(path);
        page.says("You have no session yet");
        assert!(page.set_cookie.is_empty());
    }
    assert!(server.session_files().is_empty());
}

#[test]
fn a_forged_id_shows_nothing_of_others() {
    let server = Server::start();
    server.visitor().get("/cgi-bin/counter");
    for id in [
        "../../../etc/passwd",
        "0123456789012345678901234567890123456789",
    ] {
        let request = format!(
            "GET /inspect HTTP/1.1\r\nHost: localhost\r\nCookie: sessionId={id}\r\nConnection: close\r\n\r\n"
        );
        let answer = server.raw(request.as_bytes());
        assert!(answer.contains("You have no session yet"), "{answer}");
    }
}

#[test]
fn static_pages_are_only_read() {
    let server = Server::start();
    let posted = server.visitor().post("/", &[]);
    assert_eq!(posted.status, StatusCode::METHOD_NOT_ALLOWED);
    let head = server.visitor().head("/");
    assert_eq!((head.status, head.text.as_str()), (StatusCode::OK, ""));
}
