//! Answers without content, and caches in front of the program: what they may store, and how they
//! ask whether it is still good.

use testkit::client::{Answer, Client};
use testkit::prelude::*;
use testkit::servers::{Way, by_every_way};
use testkit::{apache, nginx};

#[test]
fn a_status_without_content_reaches_the_client_without_any_by_every_way() {
    by_every_way(|_, way| {
        for status in [204, 205, 304] {
            let path = way.path(&format!("/statuses?status={status}"));
            let answer = way.client().get(&path).expect(status, "");
            assert_eq!(answer.body, "", "{answer:#?}");
            if status != 205 {
                assert_eq!(answer.header("content-length"), None, "{answer:#?}");
                assert_eq!(answer.header("content-type"), None, "{answer:#?}");
            }
        }
    });
}

fn with_caches(settings: &str, test: impl Fn(&Servers, Way)) {
    let servers = Servers::start_with(settings, &nginx::cache(), apache::CACHE, "");
    let ways = servers.ways().into_iter();
    // The other Apache has no cache.
    let has_cache = |way: &Way| {
        way.is_server("nginx") || way.is_server("Apache") && format!("{way:?}") != "Apache, mod_cgi"
    };
    for way in ways.filter(has_cache) {
        eprintln!("{way:?}");
        test(&servers, way);
    }
}

/// What the cache did, as it says itself.
fn cache_of(answer: &Answer) -> String {
    answer
        .header("x-cache")
        .unwrap_or_default()
        .to_ascii_uppercase()
}

#[test]
fn a_cache_stores_a_page_and_asks_the_program_only_whether_it_has_changed() {
    with_caches("", |_, way| {
        let path = way.path("/statuses?etag=one&cache=public,max-age=1");
        let get = || {
            let answer = way.client().get(&path).expect(200, "a page");
            assert_eq!(answer.body, "a page\n");
            assert_eq!(answer.header("etag").as_deref(), Some("\"one\""));
            cache_of(&answer)
        };
        assert!(get().starts_with("MISS"));
        wait_until("the page is asked for again", || {
            let did = get();
            let is_it = did.starts_with("HIT") || did.starts_with("REVALIDATE");
            assert!(is_it, "{did}");
            did.starts_with("REVALIDATE")
        });
    });
}

#[test]
fn no_cache_stores_a_page_with_a_cookie() {
    with_caches("cacheLimiter = public\n", |_, way| {
        for query in [
            "session=1",
            "session=1&etag=one",
            "session=1&cache=public,max-age=60",
            "session=1&etag=one&cache=max-age=60,s-maxage=60",
            "session=1&cookie=1&etag=one",
        ] {
            let path = way.path(&format!("/statuses?{query}"));
            let mut ids = Vec::new();
            for _ in 0..2 {
                let mut visitor = way.client();
                let answer = visitor.get(&path).expect(200, "a page");
                ids.push(visitor.id().map(str::to_owned));
                let is_it = cache_of(&answer).starts_with("MISS");
                assert!(is_it, "{query}: {answer:#?}");
            }
            assert!(ids[0].is_some() && ids[0] != ids[1], "{query}: {ids:?}");
        }
        // Who has the session's cookie gets none, and the page may be kept.
        let mut visitor = way.client();
        visitor.get(&way.path("/statuses?session=1"));
        let known = visitor.get(&way.path("/statuses?session=1&etag=two"));
        let cache = known.expect_cookies(0).header("cache-control");
        assert_eq!(cache.as_deref(), Some("public, max-age=10800"));
    });
}

#[test]
fn a_cookie_of_the_programs_own_keeps_shared_caches_out_as_that_of_the_session_does() {
    for (limiter, cookie, expected) in [
        ("public", "&cookie=1", Some("private")),
        ("none", "&cookie=1", Some("private")),
        ("private", "&cookie=1", Some("private, max-age=10800")),
        ("public", "", Some("public, max-age=10800")),
        ("none", "", None),
    ] {
        let site = Site::with_settings(&format!("cacheLimiter = {limiter}\n"));
        let request = |query: &str| {
            Cgi::new("app", &site)
                .variable("PATH_INFO", "/statuses")
                .query(query)
        };
        let id = request("session=1").run().id();
        let answer = request(&format!("session=1{cookie}")).visitor(&id).run();
        let seen = answer.header("cache-control");
        assert_eq!(seen, expected, "{limiter}{cookie}");
    }
}

#[test]
fn a_head_that_a_cache_asks_for_has_the_length_of_the_page() {
    with_caches("", |_, way| {
        let mut visitor: Client = way.client();
        let answer = visitor.head(&way.path("/statuses?etag=head&cache=public,max-age=60"));
        let seen = answer.header("etag");
        assert_eq!(seen.as_deref(), Some("\"head\""), "{answer:#?}");
        let page = visitor.get(&way.path("/statuses?etag=head&cache=public,max-age=60"));
        page.expect(200, "a page");
    });
}
