//! What the program says of its errors, and where.

use testkit::fastcgi::client::{Client, Reply, STDIN, get, head, params, record, visit};
use testkit::fastcgi::counting::{begin_session, count};
use testkit::fastcgi::server::{Server, Setup, Socket, echo, until};
use testkit::outside::{full_pipe, read_all};
use testkit::prelude::*;

/// What the program says when it panics or fails.
const TOLD: &str = "as the query asks";

#[test]
fn errors_of_a_request_go_to_stderr_and_to_the_servers_log_as_the_setting_says() {
    for (setting, on_stderr, at_server) in [
        ("", true, true),
        ("stderr", true, false),
        ("server", false, true),
        ("server, stderr", true, true),
    ] {
        let setup = echo(Socket::StdinUnix);
        let setup = match setting {
            "" => setup,
            setting => setup.variable("CGI_SESSION_ERROR_LOG", setting),
        };
        let server = setup.start();
        for query in ["mode=error", "mode=panic"] {
            let reply = server.ask(&get(1, 0, query));
            assert_eq!((reply.status(), reply.end), (500, Some(0)));
            assert_eq!(reply.log.len(), usize::from(at_server), "{setting}");
            let is_line =
                |line: &String| line.starts_with("fastcgi_echo: ") && line.ends_with(TOLD);
            assert!(reply.log.iter().all(is_line), "{reply:?}");
        }
        let lines = server.log().matches(TOLD).count();
        assert_eq!(lines, 2 * usize::from(on_stderr), "{setting}");
        assert_eq!(server.ask(&get(1, 0, "")).log, [""; 0]);
    }
}

#[test]
fn what_no_handler_gets_is_reported_and_answered_as_an_error_of_a_request() {
    let setup = || Setup::new("own_pages", Socket::ListenUnix);
    let setup = || setup().variable("CGI_SESSION_ERROR_LOG", "server");
    let german = ("HTTP_ACCEPT_LANGUAGE", &b"de"[..]);
    let with_body = |length: &[u8]| {
        let length = ("CONTENT_LENGTH", length);
        head(1, 0, &params("POST", "mode=read", &[german, length]))
    };
    let expect = |server: &Server, reply: Reply, status, page: &str, line: &str| {
        assert_eq!((reply.status(), reply.end), (status, Some(0)));
        assert_eq!(reply.text(), format!("<html>own page: {page}</html>"));
        assert_eq!(reply.log, [format!("own_pages: {line}")]);
        let told = format!("cgi_session::request: text={line}\n");
        assert_eq!(server.log(), told);
    };
    let busy = "Bitte gleich noch einmal.";

    let server = setup().variable("CGI_SESSION_BODY_TIMEOUT", "1s").start();
    let line = "cannot use the request's body: it came too slowly";
    let reply = server.ask(&with_body(b"100"));
    expect(&server, reply, 408, "Das hat nicht geklappt.", line);

    let server = setup().start();
    let line =
        "cannot use the variables of a request: they are too many, too long or make no sense";
    let reply = server.ask(&head(1, 0, b"x"));
    expect(
        &server,
        reply,
        400,
        "The server cannot use this request.",
        line,
    );

    let setup_of_two = setup().arguments("--workers 1 --connections 8");
    let server = setup_of_two.variable("CGI_SESSION_BODY_TIMEOUT", "1h");
    let server = server.start();
    // One is read, and two wait.
    let begun = [with_body(b"2000000"), record(STDIN, 1, &vec![1; 40_000])].concat();
    let mut long = [0; 4].map(|_| server.send(&begun));
    let line = "a request with a long body is refused: too many others wait (--connections)";
    until("one is refused", || long.iter().any(Client::has_answer));
    let refused = long.iter_mut().find(|it| it.has_answer()).unwrap();
    expect(&server, refused.reply(1).unwrap(), 503, busy, line);

    let mut server = setup().start();
    let mut late = server.send(&with_body(b"100"));
    server.signal(Signal::TERM);
    let line = "a request is refused: the program ends";
    let reply = late.reply(1).unwrap();
    expect(&server, reply, 503, busy, line);
    assert!(server.end().success());
}

#[test]
fn what_the_servers_log_is_told_is_short_and_of_one_line_each() {
    let server = echo(Socket::StdinUnix).start();
    for head in [0, 3_000, 100_000] {
        let query = format!("mode=warn&size={head}");
        let reply = server.ask(&get(1, 0, &query));
        assert_eq!((reply.text().as_str(), reply.log.len()), ("warned", 4));
        for line in &reply.log {
            let has_it = line.len() <= 1024 && !line.contains(char::is_control);
            assert!(has_it, "{line:?}");
            assert!(line.starts_with(r"fastcgi_echo: \u{1b}[2J ééé"), "{line:?}");
        }
    }
    assert_eq!(server.log().lines().count(), 3 * 10);
}

#[test]
fn a_log_that_nobody_reads_stops_no_worker_and_its_next_line_counts_what_is_lost() {
    let (mut log, stderr) = full_pipe();
    let server = echo(Socket::StdinUnix).stderr(stderr).start();
    let cookie = begin_session(&server);
    thread::scope(|scope| {
        for query in ["mode=count-and-panic", "mode=count-and-fail"] {
            for _ in 0..8 {
                let request = visit(1, 0, query, &cookie);
                let server = &server;
                scope.spawn(move || assert_eq!(server.ask(&request).status(), 500));
            }
        }
    });
    server.answers_at_once("16 errors that nobody reads");
    assert_eq!(count(&server, &cookie), 2);

    assert_eq!(read_all(&mut log).trim_matches('.'), "");
    assert_eq!(server.ask(&get(1, 0, "mode=error")).status(), 500);
    let lines =
        "fastcgi_echo: 16 lines before this one are lost\nfastcgi_echo: as the query asks\n";
    assert_eq!(read_all(&mut log), lines);
}

#[test]
fn that_all_workers_are_busy_is_reported() {
    let server = echo(Socket::ListenUnix).arguments("--workers 2").start();
    let mut running = [(); 2].map(|()| server.send(&get(1, 0, "mode=wait")));
    until("both are busy", || server.started() == 2);
    let mut waiting = server.send(&get(1, 0, ""));
    let line = "all 2 workers have been busy for 5 s while requests wait (--workers)";
    until("it is reported", || server.log().contains(line));
    server.go();
    for client in &mut running {
        assert_eq!(client.reply(1).unwrap().text(), "waited");
    }
    assert_eq!(waiting.reply(1).unwrap().text(), "ok");
}
