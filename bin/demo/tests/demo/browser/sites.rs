//! A browser on sites behind nginx, whose program runs by FastCGI, and behind Apache, by CGI and by FastCGI.

use std::env;
use std::fs;
use std::time::{Duration, SystemTime};

use serde_json::json;
use testkit::guarded::{self, Guard};
use testkit::servers::{Servers, Way};
use testkit::{apache, copy, nginx, program_of, tool};

use super::driver::Browser;
use crate::server::wait_for;

/// One server with each transport.
const WAYS: [&str; 2] = ["nginx, new connections", "Apache, mod_cgid"];

/// On a slow machine requests that wait for each other do so for long.
const PATIENT: &str = "lockTimeout = 90s\n";

/// The page of a program.
fn url(way: Way, page: &str) -> String {
    format!("http://127.0.0.1:{}{}", way.port, way.path(page))
}

/// Runs a test in a browser of its own on each of these ways, as far as the servers are installed.
fn by(ways: &[&str], settings: &str, test: impl Fn(&mut Browser, &Servers, Way)) {
    let settings = format!("{PATIENT}{settings}");
    in_front_of(&Servers::start_two(&settings, "", ""), ways, test);
}

fn in_front_of(servers: &Servers, ways: &[&str], test: impl Fn(&mut Browser, &Servers, Way)) {
    for way in ways.iter().filter_map(|name| servers.way(name)) {
        let Some(mut browser) = Browser::start() else {
            return;
        };
        eprintln!("{way:?}");
        test(&mut browser, servers, way);
    }
}

/// Logs ada in, with one of the boxes of the form checked, or none.
#[track_caller]
fn log_in(browser: &mut Browser, way: Way, checked: &str) {
    browser.go(&url(way, "/login"));
    browser.sees("Two people have an account here");
    browser.fill("name", "ada");
    browser.fill("password", "lovelace");
    browser.evaluate(&format!(
        "document.getElementsByName({})[0]?.click()",
        json!(checked)
    ));
    browser.press_for("Log in", "ada is logged in.");
}

#[test]
fn clicks_in_a_session_are_answered_while_a_stream_shows_its_events() {
    let ways = [WAYS[0], WAYS[1], "Apache, mod_proxy_fcgi"];
    by(&ways, "", |browser, _, way| {
        browser.go(&url(way, "/counter"));
        browser.sees("been here 1 time(s)");
        browser.go(&url(way, "/events"));
        for views in 1..=12 {
            browser.becomes(
                "document.getElementById('views')?.value",
                &json!(views.to_string()),
            );
            let click = "fetch('counter').then(answer => answer.text())";
            let page = browser.wait_for_promise(click);
            let next = format!("been here {} time(s)", views + 1);
            assert!(page.as_str().unwrap().contains(&next), "{page}");
        }
    });
}

#[test]
fn files_are_uploaded_with_the_forms_token_and_not_without() {
    let ways = [WAYS[0], "Apache, mod_proxy_fcgi", "Apache, mod_cgid"];
    by(&ways, "", |browser, servers, way| {
        // Beside the settings, which it finds there.
        let upload = servers.program().with_file_name("upload");
        if !upload.exists() {
            copy(&program_of("cgi-session-upload", "upload"), &upload);
        }
        let page = if way.prefix() == "/cgi-bin/app" {
            format!("http://127.0.0.1:{}/cgi-bin/upload", way.port)
        } else {
            let mut app = servers.app.lock().unwrap();
            drop(app.take());
            servers.socket.block();
            *app = Some(servers.socket.start(&upload));
            url(way, "/")
        };
        let files = tempfile::tempdir().unwrap();
        let sizes = [("one.bin", 700_000), ("two & a half.bin", 3)];
        let files = sizes.map(|(name, size)| {
            let path = files.path().join(name);
            fs::write(&path, vec![2; size]).unwrap();
            path
        });
        for has_token in [true, false] {
            browser.go(&page);
            browser.becomes("document.forms.length", &json!(1));
            browser.choose_files(&[&files[0], &files[1]]);
            browser.fill("title", "Two files");
            if !has_token {
                browser.evaluate("document.getElementsByName('csrfToken')[0].remove()");
            }
            browser.press("Send");
            if has_token {
                browser.sees("one.bin: 700000 bytes, sum 1400000");
                browser.sees("two & a half.bin: 3 bytes, sum 6");
                browser.sees("Two files");
            } else {
                browser.sees("403");
            }
        }
    });
}

#[test]
fn a_user_ends_the_session_of_another_browser_which_is_logged_out_at_its_next_click() {
    by(&WAYS, "recordClient = true\n", |one, _, way| {
        let mut other = Browser::start().unwrap();
        log_in(one, way, "");
        log_in(&mut other, way, "");
        one.go(&url(way, "/login"));
        one.sees("HeadlessChrome");
        one.sees("127.0.0.0/24");
        one.becomes("document.querySelectorAll('table tr').length", &json!(3));
        one.press_for("End it", "That session is ended.");
        one.becomes("document.querySelectorAll('table tr').length", &json!(2));
        other.press_for("Change my password", "403");
        other.go(&url(way, "/login"));
        other.sees("Two people have an account here");
        one.go(&url(way, "/login"));
        one.sees("ada is logged in.");
        one.press_for("Log out everywhere", "All your sessions are ended");
    });
}

