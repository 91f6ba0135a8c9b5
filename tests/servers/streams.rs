//! Streams and files through real servers: what is passed on at once, and the parts of a file.

use std::fmt::Write as _;

use testkit::prelude::*;
use testkit::servers::by_every_way;

#[test]
fn every_server_passes_on_what_a_stream_has_written() {
    by_every_way(|servers, way| {
        let mark = format!("{way:?}").replace([' ', ','], "");
        let beside = servers.program().with_file_name(&mark);
        let path = way.path(&format!("/stream?mark={mark}"));
        let mut stream = way.client().send(&path);
        let mut received = Vec::new();
        let mut buffer = [0; 1024];
        let contains = |all: &[u8], text: &[u8]| all.windows(text.len()).any(|part| part == text);
        while !contains(&received, b"first\n") {
            let read = stream.read(&mut buffer);
            let read = read.unwrap_or_else(|error| panic!("{way:?} keeps a stream: {error}"));
            assert_ne!(read, 0, "{way:?}: {}", String::from_utf8_lossy(&received));
            received.extend_from_slice(&buffer[..read]);
        }
        assert!(!contains(&received, b"second\n"));
        fs::write(beside, "").unwrap();
        stream.read_to_end(&mut received).unwrap();
        assert!(contains(&received, b"second\n"), "{way:?}");
        let head = String::from_utf8_lossy(&received).to_ascii_lowercase();
        assert!(head.contains("\nset-cookie: sessionid="), "{way:?}: {head}");
    });
}

#[test]
fn a_stream_that_fails_is_no_whole_response_for_the_client_of_a_fastcgi_server() {
    by_every_way(|_, way| {
        if way.prefix().starts_with("/cgi-bin") {
            return;
        }
        // Others take the end of the connection for that of the response.
        let sees_cut = way.is_server("nginx") || way.is_server("Apache, mod_proxy_fcgi");
        for length in ["", "100"].into_iter().skip(usize::from(!sees_cut)) {
            let path = way.path(&format!("/stream?fails={length}"));
            let head = format!("GET {path} HTTP/1.1\r\n");
            let answer = way.client().try_request(head.as_bytes(), b"");
            let is_cut = match &answer {
                // The server saw the end before it had passed on the beginning.
                Ok(answer) => answer.status == 502,
                // Not a timeout.
                Err(error) => matches!(
                    error.kind(),
                    io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset
                ),
            };
            assert!(is_cut, "{way:?} {length}: {answer:?}");
        }
    });
}

#[test]
fn a_part_of_a_file_comes_through_every_server() {
    by_every_way(|servers, way| {
        let mut data = String::new();
        for number in 0..300_000 {
            writeln!(data, "{number:07}").unwrap();
        }
        fs::write(servers.program().with_file_name("app.data"), &data).unwrap();
        let get = |range: &str| {
            let head = format!("GET {} HTTP/1.1\r\n{range}", way.path("/file"));
            way.client().request(head, b"")
        };
        let whole = get("");
        assert_eq!(whole.status, 200, "{way:?}");
        assert!(whole.body == data, "{way:?}: {} bytes", whole.body.len());
        for (range, part) in [("8-15", &data[8..16]), ("16-1600015", &data[16..1_600_016])] {
            let answer = get(&format!("Range: bytes={range}\r\n"));
            assert_eq!(answer.status, 206, "{way:?} {range}");
            let is_it = answer.body == part;
            assert!(is_it, "{way:?} {range}: {} bytes", answer.body.len());
        }
        let etag = whole.header("etag").unwrap();
        let again = get(&format!("If-None-Match: {etag}\r\n"));
        let seen = (again.status.as_u16(), again.body.as_str());
        assert_eq!(seen, (304, ""), "{way:?}");
    });
}
