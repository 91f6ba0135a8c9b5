//! Bodies and responses: streamed, read away, cut off, slow.

use testkit::fastcgi::client::{
    BEGIN, CANT_MPX_CONN, Client, GET_VALUES, GET_VALUES_RESULT, KEEP, PARAMS, STDIN, UNKNOWN_ROLE,
    begin, get, head, pair, params, post, record, stream,
};
use testkit::fastcgi::counting::{begin_session, count};
use testkit::fastcgi::server::{Server, Socket, echo, until};
use testkit::prelude::*;

/// How much a program may grow by what passes through it, in KiB.
const GROWTH: u64 = 2 << 10;
const MANY: usize = 1_600 * 65_528;

/// The body of such a request comes after its handler has run.
const LATE: &[(&str, &[u8])] = &[("CONTENT_LENGTH", b"0")];

fn server() -> Server {
    echo(Socket::StdinUnix).start()
}

/// The head of a request with a body of this declared length.
fn declared(query: &str, length: &[u8]) -> Vec<u8> {
    head(1, 0, &params("POST", query, &[("CONTENT_LENGTH", length)]))
}

#[test]
fn the_end_of_the_body_is_its_end_whatever_content_length_says() {
    let server = server();
    let lengths: [&[u8]; 7] = [b"", b"0", b"2", b"4", b"-1", b"abc", b"0x10"];
    for length in lengths {
        let request = [declared("mode=body", length), stream(STDIN, 1, b"abcd", 3)];
        let reply = server.ask(&request.concat());
        assert_eq!(reply.text(), "4 394", "{}", String::from_utf8_lossy(length));
    }
    let seen = server.ask(&post(1, 0, "mode=body", b"abcd")).text();
    assert_eq!(seen, "4 394");
}

#[test]
fn a_body_shorter_than_its_content_length_is_answered_400_and_saves_nothing() {
    let server = server();
    let cookie = begin_session(&server);
    for length in ["5", "1000", "70000", "2000000", "99999999999"] {
        let more = [
            ("HTTP_COOKIE", cookie.as_bytes()),
            ("CONTENT_LENGTH", length.as_bytes()),
        ];
        let head = head(1, 0, &params("POST", "mode=count-and-read", &more));
        let reply = server.ask(&[head, stream(STDIN, 1, b"abcd", 3)].concat());
        assert_eq!((reply.status(), reply.end), (400, Some(0)), "{length}");
    }
    assert_eq!(count(&server, &cookie), 2);
}

#[test]
fn a_body_of_any_cut_comes_whole() {
    let server = server();
    for (length, size) in [
        (1, 1),
        (700, 1),
        (40_000, 7),
        (65_536, 65_535),
        (1 << 20, 8_000),
    ] {
        let request = [
            declared("mode=body", length.to_string().as_bytes()),
            stream(STDIN, 1, &vec![1; length], size),
        ];
        let reply = server.ask(&request.concat());
        let seen = reply.text();
        assert_eq!(seen, format!("{length} {length}"), "records of {size}");
    }
}

/// Sends 100 MiB to a handler, and reads the response.
fn send_much(server: &Server, query: &str) -> (String, u64) {
    let mut client = server.send(&declared(query, MANY.to_string().as_bytes()));
    let part = record(STDIN, 1, &vec![1; 65_528]);
    let mut most = 0;
    for number in 0..MANY / 65_528 {
        client.send(&part).unwrap();
        if number % 100 == 0 {
            most = most.max(server.memory());
        }
    }
    client.send(&record(STDIN, 1, b"")).unwrap();
    let reply = client.reply(1).unwrap();
    assert_eq!(reply.end, Some(0));
    assert!(client.is_closed());
    (reply.text(), most)
}

#[test]
fn a_hundred_mebibytes_are_read_in_constant_memory() {
    let server = server();
    let before = server.memory();
    let length = MANY;
    let (text, most) = send_much(&server, "mode=body");
    assert_eq!(text, format!("{length} {length}"));
    assert!(most <= before + GROWTH, "{before} KiB, then {most} KiB");
}

