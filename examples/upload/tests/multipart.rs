//! Forms with files: what is read, when, and how much of it.

use std::error::Error;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::Path;
use std::process::Stdio;

use cgi_session::http::StatusCode;
use cgi_session::{Client, Config, Request, RequestBuilder, Response, SessionManager};
use testkit::program::{Cgi, Outcome};
use testkit::site::Site;

type Answer = Result<Response, Box<dyn Error + Send + Sync>>;

/// How much memory of its own a program may have that reads a long file, in KiB.
const MEMORY: u64 = 8 << 10;

/// A part of a form: its name, its file's name if it is one, and what is in it.
fn part(name: &str, file: Option<&str>, content: &str) -> String {
    let file = file.map_or(String::new(), |file| {
        format!("; filename=\"{file}\"\r\nContent-Type: text/x-test")
    });
    format!(
        "--BOUNDARY\r\nContent-Disposition: form-data; name=\"{name}\"{file}\r\n\r\n{content}\r\n"
    )
}

fn send(client: &Client, body: impl Into<Vec<u8>>) -> RequestBuilder {
    let request = client
        .post("/")
        .header("content-type", "multipart/form-data; boundary=BOUNDARY");
    request.body(body)
}

/// A whole form of these parts.
fn form(parts: &[String]) -> String {
    parts.concat() + "--BOUNDARY--\r\n"
}

/// Tells all that a form holds, in the order of reading.
fn all(request: &mut Request) -> Answer {
    let mut told = vec![format!("{:?}", request.form("first")?)];
    while let Some(mut file) = request.next_file(100_000)? {
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        let (name, file_name) = (file.name(), file.file_name());
        let content_type = file.content_type().unwrap_or_default();
        told.push(format!("{name}/{file_name}/{content_type}={text}"));
    }
    told.push(format!("{:?}", request.form("last")?));
    Ok(Response::text(told.join(" ")))
}

#[test]
fn fields_and_files_are_read_in_their_order() {
    let parts = [
        part("first", None, "1 \u{e9}\r\n--BOUND"),
        part("a", Some("x.txt"), "one\r\ntwo"),
        part("none", Some(""), ""),
        part("b", Some("../y\\\"z"), ""),
        part("last", None, "9"),
        part("a", Some("z.txt"), "--BOUNDAR"),
    ];
    let told = send(&Client::default(), form(&parts)).send(all);
    let expected = "Some(\"1 \u{e9}\\r\\n--BOUND\") a/x.txt/text/x-test=one\r\ntwo b/../y\"z/text/x-test= \
        a/z.txt/text/x-test=--BOUNDAR Some(\"9\")";
    assert_eq!(told.body_text(), expected);
    let empty = send(&Client::default(), form(&[])).send(all);
    assert_eq!(empty.body_text(), "None None");
}

/// Each row: what the head of a part says, and the names that come of it.
const NAMES: [(&[u8], &str); 8] = [
    (b"name=\"a\"; filename=\"x\xe9.txt\"", "a/x\u{fffd}.txt"),
    (b"name=\"a\"; filename=\"x\\\"", "a/x\\"),
    (b"NAME=a ;FileName = x.txt ; more", "a/x.txt"),
    (b"filename=\"x; name=b\"; name=\"a\"", "a/x; name=b"),
    (b"flag; name=\"a\"; filename=\"=\\\"\"", "a/=\""),
    (b"filename=\"x\\\\\"; name=\"a\"", "a/x\\"),
    (b"filename=\"x\\\"; name=a", "/x\"; name=a"),
    (
        b"name=\"a\"; filename*=UTF-8''na%C3%AFve%20%22.txt",
        "a/na\u{ef}ve \".txt",
    ),
];

#[test]
fn a_file_is_one_however_its_name_is_written() {
    for (head, names) in NAMES {
        let [begin, end] = [
            "--BOUNDARY\r\nContent-Disposition: form-data; ",
            "\r\n\r\none\r\n--BOUNDARY--\r\n",
        ];
        let body = [begin.as_bytes(), head, end.as_bytes()].concat();
        let told = send(&Client::default(), body).send(all);
        assert_eq!(told.body_text(), format!("None {names}/=one None"));
    }
}

#[test]
fn fields_behind_a_file_are_there_once_it_was_read() {
    let parts = [
        part("a", Some("x"), "one"),
        part("last", None, "9"),
        part("b", Some("y"), "two"),
    ];
    let told = send(&Client::default(), form(&parts)).send(|request: &mut Request| -> Answer {
        let before = request.form("last")?;
        let mut file = request.next_file(100)?.ok_or("no file")?;
        io::copy(&mut file, &mut io::sink())?;
        let behind = request.form("last")?;
        let mut text = String::new();
        let mut file = request.next_file(100)?.ok_or("no second file")?;
        file.read_to_string(&mut text)?;
        let told = format!("{before:?} {behind:?} {text}");
        Ok(Response::text(told))
    });
    assert_eq!(told.body_text(), "None Some(\"9\") two");
}

