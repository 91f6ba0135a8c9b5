//! Sessions over FastCGI: the same promises as under CGI.

use testkit::fastcgi::client::{
    ABORT, AT_ONCE, Client, KEEP, STDIN, get, head, params, post, record, stream, visit,
};
use testkit::fastcgi::counting::{CONNECTIONS, begin_session, count};
use testkit::fastcgi::server::{Server, Socket, echo, until};
use testkit::prelude::*;

fn server() -> Server {
    let setup = echo(Socket::StdinUnix);
    setup.variable("CGI_SESSION_LOCK_TIMEOUT", "90s").start()
}

#[test]
fn nobody_waits_for_a_crowd_to_end_that_came_later() {
    let server = server();
    let cookie = begin_session(&server);
    let is_over = AtomicU64::new(0);
    let fewest = thread::scope(|scope| {
        let ask = || {
            let mut client = server.connect();
            let mut answered = 0;
            while is_over.load(Ordering::Relaxed) < 3000 {
                client.ask(1, &visit(1, KEEP, "mode=count", &cookie));
                is_over.fetch_add(1, Ordering::Relaxed);
                answered += 1;
            }
            answered
        };
        let clients: Vec<_> = (0..CONNECTIONS).map(|_| scope.spawn(ask)).collect();
        let answered = clients.into_iter().map(|client| client.join().unwrap());
        answered.min().unwrap()
    });
    // Each would have 187 if all were served in turn, and one that waits for the others one.
    assert!(fewest > 2, "a client was answered {fewest} times of 3000");
}

#[test]
fn requests_of_one_session_that_are_sent_ahead_are_all_answered() {
    let server = server();
    let cookie = begin_session(&server);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut client = server.connect();
                let many = visit(1, KEEP, "mode=count", &cookie).repeat(30);
                client.send(&many).unwrap();
                for _ in 0..30 {
                    assert_eq!(client.reply(1).unwrap().status(), 200);
                }
            });
        }
    });
    assert_eq!(count(&server, &cookie), 242);
}

#[test]
fn a_request_whose_client_left_while_it_waited_for_a_worker_gets_no_handler() {
    let server = echo(Socket::ListenUnix).arguments("--workers 1").start();
    let cookie = begin_session(&server);
    let mut busy = server.send(&get(1, 0, "mode=wait"));
    until("the worker is busy", || server.started() > 0);
    for _ in 0..3 {
        drop(server.send(&visit(1, 0, "mode=count", &cookie)));
    }
    let mut stays = server.send(&visit(1, 0, "mode=count", &cookie));
    server.go();
    assert_eq!(busy.reply(1).unwrap().status(), 200);
    assert_eq!(stays.reply(1).unwrap().text(), "2");
    assert_eq!(count(&server, &cookie), 3);
}

#[test]
fn a_request_whose_client_has_left_waits_no_longer_for_its_session() {
    let setup = echo(Socket::ListenUnix).arguments("--workers 4");
    let server = setup.variable("CGI_SESSION_LOCK_TIMEOUT", "90s").start();
    let cookie = begin_session(&server);
    let mut holder = server.send(&visit(1, 0, "mode=count-and-wait", &cookie));
    until("the session is held", || server.started() > 0);
    let send = || server.send(&visit(1, 0, "mode=count", &cookie));
    let left: Vec<_> = std::iter::repeat_with(send).take(3).collect();
    // What changes something is done all the same.
    let more = [("HTTP_COOKIE", cookie.as_bytes())];
    let asked = head(1, 0, &params("POST", "mode=count", &more));
    let posted = server.send(&[asked, record(STDIN, 1, &[])].concat());
    until("they wait", || server.threads().len() >= 1 + 4 + 4);
    drop((left, posted));
    until("they wait no longer", || {
        server.log().matches("the client has left").count() == 3
    });
    server.go();
    assert_eq!(holder.reply(1).unwrap().text(), "2");
    let read = visit(1, 0, "mode=read", &cookie);
    until("the one that was posted has counted", || {
        server.ask(&read).text() == "3"
    });
}