#[test]
fn a_hundred_mebibytes_that_nobody_reads_do_not_lose_the_response() {
    let server = server();
    let before = server.memory();
    let (text, most) = send_much(&server, "");
    assert_eq!(text, "ok");
    assert!(most <= before + GROWTH, "{before} KiB, then {most} KiB");
}

#[test]
fn a_peer_that_reads_only_when_its_body_is_through_gets_its_response() {
    let server = server();
    let mut client = server.send(&post(1, 0, "mode=large&size=3000000", &vec![1; 3_000_000]));
    let reply = client.reply(1).unwrap();
    assert_eq!((reply.body.len(), reply.end), (3_000_000, Some(0)));
    assert!(client.is_closed());
}

#[test]
fn what_is_asked_amid_a_response_is_answered_after_it() {
    let server = server();
    let mut client = server.connect();
    let request = head(1, KEEP, &params("POST", "mode=large&size=3000000", LATE));
    client.send(&request).unwrap();
    client.wait_for_word();
    // The last is more than a socket holds, so that all others are read while the response is not.
    let records = [
        record(GET_VALUES, 0, &pair(b"FCGI_MPXS_CONNS", b"")),
        begin(2, KEEP),
        record(STDIN, 1, &vec![b'b'; 50_000]).repeat(20),
    ];
    client.send(&records.concat()).unwrap();
    let reply = client.reply(1).unwrap();
    assert_eq!((reply.body.len(), reply.end), (3_000_000, Some(0)));
    let values = client.record().unwrap().unwrap();
    assert_eq!((values.kind, values.id), (GET_VALUES_RESULT, 0));
    assert_eq!(values.content, pair(b"FCGI_MPXS_CONNS", b"0"));
    assert_eq!(client.reply(2).unwrap().end, Some(CANT_MPX_CONN));
    client.send(&record(STDIN, 1, b"")).unwrap();
    assert_eq!(client.ask(1, &get(1, 0, "")).text(), "ok");
}

#[test]
fn a_peer_that_only_asks_amid_a_response_is_given_up_in_constant_memory() {
    let server = echo(Socket::StdinUnix).variable("ECHO_WRITE", 500).start();
    let mut client = server.connect();
    let request = head(1, KEEP, &params("POST", "mode=large&size=3000000", LATE));
    client.send(&request).unwrap();
    client.wait_for_word();
    let before = server.memory();
    let questions = pair(b"FCGI_MAX_CONNS", b"").repeat(3000);
    let questions = record(GET_VALUES, 0, &questions);
    let mut most = before;
    while client.send(&questions).is_ok() {
        most = most.max(server.memory());
    }
    assert!(most <= before + GROWTH, "{before} KiB, then {most} KiB");
    server.answers_at_once("questions without end");
}

#[test]
fn a_body_that_comes_after_the_response_is_read_away() {
    for socket in [Socket::StdinUnix, Socket::StdinTcp] {
        let server = echo(socket).start();
        let mut client = server.connect();
        let reply = client.ask(1, &head(1, 0, &params("POST", "", LATE)));
        assert_eq!(reply.text(), "ok");
        client
            .send(&stream(STDIN, 1, &vec![b'b'; 300_000], 8_000))
            .unwrap();
        assert!(client.is_closed());
    }
}

#[test]
fn after_its_response_a_request_is_over_although_its_body_is_not() {
    let server = server();
    let late = record(STDIN, 1, b"late");
    for id in [1, 2] {
        let mut client = server.connect();
        let first = head(1, KEEP, &params("POST", "", LATE));
        assert_eq!(client.ask(1, &first).text(), "ok");
        // Nothing of the first reaches the second, unless it took over the id.
        let amid = if id == 1 { &[] } else { &late[..] };
        let second = post(id, KEEP, "mode=body", b"abcd");
        let (begin, rest) = second.split_at(16);
        let (params, body) = rest.split_at(rest.len() - 20);
        let parts = [&late, begin, amid, params, amid, body];
        assert_eq!(client.ask(id, &parts.concat()).text(), "4 394", "id {id}");
        assert_eq!(client.ask(3, &get(3, KEEP, "")).text(), "ok");
    }
    let mut client = server.connect();
    let first = head(1, KEEP, &params("POST", "", LATE));
    assert_eq!(client.ask(1, &first).text(), "ok");
    let mut filter = begin(2, 0);
    filter[9] = 3;
    assert_eq!(client.ask(2, &filter).end, Some(UNKNOWN_ROLE));
    assert!(client.is_closed());
}

