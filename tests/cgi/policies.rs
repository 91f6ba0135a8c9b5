//! Settings about browsers: what they keep, what they delete, and which requests begin a session.

use cgi_session::http::{HeaderValue, StatusCode, header};
use cgi_session::{Client, Result};
use testkit::prelude::*;
use testkit::sessions::in_memory;

fn client(settings: &[(&str, &str)]) -> Client {
    Client::new(in_memory(settings))
}

fn page(request: &mut Request) -> Result<Response> {
    match request.query("do").as_deref() {
        Some("log out") => request.destroy_session()?,
        Some("log out and begin") => {
            request.destroy_session()?;
            request.session()?.insert("again", true)?;
        }
        Some("begin anew") => {
            request.fresh_session()?;
        }
        Some("use its own id") => {
            request.read_session()?;
            request.use_session_id(SessionId::generate()?)?;
            request.session()?.insert("seen", true)?;
        }
        Some("look") => {
            request.existing_session()?;
        }
        Some("update") => request.update_session(|session| session.insert("seen", true))?,
        _ => request.session()?.insert("seen", true)?,
    }
    Ok(Response::text("done"))
}

#[test]
fn a_logout_says_what_the_browser_is_to_delete_and_nothing_else_does() {
    let name = "clear-site-data";
    let clear = client(&[("clearSiteData", "cookies, storage")]);
    let first = clear.get("/").send(page);
    assert_eq!(first.headers().get(name), None);
    // A session that follows in the same response must not be deleted with it, the rest must.
    let again = clear.get("/?do=log+out+and+begin").send(page);
    assert_eq!(again.headers()[name], "\"storage\"");
    drop(clear.get("/").send(page));
    let logout = clear.get("/?do=log+out").send(page);
    assert_eq!(logout.headers()[name], "\"cookies\", \"storage\"");
    assert_eq!(clear.cookie("sessionId"), None);
    let nothing_to_delete = clear.get("/?do=log+out").send(page);
    assert_eq!(nothing_to_delete.headers().get(name), None);
    let silent = client(&[]);
    drop(silent.get("/").send(page));
    let seen = silent.get("/?do=log+out").send(page);
    assert_eq!(seen.headers().get(name), None);
    let error = Config::new().set("clearSiteData", "cookies, everything");
    let error = error.unwrap_err();
    assert!(error.to_string().contains("clearSiteData"), "{error}");
}

#[test]
fn a_browser_may_keep_a_page_for_its_history_and_asks_again() {
    let limiter = Config::new().set("cacheLimiter", "private,no-cache");
    assert!(limiter.is_ok());
    let client = client(&[("cacheLimiter", "private, no-cache")]);
    for _ in 0..2 {
        let response = client.get("/").send(page);
        let seen = &response.headers()[header::CACHE_CONTROL];
        assert_eq!(seen, "private, no-cache");
        assert_eq!(response.headers().get(header::PRAGMA), None);
    }
    let public = |request: &mut Request| {
        let public = HeaderValue::from_static("public");
        page(request).map(|page| page.with_header(header::CACHE_CONTROL, public))
    };
    let own = client.get("/").send(public);
    assert_eq!(own.headers()[header::CACHE_CONTROL], "public");
    let with_cookie = client.get("/").send(|request: &mut Request| {
        let theme = HeaderValue::from_static("theme=dark");
        public(request).map(|page| page.with_header(header::SET_COOKIE, theme))
    });
    assert_eq!(with_cookie.headers()[header::CACHE_CONTROL], "private");
}

#[test]
fn a_handlers_cookie_of_the_sessions_name_is_left_out_and_all_others_are_sent() {
    let client = client(&[]);
    for sent in [
        ["theme=dark", "sessionIds=1", "sessionId="],
        ["theme=dark", "sessionIds=1", ""],
    ] {
        let response = client.get("/").send(|request: &mut Request| {
            let mut page = page(request)?;
            for cookie in ["sessionId=theirs; Path=/", "theme=dark", "sessionIds=1"] {
                let cookie = HeaderValue::from_static(cookie);
                page.headers_mut().append(header::SET_COOKIE, cookie);
            }
            Ok::<_, Error>(page)
        });
        let cookies = response.headers().get_all(header::SET_COOKIE).iter();
        let cookies: Vec<_> = cookies.map(|it| it.to_str().unwrap()).collect();
        let expected = sent.iter().filter(|it| !it.is_empty());
        assert!(
            cookies
                .iter()
                .zip(expected.clone())
                .all(|(it, start)| it.starts_with(start))
        );
        assert_eq!(cookies.len(), expected.count(), "{cookies:?}");
        assert!(!cookies.iter().any(|it| it.contains("theirs")));
    }
}

