//! The features page: each part by its form.

use std::fs;

use crate::server::{Page, Server, Visitor};

const FEATURES: &str = "/cgi-bin/features";

#[track_caller]
fn send(visitor: &Visitor, fields: &[(&str, &str)]) -> Page {
    visitor.submit(FEATURES, FEATURES, fields)
}

#[test]
fn a_message_is_shown_once() {
    let (_server, visitor) = Server::visited();
    send(&visitor, &[("do", "flash")]).says("This message was left for one page.");
    visitor.get(FEATURES).says("There is no message");
}

#[test]
fn a_value_that_ends_says_how_long_it_has_left() {
    let (_server, visitor) = Server::visited();
    visitor.get(FEATURES).says("There is no code.");
    send(&visitor, &[("do", "ending")]).says("The code ends in ");
}

#[test]
fn the_test_cookie_has_worked_when_it_came_back() {
    let (server, visitor) = Server::visited();
    visitor.get(FEATURES).says("A cookie is on its way");
    visitor.get(FEATURES).says("sent the cookie back");
    send(&visitor, &[("do", "test")]).says("A cookie is on its way");
    let other = server.visitor().get(FEATURES);
    other.says("A cookie is on its way");
}

#[test]
fn a_session_can_have_an_idle_time_of_its_own_and_give_it_up() {
    let (server, visitor) = Server::visited();
    visitor.get(FEATURES).says("lives for 60 minutes");
    let set = send(&visitor, &[("do", "idle"), ("choice", "1 minute")]);
    set.says("lives for 60 seconds");
    let file = server.session_files().remove(0);
    let stored = fs::read_to_string(&file).unwrap();
    assert!(stored.contains("\"timeout\":60,"), "{stored}");
    send(&visitor, &[("do", "idle"), ("choice", "for ever")]).says("lives for 60 seconds");
    send(&visitor, &[("do", "idle"), ("choice", "the site’s")]).says("lives for 60 minutes");
}

#[test]
fn applications_do_not_disturb_each_other_and_a_reserved_name_is_nobodys() {
    let (server, visitor) = Server::visited();
    let store = |application, text| {
        let choice = ("choice", application);
        send(&visitor, &[("do", "application"), choice, ("text", text)])
    };
    store("shop", "<a>").says("<dt>shop</dt><dd>&lt;a&gt;</dd>");
    store("forum", "b").says("<dt>shop</dt><dd>&lt;a&gt;</dd>\n<dt>forum</dt><dd>b</dd>");
    store("ticket", "c").says("the name \"ticket\" is reserved");
    let file = server.session_files().remove(0);
    assert!(!fs::read_to_string(&file).unwrap().contains("\"c\""));
}

#[test]
fn a_form_over_several_pages_knows_what_each_was_told() {
    let (_server, visitor) = Server::visited();
    let dish = [("do", "pages"), ("step", "drinks"), ("dish", "soup")];
    send(&visitor, &dish).says("what do you drink with soup?");
    let without = [("do", "pages"), ("step", "done")];
    let drinks = [&without[..], &[("drinks", "water"), ("drinks", "wine")]].concat();
    send(&visitor, &drinks).says("You ordered soup with water and wine.");
    let again = [("do", "pages"), ("step", "dish")];
    send(&visitor, &again).says("name=\"dish\" value=\"soup\"");
    send(&visitor, &dish);
    send(&visitor, &without).says("You ordered soup with no drink.");
}

#[test]
fn a_form_without_the_token_changes_nothing() {
    let (_server, visitor) = Server::visited();
    visitor.get(FEATURES);
    let refused = visitor.post(FEATURES, &[("do", "flash")]);
    assert_eq!(refused.status.as_u16(), 403);
    visitor.get(FEATURES).says("There is no message");
}

#[test]
fn links_carry_nothing_unless_the_configuration_says_so() {
    let server = Server::start();
    let page = server.visitor().get(FEATURES);
    page.says("The link below carries nothing.")
        .says("href=\"features#links\"");
    assert!(!page.text.contains("sessionId"));
}

/// A visitor who keeps no cookies asks for a page.
fn without_cookies(server: &Server, head: &str, body: &str) -> String {
    let request = format!(
        "{head} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    server.raw(request.as_bytes())
}

#[test]
fn where_ids_may_come_from_links_a_browser_without_cookies_is_known_by_them() {
    let server = Server::with_settings("idFrom = cookie, query, form");
    let first = without_cookies(&server, &format!("GET {FEATURES}"), "");
    assert!(first.contains("The link below carries your session’s id."));
    let link = first.split_once("href=\"features?").unwrap().1;
    let link = link.split('#').next().unwrap();
    let token = first.split_once("name=\"csrfToken\" value=\"").unwrap().1;
    let body = format!("csrfToken={}&do=flash", &token[..40]);
    let sent = without_cookies(&server, &format!("POST {FEATURES}?{link}"), &body);
    let location = format!("location: features?{link}");
    assert!(sent.contains(&location), "{sent}");
    let next = without_cookies(&server, &format!("GET {FEATURES}?{link}"), "");
    assert!(next.contains("This message was left for one page."));
    assert_eq!(server.session_files().len(), 1);
}