#[test]
fn a_browser_that_is_closed_keeps_the_logins_that_it_was_to_keep() {
    by(&WAYS, "", |browser, _, way| {
        for (checked, page) in [
            ("", "Two people have an account here"),
            ("keep", "ada is logged in."),
            ("remember", "ada is logged in."),
        ] {
            log_in(browser, way, checked);
            browser.restart();
            browser.go(&url(way, "/login"));
            browser.sees(page);
            browser.call("Network.clearBrowserCookies", &json!({}));
        }
    });
}

#[test]
fn a_logout_lets_the_browser_delete_what_the_site_has_stored_there() {
    let stored = "localStorage.getItem('seen') + document.cookie";
    let settings = "clearSiteData = cookies, storage\n";
    by(&WAYS, settings, |browser, _, way| {
        log_in(browser, way, "");
        browser.evaluate("localStorage.setItem('seen', 'x'); document.cookie = 'y=z; path=/'");
        assert_eq!(browser.evaluate(stored), "xy=z");
        browser.press_for("Log out everywhere", "All your sessions are ended");
        browser.becomes(stored, &json!("null"));
        assert_eq!(browser.cookie(&url(way, ""), "sessionId"), None);
    });
}

#[test]
fn the_guard_opens_a_page_from_login_to_logout() {
    let servers = Servers::start_two(PATIENT, "", "");
    let site = &servers.site;
    let members = site.path().join("pages/members");
    fs::create_dir_all(&members).unwrap();
    let page = members.join("page.html");
    fs::write(&page, "<h1>For members</h1>").unwrap();
    // So old that a browser would keep it for days.
    let old = SystemTime::now() - Duration::from_secs(100 * 24 * 3600);
    let file = fs::File::options().write(true).open(page).unwrap();
    file.set_modified(old).unwrap();
    copy(&tool("cgi-session"), &site.path().join("cgi-session"));
    let wiki = guarded::start_wiki();
    let _guard = Guard::on_unix_socket(site);
    let (_plain, plain) = Guard::on_port(site, &[]);
    let nginx = guarded::start_nginx(site, wiki);
    let apache = guarded::start_apache(site, wiki, plain);
    let cases = [
        (nginx, WAYS[0], "location.pathname", "/app/login"),
        (apache, WAYS[1], "document.title", "401 Unauthorized"),
    ];
    for (server, way, shows, refusal) in cases {
        let (Some(server), Some(way), Some(mut browser)) =
            (server, servers.way(way), Browser::start())
        else {
            return;
        };
        let page = format!("http://127.0.0.1:{}/members/page.html", server.ports[0]);
        let refuses = |browser: &mut Browser| {
            browser.go(&page);
            browser.becomes(shows, &json!(refusal));
            let seen = browser.evaluate("document.querySelector('h1')?.innerText == 'For members'");
            assert_eq!(seen, false);
        };
        refuses(&mut browser);
        for (logout, said) in [
            ("Log out here", "You are logged out here."),
            ("Log out everywhere", "All your sessions are ended"),
        ] {
            log_in(&mut browser, way, "");
            browser.go(&page);
            browser.sees("For members");
            browser.go(&url(way, "/login"));
            browser.press(logout);
            browser.sees(said);
            refuses(&mut browser);
        }
    }
}

#[test]
fn back_shows_a_page_as_it_was_left_where_the_cache_limiter_allows_that() {
    by(
        &WAYS,
        "cacheLimiter = private, no-cache\n",
        |browser, _, way| {
            // Chromium does not keep a page that it cannot leave fast enough.
            let mut is_kept = |rounds: &u32| {
                browser.go(&url(way, "/counter"));
                browser.sees("been here");
                let seen = browser.evaluate("document.body.innerText");
                browser.evaluate("window.isLeft = true");
                browser.go(&url(way, "/visit"));
                browser.sees("visit");
                browser.back();
                browser.becomes("location.pathname.endsWith('/counter')", &json!(true));
                browser.sees("been here");
                let is_kept = browser.evaluate("window.isLeft === true") == true;
                let shown = browser.evaluate("document.body.innerText");
                assert!(!is_kept || shown == seen, "round {rounds}: {shown}");
                is_kept
            };
            let is_it = (1..=20).any(|round| is_kept(&round));
            assert!(is_it, "it is asked for anew each time");
            // Its own reload asks the program again.
            let before = browser.evaluate("document.body.innerText");
            browser.call("Page.reload", &json!({}));
            let is_other =
                format!("document.readyState == 'complete' && document.body.innerText != {before}");
            browser.becomes(&is_other, &json!(true));
        },
    );
}