#[test]
fn blanks_around_the_parts_of_a_content_type_do_not_matter() {
    let body = form(&[part("first", None, "1")]);
    for content_type in [
        "multipart/form-data ; boundary=BOUNDARY ",
        "Multipart/Form-Data;charset=utf-8 ;\tboundary=\"BOUNDARY\";",
    ] {
        let request = send(&Client::default(), body.clone()).header("content-type", content_type);
        let told = request.send(all);
        assert_eq!(told.body_text(), "Some(\"1\") None", "{content_type}");
    }
}

#[test]
fn a_file_that_is_left_unread_is_passed_over() {
    let long = "x".repeat(300_000);
    let parts = [
        part("a", Some("long"), &long),
        part("b", Some("short"), "y"),
        part("last", None, "9"),
    ];
    let names = send(&Client::default(), form(&parts)).send(|request: &mut Request| -> Answer {
        let mut names = Vec::new();
        while let Some(mut file) = request.next_file(u64::MAX)? {
            file.read_exact(&mut [0])?;
            names.push(file.file_name().to_owned());
        }
        names.extend(request.form("last")?);
        Ok(Response::text(names.join(" ")))
    });
    assert_eq!(names.body_text(), "long short 9");
}

#[test]
fn the_token_of_a_form_with_files_is_checked_before_a_file_is_read() {
    fn page(request: &mut Request) -> Answer {
        if request.method() == "GET" {
            return Ok(Response::text(request.session()?.csrf_token()?.to_owned()));
        }
        request.check_csrf_token()?;
        all(request)
    }
    let client = Client::default();
    let token = client.get("/").send(page).body_text().into_owned();
    let file = part("a", Some("x"), "one");
    for (parts, status) in [
        (
            vec![part("csrfToken", None, &token), file.clone()],
            StatusCode::OK,
        ),
        (
            vec![part("csrfToken", None, "forged"), file.clone()],
            StatusCode::FORBIDDEN,
        ),
        (vec![file.clone()], StatusCode::FORBIDDEN),
        // Behind a file it comes too late.
        (
            vec![file, part("csrfToken", None, &token)],
            StatusCode::FORBIDDEN,
        ),
    ] {
        assert_eq!(
            send(&client, form(&parts)).send(page).status(),
            status,
            "{parts:?}"
        );
    }
}

#[test]
fn the_id_of_a_client_without_cookies_is_found_in_a_form_with_files() {
    let config = Config::new().set("storageType", "ram").unwrap();
    let config = config.set("idFrom", "cookie, form").unwrap();
    let client = Client::new(SessionManager::new(config).unwrap());
    let page = |request: &mut Request| -> Answer {
        let session = request.session()?;
        let views = session.get::<u64>("views")?.unwrap_or(0) + 1;
        session.insert("views", views)?;
        let field = request.id_field()?;
        Ok(Response::text(format!("{views} {field}")))
    };
    let first = client.get("/").send(page);
    let id = client.cookie("sessionId").unwrap();
    assert!(first.body_text().contains(&format!("value=\"{id}\"")));
    client.clear_cookies();
    let parts = [part("sessionId", None, &id), part("a", Some("x"), "one")];
    let second = send(&client, form(&parts)).header("sec-fetch-site", "same-origin");
    assert!(second.send(page).body_text().starts_with("2 "));
}

#[test]
fn a_form_that_makes_no_sense_or_is_too_much_is_refused() {
    let file = |content: &str| part("a", Some("x"), content);
    let head = "Content-Disposition: form-data; name=\"";
    for (body, status) in [
        (form(&[file(&"x".repeat(100_000))]), 200),
        (form(&[file(&"x".repeat(100_001))]), 413),
        (
            form(&[part("first", None, &"x".repeat((1 << 20) + 1))]),
            413,
        ),
        (form(&vec![part("first", None, "x"); 1000]), 200),
        (form(&vec![part("first", None, "x"); 10_000]), 400),
        (form(&vec![file("x"); 10_000]), 400),
        // Without an end, in every place.
        (file("x"), 400),
        (file("x").replace("\r\n--", "\r\n"), 400),
        (part("first", None, "x"), 400),
        ("--BOUNDARY".to_owned(), 400),
        ("--BOUNDARY\r\n".to_owned(), 400),
        (format!("--BOUNDARY\r\n{head}"), 400),
        (String::new(), 400),
        ("x=1&y=2".to_owned(), 400),
        ("x".repeat(1 << 20), 400),
        (
            format!(
                "--BOUNDARY\r\n{head}{}\"\r\n\r\nx\r\n--BOUNDARY--",
                "x".repeat(1 << 20)
            ),
            400,
        ),
        (
            format!(
                "--BOUNDARY\r\n{}\r\nx\r\n--BOUNDARY--",
                "X: y\r\n".repeat(5000)
            ),
            400,
        ),
        ("--BOUNDARY\r\n\u{0}\u{ff}: \r\n\r\n".to_owned(), 400),
    ] {
        let refused = send(&Client::default(), body.clone()).send(all);
        let shown: String = body.chars().take(100).collect();
        assert_eq!(
            refused.status().as_u16(),
            status,
            "{} bytes: {shown:?}",
            body.len()
        );
    }
    for (content_type, status) in [
        ("multipart/form-data", 400),
        ("multipart/form-data; boundary=", 400),
        ("multipart/form-data; boundary=OTHER", 400),
        ("multipart/mixed; boundary=BOUNDARY", 415),
        ("text/plain", 415),
        (
            "Multipart/Form-Data; charset=utf-8; boundary=\"BOUNDARY\"",
            200,
        ),
    ] {
        let request = Client::default()
            .post("/")
            .header("content-type", content_type);
        let answer = request.body(form(&[file("x")])).send(all);
        assert_eq!(answer.status().as_u16(), status, "{content_type}");
    }
    // The ordinary form stays what it was, and has no files.
    let fields = Client::default()
        .post("/")
        .form([("first", "1"), ("last", "9")]);
    assert_eq!(
        fields.send(all).status(),
        StatusCode::UNSUPPORTED_MEDIA_TYPE
    );
}

