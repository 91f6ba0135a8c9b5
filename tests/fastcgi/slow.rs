//! Clients that send or take a byte now and then: others go on, and they themselves come to an end.

use testkit::fastcgi::client::{
    AT_ONCE, Client, KEEP, STDIN, get, head, params, post, record, stream, visit,
};
use testkit::fastcgi::counting::begin_session;
use testkit::fastcgi::server::{Server, Setup, Socket, echo, until};
use testkit::prelude::*;

/// How large a response is that no socket takes at once.
const LARGE: usize = 2_000_000;

/// What a client announces, and how much of it comes at once.
const BODIES: [(Option<usize>, usize); 4] = [
    (Some(100), 1),
    (Some(900_000), 40_000),
    (None, 40_000),
    // Longer than what is collected.
    (Some(3_000_000), 40_000),
];

fn server(workers: &str) -> Setup {
    echo(Socket::ListenUnix).arguments(["--workers", workers])
}

/// The head of a request with a body that the handler reads while it has a session.
fn upload(cookie: &str, length: Option<usize>) -> Vec<u8> {
    let length = length.map_or(String::new(), |length| length.to_string());
    let cookie = ("HTTP_COOKIE", cookie.as_bytes());
    let more = [cookie, ("CONTENT_LENGTH", length.as_bytes())];
    head(1, 0, &params("POST", "mode=count-and-read", &more))
}

/// Begins uploads of every kind, each in a session of its own.
fn begin_uploads(server: &Server, number: usize) -> Vec<Client> {
    let uploads = BODIES.iter().cycle().take(number);
    let begin = |(length, sent): &(Option<usize>, usize)| {
        let mut client = server.connect();
        let part = stream(STDIN, 1, &vec![b'b'; *sent], 8_000);
        // Without the end of the stream.
        let part = &part[..part.len() - 8];
        let head = upload(&begin_session(server), *length);
        client.send(&[&head[..], part].concat()).unwrap();
        client
    };
    uploads.map(begin).collect()
}

/// A request of a page of this size.
fn large(size: usize) -> Vec<u8> {
    get(1, 0, &format!("mode=large&size={size}"))
}

/// So many clients that have sent this.
fn clients(server: &Server, number: usize, sent: &[u8]) -> Vec<Client> {
    let begin = |_| server.send(sent);
    (0..number).map(begin).collect()
}

/// A byte for each client, as long as the program takes it.
fn drip(clients: &mut Vec<Client>) {
    clients.retain_mut(|client| client.send(&record(STDIN, 1, b"b")).is_ok());
}

/// A visitor counts again and again for some time; how long the longest answer took.
fn visit_for(server: &Server, time: Duration) -> Duration {
    let cookie = begin_session(server);
    let (started, mut longest) = (Instant::now(), Duration::ZERO);
    let mut count = 1;
    while started.elapsed() < time {
        let asked = Instant::now();
        let mut client = server.connect();
        client.wait_up_to(AT_ONCE);
        let reply = client.ask(1, &visit(1, 0, "mode=count", &cookie));
        count += 1;
        assert_eq!(reply.text(), count.to_string());
        longest = longest.max(asked.elapsed());
    }
    longest
}

#[test]
fn slow_uploads_keep_no_visitor_waiting() {
    thread::scope(|scope| {
        for workers in ["1", "4", "16"] {
            scope.spawn(move || keep_no_visitor_waiting(workers));
        }
    });
}

fn keep_no_visitor_waiting(workers: &str) {
    let server = server(workers).start();
    let mut slow = begin_uploads(&server, 40);
    let is_over = AtomicBool::new(false);
    let longest = thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                drip(&mut slow);
                thread::sleep(Duration::from_millis(500));
            }
        });
        let longest = visit_for(&server, Duration::from_secs(2));
        is_over.store(true, Ordering::Relaxed);
        longest
    });
    println!("the longest answer took {longest:?}");
}

/// A server that waits a second for a body, and for one of this rate longer.
fn impatient(rate: &str) -> Server {
    let setup = server("16").variable("CGI_SESSION_BODY_TIMEOUT", "1s");
    setup.variable("CGI_SESSION_BODY_MIN_RATE", rate).start()
}

