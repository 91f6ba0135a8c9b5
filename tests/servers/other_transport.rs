//! Sessions under the `fastcgi` crate behind nginx, and why that crate is not what `run` is made of.

use testkit::client::{Answer, Client};
use testkit::copy;
use testkit::prelude::*;
use testkit::servers::Way;

const OURS: &str = "app";
const OTHER: &str = "other_transport";
/// The way on which the programs take turns.
const WAY: &str = "nginx, new connections";

/// A header field and a query, each with a byte that is not UTF-8. Any client can send them.
const ODD: [&[u8]; 2] = [
    b" HTTP/1.1\r\nUser-Agent: caf\xe9\r\n",
    b"?\xff HTTP/1.1\r\n",
];

#[test]
fn both_transports_count_in_one_session() {
    by_turns(|servers, way| {
        let mut visitor = way.client();
        let counter = way.path("/counter");
        for (before, program) in [OURS, OTHER, OTHER, OURS].into_iter().enumerate() {
            put_in_place(servers, program);
            let page = visitor.get(&counter);
            page.expect(200, &format!("here {} time", before + 1));
        }
        assert_eq!(servers.site.files().len(), 1);
    });
}

#[test]
fn a_byte_that_is_not_utf_8_costs_the_session_under_the_other_transport_only() {
    by_turns(|servers, way| {
        for odd in ODD {
            put_in_place(servers, OURS);
            let mut visitor = way.client();
            visitor
                .get(&way.path("/counter"))
                .expect(200, "here 1 time");
            let counted = get_oddly(way, &mut visitor.clone(), odd);
            counted.expect(200, "here 2 time").expect_cookies(0);

            put_in_place(servers, OTHER);
            let lost = get_oddly(way, &mut visitor.clone(), odd);
            lost.expect(200, "here 1 time").expect_cookies(1);
            let counted = visitor.get(&way.path("/counter"));
            counted.expect(200, "here 3 time").expect_cookies(0);
        }
    });
}

#[test]
fn started_by_hand_the_other_transport_panics_and_ours_says_what_to_do() {
    for (program, status, text) in [(OTHER, 101, "panicked"), (OURS, 2, "--listen")] {
        let mut command = Command::new(example(program));
        command.env("CGI_SESSION_STORAGE_FILE_DIR", "/nonexistent/sessions");
        command.env_remove("REQUEST_METHOD").stdin(Stdio::null());
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{said}");
        assert!(said.contains(text), "{said}");
    }
}

/// Runs a test behind nginx, if it is installed.
fn by_turns(test: impl Fn(&Servers, Way)) {
    let servers = Servers::start("");
    copy(&example(OTHER), &servers.site.path().join("cgi-bin"));
    if let Some(way) = servers.way(WAY) {
        test(&servers, way);
    }
}

/// Ends the program that listens, and starts this one on its socket.
fn put_in_place(servers: &Servers, program: &str) {
    let mut app = servers.app.lock().unwrap();
    let running = app.take().unwrap();
    running.signal(Signal::TERM);
    running.end();
    let program = servers.program().with_file_name(program);
    servers.socket.block();
    *app = Some(servers.socket.start(&program));
}

fn get_oddly(way: Way, visitor: &mut Client, odd: &[u8]) -> Answer {
    let head = format!("GET {}", way.path("/counter"));
    visitor.request([head.as_bytes(), odd].concat(), b"")
}
