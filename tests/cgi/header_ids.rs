//! Ids in a header field, for clients without cookies.

use cgi_session::http::{HeaderValue, StatusCode, header};
use cgi_session::{Client, Result};
use testkit::prelude::*;
use testkit::sessions::in_memory;

const UNKNOWN: &str = "0123456789abcdef0123456789abcdef01234567";

fn client() -> Client {
    Client::new(in_memory(&[("idFrom", "header:X-Session-Id")]))
}

fn counter(request: &mut Request) -> Result<Response> {
    match request.query("do").as_deref() {
        Some("log in") => request.session()?.regenerate_id(),
        Some("log out") => {
            request.destroy_session()?;
            return Ok(Response::text("bye"));
        }
        Some("look") => {
            let is_there = request.existing_session()?.is_some();
            return Ok(Response::text(is_there.to_string()));
        }
        _ => {}
    }
    let session = request.session()?;
    let views = session.get::<u64>("views")?.unwrap_or(0) + 1;
    session.insert("views", views)?;
    let public = HeaderValue::from_static("public, max-age=60");
    let page = Response::text(views.to_string());
    Ok(match request.query("cache") {
        Some(_) => page.with_header(header::CACHE_CONTROL, public),
        None => page,
    })
}

/// The id that a response tells, with all that must come with it.
#[track_caller]
fn told(response: &Response) -> Option<&str> {
    let headers = response.headers();
    assert!(!headers.contains_key(header::SET_COOKIE), "{response:?}");
    assert_eq!(headers[header::VARY], "x-session-id");
    let id = headers.get("x-session-id")?.to_str().unwrap();
    assert_eq!(headers[header::CACHE_CONTROL], "no-store");
    let exposed = &headers[header::ACCESS_CONTROL_EXPOSE_HEADERS];
    assert_eq!(exposed, "x-session-id");
    Some(id)
}

#[test]
fn the_id_comes_and_goes_in_the_header_alone() {
    let client = client();
    let first = client.get("/?cache=1").send(counter);
    let id = told(&first).unwrap().to_owned();
    assert_eq!(id.len(), 40);
    let second = client.get("/").header("X-Session-Id", &id).send(counter);
    assert_eq!((second.body_text().as_ref(), told(&second)), ("2", None));
    for response in [
        client.get("/").cookie("sessionId", &id).send(counter),
        client.get(&format!("/?sessionId={id}")).send(counter),
        client.post("/").form([("sessionId", &id)]).send(counter),
        client.get("/").header("X-Session-Ids", &id).send(counter),
    ] {
        assert_eq!(response.body_text(), "1");
        assert_ne!(told(&response), Some(id.as_str()));
    }
    // A cookie beside it changes nothing.
    let third = client.get("/").cookie("sessionId", UNKNOWN);
    let third = third.header("x-session-id", &id).send(counter);
    assert_eq!(third.body_text(), "3");
}

#[test]
fn a_changed_id_is_told_and_a_logout_takes_it_away() {
    let client = client();
    let id = told(&client.get("/").send(counter)).unwrap().to_owned();
    let ask = |path: &str, id: &str| client.get(path).header("x-session-id", id).send(counter);
    let login = ask("/?do=log+in", &id);
    let new = told(&login).unwrap().to_owned();
    assert_eq!((login.body_text().as_ref(), new == id), ("2", false));
    let replaced = ask("/", &id);
    assert_eq!(replaced.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(told(&replaced), None);
    assert_eq!(told(&ask("/?do=log+out", &new)), Some(""));
    let looked = ask("/?do=look", &new);
    let seen = (looked.body_text(), told(&looked));
    assert_eq!(seen, ("false".into(), None));
}

#[test]
fn a_malformed_or_dead_id_counts_as_none_and_is_never_adopted() {
    let client = client();
    let id = told(&client.get("/").send(counter)).unwrap().to_owned();
    let (upper, twice) = (id.to_uppercase(), format!("{id}, {id}"));
    let bytes: [&[u8]; 8] = [
        b"",
        b"x",
        UNKNOWN.as_bytes(),
        upper.as_bytes(),
        twice.as_bytes(),
        &id.as_bytes()[1..],
        b"\xff\xfe",
        b"../../etc",
    ];
    for value in bytes {
        let response = client.get("/").header("x-session-id", value).send(counter);
        assert_eq!(response.body_text(), "1", "{}", value.escape_ascii());
        let new = told(&response).unwrap();
        assert!(new.len() == 40 && new.as_bytes() != value);
    }
}

#[test]
fn a_name_that_has_another_meaning_is_refused() {
    let names = "Proxy|Cookie|Host|Authorization|Proxy-Authorization|Content-Type|CONTENT-ID|\
        X_Session|X-Session_Id|Set-Cookie|Status|Location|Vary|X Session|X:Session|é|X-CSRF-Token|\
        X-Sendfile|X-Forwarded-For|Sec-Fetch-Site|Date|ETag|Accept|Accept-Language|If-None-Match|Range|\
        Referer|Server|Upgrade|User-Agent|Variable-Remote-User|WWW-Authenticate| X-Session-Id|X-Session-Id, cookie|";
    for name in names.split('|') {
        let refused = Config::new().set("idFrom", format!("header:{name}"));
        let reason = refused.unwrap_err().to_string();
        assert!(reason.contains("idFrom = header:"), "{name}");
    }
    for mixed in ["cookie, header:X-Session-Id", "header"] {
        assert!(Config::new().set("idFrom", mixed).is_err(), "{mixed}");
    }
    let config = Config::new().set("idFrom", "header:X-Session-Id").unwrap();
    assert_eq!(config.get("idFrom").unwrap(), "header:x-session-id");
    let sealed = config.set("storageType", "cookie").unwrap();
    assert!(SessionManager::new(sealed).is_err());
}

#[test]
fn the_example_of_an_api_knows_its_clients_by_the_header() {
    let site = Site::new();
    let send = |method: &str, id: &str, body: &str| {
        let request = Cgi::new("api", &site).method(method).body(body);
        let request = request.variable("CONTENT_LENGTH", body.len().to_string());
        request.variable("HTTP_X_SESSION_ID", id).run()
    };
    let added = send("POST", "", r#"{"text":"buy milk"}"#).expect(201, "buy milk");
    let id = added.header("x-session-id").unwrap().to_owned();
    send("POST", &id, r#"{"text":"and bread"}"#).expect(201, "bread");
    let notes = send("GET", &id, "").expect(200, "");
    assert_eq!(notes.body, r#"[{"text":"buy milk"},{"text":"and bread"}]"#);
    assert_eq!(send("GET", UNKNOWN, "").expect(200, "").body, "[]");
    send("POST", &id, "milk").expect(400, "send");
    send("PUT", &id, "").expect(405, "GET, POST or DELETE");
    let gone = send("DELETE", &id, "").expect(200, "[]");
    assert_eq!(gone.header("x-session-id"), Some(""));
    assert_eq!(send("GET", &id, "").expect(200, "").body, "[]");
    assert_eq!(site.files().len(), 0);
}
