//! Programs of the visitor's own behind the gateway, RFC 3875.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use ureq::http::StatusCode;

use crate::server::{Server, binary, wait_for};

const HELLO: &str = "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\nmade by hand'\n";
const ECHO: &str = "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\n'\ncat\n";
const ENVIRONMENT: &str = "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\n'\nenv\n";

#[test]
fn an_own_program_is_served_beside_the_examples() {
    let server = Server::with_programs(&[("hello", "755", HELLO)]);
    let visitor = server.visitor();
    visitor.get("/cgi-bin/hello").says("made by hand");
    assert_eq!(visitor.get("/cgi-bin/counter").views(), 1);
}

#[test]
fn the_custom_store_is_a_program_of_its_own_and_says_what_it_needs() {
    let server = Server::start();
    let page = server.visitor().get("/cgi-bin/custom_store");
    let examples = Path::new(binary()).with_file_name("examples");
    let (status, words) = if examples.join("custom_store").exists() {
        (StatusCode::SERVICE_UNAVAILABLE, "CGI_SESSION_DATABASE")
    } else {
        (StatusCode::NOT_FOUND, "cargo build --example custom_store")
    };
    assert_eq!(page.status, status, "{}", page.text);
    assert!(page.text.contains(words), "{}", page.text);
    assert!(server.session_files().is_empty());
}

#[test]
fn what_is_no_program_is_not_run() {
    let server = Server::with_programs(&[("notes", "644", HELLO), (".hidden", "755", HELLO)]);
    fs::create_dir(server.path("programs/folder")).unwrap();
    std::os::unix::fs::symlink("/bin/ls", server.path("programs/link")).unwrap();
    let visitor = server.visitor();
    assert_eq!(visitor.get("/cgi-bin/notes").status, StatusCode::FORBIDDEN);
    for name in [
        "", "folder", "folder/x", "link", ".hidden", "absent", "_hello",
    ] {
        let page = visitor.get(&format!("/cgi-bin/{name}"));
        assert_eq!(page.status, StatusCode::NOT_FOUND, "{name}");
    }
}

#[test]
fn under_a_name_of_another_site_nothing_is_answered() {
    let server = Server::with_programs(&[("hello", "755", HELLO)]);
    let port = server.address.rsplit(':').next().unwrap();
    let ask = |path: &str, fields: &str| {
        let answer = server
            .raw(format!("GET {path} HTTP/1.1\r\n{fields}Connection: close\r\n\r\n").as_bytes());
        answer.split(' ').nth(1).unwrap().parse::<u16>().unwrap()
    };
    for host in [
        "127.0.0.1",
        "localhost",
        "LOCALHOST.",
        "demo.localhost",
        "[::1]",
        "127.8.9.1",
    ] {
        let seen = ask("/cgi-bin/hello", &format!("Host: {host}:{port}\r\n"));
        assert_eq!(seen, 200, "{host}");
        assert_eq!(ask("/", &format!("Host: {host}\r\n")), 200, "{host}");
    }
    for host in [
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "10.0.0.1",
        "notlocalhost",
        "[::2]",
        "",
    ] {
        for path in ["/", "/inspect", "/cgi-bin/hello"] {
            assert_eq!(ask(path, &format!("Host: {host}\r\n")), 421, "{host}");
        }
    }
    assert_eq!(ask("/", "Host: localhost\r\nHost: evil.example\r\n"), 421);
    assert_eq!(ask("http://evil.example/", "Host: localhost\r\n"), 421);
    assert_eq!(ask("/", ""), 421);
}

#[test]
fn no_path_leads_out_of_the_site() {
    let server = Server::with_programs(&[]);
    fs::copy("/bin/sh", server.path("outside")).unwrap();
    for path in [
        "/cgi-bin/../outside",
        "/cgi-bin/..%2foutside",
        "/cgi-bin/%2e%2e/outside",
        "/cgi-bin/..",
        "/cgi-bin//bin/sh",
        "/../../etc/passwd",
        "//etc/passwd",
        "/%2e%2e/etc/passwd",
    ] {
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let answer = server.raw(request.as_bytes());
        assert!(answer.starts_with("HTTP/1.1 404"), "{path}: {answer}");
    }
}

#[test]
fn the_environment_is_that_of_rfc_3875_and_nothing_else() {
    let server = Server::with_programs(&[("env", "755", ENVIRONMENT)]);
    let answer = server.raw(
        b"POST /cgi-bin/env/more%20path?a=1&b=%20 HTTP/1.1\r\nHost: demo.localhost:99\r\nCookie: a=1\r\n\
        Cookie: b=2\r\nProxy: evil\r\nX_Odd: 1\r\nX-Two: 1\r\nX-Two: 2\r\nUser-Agent: caf\xe9\r\n\
        Content-Type: text/plain\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc",
    );
    for line in [
        "GATEWAY_INTERFACE=CGI/1.1",
        "REQUEST_METHOD=POST",
        "SCRIPT_NAME=/cgi-bin/env",
        "PATH_INFO=/more path",
        "QUERY_STRING=a=1&b=%20",
        "SERVER_PROTOCOL=HTTP/1.1",
        "SERVER_NAME=demo.localhost",
        "REMOTE_ADDR=127.0.0.1",
        "CONTENT_TYPE=text/plain",
        "CONTENT_LENGTH=3",
        "HTTP_COOKIE=a=1; b=2",
        "HTTP_X_TWO=1, 2",
        "HTTP_USER_AGENT=caf\u{fffd}",
    ] {
        let is_in = answer.lines().any(|known| known == line);
        assert!(is_in, "{line} is not in {answer}");
    }
    for word in ["PROXY", "X_ODD", "SECRET", "HOME="] {
        assert!(!answer.contains(word), "{word} is in {answer}");
    }
}

