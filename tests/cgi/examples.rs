//! The examples that can be copied alone, each run as a server runs it. Others have tests of their own.

use testkit::prelude::*;

/// The token in a page's form.
#[track_caller]
fn token(page: &Outcome) -> &str {
    let (_, after) = page.body.split_once(r#"name="csrfToken" value=""#).unwrap();
    after.split('"').next().unwrap()
}

#[test]
fn hello_counts_two_visits() {
    let site = Site::new();
    let first = Cgi::new("hello", &site).run().expect(200, "visit 1");
    let second = Cgi::new("hello", &site).visitor(&first.id());
    second.run().expect(200, "visit 2");
}

#[test]
fn flash_shows_its_message_on_one_page() {
    let site = Site::new();
    let id = Cgi::new("flash", &site).form("").run().expect(303, "").id();
    let show = || Cgi::new("flash", &site).visitor(&id).run();
    show().expect(200, "in your basket");
    assert!(!show().expect(200, "Buy").body.contains("in your basket"));
}

#[test]
fn csrf_form_stores_what_has_the_token_and_nothing_else() {
    let site = Site::new();
    let page = Cgi::new("csrf_form", &site).run().expect(200, "Town");
    let id = page.id();
    let request = || Cgi::new("csrf_form", &site).visitor(&id);
    let refused = request().form("town=Rome").run();
    assert_eq!(refused.status, 403);
    holds(&refused.body, "The form has expired");
    let form = format!("town=%22Paris%22&csrfToken={}", token(&page));
    request().form(&form).run().expect(303, "");
    let shown = request().run();
    shown.expect(200, r#"value="&quot;Paris&quot;""#);
}

#[test]
fn sign_in_gives_a_new_id_and_logs_out() {
    let site = Site::new();
    let send = |id: &str, form: &str| {
        let page = Cgi::new("sign_in", &site).visitor(id).run();
        let form = format!("{form}&csrfToken={}", token(&page));
        Cgi::new("sign_in", &site).visitor(id).form(&form).run()
    };
    let show = |id: &str| Cgi::new("sign_in", &site).visitor(id).run();
    let planted = Cgi::new("sign_in", &site).run().expect(200, "Log in").id();
    for wrong in ["name=ada&password=x", "name=eve&password=lovelace"] {
        send(&planted, wrong).expect(403, "is wrong");
    }
    for way in ["log+out", "log+out+everywhere"] {
        let before = Cgi::new("sign_in", &site).run().id();
        let id = send(&before, "name=ada&password=lovelace").id();
        assert_ne!(id, before);
        show(&id).expect(200, "ada is logged in");
        assert!(!show(&before).body.contains("is logged in"));
        send(&id, &format!("do={way}")).expect(303, "");
        show(&id).expect(200, "Password");
    }
}

#[test]
fn several_pages_are_found_by_their_paths() {
    let site = Site::new();
    let request = |path: &str| Cgi::new("several_pages", &site).variable("PATH_INFO", path);
    let page = request("/new").run().expect(200, "/cgi-bin/program/new");
    let (id, token) = (page.id(), token(&page));
    let post = |path: &str, form: &str| {
        let form = format!("{form}&csrfToken={token}");
        request(path).visitor(&id).form(&form).run()
    };
    let show = || request("").visitor(&id).run().expect(200, "New note");
    post("/new", "note=a+%3Cb%3E").expect(303, "");
    assert!(show().body.contains("<li>a &lt;b&gt;</li>"));
    post("/clear", "").expect(303, "");
    assert!(!show().body.contains("<li>"));
    request("/other").run().expect(404, "no such page");
}

#[test]
fn configured_has_the_cookie_that_its_code_names() {
    let site = Site::with_settings("cookieName = file\n");
    let first = Cgi::new("configured", &site).run().expect(200, "1 in your");
    let cookie = first.header("set-cookie").unwrap();
    assert!(cookie.starts_with("shop=") && cookie.contains("SameSite=Strict"));
    let shown = cookie.split(';').next().unwrap();
    let second = Cgi::new("configured", &site).cookie(shown).run();
    second.expect(200, "2 in your basket");
}

#[test]
fn error_page_answers_instead_of_the_librarys_own() {
    let site = Site::new();
    let order = |number: &str| Cgi::new("error_page", &site).query(number).run();
    order("number=7").expect(200, "You ordered 7.");
    let failed = order("number=seven");
    assert!(failed.stderr.contains("invalid digit"), "{failed:#?}");
    assert_eq!(failed.status, 500);
    failed.expect_complete("This is our fault");
}
