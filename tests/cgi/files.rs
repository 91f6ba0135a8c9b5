//! Files of a directory as responses: which are sent, and how much of them.

use cgi_session::Client;
use cgi_session::http::{StatusCode, header};
use testkit::prelude::*;

const DIGITS: &str = "0123456789";

/// A directory with the files of a site, and one that is none of them.
struct Files(TempDir);

impl Files {
    fn new() -> Self {
        let files = Files(TempDir::new().unwrap());
        fs::create_dir_all(files.root().join("a/b")).unwrap();
        for name in ["digits.txt", "a/page.HTML", "a/b/data", "../secret.txt"] {
            fs::write(files.root().join(name), DIGITS).unwrap();
        }
        files
    }

    fn root(&self) -> std::path::PathBuf {
        self.0.path().join("root")
    }

    /// Asks for a file by its path.
    fn get(&self, path: &str, fields: &[(&str, &str)]) -> Response {
        self.ask("GET", path, fields)
    }

    fn ask(&self, method: &str, path: &str, fields: &[(&str, &str)]) -> Response {
        let root = self.root();
        let request = Client::default().request(method, path);
        let request = fields.iter().fold(request, |request, (name, value)| {
            request.header(name, value)
        });
        request.send(move |request: &mut Request| {
            Ok::<_, Error>(Response::file(&root, request.path_info()))
        })
    }
}

fn field(response: &Response, name: header::HeaderName) -> &str {
    let value = response.headers().get(name);
    value.map_or("", |value| value.to_str().unwrap())
}

#[test]
fn a_regular_file_is_sent_with_its_type_and_what_a_cache_needs() {
    let files = Files::new();
    for (path, content_type) in [
        ("/digits.txt", "text/plain; charset=utf-8"),
        ("/a/page.HTML", "text/html; charset=utf-8"),
        ("/a//./b/data", "application/octet-stream"),
    ] {
        let response = files.get(path, &[]);
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        assert_eq!(response.body_text(), DIGITS, "{path}");
        assert_eq!(field(&response, header::CONTENT_TYPE), content_type);
        assert_eq!(field(&response, header::ACCEPT_RANGES), "bytes");
        assert!(field(&response, header::LAST_MODIFIED).ends_with(" GMT"));
        let etag = field(&response, header::ETAG);
        assert!(etag.starts_with('"') && etag.ends_with('"'), "{etag}");
    }
}

#[test]
fn nothing_is_sent_but_regular_files_below_the_root() {
    let files = Files::new();
    let root = files.root();
    symlink("digits.txt", root.join("inside")).unwrap();
    symlink("../secret.txt", root.join("outside")).unwrap();
    symlink(files.0.path().join("secret.txt"), root.join("absolute")).unwrap();
    symlink(files.0.path(), root.join("a/up")).unwrap();
    symlink("loop", root.join("loop")).unwrap();
    symlink("/proc/self/root", root.join("magic")).unwrap();
    let _socket = UnixListener::bind(root.join("socket")).unwrap();
    let made = Command::new("mkfifo").arg(root.join("fifo")).status();
    assert!(made.unwrap().success());
    let long = format!("/{}", "x".repeat(300));
    let paths = "/ /a /a/ /digits.txt/ /digits.txt/x /none /../secret.txt /a/../../secret.txt /.. \
        /a/%2e%2e/digits.txt /outside /absolute /a/up/secret.txt /loop /fifo /socket \
        /magic/etc/passwd /digits.txt%00 /%00 /etc/passwd";
    for path in paths.split(' ').chain(["", &long]) {
        let response = files.get(path, &[]);
        assert_eq!(response.status(), StatusCode::NOT_FOUND, "{path}");
        assert!(!response.body_text().contains(DIGITS), "{path}");
    }
    assert_eq!(files.get("/inside", &[]).body_text(), DIGITS);
    fs::remove_dir_all(&root).unwrap();
    let gone = files.get("/digits.txt", &[]).status();
    assert_eq!(gone, StatusCode::INTERNAL_SERVER_ERROR);
}