#[test]
fn a_body_longer_than_a_pipe_holds_arrives_whole_and_comes_back_whole() {
    let server = Server::with_programs(&[("echo", "755", ECHO)]);
    let body = "0123456789abcdef".repeat(100_000);
    let page = server.visitor().send("/cgi-bin/echo", body.as_bytes());
    let (is_whole, length) = (page.text == body, page.text.len());
    assert!(page.status == StatusCode::OK && is_whole, "{length} bytes");
}

#[test]
fn a_long_form_is_stored_whole() {
    let (_server, visitor) = Server::visited();
    let name = "Ada ".repeat(50_000);
    let fields = [("myname", "x"), ("firstname", &*name)];
    visitor.post("/cgi-bin/begin", &fields).says("Begin");
    visitor.get("/cgi-bin/follow").says(&name);
}

#[test]
fn a_program_may_answer_without_reading_the_body() {
    let server = Server::with_programs(&[("hello", "755", HELLO)]);
    let body = vec![b'x'; 4 << 20];
    let page = server.visitor().send("/cgi-bin/hello", &body);
    page.says("made by hand");
}

#[test]
fn a_body_of_unknown_length_is_refused() {
    let server = Server::start();
    let request = b"POST /cgi-bin/counter HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n0\r\n\r\n";
    let answer = server.raw(request);
    assert!(answer.starts_with("HTTP/1.1 411"), "{answer}");
}

#[test]
fn a_program_that_dies_without_an_answer_gives_502_with_the_reason() {
    let last_word = "#!/bin/sh\necho 'a last word' >&2\nkill -9 $$\n";
    for (name, text, reason) in [
        ("killed", last_word, "signal: 9"),
        ("silent", "#!/bin/sh\nexit 3\n", "exit status: 3"),
        ("chatty", "#!/bin/sh\necho Hi\necho\n", "no CGI head"),
        ("broken", "#!/nowhere/interpreter\n", "cannot be started"),
    ] {
        let server = Server::with_programs(&[(name, "755", text)]);
        let page = server.visitor().get(&format!("/cgi-bin/{name}"));
        assert_eq!(page.status, StatusCode::BAD_GATEWAY, "{name}");
        assert!(page.text.contains(reason), "{name}: {}", page.text);
        let log = server.log();
        assert!(log.contains(&format!("/cgi-bin/{name}: ")), "{log}");
        assert_eq!(log.contains("a last word"), name == "killed", "{log}");
    }
}

#[test]
fn status_and_location_are_passed_on() {
    let gone = "#!/bin/sh\nprintf 'Status: 410 Gone\\nContent-Type: text/plain\\n\\nno more'\n";
    let there = "#!/bin/sh\nprintf 'Location: /cgi-bin/lookup\\n\\n'\n";
    let server = Server::with_programs(&[("gone", "755", gone), ("there", "755", there)]);
    let gone = server.visitor().get("/cgi-bin/gone");
    assert_eq!((gone.status.as_u16(), gone.text.as_str()), (410, "no more"));
    server.visitor().get("/cgi-bin/there").says("no session");
}

#[test]
fn head_is_answered_without_a_body_and_counts() {
    let (_server, visitor) = Server::visited();
    let head = visitor.head("/cgi-bin/counter");
    assert_eq!((head.status, head.text.as_str()), (StatusCode::OK, ""));
    assert_eq!(visitor.get("/cgi-bin/counter").views(), 2);
}

#[test]
fn a_program_ends_when_its_client_goes_away() {
    let text = "#!/bin/sh\necho $$ > \"$PATH_INFO.part\" && mv \"$PATH_INFO.part\" \"$PATH_INFO\"\nexec sleep 50\n";
    let server = Server::with_programs(&[("sleeper", "755", text)]);
    let note = server.path("pid");
    let mut client = server.connect();
    let request = format!(
        "GET /cgi-bin/sleeper{} HTTP/1.1\r\nHost: localhost\r\n\r\n",
        note.display()
    );
    client.write_all(request.as_bytes()).unwrap();
    let pid = wait_for("the program's start", || fs::read_to_string(&note).ok());
    let process = Path::new("/proc").join(pid.trim());
    assert!(process.exists());
    drop(client);
    wait_for("the program's end", || (!process.exists()).then_some(()));
}

#[test]
fn more_requests_than_places_are_all_answered() {
    let server = Server::with_programs(&[("hello", "755", HELLO)]);
    let mut clients: Vec<_> = (0..100).map(|_| server.connect()).collect();
    let request = b"GET /cgi-bin/hello HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    for client in &mut clients {
        client.write_all(request).unwrap();
    }
    for client in &mut clients {
        let answer = std::io::read_to_string(client).unwrap();
        assert!(answer.contains("made by hand"), "{answer}");
    }
}
