//! What the program says of its errors, and where.

use std::thread;

use testkit::fastcgi::client::{get, visit};
use testkit::fastcgi::counting::{begin_session, count};
use testkit::fastcgi::server::{Socket, echo};
use testkit::outside::{full_pipe, read_all};

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
