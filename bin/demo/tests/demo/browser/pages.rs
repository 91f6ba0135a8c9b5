//! The pages themselves, as a browser shows them.

use std::env;
use std::fs;
use std::path::Path;

use serde_json::json;

use super::driver::Browser;
use super::{in_browser, log_in};

#[test]
fn the_burst_in_a_browser_counts_all_fifty_and_the_session_file_shows_it() {
    in_browser(|mut browser, server| {
        browser.go(&server.url("/"));
        browser.sees("You have no session yet");
        for range in ["2 to 51", "53 to 102"] {
            browser.press("Send 50 requests");
            browser.sees(&format!(
                "50 of 50 requests were counted: {range}, none twice, none missing."
            ));
            let seen = browser.evaluate("document.querySelectorAll('#answers li').length");
            assert_eq!(seen, 50);
        }
        // The page follows by itself.
        browser.sees("generation 102, current");
        let cookies = browser.call("Network.getCookies", &json!({}));
        let id = cookies["cookies"][0]["value"].as_str().unwrap().to_owned();
        let page = browser.evaluate("document.documentElement.outerHTML");
        assert!(!page.as_str().unwrap().contains(&id));

        let cookie = format!("sessionId={id}");
        let answer = server.raw(
        format!("GET /cgi-bin/counter HTTP/1.1\r\nHost: localhost\r\nCookie: {cookie}\r\nConnection: close\r\n\r\n").as_bytes(),
    );
        assert!(answer.contains("been here 103 time"), "{answer}");
        browser.sees("generation 103, current");
        browser.go(&server.url("/inspect"));
        browser.sees("generation 103, current");
    });
}

/// It writes them into the directory SCREENSHOTS, if that is set.
#[test]
fn the_screenshots_of_the_readme_can_be_made_again() {
    in_browser(|mut browser, server| {
        let file_end =
            "Math.ceil(document.getElementById('file').getBoundingClientRect().bottom) + 24";
        for scheme in ["light", "dark"] {
            browser.prefer(scheme);
            browser.resize(1080, 400);
            browser.call("Network.clearBrowserCookies", &json!({}));
            browser.go(&server.url("/"));
            browser.press_for("Send 50 requests", "none twice, none missing");
            browser.sees("generation 51, current");
            let height = browser.evaluate(file_end).as_u64().unwrap();
            browser.resize(1080, u32::try_from(height).unwrap());
            let picture = browser.screenshot();
            assert!(picture.starts_with(b"\x89PNG"));
            if let Some(directory) = env::var_os("SCREENSHOTS") {
                let file = Path::new(&directory).join(format!("demo-{scheme}.png"));
                fs::write(file, picture).unwrap();
            }
        }
    });
}

#[test]
fn no_page_is_wider_than_a_phone() {
    const PHONE: u32 = 360;
    in_browser(|mut browser, server| {
        browser.resize(PHONE, 740);
        let fits = |browser: &mut Browser, path: &str| {
            browser.go(&server.url(path));
            let shown = format!(
                "document.readyState == 'complete' && location.pathname + location.search == {}",
                json!(path)
            );
            browser.becomes(&shown, &json!(true));
            let width = browser.evaluate("document.documentElement.scrollWidth");
            assert_eq!(width, PHONE, "{path}");
            let cut = "[...document.querySelectorAll('iframe')].filter(frame =>
            frame.contentDocument.documentElement.scrollWidth > frame.clientWidth).length";
            assert_eq!(browser.evaluate(cut), 0, "{path}");
        };
        for path in [
            "/",
            "/karrigell.html",
            "/custom-store.html",
            "/cgi-bin/begin?myname=Lovelace&firstname=Ada",
            "/cgi-bin/cart",
            "/cgi-bin/cart?page=address",
            "/cgi-bin/cart?page=present",
            "/cgi-bin/cart?page=card",
            "/cgi-bin/counter",
            "/cgi-bin/features",
            "/cgi-bin/follow",
            "/cgi-bin/login",
            "/cgi-bin/lookup",
            "/cgi-bin/visit",
            "/inspect",
        ] {
            fits(&mut browser, path);
        }
        log_in(&mut browser, &server, "ada", "lovelace");
        fits(&mut browser, "/cgi-bin/login");
        super::scenarios::fill_the_basket(&mut browser, &server);
        fits(&mut browser, "/cgi-bin/cart?page=basket");
        super::scenarios::write_the_order(&mut browser);
        fits(&mut browser, "/cgi-bin/cart?page=confirm");
        browser.press_for(
            "Confirm the order",
            "Thank you. 3 articles on the way to Ada Lovelace.",
        );
    });
}

#[test]
fn the_features_work_in_a_browser_without_scripts() {
    in_browser(|mut browser, server| {
        browser.forbid_scripts();
        let page = server.url("/cgi-bin/features");
        browser.go(&page);
        browser.sees("A cookie is on its way");
        browser.go(&page);
        browser.sees("Your browser sent the cookie back.");
        browser.press_for("Leave a message", "This message was left for one page.");
        browser.go(&page);
        browser.sees("There is no message for this page.");
        browser.press_for("Keep a code for 10 seconds", "The code ends in ");
        browser.fill("choice", "2 hours");
        browser.press_for("Set", "Unused, this session lives for 120 minutes.");
        browser.fill("dish", "soup");
        browser.press_for("Go on", "Step 2: what do you drink with soup?");
        browser.evaluate("document.querySelectorAll('[name=drinks]').forEach(box => box.click())");
        browser.press_for("Go on", "You ordered soup with water and wine.");
    });
}