#[test]
fn one_range_is_answered_with_that_part_and_several_with_the_whole() {
    let files = Files::new();
    for (range, status, part, content_range) in [
        ("bytes=2-4", 206, "234", "bytes 2-4/10"),
        ("bytes=7-", 206, "789", "bytes 7-9/10"),
        ("bytes=-2", 206, "89", "bytes 8-9/10"),
        ("BYTES=5-500", 206, "56789", "bytes 5-9/10"),
        ("bytes=-30", 206, DIGITS, "bytes 0-9/10"),
        ("bytes=8-99999999999999999999999", 206, "89", "bytes 8-9/10"),
        ("bytes=0-1,4-5", 200, DIGITS, ""),
        ("bytes=4-2", 200, DIGITS, ""),
        ("pages=1-2", 200, DIGITS, ""),
        ("bytes", 200, DIGITS, ""),
        ("bytes=-", 200, DIGITS, ""),
        ("bytes=+1-2", 200, DIGITS, ""),
        ("bytes=20-x", 200, DIGITS, ""),
        ("bytes=99999999999999999999999-", 416, "", "bytes */10"),
        ("bytes=10-", 416, "", "bytes */10"),
        ("bytes=-0", 416, "", "bytes */10"),
    ] {
        let response = files.get("/digits.txt", &[("Range", range)]);
        assert_eq!(response.status().as_u16(), status, "{range}");
        assert_eq!(response.body_text(), part, "{range}");
        assert_eq!(field(&response, header::CONTENT_RANGE), content_range);
    }
    let head = files.ask("HEAD", "/digits.txt", &[("Range", "bytes=2-4")]);
    assert_eq!((head.status(), head.body()), (StatusCode::OK, &b""[..]));
    assert_eq!(field(&head, header::CONTENT_LENGTH), "10");
    let fields = [("Range", "bytes=2-4"), ("If-None-Match", "*")];
    let posted = files.ask("POST", "/digits.txt", &fields);
    assert_eq!(posted.status(), StatusCode::OK);
    assert_eq!(posted.body_text(), DIGITS);
}

#[test]
fn a_part_belongs_to_the_file_that_the_client_has() {
    let files = Files::new();
    let first = files.get("/digits.txt", &[]);
    let [etag, date] = [header::ETAG, header::LAST_MODIFIED].map(|name| field(&first, name));
    let status = |known: &str| {
        let fields = [("Range", "bytes=2-4"), ("If-Range", known)];
        files.get("/digits.txt", &fields).status().as_u16()
    };
    assert_eq!(status(etag), 206);
    for other in [
        // Within its second there may have been another file.
        date,
        &format!("W/{etag}"),
        "\"other\"",
        "Thu, 01 Jan 1970 00:00:00 GMT",
        "",
        "x",
    ] {
        assert_eq!(status(other), 200, "{other}");
    }
}

