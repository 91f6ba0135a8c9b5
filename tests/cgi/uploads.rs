//! Large bodies, slow ones and those that break off, through every server that hands them to a
//! FastCGI program: the program stays small, answers the next request, and saves nothing of a
//! request that was not complete.

use testkit::client::Client;
use testkit::fastcgi::client::AT_ONCE;
use testkit::prelude::*;
use testkit::servers::Way;

const LARGE: u64 = 64 << 20;
/// KiB that the program may use at the most, whatever it was sent: its own code is most of it, for it
/// is all examples in one, not optimized, and with every store.
const MEMORY: u64 = 32 << 10;

/// nginx takes a body to the disk first, or hands it on as it comes.
const BUFFERED: &str = "client_max_body_size 0;";
const UNBUFFERED: &str = "client_max_body_size 0; fastcgi_request_buffering off;";
/// lighttpd too.
const STREAMED: &str = "server.stream-request-body = 2";

#[test]
fn large_bodies_that_servers_keep_first_leave_the_program_small() {
    send_large_bodies(&Servers::start_with("", BUFFERED, "", ""));
}

#[test]
fn large_bodies_that_servers_hand_on_leave_the_program_small() {
    // lighttpd keeps them all the same: it hands on no body whose length it does not know.
    send_large_bodies(&Servers::start_with("", UNBUFFERED, "", ""));
}

#[test]
fn a_slow_client_is_waited_for_and_disturbs_nobody() {
    by_every_way_that_streams(|servers, way, visitor| {
        let head = head(visitor, way, "/upload", 6);
        let mut slow = TcpStream::connect(("127.0.0.1", way.port)).unwrap();
        slow.write_all(head.as_bytes()).unwrap();
        for part in [b"ab", b"cd", b"ef"] {
            // As long as somebody else takes to be answered.
            expect_an_answer(way);
            slow.write_all(part).unwrap();
        }
        let mut page = String::new();
        slow.read_to_string(&mut page).unwrap();
        assert!(page.contains("6 bytes received"), "{page}");
        expect_small(servers);
    });
}

#[test]
fn a_body_that_breaks_off_saves_nothing() {
    by_every_way_that_streams(|servers, way, visitor| {
        for sent in [0, 3, 300 << 10] {
            let head = head(visitor, way, "/upload", LARGE);
            let mut client = TcpStream::connect(("127.0.0.1", way.port)).unwrap();
            client.write_all(head.as_bytes()).unwrap();
            client.write_all(&vec![b'x'; sent]).unwrap();
            drop(client);
        }
        expect_an_answer(way);
        expect_uploads(way, visitor, 0);
        expect_small(servers);
    });
}

#[test]
fn a_page_that_nobody_takes_disturbs_nobody() {
    by_every_way_that_streams(|servers, way, visitor| {
        for _ in 0..4 {
            let head = head(visitor, way, "/misbehave?mode=large", 0);
            let mut client = TcpStream::connect(("127.0.0.1", way.port)).unwrap();
            client.write_all(head.as_bytes()).unwrap();
            client.read_exact(&mut [0; 1000]).unwrap();
            // Some of it is on its way.
            client.shutdown(Shutdown::Both).unwrap();
        }
        expect_an_answer(way);
        expect_uploads(way, visitor, 0);
        // The page itself is of 4 MiB, and the program makes several at once.
        let app = servers.app.lock().unwrap();
        assert!(app.as_ref().unwrap().peak_memory() < 4 * MEMORY);
    });
}

#[test]
fn slow_clients_keep_no_visitor_waiting() {
    by_every_way_that_streams(|_, way, visitor| {
        if way.is_server("lighttpd") {
            return skip("lighttpd 1.4.69 crashes when many bodies that it streams come slowly");
        }
        let connect = |head: &str, sent: usize| {
            let mut client = TcpStream::connect(("127.0.0.1", way.port)).unwrap();
            client.write_all(head.as_bytes()).unwrap();
            client.write_all(&vec![b'x'; sent]).unwrap();
            client
        };
        // Of every kind: collected, longer than that, of unknown length; and large pages.
        let collected = head(visitor, way, "/upload", 900_000);
        let longer = head(visitor, way, "/upload", LARGE);
        let length = format!("Content-Length: {LARGE}");
        let unknown = longer.replace(&length, "Transfer-Encoding: chunked");
        let page = head(visitor, way, "/misbehave?mode=large", 0);
        let unknown = format!("{unknown}10000\r\n");
        let heads = [&collected, &longer, &unknown];
        let slow = heads.iter().cycle().take(24);
        let mut slow: Vec<_> = slow.map(|head| connect(head, 40_000)).collect();
        let readers: Vec<_> = (0..8).map(|_| connect(&page, 0)).collect();
        let (started, mut longest) = (Instant::now(), Duration::ZERO);
        while started.elapsed() < Duration::from_secs(2) {
            for client in &mut slow {
                // A server may have refused one.
                let _ = client.write_all(b"x");
            }
            let asked = Instant::now();
            expect_an_answer(way);
            longest = longest.max(asked.elapsed());
        }
        println!("the longest answer took {longest:?}");
        assert!(longest < AT_ONCE, "{longest:?}");
        drop(readers);
    });
}

