//! Handlers called without a server, and what their client keeps between two requests.

use std::net::IpAddr;

use cgi_session::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use cgi_session::{Client, Result};
use testkit::prelude::*;
use testkit::sessions::in_memory;

fn counter(request: &mut Request) -> Result<Response> {
    let session = request.session()?;
    let views = session.get::<u64>("views")?.unwrap_or(0) + 1;
    session.insert("views", views)?;
    Ok(Response::text(views.to_string()))
}

#[test]
fn a_client_keeps_its_session_between_requests_and_another_client_has_its_own() {
    let manager = in_memory(&[]);
    let client = Client::new(manager.clone());
    for views in 1..=3 {
        let page = client.get("/count").send(counter);
        assert_eq!(page.status(), StatusCode::OK);
        assert_eq!(page.body_text(), views.to_string());
        let sets_cookie = page.headers().contains_key(header::SET_COOKIE);
        assert_eq!(sets_cookie, views == 1);
    }
    assert_eq!(Client::new(manager).get("/").send(counter).body_text(), "1");
    let sessions_of_its_own = Client::default();
    assert_eq!(sessions_of_its_own.get("/").send(counter).body_text(), "1");
    assert_eq!(sessions_of_its_own.get("/").send(counter).body_text(), "2");
    assert_eq!(client.cookie("sessionId").unwrap().len(), 40);
    client.clear_cookies();
    assert_eq!(client.get("/").send(counter).body_text(), "1");
}

#[test]
fn a_client_works_over_every_store() {
    let directory = tempfile::tempdir().unwrap();
    let sessions = directory.path().join("sessions");
    let config = Config::new().set("storageFileDir", &sessions).unwrap();
    let client = Client::new(SessionManager::new(config).unwrap());
    assert_eq!(client.get("/").send(counter).body_text(), "1");
    assert_eq!(client.get("/").send(counter).body_text(), "2");
    let files = fs::read_dir(sessions).unwrap();
    let paths = files.map(|file| file.unwrap().path());
    let is_session = |path: &PathBuf| path.extension().is_some_and(|end| end == "json");
    assert_eq!(paths.filter(is_session).count(), 1);
}