#[test]
fn another_sites_page_begins_no_session_by_a_request_that_may_change_something() {
    let site = "Sec-Fetch-Site";
    for (method, from, path, status) in [
        ("POST", "cross-site", "/", 403),
        ("PUT", "cross-site", "/", 403),
        ("DELETE", "cross-site", "/?do=update", 403),
        ("POST", "cross-site", "/?do=begin+anew", 403),
        ("POST", "cross-site", "/?do=look", 200),
        ("POST", "cross-site", "/?do=use+its+own+id", 200),
        ("GET", "cross-site", "/", 200),
        ("HEAD", "cross-site", "/", 200),
        ("POST", "same-site", "/", 200),
        ("POST", "same-origin", "/", 200),
        ("POST", "none", "/", 200),
        ("POST", "", "/", 200),
    ] {
        let client = client(&[]);
        let response = client.request(method, path).header(site, from).send(page);
        assert_eq!(response.status().as_u16(), status, "{method} {from} {path}");
        if status == 403 {
            assert_eq!(response.headers().get(header::SET_COOKIE), None);
        }
    }
    let client = client(&[]);
    drop(client.get("/").send(page));
    // With our cookie it is the visitor's own session, which tokens protect; a dead one counts, too.
    for path in ["/", "/?do=log+out+and+begin"] {
        let response = client.post(path).header(site, "cross-site").send(page);
        assert_eq!(response.status(), StatusCode::OK, "{path}");
    }
    client.set_cookie("sessionId", &"0123456789".repeat(4));
    let dead = client.post("/").header(site, "cross-site").send(page);
    assert_eq!(dead.status(), StatusCode::OK);
    // Another site can make up the id of a link or form.
    let links = self::client(&[("idFrom", "cookie, form, query")]);
    let id = "0123456789".repeat(4);
    let link = links.post(&format!("/?sessionId={id}"));
    let form = links.post("/").form([("sessionId", &id)]);
    for request in [link, form] {
        let response = request.header(site, "cross-site").send(page);
        assert_eq!(response.status(), StatusCode::FORBIDDEN);
    }
}

#[test]
fn a_site_that_allows_it_takes_sessions_that_other_sites_begin() {
    for settings in [
        ("allowCrossSiteStart", "true"),
        ("idFrom", "header:X-Session-Id"),
    ] {
        let client = client(&[settings]);
        let response = client.post("/");
        let response = response.header("Sec-Fetch-Site", "cross-site").send(page);
        assert_eq!(response.status(), StatusCode::OK, "{settings:?}");
    }
    let site = Site::new();
    let refused = Cgi::new("counter", &site).form("");
    let refused = refused.variable("HTTP_SEC_FETCH_SITE", "cross-site");
    refused
        .run()
        .expect_failure(403, "allowCrossSiteStart = true");
    assert!(site.files().is_empty());
}

#[test]
fn a_use_is_noted_as_often_as_the_configuration_says() {
    for (settings, unused, is_noted) in [
        ("timeout = 60\n", 50, false),
        ("timeout = 60\n", 100, true),
        ("timeout = 60\ntouchAfter = 10m\n", 500, false),
        ("timeout = 60\ntouchAfter = 10m\n", 700, true),
        ("timeout = 60\ntouchAfter = 1s\n", 20, true),
        // Half of the idle time at most: a session in use never expires.
        ("timeout = 60\ntouchAfter = 5h\n", 1700, false),
        ("timeout = 60\ntouchAfter = 5h\n", 1900, true),
    ] {
        let site = Site::with_settings(settings);
        let id = Cgi::new("lookup", &site).query("create=1").run().id();
        let file = site.only_file();
        let then = SystemTime::now() - Duration::from_secs(unused);
        File::open(&file).unwrap().set_modified(then).unwrap();
        Cgi::new("lookup", &site).visitor(&id).run().expect(200, "");
        let modified = file.metadata().unwrap().modified().unwrap();
        assert_eq!(modified != then, is_noted, "{settings} {unused}");
    }
}
