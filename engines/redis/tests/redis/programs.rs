//! Real programs whose sessions are in a server, as CGI: one connection
//! for a request, and 503 when there is a session to be had and the server is away.

use testkit::prelude::*;

fn site(server: &RedisServer) -> Site {
    let url = server.url();
    Site::with_settings(&format!("\nstorageType = redis\ndatabase = {url}\n"))
}

/// How many connections there have been, without the one that asks.
fn connections(server: &RedisServer) -> u64 {
    let told = server.tell("INFO stats");
    let line = told
        .lines()
        .find_map(|line| line.strip_prefix("total_connections_received:"));
    line.unwrap().trim().parse().unwrap()
}

#[test]
fn a_program_counts_in_the_server_with_one_connection_a_request() {
    let Some(server) = redis() else { return };
    let site = site(&server);
    let first = Cgi::new("redis_pages", &site)
        .run()
        .expect(200, "1 time(s)");
    let id = first.id();
    let before = connections(&server);
    for views in 2..=5 {
        let expected = format!("{views} time(s)");
        Cgi::new("redis_pages", &site)
            .visitor(&id)
            .run()
            .expect(200, &expected);
    }
    // And one of who asks.
    assert_eq!(connections(&server) - before, 4 + 1);
    assert!(site.files().is_empty(), "{:?}", site.files());
}

#[test]
fn a_page_without_session_is_answered_while_the_server_is_away() {
    let Some(mut server) = redis() else { return };
    let site = site(&server);
    server.kill();
    let outcome = Cgi::new("redis_pages", &site).query("mode=none").run();
    assert_eq!(outcome.status, 200, "{outcome:#?}");
    outcome.expect_complete("no session");
}

#[test]
fn a_program_whose_server_is_away_says_503_and_why_and_counts_on_when_it_is_back() {
    let Some(mut server) = redis() else { return };
    let site = site(&server);
    let id = Cgi::new("redis_pages", &site)
        .run()
        .expect(200, "1 time(s)")
        .id();
    server.kill();
    let words = [
        "cannot open a session in redis+unix://",
        "is the server running",
    ];
    Cgi::new("redis_pages", &site)
        .visitor(&id)
        .run()
        .expect_failure(503, words);
    server.run();
    Cgi::new("redis_pages", &site)
        .visitor(&id)
        .run()
        .expect(200, "2 time(s)");
}
