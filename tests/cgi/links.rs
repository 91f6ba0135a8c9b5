//! Ids in links, hidden fields and code; forms over several pages; forms that others send.

use cgi_session::Client;
use testkit::prelude::*;

const UNKNOWN: &str = "0123456789abcdef0123456789abcdef01234567";

/// A site that lets ids come from links and forms too.
fn open_site() -> Site {
    Site::with_settings("\nidFrom = cookie, query, form\n")
}

fn request(site: &Site) -> Cgi {
    Cgi::new("links", site)
}

/// The id in the page's link.
#[track_caller]
fn linked_id(outcome: &Outcome) -> String {
    let link = outcome.body.lines().nth(1).unwrap();
    let found = link.split_once("next?a=1&sessionId=");
    let (_, id) = found.expect("a link with an id");
    let id = id.strip_suffix("#end").unwrap().to_owned();
    let field = format!(r#"<input type="hidden" name="sessionId" value="{id}">"#);
    assert_eq!(outcome.body.lines().nth(2).unwrap(), field);
    assert_eq!(outcome.body.lines().nth(3).unwrap(), "https://example.org/");
    assert_eq!(outcome.header("referrer-policy"), Some("same-origin"));
    holds(outcome.header("cache-control").unwrap(), "no-store");
    id
}

/// Checks that the page carries no id to anybody.
#[track_caller]
fn carries_nothing(outcome: &Outcome, text: &str) {
    let expected = format!("{text}\nnext?a=1#end\n\nhttps://example.org/\n");
    assert_eq!(outcome.body, expected);
    assert_eq!(outcome.header("referrer-policy"), None);
}

/// Checks the first line of a page.
#[track_caller]
pub(crate) fn begins(outcome: &Outcome, text: &str) {
    let line = outcome.body.lines().next();
    assert_eq!(line, Some(text), "{}", outcome.body);
}

#[test]
fn by_default_no_link_carries_an_id_and_none_is_taken_from_one() {
    let site = Site::new();
    let first = request(&site).run();
    carries_nothing(&first, "views 1");
    let id = first.id();
    let query = format!("sessionId={id}");
    carries_nothing(&request(&site).query(&query).run(), "views 1");
    let form = request(&site).form(&query).run();
    carries_nothing(&form, "views 1");
    assert_eq!(site.files().len(), 3);
}

#[test]
fn of_several_ids_in_a_link_or_a_form_the_first_that_is_live_counts() {
    let site = open_site();
    let id = linked_id(&request(&site).run());
    for (number, others) in [UNKNOWN, "zzz", "", UNKNOWN].into_iter().enumerate() {
        let query = format!("sessionId={others}&a=1&sessionId={id}");
        let page = if number < 3 {
            request(&site).query(&query).run()
        } else {
            request(&site).form(&query).run()
        };
        begins(&page, &format!("views {}", number + 2));
    }
    let page = request(&site).form(&format!("sessionId={id}"));
    let page = page.query(&format!("sessionId={UNKNOWN}"));
    begins(&page.run(), "views 6");
}

#[test]
fn a_client_without_cookies_is_known_by_its_links_and_its_forms() {
    let site = open_site();
    let first = request(&site).run();
    let id = linked_id(&first);
    // A cookie is tried too, and holds the same id.
    assert_eq!(first.id(), id);
    let query = format!("a=1&sessionId={id}");
    let second = request(&site).query(&query).run();
    begins(&second, "views 2");
    assert_eq!(linked_id(&second), id);
    // A cookie now would let whoever made the link give its session to others for good.
    assert_eq!(second.header("set-cookie"), None);
    let third = request(&site).form(&query).run();
    begins(&third, "views 3");
    let read = request(&site).query(&format!("mode=read&{query}")).run();
    begins(&read, "read Some(Some(3))");
    assert_eq!(linked_id(&read), id);
    assert_eq!(site.files().len(), 1);
}

#[test]
fn a_client_whose_cookie_holds_the_id_needs_it_in_no_link() {
    let site = open_site();
    let id = request(&site).run().id();
    carries_nothing(&request(&site).visitor(&id).run(), "views 2");
    let query = format!("sessionId={id}");
    let both = request(&site).visitor(&id).query(&query).run();
    carries_nothing(&both, "views 3");
}

#[test]
fn an_id_in_a_link_never_counts_beside_a_cookie_that_disagrees() {
    let site = open_site();
    let (one, other) = (request(&site).run().id(), request(&site).run().id());
    let query = format!("sessionId={other}");
    let outcome = request(&site).visitor(&one).query(&query).run();
    carries_nothing(&outcome, "views 2");
}

#[test]
fn an_unknown_id_in_a_link_is_not_adopted() {
    let site = open_site();
    for text in [UNKNOWN, "../../etc/passwd", "", "%00"] {
        let query = format!("sessionId={text}");
        let outcome = request(&site).query(&query).run();
        begins(&outcome, "views 1");
        assert_ne!(linked_id(&outcome), text);
        assert_eq!(linked_id(&outcome), outcome.id());
    }
}

#[test]
fn a_page_without_a_session_carries_no_id_and_makes_none() {
    let site = open_site();
    for mode in ["none", "empty", "read"] {
        let outcome = request(&site).query(&format!("mode={mode}")).run();
        let text = outcome.body.lines().next().unwrap().to_owned();
        carries_nothing(&outcome, &text);
        assert_eq!(outcome.header("set-cookie"), None);
    }
    assert!(site.files().is_empty());
}

#[test]
fn links_carry_the_new_id_when_it_changes_and_none_after_the_end() {
    let site = open_site();
    let old = linked_id(&request(&site).run());
    let change = |id: &str| request(&site).query(&format!("mode=new+id&sessionId={id}"));
    let outcome = change(&old).run();
    // Whoever wrote a link to this page must not have a part in what follows.
    assert_eq!(outcome.header("set-cookie"), None);
    let old = linked_id(&outcome);
    let own = change(&old).variable("HTTP_SEC_FETCH_SITE", "same-origin");
    let outcome = own.run();
    let new = linked_id(&outcome);
    assert_ne!(new, old);
    assert_eq!(outcome.id(), new);
    let outcome = request(&site).query(&format!("sessionId={new}")).run();
    begins(&outcome, "views 4");
    let ended = request(&site).query(&format!("mode=destroy&sessionId={new}"));
    let outcome = ended.run();
    assert!(!outcome.body.contains("sessionId"), "{}", outcome.body);
    // All that is left tells requests under way of the first change.
    let left = site.files().into_iter();
    let left = left.map(|name| std::fs::read_to_string(site.sessions().join(name)).unwrap());
    let mut left = left.map(|text| text.contains(r#""replaced":"marker""#));
    assert!(left.all(|is_marker| is_marker));
}

/// What a browser says about the page that a request comes from, and whether it is ours.
const ORIGINS: [(&str, &str, bool); 9] = [
    ("HTTP_SEC_FETCH_SITE", "same-origin", true),
    ("HTTP_SEC_FETCH_SITE", "cross-site", false),
    ("HTTP_SEC_FETCH_SITE", "same-site", false),
    ("HTTP_SEC_FETCH_SITE", "", false),
    ("HTTP_ORIGIN", "https://example.org", true),
    ("HTTP_ORIGIN", "https://example.org:8443", false),
    ("HTTP_ORIGIN", "https://example.org.evil.example", false),
    ("HTTP_ORIGIN", "https://sub.example.org", false),
    ("HTTP_ORIGIN", "null", false),
];

#[test]
fn a_logout_ends_every_session_that_links_and_forms_show_whether_one_is_open_or_not() {
    let manager = testkit::sessions::in_memory(&[("idFrom", "cookie, query, form")]);
    for opens_before in [true, false] {
        let ids = [(); 2].map(|()| {
            let mut session = manager.start("").unwrap();
            session.insert("seen", true).unwrap();
            session.save().unwrap();
            session.id().unwrap().clone()
        });
        let [link, form] = [&ids[0], &ids[1]].map(SessionId::secret);
        let request = Client::new(manager.clone()).post(&format!("/?sessionId={link}"));
        let bye = request
            .form([("sessionId", form)])
            .send(|request: &mut Request| {
                if opens_before {
                    assert!(request.session()?.require::<bool>("seen")?);
                }
                request.destroy_session()?;
                Ok::<_, Error>(Response::text("bye"))
            });
        assert_eq!(bye.body_text(), "bye");
        for id in &ids {
            let left = manager.existing(format!("sessionId={}", id.secret()));
            assert!(left.unwrap().is_none(), "{opens_before}");
        }
    }
}

#[test]
fn no_other_site_gives_a_visitor_its_session_by_a_link_or_a_form() {
    let site = open_site();
    for (name, value, is_own) in ORIGINS {
        let here = |cgi: Cgi| cgi.variable("HTTP_HOST", "example.org");
        let from = |cgi: Cgi| here(cgi).variable(name, value);
        // The attacker has a session of its own, and knows its id and the token of its forms.
        let page = request(&site).query("mode=token").run();
        let token = page.body.split('"').nth(5).unwrap();
        let (mut id, token) = (page.id(), format!("csrfToken={token}"));
        let form = format!("sessionId={id}&{token}");
        let shown = format!("mode=order&sessionId={id}");
        for (query, form) in [("mode=order", &form), (&shown, &token)] {
            let outcome = from(request(&site).query(query).form(form)).run();
            let seen = outcome.status;
            assert_eq!(seen, if is_own { 200 } else { 403 }, "{name} {value}");
            assert_eq!(outcome.header("set-cookie"), None, "{name} {value}");
        }
        // Without a check of the token the visitor is in that session for this page alone.
        for by_form in [false, true] {
            let shown = format!("sessionId={id}");
            let changed = if by_form {
                request(&site).query("mode=new+id").form(&shown)
            } else {
                request(&site).query(&format!("mode=new+id&{shown}"))
            };
            let outcome = from(changed).run();
            let new = linked_id(&outcome);
            assert_ne!(new, id);
            let cookie = outcome.header("set-cookie").map(|_| outcome.id());
            assert_eq!(cookie, is_own.then(|| new.clone()), "{name} {value}");
            id = new;
        }
        // Nor does what an id left behind that was changed.
        let late = request(&site).query("mode=order").form(&form);
        assert_eq!(from(late).run().status, if is_own { 503 } else { 403 });
    }
}

#[test]
fn an_id_given_in_code_is_used_and_cookies_are_neither_read_nor_sent() {
    let site = open_site();
    let visitor = request(&site).run().id();
    for views in 1..3 {
        let given = request(&site).variable("HTTP_X_GIVEN_ID", UNKNOWN);
        let outcome = given.visitor(&visitor).run();
        carries_nothing(&outcome, &format!("views {views}"));
        assert_eq!(outcome.header("set-cookie"), None);
    }
    assert_eq!(site.files().len(), 2);
}

#[test]
fn fields_of_a_form_are_kept_over_several_pages() {
    let site = open_site();
    let first = request(&site).query("mode=fields");
    let first = first.form("name=Ada&colour=red&colour=blue&other=1").run();
    let text = r#"Some("Ada") ["red", "blue"] ["colour", "name"]"#;
    assert!(first.body.starts_with(text), "{}", first.body);
    let id = first.id();
    let second = request(&site).visitor(&id).query("mode=fields").run();
    carries_nothing(&second, text);
    // What is sent counts more than what is kept, and takes its place.
    let third = request(&site).query("mode=fields&colour=green");
    let third = third.visitor(&id).run();
    carries_nothing(&third, r#"Some("Ada") ["green"] ["colour", "name"]"#);
    // Of all fields, those that no key can name are passed over.
    let all = request(&site).query("mode=fields&all=1&colour=pink&colour=grey");
    let long = "n".repeat(129);
    let form = format!("name=Bob&=x&{long}=1&name=Eve&sessionId=1&csrfToken=1");
    let all = all.form(&form).run();
    let text = r#"Some("Bob") ["pink", "grey"] ["all", "colour", "mode", "name"]"#;
    assert!(all.body.starts_with(text), "{}", all.body);
    let id = all.id();
    let kept = request(&site).visitor(&id).query("mode=fields").run();
    let text = r#"Some("Bob") ["pink", "grey"] ["all", "colour", "mode", "name"]"#;
    carries_nothing(&kept, text);
}

#[test]
fn a_form_without_the_sessions_token_is_refused_and_changes_nothing() {
    let site = Site::new();
    let page = request(&site).query("mode=token").run();
    let (id, field) = (page.id(), page.body.lines().next().unwrap());
    let token = field.split('"').nth(5).unwrap();
    let order = || request(&site).visitor(&id).query("mode=order");
    let before = fs::read(site.only_file()).unwrap();
    for form in ["a=1", "csrfToken=", &format!("csrfToken={UNKNOWN}")] {
        let refused = order().form(form).run();
        assert_eq!(refused.status, 403, "{}", refused.body);
        holds(&refused.stderr, "does not hold the token");
    }
    let form = format!("csrfToken={token}");
    let stranger = request(&site).query("mode=order").form(&form);
    assert_eq!(stranger.run().status, 403);
    assert_eq!(fs::read(site.only_file()).unwrap(), before);
    carries_nothing(&order().form(&form).run(), "views 1");
    let script = order().method("POST").variable("HTTP_X_CSRF_TOKEN", token);
    carries_nothing(&script.run(), "views 2");
}