#[test]
fn a_session_that_is_held_keeps_only_its_own_writers_waiting() {
    let by_cookie = |session: &str| visit(1, 0, "mode=count", session);
    let by_link = |session: &str| get(1, 0, &format!("mode=count&{session}"));
    let by_form = |session: &str| post(1, 0, "mode=count", session.as_bytes());
    thread::scope(|scope| {
        for (workers, holds_itself) in [("1", false), ("4", true)] {
            scope.spawn(move || check_that_others_go_on(workers, holds_itself, by_cookie));
            scope.spawn(move || check_that_others_go_on(workers, holds_itself, by_link));
            scope.spawn(move || check_that_others_go_on(workers, holds_itself, by_form));
        }
    });
}

/// Holds a session, as another program or by a request, and lets many requests wait for it.
fn check_that_others_go_on(workers: &str, holds_itself: bool, ask_for: fn(&str) -> Vec<u8>) {
    const WRITERS: usize = 40;
    let setup = echo(Socket::ListenUnix).arguments(["--workers", workers]);
    let setup = setup.variable("CGI_SESSION_ID_FROM", "cookie, query, form");
    let server = setup.variable("CGI_SESSION_LOCK_TIMEOUT", "90s").start();
    let held = begin_session(&server);
    let lock = File::open(server.session_file()).unwrap();
    let mut holder = server.connect();
    if holds_itself {
        let request = visit(1, 0, "mode=count-and-wait", &held);
        holder.send(&request).unwrap();
        until("the session is held", || server.started() == 1);
    } else {
        lock.lock().unwrap();
    }
    let free = begin_session(&server);
    let send = || server.send(&ask_for(&held));
    let writers: Vec<_> = std::iter::repeat_with(send).take(WRITERS).collect();
    let ask = |request: &[u8]| {
        let mut client = server.connect();
        client.wait_up_to(AT_ONCE);
        let reply = client.ask(1, request);
        (reply.status(), reply.text())
    };
    for expected in 2..=20 {
        let page = ask(&get(1, 0, ""));
        assert_eq!(page, (200, "ok".into()));
        let read = ask(&visit(1, 0, "mode=read", &held));
        assert_eq!(read, (200, "1".into()));
        let other = ask(&visit(1, 0, "mode=count", &free));
        assert_eq!(other, (200, expected.to_string()));
    }
    // As many as may wait have waited all the time, and all others were told.
    until("all others are told", || {
        let refused = writers.iter().filter(|writer| writer.has_answer());
        refused.count() >= WRITERS - 16
    });
    let (refused, waiting): (Vec<_>, Vec<_>) = writers.into_iter().partition(Client::has_answer);
    assert_eq!(waiting.len(), 16);
    for mut client in refused {
        let reply = client.reply(1).unwrap();
        assert_eq!(reply.status(), 503);
        assert!(reply.head.contains("Retry-After: "), "{}", reply.head);
    }
    server.go();
    lock.unlock().unwrap();
    let counts = waiting.into_iter().map(|mut client| {
        let reply = client.reply(1).unwrap();
        reply.text().parse::<u64>().unwrap()
    });
    let mut counts: Vec<_> = counts.collect();
    counts.sort_unstable();
    let first = if holds_itself { 3 } else { 2 };
    assert!(counts.iter().copied().eq(first..first + 16), "{counts:?}");
}

#[test]
fn no_more_than_a_quarter_of_the_connections_wait_for_sessions() {
    const SESSIONS: usize = 12;
    let setup = echo(Socket::ListenUnix);
    let setup = setup.arguments("--workers 2 --connections 32");
    let server = setup.variable("CGI_SESSION_LOCK_TIMEOUT", "90s").start();
    let begin = || begin_session(&server);
    let cookies: Vec<_> = std::iter::repeat_with(begin).take(SESSIONS).collect();
    // The test itself holds the sessions, as another program would.
    let files = server.session_files().into_iter();
    let locks = files.map(|path| File::open(path).unwrap());
    let locks: Vec<_> = locks.inspect(|file| file.lock().unwrap()).collect();
    assert_eq!(locks.len(), SESSIONS);
    let free = begin();
    let send = |cookie| server.send(&visit(1, 0, "mode=count", cookie));
    let mut writers: Vec<_> = cookies.iter().map(|cookie| send(cookie)).collect();
    until("a quarter waits", || {
        let refused = writers.iter().filter(|writer| writer.has_answer());
        refused.count() == SESSIONS - 8
    });
    assert_eq!(count(&server, &free), 2);
    drop(locks);
    let answers = writers.iter_mut().map(|writer| writer.reply(1).unwrap());
    let counted = answers.filter(|reply| reply.text() == "2");
    assert_eq!(counted.count(), 8);
    for cookie in &cookies {
        count(&server, cookie);
    }
}

