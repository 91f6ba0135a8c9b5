//! What visitors of the older systems did, step by step, in a browser.

use serde_json::json;

use super::driver::Browser;
use super::log_in;
use crate::server::Server;

fn begin(browser: &mut Browser, server: &Server, button: &str) {
    browser.go(&server.url("/karrigell.html"));
    browser.fill("myname", "Lovelace");
    browser.fill("firstname", "Ada");
    browser.press(button);
    browser.sees("Your name is Lovelace");
}

#[test]
fn a_browser_walks_karrigells_pages() {
    let Some(mut browser) = Browser::start() else {
        return;
    };
    let server = Server::start();
    for button in ["Send by POST", "Send by GET"] {
        begin(&mut browser, &server, button);
        browser.press("Follow");
        browser.sees("Your first name is Ada");
        browser.press("Close the session");
        browser.sees("The session is closed");
        assert!(server.session_files().is_empty());
        browser.back();
        browser.sees("firstname");
        browser.sees("The first page was not sent, or the session is closed");
        browser.go(&server.url("/cgi-bin/follow"));
        browser.sees("The first page was not sent, or the session is closed");
        browser.press("Begin again");
        browser.sees("Tell the first page your name");
    }
}

#[test]
fn without_the_closing_step_one_can_follow_any_number_of_times() {
    let Some(mut browser) = Browser::start() else {
        return;
    };
    let server = Server::start();
    begin(&mut browser, &server, "Send by POST");
    for _ in 0..3 {
        browser.go(&server.url("/cgi-bin/follow"));
        browser.sees("Your first name is Ada");
    }
}

#[test]
fn two_browsers_are_counted_apart() {
    let (Some(mut one), Some(mut other)) = (Browser::start(), Browser::start()) else {
        return;
    };
    let server = Server::start();
    for browser in [&mut one, &mut other] {
        browser.go(&server.url("/cgi-bin/counter"));
        for views in 1..4 {
            browser.sees(&format!("you've been here {views} time(s)"));
            browser.press("Count again");
        }
        browser.sees("you've been here 4 time(s)");
    }
}

#[test]
fn looking_in_a_browser_makes_no_session_until_one_is_asked_for() {
    let Some(mut browser) = Browser::start() else {
        return;
    };
    let server = Server::start();
    browser.go(&server.url("/cgi-bin/lookup"));
    browser.sees("no session");
    assert!(server.session_files().is_empty());
    let cookies = browser.call("Network.getCookies", &json!({}));
    assert_eq!(cookies["cookies"], json!([]));
    browser.press("Create one");
    browser.sees("my_data");
    browser.press("Expire it");
    browser.sees("no session");
    assert!(server.session_files().is_empty());
}

#[test]
fn a_visit_is_greeted_remembered_and_forgotten() {
    let Some(mut browser) = Browser::start() else {
        return;
    };
    let server = Server::start();
    browser.go(&server.url("/cgi-bin/visit"));
    for _ in 0..2 {
        browser.sees("This is your first visit.");
        browser.press("Reload");
        browser.sees("Welcome back.");
        browser.press("Destroy the session");
        browser.sees("The session is deleted.");
        browser.press("Visit again");
    }
}

#[test]
fn two_applications_and_a_module_share_a_session_and_do_not_disturb_each_other() {
    let Some(mut browser) = Browser::start() else {
        return;
    };
    let server = Server::start();
    let names = "[...document.querySelectorAll('dl.says dd')].map(dd => dd.innerText).join()";
    browser.go(&server.url("/cgi-bin/features"));
    browser.sees("the name \"ticket\" is reserved");
    for (application, name, shown) in [("shop", "a", "a,nothing"), ("forum", "b", "a,b")] {
        browser.fill("text", name);
        // The second field of this name on the page.
        browser.evaluate(&format!(
            "document.getElementsByName('choice')[1].value = {}",
            json!(application)
        ));
        browser.press("Store under name");
        browser.becomes(names, &json!(shown));
    }
    log_in(&mut browser, &server, "ada", "lovelace");
    browser.sees("the name \"auth\" is reserved");
    browser.go(&server.url("/inspect"));
    browser.sees("auth (reserved), forum, shop");
    browser.go(&server.url("/cgi-bin/login"));
    browser.press("Log out everywhere");
    browser.sees("All your sessions are ended");
    assert!(server.session_files().is_empty());
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
    browser.press("To the basket");
    browser.sees("The basket holds 3 articles.");
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
    browser.press("Go on");
    browser.sees("Is everything right?");
}

#[test]
fn an_order_goes_over_its_pages_and_the_last_one_knows_everything() {
    let Some(mut browser) = Browser::start() else {
        return;
    };
    let server = Server::start();
    browser.forbid_scripts();
    fill_the_basket(&mut browser, &server);
    write_the_order(&mut browser);
    for text in [
        "1 × Goldberg Variations",
        "1 × Winter Journey",
        "1 × Middlemarch",
        "12 St James’s Square",
        "Many happy returns",
        "…4444",
    ] {
        browser.sees(text);
    }
    let hidden = "[...document.querySelectorAll('input')].map(field => field.name).join()";
    assert_eq!(browser.evaluate(hidden), "csrfToken");
    browser.press("Confirm the order");
    browser.sees("Thank you. 3 articles on the way to Ada Lovelace.");
    browser.press("To the basket");
    browser.sees("The basket is empty.");
}

#[test]
fn two_frames_that_write_at_the_same_moment_lose_nothing_however_often() {
    let Some(mut browser) = Browser::start() else {
        return;
    };
    let server = Server::start();
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
    browser.press("To the basket");
    browser.sees("The basket holds 30 articles.");
    browser.sees("15 × Goldberg Variations");
    browser.sees("15 × The Time Machine");
}

#[test]
fn two_browsers_log_out_here_and_everywhere() {
    let (Some(mut one), Some(mut other)) = (Browser::start(), Browser::start()) else {
        return;
    };
    let server = Server::start();
    let page = server.url("/cgi-bin/login");
    log_in(&mut one, &server, "ada", "lovelace");
    log_in(&mut other, &server, "ada", "lovelace");
    one.press("Log out here");
    one.sees("You are logged out here.");
    other.go(&page);
    other.sees("ada is logged in.");

    log_in(&mut one, &server, "ada", "lovelace");
    one.press("End my other sessions");
    one.sees("Your other session is ended.");
    other.go(&page);
    other.sees("Two people have an account here");

    other.evaluate("document.getElementsByName('remember')[0].click()");
    log_in_here(&mut other);
    // The browser is closed and opened again: what it was to keep is still there.
    other.call(
        "Network.deleteCookies",
        &json!({ "name": "sessionId", "url": page }),
    );
    other.go(&page);
    other.sees("ada is logged in.");

    one.go(&page);
    one.press("Log out everywhere");
    one.sees("All your sessions are ended");
    other.go(&page);
    other.sees("Two people have an account here");
}

fn log_in_here(browser: &mut Browser) {
    browser.fill("name", "ada");
    browser.fill("password", "lovelace");
    browser.press("Log in");
    browser.sees("ada is logged in.");
}