#[test]
fn a_body_that_is_too_slow_is_answered_408_and_saves_nothing() {
    let server = impatient("30000");
    for (length, sent) in BODIES {
        let cookie = begin_session(&server);
        let mut client = server.send(&upload(&cookie, length));
        let part = stream(STDIN, 1, &vec![b'b'; sent], 8_000);
        client.send(&part[..part.len() - 8]).unwrap();
        let mut slow = vec![client];
        until("it is answered", || {
            drip(&mut slow);
            thread::sleep(Duration::from_millis(50));
            slow.first().is_none_or(Client::has_answer)
        });
        let reply = slow.remove(0).reply(1).unwrap();
        assert_eq!((reply.status(), reply.end), (408, Some(0)), "{length:?}");
        assert_eq!(testkit::fastcgi::counting::count(&server, &cookie), 2);
    }
    let told = "cannot use the request's body: it came too slowly";
    assert_eq!(server.log().matches(told).count(), BODIES.len());
}

/// The only worker is busy for longer than a peer may be silent; what came meanwhile is in the socket.
#[test]
fn what_came_while_all_workers_were_busy_came_in_time() {
    let setup = server("1").variable("CGI_SESSION_BODY_TIMEOUT", "3s");
    let server = setup.variable("ECHO_IDLE", 3000).start();
    let body = stream(STDIN, 1, &[b'b'; 100], 1);
    let (first, rest) = body.split_at(9);
    let length = [("CONTENT_LENGTH", &b"100"[..])];
    let begun = head(1, KEEP, &params("POST", "mode=body", &length));
    let mut upload = server.send(&[&begun, first].concat());
    let mut kept = server.connect();
    assert_eq!(kept.ask(1, &get(1, KEEP, "")).status(), 200);
    let mut busy = server.send(&get(1, 0, "mode=wait"));
    until("the worker is busy", || server.started() > 0);
    kept.send(&get(1, 0, "")).unwrap();
    upload.send(rest).unwrap();
    thread::sleep(Duration::from_secs(4));
    server.go();
    assert_eq!(busy.reply(1).unwrap().status(), 200);
    assert_eq!(upload.reply(1).unwrap().text(), "100 9800");
    assert_eq!(kept.reply(1).unwrap().text(), "ok");
}

#[test]
fn a_connection_with_an_unread_request_makes_no_room_for_another() {
    let setup = echo(Socket::ListenUnix).arguments("--workers 1 --connections 2");
    let server = setup.start();
    let (mut kept, mut busy) = (server.connect(), server.connect());
    assert_eq!(kept.ask(1, &get(1, KEEP, "")).status(), 200);
    busy.send(&get(1, KEEP, "mode=wait")).unwrap();
    until("the worker is busy", || server.started() > 0);
    let mut new = server.send(&get(1, 0, ""));
    kept.send(&get(1, 0, "")).unwrap();
    server.go();
    for client in [&mut kept, &mut busy, &mut new] {
        assert_eq!(client.reply(1).unwrap().status(), 200);
    }
}

#[test]
fn the_log_counts_what_is_cut_off_because_too_many_connections_are_open() {
    let setup = Setup::new("streams", Socket::ListenUnix);
    let server = setup.arguments("--connections 1").start();
    let mut slow = server.connect();
    until("it has the only place", || {
        let asked = slow.send(&get(1, KEEP, ""));
        let is_answered = asked.and_then(|()| slow.reply(1)).is_ok();
        if !is_answered {
            slow = server.connect();
        }
        is_answered
    });
    slow.send(&upload("", Some(100))).unwrap();
    let mut others = Vec::new();
    until("one of them is streamed", || {
        let mut client = server.connect();
        // It may be cut off at once.
        let _ = client.send(&get(1, 0, "mode=wait"));
        others.push(client);
        server.directory().join("began").exists()
    });
    assert!(slow.is_closed());
    assert!(server.connect().is_closed());
    let cut_off = || {
        let log = server.log();
        let told = log.split(" connections are cut off amid requests");
        let counts = told.filter_map(|before| before.rsplit(' ').next()?.parse::<usize>().ok());
        counts.sum::<usize>()
    };
    // The upload, or another in its place, and the last.
    until("the log counts them", || cut_off() > 1);
    server.go();
    let mut replies = others.iter_mut().map(|client| client.reply(1));
    assert!(replies.any(|it| it.is_ok_and(|reply| reply.end == Some(0))));
}