/// What a handler may not say: the length is what it is, the others are the server's affair.
const NOT_SENT: [&str; 8] = [
    "content-length",
    "status",
    "connection",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

#[test]
fn a_client_sees_the_length_and_the_type_that_a_server_would_be_sent() {
    let wrong = HeaderValue::from_static("7");
    let page = |status: StatusCode| {
        let mut page = Response::text("four").with_status(status);
        page.headers_mut()
            .extend(NOT_SENT.map(|name| (HeaderName::from_static(name), wrong.clone())));
        page
    };
    let is_as = |method: &str, status: StatusCode, expected: (Option<&str>, bool)| {
        let request = Client::default().request(method, "/");
        let sent = request.send(|_: &mut Request| Ok::<_, Error>(page(status)));
        let length = sent.headers().get(header::CONTENT_LENGTH);
        let length = length.map(|length| length.to_str().unwrap());
        let has_type = sent.headers().contains_key(header::CONTENT_TYPE);
        assert_eq!((length, has_type), expected, "{method} {status}");
        let sent = sent.headers().keys().map(HeaderName::as_str);
        let own: Vec<_> = sent.filter(|name| NOT_SENT[1..].contains(name)).collect();
        assert_eq!(own, [""; 0], "{method} {status}");
    };
    is_as("GET", StatusCode::OK, (Some("4"), true));
    is_as("HEAD", StatusCode::OK, (Some("4"), true));
    is_as("GET", StatusCode::NO_CONTENT, (None, false));
    is_as("GET", StatusCode::NOT_MODIFIED, (None, false));
    is_as("GET", StatusCode::RESET_CONTENT, (Some("0"), false));
}

#[test]
fn a_stream_finds_the_session_of_its_request() {
    let client = Client::new(in_memory(&[]));
    for _ in 0..2 {
        drop(client.get("/").send(counter));
    }
    let page = client.get("/").send(|request: &mut Request| {
        let manager = request.session_manager()?;
        let cookies = request.header("cookie").unwrap_or_default().to_owned();
        Ok::<_, Error>(Response::stream("text/plain", move |out| {
            let snapshot = manager.read(cookies.as_encoded_bytes());
            let views = snapshot.unwrap().unwrap().get::<u64>("views");
            write!(out, "{:?}", views.unwrap())
        }))
    });
    assert_eq!(page.body_text(), "Some(2)");
}

#[test]
fn a_form_is_posted_unless_the_method_is_another_one() {
    let method = |request: cgi_session::RequestBuilder| {
        let request = request.form([("name", "Ada")]);
        let page = request.send(|request: &mut Request| {
            Ok::<_, Error>(Response::text(request.method().as_str()))
        });
        page.body_text().into_owned()
    };
    let client = Client::default();
    assert_eq!(method(client.get("/")), "POST");
    assert_eq!(method(client.request(Method::PUT, "/")), "PUT");
}

#[test]
fn a_request_is_what_its_builder_says_and_nothing_else() {
    let mut request = Request::builder()
        .method(Method::PUT)
        .path("/a%20b?x=1")
        .query("x=2&y=3")
        .header("X-One", "1")
        .header("x-one", b"2")
        .header("Content-Type", "text/plain")
        .cookie("theme", "dark")
        .cookie("size", "7")
        .remote_address("192.0.2.7".parse::<IpAddr>().unwrap())
        .param("SERVER_NAME", "example.org")
        .over_https(true)
        .body("four")
        .build();
    assert_eq!(request.method(), Method::PUT);
    assert_eq!(request.path_info(), "/a b");
    assert_eq!(request.param("REQUEST_URI").unwrap(), "/a%20b?x=2&y=3");
    assert_eq!(request.query("x").unwrap(), "2");
    assert_eq!(request.header("x-one").unwrap(), "1, 2");
    assert_eq!(request.header("content-type").unwrap(), "text/plain");
    assert_eq!(request.header("content-length").unwrap(), "4");
    assert_eq!(request.cookie("theme").unwrap(), "dark");
    assert_eq!(request.cookie("size").unwrap(), "7");
    assert_eq!(request.param("REMOTE_ADDR").unwrap(), "192.0.2.7");
    assert_eq!(request.param("SERVER_NAME").unwrap(), "example.org");
    assert!(request.is_https());
    let mut body = String::new();
    std::io::Read::read_to_string(&mut request.body(4), &mut body).unwrap();
    assert_eq!(body, "four");
    assert_eq!(request.param("PATH"), None, "of the environment");
    let mut plain = Request::builder().build();
    assert_eq!((plain.method(), plain.is_https()), (Method::GET, false));
    plain.session().unwrap().insert("in memory", true).unwrap();
}

#[test]
fn a_form_is_posted_and_its_token_checked() {
    fn form(request: &mut Request) -> Result<Response> {
        if request.method() == Method::POST {
            request.check_csrf_token()?;
            return Ok(Response::text(request.form("name")?.unwrap_or_default()));
        }
        let token = request.session()?.csrf_token()?;
        Ok(Response::text(token))
    }
    let client = Client::default();
    let token = client.get("/form").send(form).body_text().into_owned();
    let forged = client.post("/form").form([("name", "Eve")]).send(form);
    assert_eq!(forged.status(), StatusCode::FORBIDDEN);
    let fields = [("name", "Ada & Co=é"), ("csrfToken", &token)];
    // A script that found no token in the page sends an empty one.
    let posted = client.post("/form").header("x-csrf-token", "");
    assert_eq!(posted.form(&fields).send(form).body_text(), "Ada & Co=é");
}

#[test]
fn a_late_change_of_a_session_that_another_request_has_ended_logs_nobody_out() {
    fn log_in(request: &mut Request) -> Result<Response> {
        request.session()?.set_user(Some("ada"))?;
        Ok(Response::text(""))
    }
    fn log_out(request: &mut Request) -> Result<Response> {
        request.destroy_session().map(|()| Response::text(""))
    }
    let client = Client::default();
    for sees in [
        |request: &mut Request| request.session().map(drop),
        |request: &mut Request| request.read_session().map(drop),
        |request: &mut Request| request.existing_session().map(drop),
    ] {
        let _ = client.get("/").send(log_in);
        let late = client.get("/").send(|request: &mut Request| {
            sees(request)?;
            request.commit_session()?;
            let _ = (client.get("/").send(log_out), client.get("/").send(log_in));
            request.update_session(|session| session.insert("late", 1))?;
            Ok::<_, Error>(Response::text("stored"))
        });
        assert_eq!(late.status(), StatusCode::SERVICE_UNAVAILABLE);
        let user = client.get("/").send(|request: &mut Request| {
            let user = request.session()?.user().map(str::to_owned);
            Ok::<_, Error>(Response::text(user.unwrap_or_default()))
        });
        assert_eq!(user.body_text(), "ada");
    }
}

#[test]
fn the_fields_of_a_form_are_found_whatever_its_method() {
    fn fields(request: &mut Request) -> Result<Response> {
        request.save_fields(&["name"])?;
        let (sent, saved) = (request.field("name")?, request.session()?.get("name")?);
        Ok(Response::text(format!(
            "{sent:?} {saved:?}",
            saved = saved.unwrap_or(String::new())
        )))
    }
    let client = Client::default();
    for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
        let request = client.request(method, "/?name=query");
        let page = request.form([("name", "Ada")]).send(fields);
        assert_eq!(page.body_text(), r#"Some("Ada") "Ada""#);
    }
    let request = client.request(Method::PUT, "/?name=query").body("{}");
    let page = request
        .header("content-type", "application/json")
        .send(fields);
    assert_eq!(page.body_text(), r#"Some("query") "query""#);
    let request = client.post("/?name=query&page=2");
    let request = request.form([("name", "Ada"), ("name", "Eve")]);
    let page = request.send(|request: &mut Request| {
        let fields = request.all_fields()?;
        Ok::<_, Error>(Response::text(format!("{fields:?}")))
    });
    let all = r#"{"name": ["Ada", "Eve"], "page": ["2"]}"#;
    assert_eq!(page.body_text(), all);
}

#[test]
fn failures_save_nothing_and_are_the_pages_that_a_server_sends() {
    fn fails(request: &mut Request) -> Result<Response, Box<dyn std::error::Error + Send + Sync>> {
        request.session()?.insert("views", 1000)?;
        match request.query("how").as_deref() {
            Some("panic") => panic!("on purpose"),
            Some("error") => Err("on purpose".into()),
            status => {
                let status = status.map_or(Ok(502), str::parse)?;
                Ok(Response::text("down").with_status(StatusCode::from_u16(status)?))
            }
        }
    }
    let client = Client::default();
    assert_eq!(client.get("/").send(counter).body_text(), "1");
    for (path, status) in [
        ("/?how=panic", 500),
        ("/?how=error", 500),
        ("/", 502),
        ("/?how=600", 600),
        ("/?how=999", 999),
    ] {
        let page = client.get(path).send(fails);
        assert_eq!(page.status().as_u16(), status);
        assert!(page.headers().contains_key(header::CACHE_CONTROL));
    }
    assert_eq!(client.get("/").send(counter).body_text(), "2");
    let many = "x&".repeat(1001);
    let refused = client.get(&format!("/?{many}")).send(counter);
    assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
    let head = client.request("HEAD", "/").send(counter);
    assert_eq!((head.status(), head.body()), (StatusCode::OK, &b""[..]));
}

#[test]
fn what_was_not_saved_can_be_given_up_and_the_page_still_be_sent() {
    fn draft(request: &mut Request) -> Result<Response> {
        let is_first = request.method() == Method::POST;
        let session = request.session()?;
        session.insert("draft", "saved")?;
        session.flash("notice", "seen later")?;
        if is_first {
            request.commit_session()?;
        }
        let session = request.session()?;
        session.insert("draft", "given up")?;
        session.regenerate_id();
        request.release_session();
        request.release_session(); // harmless
        let session = request.existing_session()?;
        let draft = session.map(|session| session.require("draft"));
        Ok(Response::text(
            draft.transpose()?.unwrap_or("nothing".to_owned()),
        ))
    }
    fn notice(request: &mut Request) -> Result<Response> {
        let _ = request.session()?.flashed::<String>("notice")?;
        request.release_session();
        let session = request.session()?;
        let (draft, notice) = (
            session.require::<String>("draft")?,
            session.flashed("notice")?,
        );
        let notice: String = notice.unwrap_or_default();
        Ok(Response::text(format!("{draft}, {notice}")))
    }
    let client = Client::default();
    let unsaved = client.get("/").send(draft);
    assert_eq!(unsaved.body_text(), "nothing");
    assert!(!unsaved.headers().contains_key(header::SET_COOKIE));
    let saved = client.post("/").send(draft);
    assert_eq!(saved.body_text(), "saved");
    assert!(saved.headers().contains_key(header::SET_COOKIE));
    assert_eq!(client.get("/").send(draft).body_text(), "saved");
    assert_eq!(
        client.get("/").send(notice).body_text(),
        "saved, seen later"
    );
}

#[test]
fn a_logout_takes_the_cookie_away() {
    let client = Client::default();
    assert_eq!(client.get("/").send(counter).body_text(), "1");
    let bye = client.post("/bye").send(|request: &mut Request| {
        request.destroy_session()?;
        Ok::<_, Error>(Response::redirect("/"))
    });
    assert_eq!(bye.headers()[header::LOCATION], "/");
    assert_eq!(client.cookie("sessionId"), None);
    assert_eq!(client.get("/").send(counter).body_text(), "1");
}

#[test]
fn cookies_are_shown_to_their_paths_over_their_schemes_until_they_expire() {
    let cookies = |request: &mut Request| {
        let shown = request.header("cookie").unwrap_or_default();
        let mut page = Response::text(shown.to_string_lossy().into_owned());
        for (name, value) in request.params() {
            if name == "HTTP_X_SET" {
                let value = HeaderValue::from_bytes(value.as_encoded_bytes()).unwrap();
                page.headers_mut().append(header::SET_COOKIE, value);
            }
        }
        Ok::<_, Error>(page)
    };
    let client = Client::default();
    let secure = client.clone().over_https(true);
    let set = |client: &Client, path: &str, fields: &[&str]| {
        let request = client.get(path);
        let sent = fields.iter();
        let request = sent.fold(request, |request, cookie| request.header("x-set", cookie));
        drop(request.send(cookies));
    };
    let shown = |client: &Client, path: &str| {
        let page = client.get(path).send(cookies);
        page.body_text().into_owned()
    };
    set(
        &client,
        "/shop/cart",
        &["a=1", "b=2; Path=/", "c=3; Path=/shop/cart"],
    );
    assert_eq!(shown(&client, "/shop/cart"), "c=3; a=1; b=2");
    assert_eq!(shown(&client, "/shop/"), "a=1; b=2");
    assert_eq!(shown(&client, "/shopping"), "b=2");
    set(&client, "/", &["d=4; Secure", "b=5; Max-Age=60"]);
    assert_eq!(shown(&secure, "/"), "b=5", "a Secure cookie came by HTTP");
    set(&secure, "/", &["d=4; Secure"]);
    assert_eq!(shown(&secure, "/"), "b=5; d=4");
    assert_eq!(shown(&client, "/"), "b=5");
    let past = "d=; Secure; Expires=Thu, 01 Jan 1970 00:00:00 GMT";
    set(&secure, "/", &["b=; Max-Age=0; Path=/", past, "none", "=x"]);
    assert_eq!(shown(&secure, "/"), "");
    assert_eq!(shown(&secure, "/shop/cart"), "c=3; a=1");
    secure.set_cookie("e", "6");
    let request = secure.get("/").cookie("f", "7");
    assert_eq!(request.send(cookies).body_text(), "e=6; f=7");
}

#[test]
fn a_cookie_ends_in_time_and_paths_begin_at_the_root() {
    let client = Client::default();
    let sets = |request: &mut Request| {
        let page = Response::text(request.path_info().to_string_lossy().into_owned());
        let cookie = HeaderValue::from_static("short=1; Max-Age=1; Path=/");
        Ok::<_, Error>(page.with_header(header::SET_COOKIE, cookie))
    };
    let shown = |request: &mut Request| {
        let shown = request.header("cookie").unwrap_or_default();
        let path = request.path_info().to_string_lossy();
        let query = request.query("a").unwrap_or_default();
        Ok::<_, Error>(Response::text(format!(
            "{path} {query} {}",
            shown.display()
        )))
    };
    drop(client.get("/").send(sets));
    wait_until("the cookie's end", || client.cookie("short").is_none());
    client.set_cookie("kept", "1");
    for (path, expected) in [
        ("x", "/x  kept=1"),
        ("", "/  kept=1"),
        ("?a=1", "/ 1 kept=1"),
        ("/x/?a=1", "/x/ 1 kept=1"),
    ] {
        assert_eq!(client.get(path).send(shown).body_text(), expected);
    }
}
