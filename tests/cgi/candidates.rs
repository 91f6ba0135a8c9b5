//! Which of several ids of a request counts: the first that leads to a live session, whatever stands before it.

use crate::links::begins;
use testkit::prelude::*;

/// Ids that lead nowhere.
const DEAD: [&str; 8] = [
    "0123456789abcdef0123456789abcdef01234560",
    "0123456789abcdef0123456789abcdef01234561",
    "0123456789abcdef0123456789abcdef01234562",
    "0123456789abcdef0123456789abcdef01234563",
    "0123456789abcdef0123456789abcdef01234564",
    "0123456789abcdef0123456789abcdef01234565",
    "0123456789abcdef0123456789abcdef01234566",
    "0123456789abcdef0123456789abcdef01234567",
];

/// A request of the program that takes ids from links and forms, too, if the site allows that.
fn request(site: &Site) -> Cgi {
    Cgi::new("links", site)
}

/// A request with a cookie for each of these ids.
fn with_cookies(site: &Site, ids: &[&str]) -> Cgi {
    let cookies: Vec<_> = ids.iter().map(|id| format!("sessionId={id}")).collect();
    request(site).cookie(cookies.join("; "))
}

#[test]
fn a_dead_cookie_does_not_hide_the_session_of_a_link_or_a_form() {
    let site = Site::with_settings("\nidFrom = cookie, query, form\n");
    let id = request(&site).run().id();
    let shown = format!("sessionId={id}");
    let dead = || with_cookies(&site, &DEAD[..2]);
    let read = dead().query(&format!("mode=read&{shown}")).run();
    begins(&read, "read Some(Some(1))");
    for (page, views) in [(dead().query(&shown), 2), (dead().form(&shown), 3)] {
        let page = page.run();
        begins(&page, &format!("views {views}"));
        // A cookie would let whoever made the link give its session to others for good.
        assert_eq!(page.header("set-cookie"), None);
        let link = format!("next?a=1&{shown}#end");
        assert!(page.body.contains(&link), "{}", page.body);
    }
    let ended = dead().query(&format!("mode=destroy&{shown}")).run();
    assert!(ended.header("set-cookie").unwrap().contains("Max-Age=0"));
    assert!(site.files().is_empty());
}

#[test]
fn a_cookie_that_is_live_or_whose_id_was_just_changed_counts_before_any_link() {
    let site = Site::with_settings("\nidFrom = cookie, query, form\n");
    let (own, other) = (request(&site).run().id(), request(&site).run().id());
    let shown = format!("sessionId={other}");
    let page = with_cookies(&site, &[DEAD[0], &own]).query(&shown).run();
    begins(&page, "views 2");
    let changed = with_cookies(&site, &[&own]).query("mode=new+id").run();
    assert_ne!(changed.id(), own);
    // The browser is about to show the new id.
    let late = with_cookies(&site, &[&own]).query(&shown);
    assert_eq!(late.run().status, 503);
}

#[test]
fn cookies_and_links_together_are_at_most_eight_candidates() {
    let site = Site::with_settings("\nidFrom = cookie, query\n");
    let id = request(&site).run().id();
    for (cookies, links, views) in [(7, 0, 2), (6, 1, 3), (8, 0, 1), (6, 2, 1)] {
        let shown = [&DEAD[..links], &[&id]].concat().join("&sessionId=");
        let page = with_cookies(&site, &DEAD[8 - cookies..]);
        let page = page.query(&format!("sessionId={shown}")).run();
        begins(&page, &format!("views {views}"));
    }
}

/// Ways in which the file of a session can become one that cannot be read.
const SPOILS: [fn(&Path); 4] = [
    |file| fs::hard_link(file, file.with_extension("link")).unwrap(),
    |file| {
        fs::remove_file(file).unwrap();
        fs::create_dir(file).unwrap();
    },
    |file| {
        fs::rename(file, file.with_extension("moved")).unwrap();
        symlink(file.with_extension("moved"), file).unwrap();
    },
    |file| {
        let file = fs::File::options().write(true).open(file).unwrap();
        file.set_len(5 << 30).unwrap();
    },
];

#[test]
fn a_session_that_cannot_be_read_does_not_hide_the_next_one() {
    for spoil in SPOILS {
        let site = Site::new();
        let bad = request(&site).run().id();
        let file = site.only_file();
        let good = request(&site).run().id();
        spoil(&file);
        let both = || with_cookies(&site, &[&bad, &good]);
        let alone = with_cookies(&site, &[&bad, DEAD[0]]).run();
        assert_eq!(alone.status, 500, "{alone:?}");
        for (query, text) in [
            ("mode=read", "read Some(Some(1))"),
            ("", "views 2"),
            ("", "views 3"),
            ("mode=commit+and+destroy", "destroyed"),
        ] {
            let page = both().query(query).run();
            begins(&page, text);
            let reported = page.stderr.lines().filter(|line| line.contains("passed"));
            assert_eq!(reported.count(), 1, "{}", page.stderr);
        }
        let again = both().query("mode=destroy").run();
        assert_eq!(again.status, 500, "{again:?}");
        let good = request(&site).run().id();
        let ended = with_cookies(&site, &[&good, &bad]).query("mode=destroy");
        let ended = ended.run();
        assert!(ended.header("set-cookie").unwrap().contains("Max-Age=0"));
        let page = with_cookies(&site, &[&good]).run();
        begins(&page, "views 1");
    }
}