#[test]
fn nobody_waits_for_a_session_longer_than_lock_timeout_whatever_the_workers_do() {
    let setup = echo(Socket::ListenUnix).arguments("--workers 1");
    let server = setup.variable("CGI_SESSION_LOCK_TIMEOUT", "2s").start();
    let cookie = begin_session(&server);
    let lock = File::open(server.session_file()).unwrap();
    lock.lock().unwrap();
    let started = Instant::now();
    let mut writers: Vec<_> = (0..16)
        .map(|_| server.send(&visit(1, 0, "mode=count", &cookie)))
        .collect();
    for client in &mut writers {
        assert_eq!(client.reply(1).unwrap().status(), 503);
    }
    // One after the other they would wait for 32 s, and half of them for more than 16.
    let waited = started.elapsed();
    assert!(waited >= Duration::from_secs(2), "{waited:?}");
    assert!(waited < Duration::from_secs(2) + AT_ONCE, "{waited:?}");
    lock.unlock().unwrap();
    assert_eq!(count(&server, &cookie), 2);
}

#[test]
fn a_thousand_requests_of_one_session_keep_nobody_else_waiting() {
    const REQUESTS: usize = 1030;
    let setup = echo(Socket::ListenUnix);
    let server = setup.variable("CGI_SESSION_LOCK_TIMEOUT", "90s").start();
    let (cookie, other) = (begin_session(&server), begin_session(&server));
    let mut holder = server.connect();
    let request = visit(1, 0, "mode=count-and-wait", &cookie);
    holder.send(&request).unwrap();
    until("the session is held", || server.started() == 1);
    let mut expected = 1;
    let mut crowd = Vec::new();
    while crowd.len() < REQUESTS {
        crowd.push(server.send(&visit(1, KEEP, "mode=count", &cookie)));
        if crowd.len().is_multiple_of(103) {
            expected += 1;
            let asked = Instant::now();
            assert_eq!(count(&server, &other), expected);
            let took = asked.elapsed();
            assert!(took < AT_ONCE, "{took:?} after {}", crowd.len());
        }
    }
    server.go();
    let answered = crowd.into_iter().map(|mut client| client.reply(1).unwrap());
    let waited = answered.filter(|reply| reply.status() == 200).count();
    assert!(waited >= 16, "{waited}");
    let threads = server.threads().len();
    assert!(threads < 300, "{threads} threads");
}

#[test]
fn a_request_that_is_aborted_or_cut_off_amid_its_body_saves_nothing() {
    let server = server();
    let cookie = begin_session(&server);
    for length in ["", "300000", "40"] {
        let more = [
            ("HTTP_COOKIE", cookie.as_bytes()),
            ("CONTENT_LENGTH", length.as_bytes()),
        ];
        let head = head(1, KEEP, &params("POST", "mode=count-and-read", &more));
        let part = record(STDIN, 1, &[b'b'; 30]);

        let mut aborted = server.connect();
        let bytes = [head.clone(), part.clone(), record(ABORT, 1, b"")];
        let reply = aborted.ask(1, &bytes.concat());
        assert_eq!((reply.head.as_str(), reply.end), ("", Some(0)));
        assert_eq!(aborted.ask(2, &get(2, 0, "")).text(), "ok");

        let mut cut = server.send(&[head.clone(), part].concat());
        cut.finish();
        let reply = cut.reply(1).unwrap();
        assert!(reply.end.is_none() || reply.status() == 400);
        drop(cut);

        let gone = [head, stream(STDIN, 1, &[b'b'; 30], 9)[..20].to_vec()];
        server.connect().send(&gone.concat()).unwrap();
    }
    assert_eq!(count(&server, &cookie), 2);
}