#[test]
fn a_client_that_sends_too_slowly_is_answered_408() {
    let settings = "bodyTimeout = 1s\nbodyMinRate = 30000\n";
    let servers = Servers::start_with(settings, UNBUFFERED, "", STREAMED);
    // Caddy does not look for an answer before it has sent the body, which it keeps in parts of 64 KB.
    for way in ways(&servers).filter(|way| !way.is_server("Caddy")) {
        for length in [90_000, LARGE] {
            let head = head(&way.visitor(), way, "/upload", length);
            let mut slow = TcpStream::connect(("127.0.0.1", way.port)).unwrap();
            slow.set_read_timeout(Some(Duration::from_millis(100)))
                .unwrap();
            slow.write_all(head.as_bytes()).unwrap();
            let mut answer = [0; 12];
            let mut has_answer = || slow.write_all(b"x").is_err() || slow.peek(&mut answer).is_ok();
            wait_until("it is answered", &mut has_answer);
            assert_eq!(&answer, b"HTTP/1.1 408", "{way:?}");
        }
    }
}

/// Read and unread, of known length and in chunks.
fn send_large_bodies(servers: &Servers) {
    if !is_installed("curl") {
        return;
    }
    for way in ways(servers) {
        eprintln!("{way:?}");
        let visitor = way.visitor();
        let mut uploads = 0;
        for (page, received) in [("/upload", LARGE), ("/upload?ignore=1", 0)] {
            for is_in_chunks in [false, true] {
                uploads += 1;
                let answer = send(servers, way, &visitor, page, is_in_chunks);
                let page = format!("upload {uploads}, {received} bytes received\n");
                assert_eq!(answer, page, "in chunks: {is_in_chunks}");
                expect_an_answer(way);
            }
        }
        expect_small(servers);
    }
}

/// Sends a large body by curl, whose page this returns.
fn send(servers: &Servers, way: Way, visitor: &Client, page: &str, is_in_chunks: bool) -> String {
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--request", "POST"]);
    curl.args(["--max-time", "100", "--cookie", &cookie(visitor)]);
    let body = large_file(servers);
    if is_in_chunks {
        curl.args(["--upload-file", "-"]);
        curl.stdin(File::open(&body).unwrap());
    } else {
        curl.arg("--upload-file").arg(&body).stdin(Stdio::null());
    }
    // Not to wait for a "100 Continue" that not every server sends.
    curl.args(["--header", "Expect:"]);
    curl.arg(format!("http://127.0.0.1:{}{}", way.port, way.path(page)));
    let output = curl.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{} {stderr}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

/// A file with holes, which takes no place.
fn large_file(servers: &Servers) -> PathBuf {
    let path = servers.site.path().join("large");
    File::create(&path).unwrap().set_len(LARGE).unwrap();
    path
}

/// Runs a test on each way by which a program sees a body come.
fn by_every_way_that_streams(test: impl Fn(&Servers, Way, &Client)) {
    let servers = Servers::start_with("lockTimeout = 90s\n", UNBUFFERED, "", STREAMED);
    for way in ways(&servers) {
        eprintln!("{way:?}");
        test(&servers, way, &way.visitor());
    }
}

/// The ways to the program that runs by itself.
fn ways(servers: &Servers) -> impl Iterator<Item = Way> {
    let names = [
        "nginx, new connections",
        "nginx, kept connections",
        "Apache, mod_proxy_fcgi",
        "lighttpd, mod_fastcgi",
        "Caddy",
    ];
    names.into_iter().filter_map(|name| servers.way(name))
}

fn cookie(visitor: &Client) -> String {
    format!("sessionId={}", visitor.id().unwrap())
}

fn head(visitor: &Client, way: Way, page: &str, length: u64) -> String {
    format!(
        "POST {} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nCookie: {}\r\n\
         Content-Length: {length}\r\n\r\n",
        way.path(page),
        cookie(visitor)
    )
}

/// Another visitor is served at once.
#[track_caller]
fn expect_an_answer(way: Way) {
    let page = way.client().get(&way.path("/counter"));
    page.expect(200, "here 1 time");
}

/// So many uploads are in the session; one more is the proof that nobody holds it any longer.
#[track_caller]
fn expect_uploads(way: Way, visitor: &Client, number: u64) {
    let mut visitor = visitor.clone();
    let page = visitor.post(&way.path("/upload"), "");
    page.expect(200, &format!("upload {}, 0 bytes", number + 1));
}

#[track_caller]
fn expect_small(servers: &Servers) {
    let app = servers.app.lock().unwrap();
    let memory = app.as_ref().unwrap().peak_memory();
    assert!(memory < MEMORY, "{memory} KiB");
}