#[test]
fn what_is_asked_after_the_last_response_does_not_lose_it() {
    for socket in [Socket::StdinUnix, Socket::StdinTcp] {
        let server = echo(socket).start();
        let mut client = server.send(&head(1, 0, &params("POST", "", LATE)));
        client.wait_for_word();
        let records = [
            record(GET_VALUES, 0, &pair(b"FCGI_MPXS_CONNS", b"")),
            begin(2, 0),
            record(STDIN, 1, &vec![b'b'; 50_000]).repeat(20),
        ];
        client.send(&records.concat()).unwrap();
        let reply = client.reply(1).unwrap();
        assert_eq!((reply.text().as_str(), reply.end), ("ok", Some(0)));
        assert!(client.is_closed());
    }
}

#[test]
fn bodies_that_do_not_come_keep_no_worker() {
    let server = server();
    let unread = head(1, 0, &params("POST", "", LATE));
    let announced = declared("mode=body", b"1000");
    let waiting: Vec<Client> = (0..100)
        .map(|number| {
            let mut client = server.connect();
            let request = if number % 2 == 0 { &unread } else { &announced };
            client.send(request).unwrap();
            client
        })
        .collect();
    server.answers_at_once("100 bodies that do not come");
    drop(waiting);
}

#[test]
fn a_body_that_is_cut_off_is_an_error_for_whoever_reads_it() {
    let server = server();
    let heads = [
        head(1, 0, &params("POST", "mode=body", &[])),
        declared("mode=body", b"100000"),
    ];
    for head in heads {
        let whole = [head.clone(), stream(STDIN, 1, &vec![b'b'; 50_000], 20_000)].concat();
        for missing in [1, 8, 9, 30_000] {
            let mut client = server.send(&whole[..whole.len() - missing]);
            client.finish();
            if let Ok(reply) = client.reply(1)
                && reply.end.is_some()
            {
                assert_eq!(reply.status(), 400);
            }
            server.answers_at_once("a body that was cut off");
        }
    }
}

#[test]
fn a_large_response_comes_whole_also_when_it_is_read_slowly() {
    let server = server();
    for size in [65_000, 65_528, 70_000, 10_000_000] {
        let reply = server.ask(&get(1, 0, &format!("mode=large&size={size}")));
        assert_eq!((reply.body.len(), reply.end), (size, Some(0)));
    }
    let mut client = server.send(&get(1, 0, "mode=large&size=10000000"));
    server.answers_at_once("a response that nobody reads yet");
    assert_eq!(client.reply(1).unwrap().body.len(), 10_000_000);
}

#[test]
fn a_head_larger_than_a_record_comes_whole() {
    let server = server();
    for size in [60_000, 65_500, 66_000, 200_000] {
        let mut client = server.connect();
        let reply = client.ask(1, &get(1, KEEP, &format!("mode=head&size={size}")));
        assert_eq!(reply.text(), "after a large head");
        assert!(reply.head.len() > size);
        assert_eq!(client.ask(2, &get(2, 0, "")).text(), "ok");
    }
}

#[test]
fn a_peer_that_never_reads_is_given_up() {
    let setup = echo(Socket::ListenUnix).arguments("--workers 1");
    let server = setup.variable("ECHO_WRITE", 200).start();
    let mut client = server.send(&get(1, 0, "mode=large&size=10000000"));
    server.answers_at_once("a peer that never reads");
    client.wait_for_end();
    let cut = client.reply(1);
    assert!(cut.is_err() || cut.is_ok_and(|reply| reply.end.is_none()));
}