#[test]
fn a_client_that_has_the_file_is_answered_304_until_it_changes() {
    let files = Files::new();
    let first = files.get("/digits.txt", &[]);
    let etag = field(&first, header::ETAG).to_owned();
    let date = field(&first, header::LAST_MODIFIED).to_owned();
    let future = "Fri, 01 Jan 2100 00:00:00 GMT";
    let several = format!("\"x\", W/{etag}");
    for (name, value, status) in [
        ("If-None-Match", etag.as_str(), 304),
        ("If-None-Match", &several, 304),
        ("If-None-Match", "*", 304),
        ("If-None-Match", "\"x\"", 200),
        ("If-Modified-Since", &date, 304),
        ("If-Modified-Since", future, 304),
        ("If-Modified-Since", "Thu, 01 Jan 1970 00:00:00 GMT", 200),
        ("If-Modified-Since", "Thursday, 01-Jan-60 00:00:00 GMT", 304),
        ("If-Modified-Since", "Thu Jan  1 00:00:00 1970", 200),
        ("If-Modified-Since", "yesterday", 200),
        ("If-Modified-Since", "Fri, 01 Jan 2100 00:00:00 +0000", 200),
        ("If-Match", &etag, 200),
        ("If-Match", "\"x\", *", 200),
        ("If-Unmodified-Since", &date, 200),
        ("If-Unmodified-Since", "yesterday", 200),
    ] {
        for method in ["GET", "HEAD"] {
            let response = files.ask(method, "/digits.txt", &[(name, value)]);
            assert_eq!(response.status().as_u16(), status, "{name}: {value}");
            assert_eq!(field(&response, header::ETAG), etag);
            let is_empty = status == 304 || method == "HEAD";
            assert_eq!(response.body().is_empty(), is_empty);
        }
    }
    for (name, value) in [
        ("If-Match", "\"x\""),
        ("If-Match", &format!("W/{etag}")),
        ("If-Unmodified-Since", "Thu, 01 Jan 1970 00:00:00 GMT"),
        ("If-Unmodified-Since", "Thu Jan  1 00:00:00 1970"),
    ] {
        let response = files.get("/digits.txt", &[(name, value)]);
        let status = response.status();
        assert_eq!(status, StatusCode::PRECONDITION_FAILED, "{name}: {value}");
        assert!(response.body().is_empty());
    }
    // The tag comes before the date.
    let fields = [("If-None-Match", "\"x\""), ("If-Modified-Since", future)];
    assert_eq!(files.get("/digits.txt", &fields).status(), StatusCode::OK);
    let path = files.root().join("digits.txt");
    let file = File::options().append(true).open(path).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(3600))
        .unwrap();
    let changed = files.get("/digits.txt", &[("If-None-Match", &etag)]);
    assert_eq!(changed.status(), StatusCode::OK);
    file.set_modified(SystemTime::now() + Duration::from_secs(3600))
        .unwrap();
    let to_come = files.get("/digits.txt", &[("If-Modified-Since", future)]);
    assert_eq!(to_come.status(), StatusCode::OK);
    assert_eq!(field(&to_come, header::LAST_MODIFIED), "");
}

#[test]
fn a_long_file_is_a_stream_whose_length_is_announced() {
    let files = Files::new();
    let long: Vec<u8> = (0..=250).cycle().take(1 << 20).collect();
    fs::write(files.root().join("long"), &long).unwrap();
    let whole = files.get("/long", &[]);
    assert_eq!(field(&whole, header::CONTENT_LENGTH), "1048576");
    assert!(whole.body() == long);
    let part = files.get("/long", &[("Range", "bytes=100000-299999")]);
    assert_eq!(field(&part, header::CONTENT_LENGTH), "200000");
    assert_eq!(part.status(), StatusCode::PARTIAL_CONTENT);
    assert!(part.body() == &long[100_000..300_000]);
    let empty = files.root().join("empty");
    File::create(empty).unwrap();
    assert_eq!(files.get("/empty", &[]).status(), StatusCode::OK);
    let part = files.get("/empty", &[("Range", "bytes=0-")]);
    assert_eq!(part.status(), StatusCode::RANGE_NOT_SATISFIABLE);
}

#[test]
fn a_status_of_the_programs_own_is_kept_and_asks_nothing() {
    let files = Files::new();
    let root = files.root();
    let request = Client::default().get("/").header("Range", "bytes=1-2");
    let gone = request
        .header("If-None-Match", "*")
        .send(|_: &mut Request| {
            let page = Response::file(&root, Path::new("digits.txt"));
            Ok::<_, Error>(page.with_status(StatusCode::GONE))
        });
    assert_eq!(gone.status(), StatusCode::GONE);
    assert_eq!(gone.body_text(), DIGITS);
}
