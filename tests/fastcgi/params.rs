//! Parameters: bytes in any number of records, and what is refused.

use testkit::fastcgi::client::{
    KEEP, PARAMS, Reply, STDIN, begin, get, head, pair, params, record, stream,
};
use testkit::fastcgi::server::{Server, Socket, echo};

/// How much a program may grow while it is sent more than it accepts, in KiB.
const GROWTH: u64 = 6 << 10;

fn server() -> Server {
    echo(Socket::StdinUnix).start()
}

/// Asks what the parameter `X` is, in records of `size` bytes.
#[track_caller]
fn ask_in(server: &Server, params: &[u8], size: usize) -> Reply {
    let request = [
        begin(1, 0),
        stream(PARAMS, 1, params, size),
        record(STDIN, 1, b""),
    ];
    server.ask(&request.concat())
}

fn with_x(more: &[(&str, &[u8])]) -> Vec<u8> {
    params("GET", "mode=param&name=X", more)
}

#[test]
fn pairs_are_found_wherever_records_cut_them() {
    let server = server();
    let params = with_x(&[("Y", b"other"), ("X", b"the value")]);
    for size in (1..=17).chain([params.len() - 1, params.len()]) {
        assert_eq!(ask_in(&server, &params, size).text(), "the value", "{size}");
    }
}

#[test]
fn values_longer_than_a_record_are_whole() {
    let server = server();
    for length in [126, 127, 128, 65_535, 65_536, 100_000, 400_000] {
        let value = vec![b'v'; length];
        let reply = ask_in(&server, &with_x(&[("X", &value)]), 65_535);
        assert_eq!(reply.body.len(), length);
    }
}

#[test]
fn bytes_that_are_no_text_lose_no_other_parameter() {
    let server = server();
    let odd: [(&str, &[u8]); 6] = [
        ("HTTP_USER_AGENT", b"caf\xe9"),
        ("HTTP_\u{ff}", b"\xff\xfe\0"),
        ("", b""),
        ("", b"without a name"),
        ("=", b"=\0="),
        ("A\0B", b"a=b"),
    ];
    let params = [
        with_x(&odd),
        pair(b"\xff\x80", b"\xc3"),
        pair(b"X", b"\xfe\xff x"),
    ]
    .concat();
    assert_eq!(ask_in(&server, &params, 100).body, b"\xfe\xff x");
}

#[test]
fn fields_of_one_name_are_one_list_and_cookies_are_no_list() {
    let server = server();
    let fields: [(&str, &[u8]); 8] = [
        ("HTTP_X_FORWARDED_FOR", b"203.0.113.7"),
        ("HTTP_COOKIE", b"a=1"),
        ("HTTP_SET_COOKIE", b"a=1"),
        ("HTTP_X_FORWARDED_FOR", b"caf\xe9, 10.0.0.1"),
        ("HTTP_ACCEPT", b"text/html"),
        ("HTTP_SET_COOKIE", b"b=2"),
        ("HTTP_COOKIE", b"b=2"),
        ("HTTP_X_FORWARDED_FOR", b"10.0.0.2"),
    ];
    let all = b"203.0.113.7, caf\xe9, 10.0.0.1, 10.0.0.2";
    for (name, expected) in [
        ("X-Forwarded-For", &all[..]),
        ("cookie", b"a=1; b=2"),
        ("Set-Cookie", b"b=2"),
        ("accept", b"text/html"),
        ("x-none", b"(absent)"),
    ] {
        let query = format!("mode=header&name={name}");
        let reply = ask_in(&server, &params("GET", &query, &fields), 100);
        assert_eq!(reply.body, expected, "{name}");
    }
    let reply = ask_in(&server, &params("GET", "mode=variables", &fields), 100);
    let mut expected =
        b"REQUEST_METHOD=GET\nQUERY_STRING=mode=variables\nSCRIPT_NAME=/program\n".to_vec();
    for (name, value) in fields {
        expected.extend([name.as_bytes(), b"=", value, b"\n"].concat());
    }
    assert_eq!(reply.body, expected);
}

