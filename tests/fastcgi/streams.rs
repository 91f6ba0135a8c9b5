//! Responses that are written while they are sent.

use rustix::process::{Resource, Rlimit, prlimit};
use testkit::fastcgi::client::{
    ABORT, Client, END, KEEP, Reply, STDIN, STDOUT, get, head, params, post, record, visit,
};
use testkit::fastcgi::server::{Server, Setup, Socket, until};
use testkit::prelude::*;

/// How much a program may grow while it streams, in KiB.
const GROWTH: u64 = 4 << 10;

/// With a record less it is still more than a Unix socket holds when it says that it has room.
const LEFT_UNREAD: u64 = 170_000;

fn start(arguments: &[&str]) -> Server {
    let setup = Setup::new("streams", Socket::ListenUnix);
    setup.arguments(arguments).start()
}

/// Sends a request and reads until this is in the response.
#[track_caller]
fn read_until(client: &mut Client, request: &[u8], text: &str) -> String {
    client.send(request).unwrap();
    let mut all = String::new();
    while !all.contains(text) {
        let record = client.record().unwrap().expect("more of the response");
        assert_eq!(record.kind, STDOUT, "{all}");
        all.push_str(&String::from_utf8(record.content).unwrap());
    }
    all
}

fn cookie(head: &str) -> String {
    let line = head
        .lines()
        .find_map(|line| line.strip_prefix("Set-Cookie: "));
    line.unwrap().split(';').next().unwrap().to_owned()
}

#[track_caller]
fn expect_whole(reply: &Reply, text: &str) {
    assert_eq!((reply.end, reply.text().as_str()), (Some(0), text));
}

#[test]
fn the_session_is_saved_and_released_before_the_first_byte_and_every_write_goes_out_at_once() {
    for socket in [Socket::ListenUnix, Socket::ListenTcp] {
        let setup = Setup::new("streams", socket);
        let server = setup.arguments("--workers 1").start();
        let mut client = server.connect();
        let head = read_until(&mut client, &get(1, 0, "mode=wait"), "count 1\n");
        assert!(head.starts_with("Status: 200 OK\r\nContent-Type: text/plain\r\n"));
        assert!(head.contains("\r\nX-Accel-Buffering: no\r\n"), "{head}");
        assert!(!head.contains("Content-Length"), "{head}");
        // The stream still runs, and holds neither the session nor the worker.
        let other = server.ask(&visit(1, 0, "mode=count", &cookie(&head)));
        assert_eq!(other.text(), "2");
        server.go();
        let rest = client.reply(1).unwrap();
        assert_eq!(rest.end, Some(0));
        assert!(rest.head.ends_with("went on\n"), "{rest:?}");
        assert!(client.is_closed());
    }
}

#[test]
fn a_server_that_keeps_its_connections_sends_the_next_request_after_a_whole_stream() {
    let server = start(&[]);
    let mut client = server.connect();
    for id in 1..=20 {
        let reply = client.ask(id, &get(id, KEEP, "mode=plain"));
        expect_whole(&reply, "count 1\n");
    }
    // A body that no handler reads, and what comes behind it.
    let reply = client.ask(7, &post(7, KEEP, "mode=plain", &vec![b'b'; 4 << 20]));
    expect_whole(&reply, "count 1\n");
    let reply = client.ask(7, &get(7, 0, "mode=plain"));
    expect_whole(&reply, "count 1\n");
    assert!(client.is_closed());
}

#[test]
fn requests_that_are_sent_during_a_stream_are_answered_after_it() {
    let server = start(&[]);
    let mut client = server.connect();
    read_until(&mut client, &get(1, KEEP, "mode=wait"), "count 1\n");
    let next = [
        get(1, KEEP, ""),
        get(2, KEEP, "mode=blocks&size=200000"),
        get(3, 0, ""),
    ];
    client.send(&next.concat()).unwrap();
    server.go();
    let reply = client.reply(1).unwrap();
    assert_eq!(reply.end, Some(0), "{reply:?}");
    expect_whole(&client.reply(1).unwrap(), "ok");
    assert_eq!(client.reply(2).unwrap().end, Some(0));
    expect_whole(&client.reply(3).unwrap(), "ok");
    assert!(client.is_closed());
}