#[test]
fn an_authorizer_reads_a_body_without_bytes() {
    let setup = echo(Socket::StdinUnix).variable("ECHO_AUTHORIZES", 1);
    let server = setup.variable("CGI_SESSION_BODY_TIMEOUT", "1s").start();
    let form = ("CONTENT_TYPE", &b"application/x-www-form-urlencoded"[..]);
    // A server sends no FCGI_STDIN.
    let request = [
        record(BEGIN, 1, &[0, 2, KEEP, 0, 0, 0, 0, 0]),
        stream(PARAMS, 1, &params("POST", "mode=fields", &[form]), 60_000),
    ];
    let mut client = server.connect();
    for _ in 0..2 {
        let reply = client.ask(1, &request.concat());
        assert_eq!((reply.status(), reply.text().as_str()), (200, "0"));
    }
}

#[test]
fn a_body_that_stalls_is_given_up() {
    let setup = echo(Socket::ListenUnix).arguments("--workers 1");
    // However long the first byte may take.
    let setup = setup.variable("CGI_SESSION_BODY_TIMEOUT", "1h");
    let server = setup.variable("ECHO_READ", 200).start();
    let mut client = server.connect();
    let begun = head(1, 0, &params("POST", "mode=body", &[]));
    client
        .send(&[&begun[..], &record(STDIN, 1, b"x")].concat())
        .unwrap();
    assert_eq!(client.reply(1).unwrap().status(), 408);
    server.answers_at_once("a body that stalled");
}

#[test]
fn a_connection_that_is_silent_too_long_is_closed() {
    let server = echo(Socket::StdinUnix).variable("ECHO_IDLE", 4000).start();
    let whole = get(1, KEEP, "");
    let begun = [0, 5, 16, 40].map(|length| {
        let mut client = server.connect();
        // It may be closed already.
        let _ = client.send(&whole[..length]);
        (length, client)
    });
    for (length, mut client) in begun {
        assert!(client.is_closed(), "after {length} bytes");
    }
    // A busy machine may be silent for as long once.
    let answered = std::iter::repeat_with(|| {
        let mut client = server.connect();
        let reply = client.send(&whole).and_then(|()| client.reply(1)).ok()?;
        (reply.end == Some(0)).then_some(client)
    });
    let answered = answered.take(10).flatten().next();
    assert!(answered.expect("an answer").is_closed());
}

#[test]
fn a_request_byte_by_byte_is_answered() {
    let server = server();
    let mut client = server.connect();
    for byte in post(1, 0, "mode=body", b"abcd") {
        client.send(&[byte]).unwrap();
        thread::sleep(Duration::from_millis(2));
    }
    assert_eq!(client.reply(1).unwrap().text(), "4 394");
}

#[test]
fn peers_that_vanish_at_any_byte_harm_nobody() {
    let server = echo(Socket::StdinTcp).start();
    let whole = post(1, KEEP, "mode=body", b"abcd");
    for length in 0..whole.len() {
        let client = server.send(&whole[..length]);
        if length % 2 == 0 {
            client.vanish();
        }
    }
    for _ in 0..20 {
        server.send(&get(1, 0, "mode=large&size=1000000")).vanish();
    }
    server.answers_at_once("resets");
}

#[test]
fn a_panic_or_an_error_is_a_complete_500_and_the_program_lives() {
    let mut server = server();
    let mut client = server.connect();
    for query in ["mode=panic", "mode=error"] {
        let reply = client.ask(1, &get(1, KEEP, query));
        assert_eq!((reply.status(), reply.end), (500, Some(0)));
        assert!(reply.text().contains("</html>"));
        assert!(!reply.text().contains("as the query asks"));
    }
    for _ in 0..50 {
        assert_eq!(server.ask(&get(1, 0, "mode=panic")).status(), 500);
    }
    server.answers_at_once("52 panics and errors");
    assert!(server.is_running());
    until("the reason is told", || {
        server.log().contains("panicked at")
    });
}
