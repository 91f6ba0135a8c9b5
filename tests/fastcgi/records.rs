//! What the program answers to each kind of record, right or wrong, and that it goes on after it.

use testkit::fastcgi::client::{
    ABORT, BEGIN, Client, DATA, END, GET_VALUES, GET_VALUES_RESULT, KEEP, PARAMS, Record, STDERR,
    STDIN, STDOUT, UNKNOWN_TYPE, begin, get, head, padded, pair, params, record, stream,
};
use testkit::fastcgi::server::{Socket, echo};

/// How much a program may grow while it is sent nonsense, in KiB.
const GROWTH: u64 = 4 << 10;

/// What is sent, and what comes back: one word or two for each answer, and at last how the
/// connection stands: `open`, `closed`, `cut` (closed when the client says no more), or `held`
/// (nothing comes; the connection stays until the table is through).
struct Case {
    name: String,
    bytes: Vec<u8>,
    answers: Vec<String>,
}

fn case(name: impl Into<String>, bytes: impl Into<Vec<u8>>, answers: &[&str]) -> Case {
    let (name, bytes) = (name.into(), bytes.into());
    let answers = answers.iter().map(ToString::to_string).collect();
    Case {
        name,
        bytes,
        answers,
    }
}

/// The rest of a request of this id that has begun already.
fn rest(id: u16) -> Vec<u8> {
    get(id, KEEP, "")[16..].to_vec()
}

/// Tries each case, on both kinds of socket; after each a good request is answered at once.
fn check(cases: &[Case]) {
    for socket in [Socket::StdinUnix, Socket::StdinTcp] {
        let server = echo(socket).start();
        let before = server.memory();
        let mut held = Vec::new();
        for case in cases {
            let mut client = server.connect();
            // A program that has seen enough may close before all is sent.
            let _ = client.send(&case.bytes);
            let answers = answers(&mut client, &case.answers);
            assert_eq!(answers, case.answers, "{} over {socket:?}", case.name);
            held.push(client);
            server.answers_at_once(&case.name);
        }
        let grown = server.memory().saturating_sub(before);
        assert!(grown <= GROWTH, "grown by {grown} KiB over {socket:?}");
    }
}

/// Reads as many answers as are expected.
fn answers(client: &mut Client, expected: &[String]) -> Vec<String> {
    let mut answers = Vec::new();
    for expected in expected {
        answers.push(match expected.as_str() {
            "held" => "held".to_owned(),
            "open" => is_open(client),
            "cut" => {
                client.finish();
                let is_closed = client.is_closed();
                if is_closed { "cut" } else { "not closed" }.to_owned()
            }
            "closed" => if client.is_closed() { "closed" } else { "open" }.to_owned(),
            _ => answer(client),
        });
    }
    answers
}

/// An open connection answers a question between requests.
fn is_open(client: &mut Client) -> String {
    let _ = client.send(&record(GET_VALUES, 0, &pair(b"FCGI_MPXS_CONNS", b"")));
    match client.record() {
        Ok(Some(Record {
            kind: GET_VALUES_RESULT,
            content,
            ..
        })) if content == pair(b"FCGI_MPXS_CONNS", b"0") => "open".to_owned(),
        other => format!("not open: {other:?}"),
    }
}

fn answer(client: &mut Client) -> String {
    let mut out = Vec::new();
    loop {
        match client.record() {
            Ok(Some(Record {
                kind: STDOUT,
                content,
                ..
            })) => out.extend(content),
            Ok(Some(Record {
                kind: END,
                id,
                content,
            })) => {
                let status = content[4];
                let text = String::from_utf8_lossy(&out);
                return match text.strip_prefix("Status: ") {
                    Some(rest) if status == 0 => format!("{id} answered {}", &rest[..3]),
                    Some(rest) => format!("{id} ended {status} with {}", &rest[..3]),
                    _ => format!("{id} ended {status}{text}"),
                };
            }
            Ok(Some(Record {
                kind: UNKNOWN_TYPE,
                id: 0,
                content,
            })) => return format!("unknown {}", content[0]),
            Ok(Some(Record {
                kind: GET_VALUES_RESULT,
                id: 0,
                content,
            })) => return format!("values {}", String::from_utf8_lossy(&content)),
            other => return format!("{other:?} after {} bytes", out.len()),
        }
    }
}