#[test]
fn a_gigabyte_is_streamed_in_constant_memory() {
    let server = start(&[]);
    let size = 1_u64 << 30;
    let mut client = server.connect();
    let request = get(1, 0, &format!("mode=blocks&size={size}"));
    read_until(&mut client, &request, "count 1\n");
    let before = server.memory();
    let (mut received, mut most) = (0, 0);
    let mut next_look = 0;
    while let Some(record) = client.record().unwrap()
        && record.kind != END
    {
        received += record.content.len() as u64;
        if received >= next_look {
            most = most.max(server.memory());
            next_look += size / 16;
        }
    }
    assert_eq!(received, size);
    assert!(most <= before + GROWTH, "{before} KiB, then {most} KiB");
}

/// Neither side would ever go on that waits for the other one to read.
#[test]
fn a_body_that_no_handler_reads_is_read_away_while_a_stream_is_written() {
    let server = start(&[]);
    let (size, body) = (4 << 20, vec![b'b'; 8 << 20]);
    let query = format!("mode=blocks&size={size}");
    let mut client = server.connect();
    let reply = client.ask(1, &post(1, 0, &query, &body));
    assert_eq!(reply.end, Some(0));
    assert_eq!(reply.body.len(), "count 1\n".len() + size);
}

#[test]
fn a_client_that_left_is_an_error_of_the_next_write() {
    let leaves: [fn(Client); 3] = [
        drop,
        |client| client.vanish(),
        |mut client| {
            client.send(&record(ABORT, 1, b"")).unwrap();
            // It does not read on either.
            std::mem::forget(client);
        },
    ];
    for leave in leaves {
        let server = start(&[]);
        let mut client = server.connect();
        let request = get(1, 0, "mode=blocks&size=10000000000000");
        read_until(&mut client, &request, "count 1\n");
        leave(client);
        let failed = server.directory().join("failed");
        until("the write fails", || failed.exists());
        assert_eq!(server.log(), "");
        server.answers_at_once("a client that left");
    }
}

#[test]
fn a_handler_that_passes_over_the_clients_end_ends_like_one_that_does_not() {
    let server = start(&["--streams", "1"]);
    let mut client = server.connect();
    let request = get(1, 0, "mode=passes+over+errors");
    read_until(&mut client, &request, "count 1\n");
    drop(client);
    until("the next one is streamed", || {
        server.ask(&get(1, 0, "mode=plain")).status() == 200
    });
}

#[test]
fn a_stream_beyond_the_limit_is_answered_503_and_saves_nothing() {
    let server = start(&["--streams", "1"]);
    let mut client = server.connect();
    let head = read_until(&mut client, &get(1, 0, "mode=wait"), "count 1\n");
    let cookie = cookie(&head);
    let refused = server.ask(&visit(1, 0, "mode=plain", &cookie));
    assert_eq!((refused.status(), refused.end), (503, Some(0)));
    assert!(refused.head.contains("\r\nRetry-After: 5\r\n"));
    assert!(refused.log[0].contains("--streams"), "{refused:?}");
    // What is no stream, or sends the head of one, needs no place.
    assert_eq!(server.ask(&visit(1, 0, "mode=count", &cookie)).text(), "2");
    let asks_head = params("HEAD", "mode=plain", &[]);
    let asks_head = [head_of(&asks_head), record(STDIN, 1, b"")].concat();
    assert_eq!(server.ask(&asks_head).status(), 200);
    server.go();
    assert_eq!(client.reply(1).unwrap().end, Some(0));
    until("there is a place again", || {
        server.ask(&visit(1, 0, "mode=plain", &cookie)).status() == 200
    });
}

#[test]
fn a_stream_whose_thread_cannot_start_is_answered_503_and_saves_nothing() {
    // The stack of a thread that has just ended may be left for one more.
    let is_seen = (0..20).any(|_| {
        let server = start(&[]);
        let cookie = server.ask(&get(1, 0, "mode=count"));
        let cookie = cookie.cookie().unwrap().to_owned();
        // No memory for one more stack.
        let status = fs::read_to_string(format!("/proc/{}/statm", server.pid())).unwrap();
        let pages: u64 = status.split(' ').next().unwrap().parse().unwrap();
        let limit = Rlimit {
            current: Some(pages * 4096 + (1 << 20)),
            maximum: None,
        };
        let pid = Pid::from_raw(server.pid().try_into().unwrap());
        prlimit(pid, Resource::As, limit).unwrap();
        let refused = server.ask(&visit(1, 0, "mode=plain", &cookie));
        // In such a stack, the standard library ends the program when it has no memory for its signals.
        if refused.head.is_empty() || refused.status() == 200 {
            return false;
        }
        assert_eq!((refused.status(), refused.end), (503, Some(0)));
        assert!(refused.log[0].contains("cannot start a thread"));
        assert_eq!(server.ask(&visit(1, 0, "mode=count", &cookie)).text(), "2");
        true
    });
    assert!(is_seen);
}

