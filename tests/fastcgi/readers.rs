//! Everything that reads a client's bytes takes time in proportion to them, at its worst.
//!
//! Each reader gets its worst input at two lengths, a quarter of a megabyte and a whole one, and the
//! processor time of both is compared: of something that compares each part with each other the ratio
//! is sixteen and more. It is the time of the processor and the best of many tries, so that other work on
//! the machine does not matter.

use std::fmt::Write as _;
use std::hint::black_box;

use cgi_session::{MemoryStore, Store as _};
use nix::time::{ClockId, clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;
use serde_json::value::RawValue;

use testkit::fastcgi::client::{
    GET_VALUES, PARAMS, STDIN, begin, head, pair, params, record, stream,
};
use testkit::fastcgi::server::{Server, Setup, Socket, echo};
use testkit::prelude::*;

const SHORT: usize = 256 << 10;
const MEGABYTE: usize = 1 << 20;
const TRIES: usize = 20;
/// Three times for each doubling.
const WORST_RATIO: f64 = 9.0;
/// Below this the memory that the kernel hands out counts for more than what is read.
const NOTHING: Duration = Duration::from_millis(2);
/// Makes a text of a length.
type Text = Box<dyn Fn(usize) -> String>;

const ID: &str = "0123456789abcdef0123456789abcdef01234567";

/// Compares what two lengths cost, and prints what a megabyte does.
#[track_caller]
fn expect_linear(name: &str, mut cost: impl FnMut(usize) -> Duration) {
    // What is done for the first time is done once.
    cost(SHORT / 16);
    let (mut short, mut whole) = (Duration::MAX, Duration::MAX);
    for _ in 0..TRIES {
        short = short.min(cost(SHORT));
        whole = whole.min(cost(MEGABYTE));
        let ratio = whole.as_secs_f64() / short.max(NOTHING).as_secs_f64();
        if ratio < WORST_RATIO {
            let cost = format!("{whole:.1?} of CPU for a megabyte");
            return println!("{name}: {cost}, {ratio:.1} times that of a quarter");
        }
    }
    panic!("{name}: {short:?} for {SHORT} bytes, {whole:?} for {MEGABYTE}");
}

fn cpu_of(clock: ClockId, work: impl FnOnce()) -> Duration {
    let now = || Duration::from(clock_gettime(clock).unwrap());
    let before = now();
    work();
    now().saturating_sub(before)
}

/// Repeats a text up to a length.
fn repeated(text: &str, length: usize) -> Vec<u8> {
    text.bytes().cycle().take(length).collect()
}

/// Counts in a text up to a length: `0` stands for the number in it.
fn counted(text: &str, length: usize) -> Vec<u8> {
    let (before, after) = text.split_once('0').unwrap();
    let mut all = String::with_capacity(length + 32);
    for number in 0_usize.. {
        if all.len() >= length {
            break;
        }
        write!(all, "{before}{number:x}{after}").unwrap();
    }
    all.into_bytes()
}

fn started(settings: &[(&'static str, &str)]) -> Server {
    let setup = echo(Socket::StdinUnix)
        .variable("ECHO_PARAMS", 4 << 20)
        .variable("CGI_SESSION_ERROR_LOG", "stderr")
        .variable("CGI_SESSION_CLEAN_UP_DELAY", "0");
    let set = |setup: Setup, (name, value): &(&'static str, &str)| setup.variable(name, value);
    settings.iter().fold(setup, set).start()
}

/// What the program spends on a request made of so many bytes.
#[track_caller]
fn expect_linear_request(server: &Server, name: &str, request: impl Fn(usize) -> Vec<u8>) {
    let clock = clock_getcpuclockid(Pid::from_raw(server.pid().try_into().unwrap())).unwrap();
    expect_linear(name, |length| {
        let request = request(length);
        cpu_of(clock, || {
            let reply = server.ask(&request);
            assert!(reply.end == Some(0), "{name}: {reply:?}");
        })
    });
}

fn form(mode: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len().to_string();
    let described: [(&str, &[u8]); 2] = [
        ("CONTENT_LENGTH", length.as_bytes()),
        ("CONTENT_TYPE", b"application/x-www-form-urlencoded"),
    ];
    let head = head(1, 0, &params("POST", &format!("mode={mode}"), &described));
    [head, stream(STDIN, 1, body, 60_000)].concat()
}

fn query(mode: &str, query: &[u8]) -> Vec<u8> {
    let query = String::from_utf8(query.to_vec()).unwrap();
    let params = params("GET", &format!("mode={mode}&{query}"), &[]);
    [head(1, 0, &params), record(STDIN, 1, b"")].concat()
}

fn with_variable(mode: &str, name: &str, value: &[u8]) -> Vec<u8> {
    let params = params("GET", &format!("mode={mode}"), &[(name, value)]);
    [head(1, 0, &params), record(STDIN, 1, b"")].concat()
}

#[test]
fn a_reader_that_looks_at_the_rest_again_for_each_cookie_is_noticed() {
    let noticed = std::panic::catch_unwind(|| {
        expect_linear("the rest looked at for each cookie", |length| {
            let header = repeated("a=b; ", length / 64);
            cpu_of(ClockId::CLOCK_THREAD_CPUTIME_ID, || {
                for at in (0..header.len()).step_by(5) {
                    for byte in &header[at..] {
                        black_box(byte);
                    }
                }
            })
        });
    });
    assert!(noticed.is_err(), "sixteen times as much is not noticed");
}

#[test]
fn forms_and_queries() {
    for limit in ["1000", "1000000"] {
        let server = started(&[("CGI_SESSION_MAX_FORM_FIELDS", limit)]);
        for mode in ["fields", "save"] {
            for text in ["a&", "a=b&", "=&", "=", "%", "%41", "&", ";", "+", "%ff"] {
                let name = format!("{mode} of a form of {text}, at most {limit}");
                let request = |length| form(mode, &repeated(text, length));
                expect_linear_request(&server, &name, request);
            }
            let name = format!("{mode} of a form of many names, at most {limit}");
            expect_linear_request(&server, &name, |length| form(mode, &counted("0&", length)));
            let name = format!("{mode} of a query of many names, at most {limit}");
            let request = |length| query(mode, &counted("0=&", length));
            expect_linear_request(&server, &name, request);
        }
    }
}

#[test]
fn ids_in_queries_and_forms_and_addresses_for_links() {
    let server = started(&[
        ("CGI_SESSION_ID_FROM", "cookie, query, form"),
        ("CGI_SESSION_MAX_FORM_FIELDS", "1000000"),
    ]);
    for text in ["sessionId=0&", "0=&", "%0&"] {
        let name = format!("ids in a query of {text}");
        let request = |length| query("read", &counted(text, length));
        expect_linear_request(&server, &name, request);
        let name = format!("ids in a form of {text}");
        let request = |length| form("read", &counted(text, length));
        expect_linear_request(&server, &name, request);
    }
    for text in ["a", "/", "?", "%23", "%5c", ":", "%26"] {
        let name = format!("a link to {text}");
        let address = |length| [b"address=".to_vec(), repeated(text, length)].concat();
        expect_linear_request(&server, &name, |length| query("link", &address(length)));
    }
}

#[test]
fn cookies_and_other_variables() {
    let server = started(&[]);
    let nearly = format!("sessionId={}0; ", &ID[6..]);
    for mode in ["cookie", "read", "count"] {
        for text in ";|=|,|a=b; |sessionId=; |=\"|; sessionId| |\t ;".split('|') {
            let name = format!("{mode} with cookies of {text}");
            let request = |length| with_variable(mode, "HTTP_COOKIE", &repeated(text, length));
            expect_linear_request(&server, &name, request);
        }
        // Ids of forty digits that lead nowhere.
        let name = format!("{mode} with dead ids");
        let request = |length| {
            let ids = (0..length / 53).map(|n| format!("sessionId={}{n:06x}; ", &ID[6..]));
            with_variable(mode, "HTTP_COOKIE", ids.collect::<String>().as_bytes())
        };
        expect_linear_request(&server, &name, request);
        let name = format!("{mode} with cookies that are nearly ids");
        let request = |length| with_variable(mode, "HTTP_COOKIE", &counted(&nearly, length));
        expect_linear_request(&server, &name, request);
        let name = format!("{mode} with many Cookie headers");
        let request = |length| {
            let one = pair(b"HTTP_COOKIE", b"a=b");
            let all = params("GET", &format!("mode={mode}"), &[]);
            let all = [all, one.repeat(length / one.len())].concat();
            [head(1, 0, &all), record(STDIN, 1, b"")].concat()
        };
        expect_linear_request(&server, &name, request);
    }
    let long = [&[0x80, 0, 0, 1, 0x80, 0, 0, 0][..], b"a"].concat();
    for (name, one) in [
        ("empty variables", pair(b"", b"")),
        ("one header field over and over", pair(b"HTTP_A", b"b")),
        ("lengths of four bytes", long),
    ] {
        expect_linear_request(&server, name, |length| {
            let all = params("GET", "mode=header&name=a", &[]);
            let all = [all, one.repeat(length / one.len())].concat();
            [head(1, 0, &all), record(STDIN, 1, b"")].concat()
        });
    }
    expect_linear_request(&server, "many header fields", |length| {
        let all = (0..length / 12).map(|n| pair(format!("HTTP_{n:x}").as_bytes(), b""));
        let first = params("GET", "mode=variables", &[]);
        let all: Vec<u8> = first.into_iter().chain(all.flatten()).collect();
        [head(1, 0, &all), record(STDIN, 1, b"")].concat()
    });
}

#[test]
fn records_of_one_byte_and_records_of_no_request() {
    let server = started(&[]);
    let asked = || params("GET", "mode=body", &[]);
    expect_linear_request(&server, "a body in records of one byte", |length| {
        let body = stream(STDIN, 1, &vec![b'x'; length / 9], 1);
        [head(1, 0, &asked()), body].concat()
    });
    expect_linear_request(&server, "parameters in records of one byte", |length| {
        let all = [asked(), pair(b"A", &vec![b'x'; length / 9])].concat();
        let all = stream(PARAMS, 1, &all, 1);
        [begin(1, 0), all, record(STDIN, 1, b"")].concat()
    });
    expect_linear_request(&server, "records of other requests", |length| {
        let other = record(STDIN, 2, b"").repeat(length / 8);
        let all = stream(PARAMS, 1, &asked(), 60_000);
        [begin(1, 0), other, all, record(STDIN, 1, b"")].concat()
    });
    let clock = clock_getcpuclockid(Pid::from_raw(server.pid().try_into().unwrap())).unwrap();
    expect_linear("questions about limits", |length| {
        let questions = pair(b"FCGI_MAX_CONNS", b"").repeat(length / 64 / 16);
        let question = record(GET_VALUES, 0, &questions);
        cpu_of(clock, || {
            let mut client = server.connect();
            for _ in 0..64 {
                client.send(&question).unwrap();
                client.record().unwrap().expect("an answer");
            }
        })
    });
}

#[test]
fn json_that_a_client_had_put_into_its_session() {
    let config = Config::new().set("storageType", "ram").unwrap();
    let config = config.set("maxRecordBytes", "67108864").unwrap();
    let clock = ClockId::CLOCK_THREAD_CPUTIME_ID;
    let deep = |length: usize| {
        let nest = ["[".repeat(99), "]".repeat(99)].concat() + ",";
        format!("[{}0]", nest.repeat(length / nest.len()))
    };
    let object = |text: &str, length| {
        let members = String::from_utf8(counted(text, length)).unwrap();
        format!("{{{}}}", members.trim_end_matches(','))
    };
    let array =
        |text: &str, length| format!("[{}0]", String::from_utf8(repeated(text, length)).unwrap());
    let many_keys = move |length: usize| object("\"0\":1,", length);
    let objects = move |length: usize| object("\"0\":{\"a\":{}},", length);
    let escapes = |length: usize| format!("\"{}\"", "\\\"\\u0041\\\\".repeat(length / 10));
    let quotes = move |length: usize| array("\"\\\"\",", length - length % 5);
    let numbers = move |length: usize| array("1,", length - length % 2);
    let one_number = |length: usize| format!("0.{}", "9".repeat(length));
    let texts: [(&str, Text); 7] = [
        ("deep arrays", Box::new(deep)),
        ("many keys", Box::new(many_keys)),
        ("objects in objects", Box::new(objects)),
        ("escapes", Box::new(escapes)),
        ("quotes", Box::new(quotes)),
        ("numbers", Box::new(numbers)),
        ("one number", Box::new(one_number)),
    ];
    for (name, text) in texts {
        expect_linear(&format!("to put in {name}"), |length| {
            let store = MemoryStore::new(&config).unwrap();
            let manager = SessionManager::with_store(config.clone(), store).unwrap();
            let raw = RawValue::from_string(text(length)).unwrap();
            let mut session = manager.start("").unwrap();
            cpu_of(clock, || {
                session.insert("value", &raw).unwrap();
                session.save().unwrap();
            })
        });
        let values = r#"{"":{"value":TEXT}} {"":TEXT,"@":TEXT} TEXT {"@":{"flash":TEXT}}"#;
        for values in values.split(' ') {
            expect_linear(&format!("to open {name} as {values}"), |length| {
                let store = MemoryStore::new(&config).unwrap();
                let manager = SessionManager::with_store(config.clone(), store.clone()).unwrap();
                let id = SessionId::parse(ID.as_bytes()).unwrap();
                let values = values.replace("TEXT", &text(length)).into_bytes();
                let now = SystemTime::now();
                cpu_of(clock, || {
                    let record = Record::new(now).with_values(values);
                    // Whether it is a session does not matter here.
                    if let Ok(record) = Record::from_json(record.to_json()) {
                        drop(store.create(&id.digest(), &record, now).unwrap());
                        drop(manager.existing(format!("sessionId={ID}")));
                    }
                })
            });
        }
    }
}

#[cfg(feature = "cookie-store")]
#[test]
fn sealed_cookies_that_nobody_sealed() {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = tempfile::tempdir().unwrap();
    let keys = directory.path().join("keys");
    std::fs::write(&keys, "01".repeat(64)).unwrap();
    std::fs::set_permissions(&keys, std::fs::Permissions::from_mode(0o600)).unwrap();
    let config = Config::new().set("storageType", "cookie").unwrap();
    let manager = SessionManager::new(config.set("secretKeyFile", &keys).unwrap()).unwrap();
    for value in [0, 38].map(|length| "A".repeat(length)) {
        let text = format!("sessionId={value}0; ");
        expect_linear(&format!("sealed cookies of {text}"), |length| {
            let header = counted(&text, length);
            cpu_of(ClockId::CLOCK_THREAD_CPUTIME_ID, || {
                assert!(manager.existing(&header).unwrap().is_none());
            })
        });
    }
    expect_linear("one long sealed cookie", |length| {
        let header = [b"sessionId=".to_vec(), repeated("A", length)].concat();
        cpu_of(ClockId::CLOCK_THREAD_CPUTIME_ID, || {
            assert!(manager.existing(&header).unwrap().is_none());
        })
    });
}