#[test]
fn a_body_that_is_fast_enough_may_take_longer_than_its_first_byte() {
    let server = impatient("100");
    // One is collected, one is not. A busy machine may make a pause that is too long.
    for length in [10_000, 2_000_000] {
        assert!((0..20).any(|_| takes_two_seconds(&server, length)));
    }
}

/// Sends a body of this length within two seconds; whether all of it was taken.
fn takes_two_seconds(server: &Server, length: usize) -> bool {
    let mut client = server.connect();
    let declared = length.to_string();
    let more = [("CONTENT_LENGTH", declared.as_bytes())];
    let mut part = head(1, 0, &params("POST", "mode=body", &more));
    let (started, mut sent) = (Instant::now(), 0);
    while started.elapsed() < Duration::from_secs(2) {
        part.extend(record(STDIN, 1, &[1; 100]));
        sent += 100;
        if client.send(&part).is_err() {
            return false;
        }
        part.clear();
        thread::sleep(Duration::from_millis(100));
    }
    let rest = stream(STDIN, 1, &vec![1; length - sent], 8_000);
    let reply = client.send(&rest).and_then(|()| client.reply(1));
    reply.is_ok_and(|reply| reply.text() == format!("{length} {length}"))
}

#[test]
fn long_bodies_hold_half_of_the_workers_and_others_are_refused_in_time() {
    let setup = server("4").variable("CGI_SESSION_BODY_TIMEOUT", "8s");
    let server = setup.start();
    let more = [("CONTENT_LENGTH", &b"2000000"[..])];
    let begun = [
        head(1, 0, &params("POST", "mode=body", &more)),
        record(STDIN, 1, &vec![1; 40_000]),
    ];
    let mut uploads = clients(&server, 6, &begun.concat());
    until("those beyond are refused", || {
        // Fast enough for those that are read.
        uploads.retain_mut(|client| {
            let is_refused = client.has_answer();
            if is_refused {
                let reply = client.reply(1).unwrap();
                assert_eq!(reply.status(), 503);
                assert!(reply.head.contains("Retry-After: "), "{}", reply.head);
            } else {
                // It may be refused at this moment.
                let _ = client.send(&record(STDIN, 1, &[1; 1_000]));
            }
            !is_refused
        });
        thread::sleep(Duration::from_millis(100));
        uploads.len() == 2
    });
    server.answers_at_once("two long bodies");
    for mut client in uploads {
        let rest = stream(STDIN, 1, &vec![1; 2_000_000], 8_000);
        client.send(&rest).unwrap();
        assert_eq!(client.reply(1).unwrap().status(), 200);
    }
    let told = "a request with a long body is refused: 2 others are being read";
    assert_eq!(server.log().matches(told).count(), 4);
}

#[test]
fn long_bodies_wait_on_a_quarter_of_the_connections_as_long_as_their_peers() {
    let setup = echo(Socket::ListenUnix).arguments("--workers 2 --connections 16");
    let server = setup.variable("CGI_SESSION_BODY_TIMEOUT", "1h").start();
    let descriptors = || fs::read_dir(format!("/proc/{}/fd", server.pid())).unwrap();
    let before = descriptors().count();
    let more = [("CONTENT_LENGTH", &b"2000000"[..])];
    let begun = [
        head(1, 0, &params("POST", "mode=body", &more)),
        record(STDIN, 1, &vec![1; 40_000]),
    ];
    // One is read, and four wait.
    let mut uploads = clients(&server, 8, &begun.concat());
    until("those beyond are refused", || {
        let refused = uploads.extract_if(.., |client| client.has_answer());
        for mut client in refused {
            assert_eq!(client.reply(1).unwrap().status(), 503);
        }
        uploads.len() == 5
    });
    drop(uploads);
    until("none waits", || descriptors().count() <= before);
}

#[test]
fn slow_readers_keep_no_visitor_waiting_and_get_their_pages() {
    let server = server("2").start();
    let mut slow = clients(&server, 20, &large(LARGE));
    let longest = visit_for(&server, Duration::from_secs(1));
    println!("the longest answer took {longest:?}");
    for client in &mut slow {
        let reply = client.reply(1).unwrap();
        assert_eq!((reply.body.len(), reply.end), (LARGE, Some(0)));
    }
}