/// A request up to the end of its parameters, whose handler reads the body.
fn body_head(flags: u8) -> Vec<u8> {
    head(1, flags, &params("POST", "mode=body", &[]))
}

#[test]
fn what_is_cut_off_or_held_harms_nobody() {
    let whole = get(1, 0, "");
    let in_body = [body_head(0), padded(STDIN, 1, &[b'b'; 100], 7)].concat();
    let mut cases = vec![case("nothing", b"", &["cut"])];
    for length in [1, 4, 7, 8, 12, 15, 16, 20, 30, whole.len() - 9] {
        for end in ["cut", "held"] {
            let name = format!("{length} bytes, {end}");
            cases.push(case(name, &whole[..length], &[end]));
        }
    }
    for missing in [1, 6, 7, 50, 106, 107, 110] {
        let name = format!("a body without its last {missing} bytes, held");
        let bytes = &in_body[..in_body.len() - missing];
        cases.push(case(name, bytes, &["held"]));
    }
    check(&cases);
}

#[test]
fn what_is_no_fastcgi_is_not_listened_to() {
    let mut cases = vec![
        case("HTTP", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", &["closed"]),
        case("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", &["closed"]),
        case("zeros", [0; 4096], &["closed"]),
        case("ones", [0xff; 4096], &["closed"]),
    ];
    for version in [0, 2, 128, 255] {
        let mut bytes = get(1, 0, "");
        bytes[0] = version;
        cases.push(case(format!("version {version}"), bytes, &["closed"]));
        let later = [begin(1, 0), vec![version; 8]].concat();
        cases.push(case(format!("{version} in 2nd"), later, &["closed"]));
    }
    check(&cases);
}

#[test]
fn types_that_nobody_knows_or_no_server_sends_are_answered_or_ignored() {
    let mut cases = Vec::new();
    let of_server = [END, STDOUT, STDERR, GET_VALUES_RESULT, UNKNOWN_TYPE];
    for kind in of_server.into_iter().chain([0, 12, 77, 255]) {
        let content = vec![b'c'; usize::from(kind)];
        let unknown = format!("unknown {kind}");
        let to_all = record(kind, 0, &content);
        let name = format!("type {kind} to the program");
        cases.push(case(name, to_all, &[&unknown, "open"]));
        let name = format!("type {kind} to a request that is none");
        cases.push(case(name, record(kind, 9, &content), &["open"]));
        let (own, other) = (record(kind, 1, &content), record(kind, 2, &content));
        let within = [begin(1, KEEP), own, other, rest(1)].concat();
        let name = format!("type {kind} amid a request");
        cases.push(case(name, within, &["1 answered 200", "open"]));
    }
    for kind in [BEGIN, ABORT, PARAMS, STDIN, DATA] {
        let unknown = format!("unknown {kind}");
        let bytes = record(kind, 0, &[0, 1, 0, 0, 0, 0, 0, 0]);
        let name = format!("type {kind} of request 0");
        cases.push(case(name, bytes, &[&unknown, "open"]));
    }
    for kind in [ABORT, PARAMS, STDIN, DATA] {
        let bytes = [record(kind, 1, b"data"), record(kind, 1, b"")].concat();
        let name = format!("type {kind} before a request begins");
        cases.push(case(name, bytes, &["open"]));
    }
    check(&cases);
}

#[test]
fn a_request_begins_only_as_the_specification_says() {
    let short = record(BEGIN, 1, &[0, 1, 0, 0, 0, 0, 0]);
    let long = record(BEGIN, 1, &[0, 1, KEEP, 0, 0, 0, 0, 0, 1, 2, 3, 4]);
    let (long, last) = ([long, rest(1)].concat(), get(65535, KEEP, ""));
    let mut cases = vec![
        case("an empty beginning", record(BEGIN, 1, b""), &["closed"]),
        case("a short beginning", short, &["closed"]),
        case("a long beginning", long, &["1 answered 200", "open"]),
        case("id 65535", last, &["65535 answered 200", "open"]),
    ];
    for role in [0_u16, 2, 3, 256, 257, 65535] {
        for (flags, end) in [(0, "closed"), (KEEP, "open")] {
            let [high, low] = role.to_be_bytes();
            let mut bytes = get(1, flags, "");
            bytes[8..10].copy_from_slice(&[high, low]);
            let name = format!("role {role}, {end}");
            cases.push(case(name, bytes, &["1 ended 3 with 403", end]));
        }
    }
    let mut with_body = begin(1, 0);
    with_body[9] = 2;
    with_body.extend(stream(PARAMS, 1, &vec![b'p'; 300_000], 60_000));
    let answers = ["1 ended 3 with 403", "closed"];
    cases.push(case("a filter with much to say", with_body, &answers));
    check(&cases);
}

#[test]
fn one_request_at_a_time_is_served_and_others_do_not_reach_it() {
    let query = params("GET", "mode=param&name=HTTP_X", &[]);
    let foreign = [
        record(PARAMS, 2, &pair(b"HTTP_X", b"foreign")),
        record(PARAMS, 2, b""),
        record(STDIN, 2, b""),
        record(ABORT, 2, b""),
        record(DATA, 1, b"data"),
    ];
    let foreign = foreign.concat();
    let parts = [
        begin(1, KEEP),
        foreign.clone(),
        record(PARAMS, 1, &query),
        foreign.clone(),
        record(PARAMS, 1, b""),
        foreign,
        record(STDIN, 1, b""),
    ];
    let second = |id| [begin(1, KEEP), begin(id, 0), rest(1)].concat();
    let amid_body = [
        body_head(KEEP),
        record(STDIN, 1, b"b"),
        begin(2, 0),
        record(STDIN, 1, b""),
    ];
    let parts = parts.concat();
    let answered = ["2 ended 1", "1 answered 200", "open"];
    let once = ["1 ended 1", "1 answered 200", "open"];
    check(&[
        case("foreign records", parts.clone(), &answered[1..]),
        case("another id", second(2), &answered),
        case("the same id", second(1), &once),
        case("amid a body", amid_body.concat(), &answered),
    ]);
    let server = echo(Socket::StdinUnix).start();
    assert_eq!(server.connect().ask(1, &parts).text(), "(absent)");
}

#[test]
fn questions_are_answered_at_any_time() {
    let names = ["FCGI_MAX_CONNS", "FCGI_MAX_REQS", "FCGI_MPXS_CONNS"];
    let all = names.map(|name| pair(name.as_bytes(), b""));
    let all = record(GET_VALUES, 0, &all.concat());
    let known =
        "values \u{e}\u{4}FCGI_MAX_CONNS1024\r\u{4}FCGI_MAX_REQS1024\u{f}\u{1}FCGI_MPXS_CONNS0";
    let broken = [&[0xff; 8][..], b"FCGI_MAX_CONNS"].concat();
    let broken = record(GET_VALUES, 0, &broken);
    let unknown = record(GET_VALUES, 0, &pair(b"X", b"y"));
    let answered = [known, "1 answered 200", "open"];
    let amid_params = [begin(1, KEEP), all.clone(), rest(1)].concat();
    let (some, end) = (record(STDIN, 1, b"some"), record(STDIN, 1, b""));
    let amid_body = [body_head(KEEP), some, all.clone(), end].concat();
    let cases = [
        case("all", all, &[known, "open"]),
        case("none", record(GET_VALUES, 0, b""), &["values ", "open"]),
        case("unknown", unknown, &["values ", "open"]),
        case("broken", broken, &["values ", "open"]),
        case("amid parameters", amid_params, &answered),
        case("amid a body", amid_body, &answered),
    ];
    check(&cases);
}

#[test]
fn an_abort_ends_the_request_and_a_kept_connection_stays_usable() {
    let abort = record(ABORT, 1, b"");
    let query = params("GET", "mode=count", &[]);
    let of_another = [begin(1, KEEP), record(ABORT, 2, b""), rest(1)].concat();
    let late = [get(1, KEEP, ""), abort.clone()].concat();
    let mut cases = vec![
        case("of nothing", abort.clone(), &["open"]),
        case("of another", of_another, &["1 answered 200", "open"]),
        case("after the end", late, &["1 answered 200", "open"]),
    ];
    for (flags, end) in [(0, "closed"), (KEEP, "open")] {
        let some = record(STDIN, 1, &vec![b'b'; 50_000]);
        let params = record(PARAMS, 1, &query);
        let stages = [
            ("after the beginning", begin(1, flags)),
            ("amid parameters", [begin(1, flags), params].concat()),
            ("before a body", body_head(flags)),
            ("amid a body", [body_head(flags), some].concat()),
        ];
        for (stage, bytes) in stages {
            let bytes = [bytes, abort.clone()].concat();
            cases.push(case(format!("{stage}, {end}"), bytes, &["1 ended 0", end]));
        }
    }
    check(&cases);
}

#[test]
fn padding_is_dropped_wherever_it_is() {
    let query = params("POST", "mode=body", &[]);
    let (first, second) = query.split_at(11);
    let records = [
        padded(BEGIN, 1, &[0, 1, KEEP, 0, 0, 0, 0, 0], 255),
        padded(PARAMS, 1, first, 255),
        padded(PARAMS, 1, second, 1),
        padded(PARAMS, 1, b"", 255),
        padded(STDIN, 1, b"body", 255),
        padded(STDIN, 1, b"body", 7),
        padded(STDIN, 1, b"", 255),
        padded(GET_VALUES, 0, b"", 255),
    ];
    let answers = ["1 answered 200", "values ", "open"];
    check(&[case("255 bytes", records.concat(), &answers)]);
}

#[test]
fn kept_connections_serve_request_after_request_also_those_sent_ahead() {
    let late = record(STDIN, 1, b"late");
    let two = [get(1, KEEP, ""), get(2, KEEP, "")].concat();
    let last = [get(1, KEEP, ""), get(1, 0, "")].concat();
    let after_end = [get(1, KEEP, ""), late.clone(), late, get(1, KEEP, "")].concat();
    let unread = [
        head(1, KEEP, &params("POST", "", &[])),
        stream(STDIN, 1, &vec![b'b'; 200_000], 999),
        get(2, 0, ""),
    ]
    .concat();
    let ahead: Vec<u8> = (1..=200).flat_map(|id| get(id, KEEP, "")).collect();
    let answered: Vec<_> = (1..=200).map(|id| format!("{id} answered 200")).collect();
    let answered: Vec<_> = answered.iter().map(String::as_str).collect();
    let answers = |second, end| ["1 answered 200", second, end];
    let (first, second) = ("1 answered 200", "2 answered 200");
    check(&[
        case("two", two, &answers(second, "open")),
        case("the last is not kept", last, &answers(first, "closed")),
        case("a body after its end", after_end, &answers(first, "open")),
        case("an unread body", unread, &answers(second, "closed")),
        case("200 ahead", ahead, &answered),
    ]);
}

#[test]
fn a_response_is_not_lost_to_what_the_server_sends_too_much() {
    let mut late = get(1, 0, "");
    late.extend(stream(STDIN, 1, &vec![b'l'; 300_000], 60_000));
    late.extend(get(2, 0, ""));
    let answers = ["1 answered 200", "closed"];
    check(&[case("300 KB after the end", late, &answers)]);
}

#[test]
fn a_small_response_is_one_stdout_record_padded_to_eight() {
    let server = echo(Socket::StdinUnix).start();
    let mut client = server.send(&get(3, 0, ""));
    let records = std::iter::from_fn(|| client.record().unwrap());
    let kinds = records.map(|record| (record.kind, record.content.is_empty()));
    let kinds: Vec<_> = kinds.collect();
    assert_eq!(kinds, [(STDOUT, false), (STDOUT, true), (END, false)]);
}