#[test]
fn of_duplicates_the_last_counts_and_cookies_are_all_looked_at() {
    let server = server();
    let params = with_x(&[("X", b"first"), ("X", b"last")]);
    assert_eq!(ask_in(&server, &params, 100).text(), "last");

    let first = server.ask(&get(1, 0, "mode=count"));
    let cookie = first.cookie().unwrap().as_bytes();
    let cookies = [
        ("HTTP_COOKIE", cookie),
        ("HTTP_COOKIE", b"other=\xff; broken"),
        ("HTTP_COOKIE", b""),
    ];
    let params = testkit::fastcgi::client::params("GET", "mode=count", &cookies);
    assert_eq!(ask_in(&server, &params, 100).text(), "2");
}

#[test]
fn the_process_environment_is_no_part_of_a_request() {
    let setup = echo(Socket::StdinUnix).variable("X", "of the process");
    let server = setup.start();
    assert_eq!(ask_in(&server, &with_x(&[]), 100).text(), "(absent)");
}

#[test]
fn lengths_that_lie_are_answered_400_on_a_connection_that_lives() {
    let server = server();
    let lies: [&[u8]; 8] = [
        b"\x05",
        b"\x05\x05a",
        b"\x80",
        b"\x80\x00\x00",
        b"\x7f\x7fshort",
        b"\xff\xff\xff\xff\x01aaaaaaaaaaaaaaaa",
        b"\xff\xff\xff\xff\xff\xff\xff\xffaaaaaaaa",
        b"\x01\xff\xff\xff\xffa",
    ];
    let before = server.memory();
    for lie in lies {
        for size in [1, 65_535] {
            let mut client = server.connect();
            let params = [with_x(&[]), lie.to_vec()].concat();
            let request = [
                begin(1, KEEP),
                stream(PARAMS, 1, &params, size),
                record(STDIN, 1, b""),
            ];
            assert_eq!(client.ask(1, &request.concat()).status(), 400, "{lie:?}");
            assert_eq!(client.ask(2, &get(2, 0, "")).status(), 200, "{lie:?}");
            server.answers_at_once("a length that lies");
        }
    }
    assert!(server.memory() <= before + GROWTH);
}

#[test]
fn too_many_parameters_are_read_to_their_end_and_answered_400() {
    let server = server();
    let before = server.memory();
    let named = (0..20_000).flat_map(|number| pair(format!("HTTP_X{number}").as_bytes(), b"v"));
    let named: Vec<u8> = named.collect();
    let floods = [
        ("10,000 pairs", named[..named.len() / 2].to_vec()),
        ("20,000 pairs", named),
        ("32,767 empty pairs", vec![0; 65_534]),
        ("16 MiB of empty pairs", vec![0; 16 << 20]),
        ("16 MiB in one value", pair(b"X", &vec![b'v'; 16 << 20])),
    ];
    for (name, flood) in floods {
        let reply = ask_in(&server, &flood, 65_535);
        assert_eq!((reply.status(), reply.end), (400, Some(0)), "{name}");
        server.answers_at_once(name);
    }
    let grown = server.memory().saturating_sub(before);
    assert!(grown <= GROWTH, "grown by {grown} KiB");
    let told = "cannot use the variables of a request";
    assert_eq!(server.log().matches(told).count(), 5);
}

#[test]
fn parameters_without_end_keep_nobody_waiting() {
    let server = server();
    let before = server.memory();
    let endless: Vec<_> = (0..100)
        .map(|_| {
            let mut client = server.send(&begin(1, 0));
            for _ in 0..16 {
                client.send(&record(PARAMS, 1, &vec![0; 65_535])).unwrap();
            }
            server.answers_at_once("parameters without end");
            client
        })
        .collect();
    let grown = server.memory().saturating_sub(before);
    // They sent 100 MiB.
    assert!(grown <= 16 << 10, "grown by {grown} KiB");
    drop(endless);
}

#[test]
fn a_request_without_any_parameter_is_answered() {
    let server = server();
    let request = [head(1, 0, b""), record(STDIN, 1, b"")];
    assert_eq!(server.ask(&request.concat()).status(), 200);
}

#[test]
fn a_page_of_the_programs_own_answers_what_no_handler_gets() {
    let server = Server::new("own_pages", Socket::ListenUnix);
    let pairs: Vec<u8> = (0..2000).flat_map(|_| pair(b"NAME", b"")).collect();
    let reply = server.ask(&[head(1, 0, &pairs), record(STDIN, 1, b"")].concat());
    assert_eq!((reply.status(), reply.end), (400, Some(0)));
    let text = "<html>own page: The server cannot use this request.</html>";
    assert_eq!(reply.text(), text);
}