#[test]
fn a_login_among_ten_requests_in_flight_ends_logged_in() {
    let rounds = env::var("LOGIN_RACES").map_or(10, |rounds| rounds.parse().unwrap());
    by(&WAYS, "", |browser, _, way| {
        browser.go(&url(way, "/lookup"));
        browser.sees("no session");
        for round in 0..rounds {
            let race = "(async () => {
                const get = wish => fetch('race?do=' + wish).then(answer => answer.text());
                await get('destroy');
                await get('open');
                const wishes = ['read', 'early&ms=20', 'open', 'login&ms=10', 'existing', 'read', 'open',
                    'early', 'existing', 'open'];
                await Promise.all(wishes.map(get));
                return (await get('read')) + (await get('open'));
            })()";
            let seen = browser.wait_for_promise(race);
            assert_eq!(seen, "ada is here\n".repeat(2), "{way:?}, round {round}");
        }
    });
}

#[test]
fn ten_requests_in_flight_at_a_rotation_leave_the_browser_logged_in() {
    by(&WAYS, "rotateAfter = 1s\n", |browser, _, way| {
        browser.go(&url(way, "/race?do=login"));
        browser.sees("ada is here");
        for _ in 0..5 {
            let before = browser.cookie(&url(way, ""), "sessionId");
            // Only a page rotates: requests of scripts have the old id until one is loaded.
            wait_for("the id is old enough", || {
                let race = "(async () => {
                    const get = wish => fetch('race?do=' + wish).then(answer => answer.status);
                    const wishes = ['read', 'early&ms=20', 'open', 'existing', 'read'];
                    const early = wishes.map(get);
                    const page = window.open('race?do=open');
                    const all = await Promise.all([...early, ...wishes.map(get)]);
                    while (page.location.href == 'about:blank' || page.document.readyState != 'complete')
                        await new Promise(resolve => setTimeout(resolve, 5));
                    page.close();
                    return all.every(status => [200, 503].includes(status));
                })()";
                assert_eq!(browser.wait_for_promise(race), true);
                (browser.cookie(&url(way, ""), "sessionId") != before).then_some(())
            });
            browser.go(&url(way, "/race?do=open"));
            browser.sees("ada is here");
        }
    });
}

#[test]
fn of_two_cookies_of_one_name_the_one_that_leads_to_a_session_counts() {
    by(&WAYS, "", |browser, _, way| {
        browser.go(&url(way, "/counter"));
        browser.sees("been here 1 time(s)");
        let dead = json!({
            "name": "sessionId", "value": "0123456789abcdef0123456789abcdef01234567",
            "url": url(way, ""), "path": way.path(""),
        });
        browser.call("Network.setCookie", &dead);
        browser.press_for("Count again", "been here 2 time(s)");
        browser.go(&url(way, "/race?do=destroy"));
        browser.sees("nobody is here");
        browser.go(&url(way, "/counter"));
        browser.sees("been here 1 time(s)");
        browser.press_for("Count again", "been here 2 time(s)");
        log_in(browser, way, "");
        browser.press_for("Log out everywhere", "All your sessions are ended");
        browser.go(&url(way, "/login"));
        browser.sees("Two people have an account here");
    });
}

/// Asks for a page by script; what is transferred but its body, the body, and what the server's cache did.
fn fetch(browser: &mut Browser, page: &str, mode: &str) -> (String, String) {
    let answer = browser.wait_for_promise(&format!(
        "fetch({page}, {{ cache: {mode} }}).then(async answer => {{
            const text = await answer.text();
            const entries = performance.getEntriesByName(new URL({page}, location).href);
            const {{ transferSize, encodedBodySize }} = entries.at(-1);
            const is_whole = transferSize > encodedBodySize + 200 && transferSize != 300;
            return [text + is_whole, answer.headers.get('x-cache').toUpperCase()];
        }})",
        page = json!(page),
        mode = json!(mode)
    ));
    println!("{answer}");
    serde_json::from_value(answer).unwrap()
}

#[test]
fn a_cache_of_the_server_asks_whether_a_page_has_changed_and_keeps_none_with_a_cookie() {
    let settings = "cacheLimiter = public\n";
    let servers = Servers::start_two(settings, &nginx::cache(), apache::CACHE);
    in_front_of(&servers, &WAYS, |browser, _, way| {
        browser.go(&url(way, "/lookup"));
        browser.sees("no session");
        let page = "statuses?etag=one&cache=public,max-age=1";
        let (text, cache) = fetch(browser, page, "default");
        let is_it = text == "a page\ntrue" && cache.starts_with("MISS");
        assert!(is_it, "{text} {cache}");
        wait_for("the cache asks the program again", || {
            // The browser asks the cache for as much: it has the page, and learns that it may show it.
            let (text, cache) = fetch(browser, page, "no-cache");
            assert_eq!(text, "a page\nfalse");
            cache.starts_with("REVALIDATE").then_some(())
        });
        let mut ids = Vec::new();
        for _ in 0..2 {
            browser.call("Network.clearBrowserCookies", &json!({}));
            let page = "statuses?session=1&etag=two&cache=public,max-age=60";
            let (_, cache) = fetch(browser, page, "no-store");
            assert!(cache.starts_with("MISS"), "{cache}");
            ids.push(browser.cookie(&url(way, ""), "sessionId"));
        }
        assert!(ids[0].is_some() && ids[0] != ids[1]);
    });
}