#[test]
fn nothing_of_one_request_is_seen_in_the_next() {
    let server = server();
    let mut client = server.connect();
    let cookie = begin_session(&server);
    let more = [
        ("HTTP_COOKIE", cookie.as_bytes()),
        ("HTTP_X", b"of the first"),
    ];
    let request = |query, more| {
        let head = head(1, KEEP, &params("GET", query, more));
        [head, record(STDIN, 1, b"")].concat()
    };
    let known = client.ask(1, &request("mode=count", &more));
    assert_eq!((known.text().as_str(), known.cookie()), ("2", None));
    let absent = client.ask(1, &request("mode=param&name=HTTP_X", &[]));
    assert_eq!(absent.text(), "(absent)");
    let mut seen = BTreeSet::from([cookie.clone()]);
    for _ in 0..20 {
        let new = client.ask(1, &request("mode=count", &[]));
        assert_eq!(new.text(), "1");
        assert!(seen.insert(new.cookie().unwrap().to_owned()));
        let plain = client.ask(1, &request("", &[]));
        assert_eq!(plain.cookie(), None);
    }
}

#[test]
fn settings_hold_for_the_first_and_the_thousandth_request_of_a_process() {
    let server = echo(Socket::StdinUnix)
        .variable("CGI_SESSION_COOKIE_SAME_SITE", "Strict")
        .variable("CGI_SESSION_COOKIE_MAX_AGE", "2h")
        .variable("CGI_SESSION_COOKIE_PATH", "/program")
        .start();
    let mut client = server.connect();
    for number in 1..=1000 {
        let reply = client.ask(1, &get(1, KEEP, "mode=count"));
        let mut lines = reply.head.lines();
        let cookie = lines.find(|line| line.to_lowercase().starts_with("set-cookie: "));
        let (_, attributes) = cookie.unwrap().split_once("; ").unwrap();
        let expected = "HttpOnly; SameSite=Strict; Path=/program; Max-Age=7200";
        assert_eq!(attributes, expected, "request {number}");
    }
}

#[test]
fn a_request_cleans_up_with_the_configured_probability() {
    let setup = echo(Socket::StdinUnix).variable("CGI_SESSION_CLEAN_UP_DELAY", 0);
    let setup = setup.variable("CGI_SESSION_CLEAN_UP_PROBABILITY", 1);
    let server = setup.start();
    begin_session(&server);
    let expired = File::open(server.session_file()).unwrap();
    let then = SystemTime::now() - Duration::from_secs(7200);
    expired.set_modified(then).unwrap();
    begin_session(&server);
    until("it is deleted", || expired.metadata().unwrap().nlink() == 0);
}

#[test]
fn a_store_that_panics_fails_one_request_and_its_connection_goes_on() {
    let setup = echo(Socket::StdinUnix).variable("CGI_SESSION_STORAGE_TYPE", "custom");
    let setup = setup.variable("CGI_SESSION_CLEAN_UP_DELAY", "0");
    let server = setup
        .variable("CGI_SESSION_CLEAN_UP_PROBABILITY", "1")
        .start();
    let mut client = server.connect();
    for (panics, status) in [("load", 500), ("save", 500), ("clean-up", 200)] {
        let sign = server.directory().join(panics);
        fs::write(&sign, "").unwrap();
        let cookie = format!("sessionId={}", SessionId::generate().unwrap().secret());
        let reply = client.ask(1, &visit(1, KEEP, "mode=count", &cookie));
        assert_eq!((reply.status(), reply.end), (status, Some(0)), "{panics}");
        assert_eq!(reply.cookie().is_some(), status == 200, "{reply:?}");
        let told = format!("as the file {panics} asks");
        until("the log says so", || server.log().contains(&told));
        fs::remove_file(&sign).unwrap();
    }
    let reply = client.ask(1, &get(1, KEEP, "mode=count"));
    assert_eq!(reply.status(), 200);
}
