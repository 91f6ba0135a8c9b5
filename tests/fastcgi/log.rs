//! What the program says of its errors, and where.

use std::thread;

use crate::client::{get, visit};
use crate::outside::{full_pipe, read_all};
use crate::server::{Setup, Socket};
use crate::sessions::{begin_session, count};

#[test]
fn a_log_that_nobody_reads_stops_no_worker_and_its_next_line_counts_what_is_lost() {
    let (mut log, stderr) = full_pipe();
    let setup = Setup::new("fastcgi_echo", Socket::StdinUnix);
    let server = setup.stderr(stderr).start();
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