#[test]
fn what_slow_clients_have_in_memory_is_bounded() {
    let setup = server("2").variable("CGI_SESSION_BODY_BUFFER", "128k");
    let server = setup.start();
    let before = server.memory();
    let uploads: Vec<_> = (0..200)
        .map(|_| {
            let mut client = server.connect();
            let body = stream(STDIN, 1, &vec![b'b'; 100_000], 8_000);
            let head = upload("", Some(128_000));
            // What the program does not take stays in the socket.
            let bytes = [&head[..], &body[..body.len() - 8]].concat();
            thread::spawn(move || client.send(&bytes).map(|()| client))
        })
        .collect();
    let uploads: Vec<_> = uploads.into_iter().map(|it| it.join().unwrap()).collect();
    server.answers_at_once("200 bodies");
    let bodies = server.memory() - before;
    // 64 times 128 KiB, 32 KiB of each that was too much, and what the allocator makes of it.
    assert!(bodies < 22 << 10, "{bodies} KiB");
    drop(uploads);

    let mut slow = clients(&server, 30, &large(4 * LARGE));
    until("the slowest are cut off", || {
        server.log().contains("is cut off that is taken too slowly")
    });
    server.answers_at_once("30 large pages");
    let pages = server.memory() - before;
    assert!(pages < 130 << 10, "{pages} KiB");
    let whole = |client: &mut Client| client.reply(1).is_ok_and(|it| it.end.is_some());
    let whole = slow.iter_mut().map(whole);
    let whole = whole.filter(|is_whole| *is_whole).count();
    assert!((4..30).contains(&whole), "{whole} pages came whole");
}

#[test]
fn responses_that_are_taken_come_whole_however_many_there_are() {
    let server = server("4").start();
    let taking = clients(&server, 20, &large(4 * LARGE)).into_iter();
    let taking = taking.map(|mut client| {
        thread::spawn(move || {
            // About a megabyte a second, for longer than a slow one is waited for.
            for _ in 0..100 {
                client.record().unwrap().unwrap();
                thread::sleep(Duration::from_millis(60));
            }
            client.reply(1).map(|reply| reply.end)
        })
    });
    for client in taking.collect::<Vec<_>>() {
        assert_eq!(client.join().unwrap().unwrap(), Some(0));
    }
    assert!(!server.log().contains("is cut off"), "{}", server.log());
}

#[test]
fn a_program_that_ends_lets_a_slow_reader_finish_and_refuses_what_is_being_collected() {
    let mut server = server("2").start();
    let cookie = begin_session(&server);
    let mut reader = server.send(&large(LARGE));
    reader.wait_for_word();
    let mut upload = server.connect();
    let bytes = post(1, 0, "mode=count", b"");
    upload.send(&bytes[..bytes.len() - 8]).unwrap();
    let mut counted = server.connect();
    counted.ask(1, &visit(1, 0, "mode=count", &cookie));
    server.signal(Signal::TERM);
    assert_eq!(upload.reply(1).unwrap().status(), 503);
    let reply = reader.reply(1).unwrap();
    assert_eq!((reply.body.len(), reply.end), (LARGE, Some(0)));
    assert!(server.end().success());
}

#[test]
fn a_response_that_is_taken_slower_than_the_least_rate_is_cut_off() {
    let setup = server("2").variable("CGI_SESSION_RESPONSE_MIN_RATE", "1000000");
    let server = setup.variable("ECHO_WRITE", 3000).start();
    let mut client = server.send(&large(4 * LARGE));
    let started = Instant::now();
    // Less than 250,000 bytes a second.
    let cut = loop {
        thread::sleep(Duration::from_millis(100));
        match client.record() {
            Ok(Some(_)) if started.elapsed() < Duration::from_secs(60) => {}
            end => break end,
        }
    };
    let is_cut =
        matches!(cut, Ok(None)) || cut.is_err_and(|it| it.kind() != io::ErrorKind::WouldBlock);
    assert!(is_cut, "it was not cut off");
}