#[test]
fn a_form_that_could_not_be_read_is_not_taken_for_a_whole_one() {
    let body = part("first", None, "1") + &part("a", Some("x"), "y") + "--BOUNDARY\r\nbroken";
    let told = send(&Client::default(), body.clone()).send(|request: &mut Request| -> Answer {
        let mut told = Vec::new();
        for _ in 0..3 {
            match request.next_file(10) {
                Ok(Some(mut file)) => drop(io::copy(&mut file, &mut io::sink())?),
                Ok(None) => told.push("end"),
                Err(_) => told.push("error"),
            }
        }
        told.push(request.form("first").map_or("error", |_| "form"));
        Ok(Response::text(told.join(" ")))
    });
    assert_eq!(told.body_text(), "error error error");
}

#[test]
fn a_file_that_could_not_be_read_goes_on_failing() {
    let long = "x".repeat(100_000);
    let whole = form(&[part("a", Some("x"), &long), part("b", Some("y"), "two")]);
    let cut = whole[..50_000].to_owned();
    for (body, limit, next) in [(whole, 1_000, "two"), (cut, 1_000_000, "error")] {
        let told = send(&Client::default(), body).send(|request: &mut Request| -> Answer {
            let mut file = request.next_file(limit)?.expect("a file");
            let mut buffer = vec![0; 1 << 14];
            while file.read(&mut buffer).is_ok() {}
            for _ in 0..100 {
                assert!(file.read(&mut buffer).is_err());
            }
            let mut text = "error".to_owned();
            if let Ok(Some(mut file)) = request.next_file(limit) {
                text.clear();
                file.read_to_string(&mut text)?;
            }
            Ok(Response::text(text))
        });
        assert_eq!(told.body_text(), next);
    }
}

#[test]
fn a_long_file_is_read_in_constant_memory() {
    let site = Site::new();
    let upload = || {
        let request = Cgi::at(Path::new(env!("CARGO_BIN_EXE_upload")));
        request.variable("CGI_SESSION_CONFIG", site.config())
    };
    let page = upload()
        .run()
        .expect(200, "enctype=\"multipart/form-data\"");
    let (_, token) = page.body.split_once("name=\"csrfToken\" value=\"").unwrap();
    let token = token.split('"').next().unwrap();
    let chunk = vec![b'x'; 1 << 20];
    let begin = part("csrfToken", None, token) + &part("file", Some("<long>"), "");
    let begin = begin.strip_suffix("\r\n").unwrap();
    let end = format!("\r\n{}--BOUNDARY--\r\n", part("title", None, "a title"));
    let megabytes = 256;
    let length = begin.len() + megabytes * chunk.len() + end.len();
    let request = upload().visitor(&page.id()).method("POST");
    let request = request.variable("CONTENT_LENGTH", length.to_string());
    let request = request.variable("CONTENT_TYPE", "multipart/form-data; boundary=BOUNDARY");
    let mut command = request.command();
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(begin.as_bytes()).unwrap();
    for _ in 0..megabytes {
        stdin.write_all(&chunk).unwrap();
    }
    // Other requests of the visitor do not wait for it.
    upload().visitor(&page.id()).run().expect(200, "csrfToken");
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"));
    let memory: u64 = line
        .unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap();
    assert!(memory < MEMORY, "{memory} KiB");
    stdin.write_all(end.as_bytes()).unwrap();
    drop(stdin);
    let bytes = megabytes << 20;
    let sum = bytes * usize::from(b'x');
    let told = format!("&lt;long&gt;: {bytes} bytes, sum {sum}</li>");
    let answer = Outcome::of(child).expect(200, &told);
    assert!(answer.body.contains("<p>a title</p>"), "{answer:#?}");
}
