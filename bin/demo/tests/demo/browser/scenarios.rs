//! What visitors of the older systems did, step by step, in a browser.

use serde_json::json;

use super::driver::Browser;
use super::in_browser;
use crate::server::Server;

#[test]
fn a_browser_walks_karrigells_pages() {
    in_browser(|mut browser, server| {
        for button in ["Send by POST", "Send by GET"] {
            browser.go(&server.url("/karrigell.html"));
            browser.fill("myname", "Lovelace");
            browser.fill("firstname", "Ada");
            browser.press_for(button, "Your name is Lovelace");
            browser.press_for("Follow", "Your first name is Ada");
            browser.press_for("Close the session", "The session is closed");
            assert!(server.session_files().is_empty());
            browser.back();
            browser.sees("firstname");
            browser.sees("The first page was not sent, or the session is closed");
            browser.go(&server.url("/cgi-bin/follow"));
            browser.sees("The first page was not sent, or the session is closed");
            browser.press_for("Begin again", "Tell the first page your name");
        }
    });
}

#[test]
fn the_buttons_of_the_examples_do_what_they_say() {
    in_browser(|mut browser, server| {
        for (page, button, text) in [
            ("counter", "Count again", "you've been here 2 time(s)"),
            ("lookup", "Expire it", "no session"),
            ("lookup", "Create one", "my_data"),
            ("visit", "Reload", "Welcome back."),
            ("visit", "Destroy the session", "The session is deleted."),
        ] {
            browser.go(&server.url(&format!("/cgi-bin/{page}")));
            browser.press_for(button, text);
        }
        browser.press_for("Visit again", "This is your first visit.");
    });
}

/// Two discs from one page and a book from another.
pub(super) fn fill_the_basket(browser: &mut Browser, server: &Server) {
    browser.go(&server.url("/cgi-bin/cart"));
    for (frame, article, number) in [
        ("Discs", "Goldberg Variations", 1),
        ("Discs", "Winter Journey", 2),
        ("Books", "Middlemarch", 3),
    ] {
        browser.press_within(frame, &format!("Put {article} into the basket"));
        let plural = if number == 1 { "" } else { "s" };
        let says = format!(
            "document.querySelector('iframe[title={frame}]')?.contentDocument?.body?.innerText
                .includes('The basket holds {number} article{plural}.')"
        );
        browser.becomes(&says, &json!(true));
    }
    browser.press_for("To the basket", "The basket holds 3 articles.");
}

/// Address, message and card, up to the page that asks for confirmation.
pub(super) fn write_the_order(browser: &mut Browser) {
    browser.press("Order");
    browser.fill("recipient", "Ada Lovelace");
    browser.fill("street", "12 St James’s Square");
    browser.fill("town", "London");
    browser.press("Go on");
    browser.fill("message", "Many happy returns");
    browser.press("Go on");
    browser.fill("card", "1111 2222 3333 4444");
    browser.press_for("Go on", "Is everything right?");
}

#[test]
fn two_frames_that_write_at_the_same_moment_lose_nothing_however_often() {
    in_browser(|mut browser, server| {
        browser.forbid_scripts();
        browser.go(&server.url("/cgi-bin/cart"));
        // A frame that loads yet would put in what the first press asks for, and nothing would show it.
        let loaded = "[...document.querySelectorAll('iframe')]
        .map(frame => /The basket/.test(frame.contentDocument?.body?.innerText))";
        browser.becomes(loaded, &json!([true, true]));
        let numbers = "[...document.querySelectorAll('iframe')].map(frame => {
        const text = frame.contentDocument?.body?.innerText;
        return Number(/Put in: 1 .* holds (\\d+)/.exec(text)?.[1]) || text;
        }).sort((a, b) => a - b)";
        for press in 1..=15 {
            browser.press("One of each, at the same moment");
            // Whichever was later has seen what the other had put in.
            browser.becomes(numbers, &json!([2 * press - 1, 2 * press]));
        }
        browser.press_for("To the basket", "The basket holds 30 articles.");
        browser.sees("15 × Goldberg Variations");
        browser.sees("15 × The Time Machine");
    });
}