fn head_of(params: &[u8]) -> Vec<u8> {
    head(1, 0, params)
}

#[test]
fn a_stream_whose_handler_fails_has_no_end_and_the_log_says_why() {
    for (query, reason, in_log) in [
        ("mode=fail", "on purpose", "on purpose"),
        ("mode=panic", "panicked", "panicked at"),
        ("mode=plain&announce=9", "1 bytes before", "1 bytes before"),
        ("mode=plain&announce=7", "longer than", "longer than"),
    ] {
        let server = start(&[]);
        let mut client = server.send(&get(1, KEEP, query));
        let reply = client.reply(1).unwrap();
        assert_eq!((reply.status(), reply.end), (200, None), "{query}");
        let line = "a streamed response is cut off";
        let mut told = reply.log.iter();
        let is_told =
            told.any(|it| it.starts_with(&format!("streams: {line}")) && it.contains(reason));
        assert!(is_told, "{reply:?}");
        until("the log has it", || server.log().contains(line));
        assert!(server.log().contains(in_log), "{}", server.log());
        let count = server.ask(&visit(1, 0, "mode=count", reply.cookie().unwrap()));
        assert_eq!(count.text(), "2", "the head was sent: what is saved stays");
    }
}

#[test]
fn a_write_that_is_blocked_has_a_deadline_and_a_handler_that_is_silent_has_none() {
    let setup = Setup::new("streams", Socket::ListenUnix);
    let server = setup.variable("STREAM_WRITE", 250).start();
    let reply = server.ask(&get(1, 0, "mode=silent"));
    expect_whole(&reply, "count 1\nspoke again\n");
    let _client = server.send(&get(1, 0, "mode=blocks&size=10000000000000"));
    let failed = server.directory().join("failed");
    until("the write fails", || failed.exists());
}

/// A Unix socket says that it has room when three quarters of what it holds are taken. This client leaves
/// more than that in it, so that the program learns of the room by trying alone.
#[test]
fn a_client_that_takes_some_of_a_stream_in_each_write_timeout_gets_all_of_it() {
    let setup = Setup::new("streams", Socket::ListenUnix);
    let server = setup.variable("STREAM_WRITE", 2000).start();
    let (mut client, size) = (server.connect(), 7 * (64 << 10) as u64);
    client
        .send(&get(1, 0, &format!("mode=blocks&size={size}")))
        .unwrap();
    let mut received = 0;
    loop {
        let left = size.saturating_sub(received);
        until("more comes", || client.unread() >= left.min(LEFT_UNREAD));
        let record = client.record().unwrap().expect("the whole stream");
        if record.kind == END {
            break;
        }
        received += record.content.len() as u64;
    }
    assert!(received > size, "{received} bytes");
}

#[test]
fn an_answer_to_head_has_the_head_of_a_stream_and_starts_none() {
    let server = start(&[]);
    let params = params("HEAD", "mode=plain&announce=8", &[]);
    let reply = server.ask(&[head_of(&params), record(STDIN, 1, b"")].concat());
    expect_whole(&reply, "");
    assert!(reply.head.contains("\r\nContent-Length: 8"), "{reply:?}");
    assert!(reply.cookie().is_some());
    assert!(!server.directory().join("began").exists());
}

#[test]
fn a_stream_sees_the_signal_to_end_and_its_last_words_arrive() {
    let mut server = start(&[]);
    let mut client = server.connect();
    let request = get(1, 0, "mode=until+the+end");
    read_until(&mut client, &request, "count 1\n");
    server.signal(Signal::TERM);
    let reply = client.reply(1).unwrap();
    assert_eq!(reply.end, Some(0));
    assert!(reply.head.ends_with("bye\n"), "{reply:?}");
    assert!(server.end().success());
    assert_eq!(server.log(), "");
}

#[test]
fn a_stream_that_does_not_end_is_cut_off_when_the_program_ends() {
    let mut server = start(&[]);
    let mut client = server.connect();
    read_until(&mut client, &get(1, 0, "mode=for+ever"), "count 1\n");
    server.signal(Signal::TERM);
    assert_eq!(client.reply(1).unwrap().end, None);
    assert!(server.end().success());
    assert!(server.log().contains("took longer than 10 s"));
}
