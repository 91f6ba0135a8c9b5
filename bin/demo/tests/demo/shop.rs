//! The shop: frames that write at the same moment, and an order over several pages.

use std::sync::Barrier;
use std::thread;

use ureq::http::StatusCode;

use crate::server::{Server, Visitor};

const CART: &str = "/cgi-bin/cart";
const FRAMES: [&str; 2] = ["/cgi-bin/cart?page=discs", "/cgi-bin/cart?page=books"];
const BASKET: &str = "/cgi-bin/cart?page=basket";

/// Sends one of the shop's forms, and follows to the page that it leads to.
#[track_caller]
fn send(visitor: &Visitor, page: &str, fields: &[(&str, &str)]) -> crate::server::Page {
    visitor.submit(CART, &format!("{CART}?page={page}"), fields)
}

fn frames_write_at_once(server: &Server) {
    const ROUNDS: usize = 20;
    let visitor = server.visitor();
    let together = Barrier::new(FRAMES.len());
    for _ in 0..ROUNDS {
        send(&visitor, "both", &[]).says("<iframe");
        let load = |frame| {
            together.wait();
            visitor.get(frame).says("Put in: 1 ×");
        };
        thread::scope(|scope| {
            for frame in FRAMES {
                scope.spawn(|| load(frame));
            }
        });
    }
    let basket = visitor.get(BASKET);
    basket.says("The basket holds 40 articles.");
    basket.says("20 × Goldberg Variations");
    basket.says("20 × The Time Machine");
}

#[test]
fn two_frames_that_write_at_the_same_moment_lose_nothing() {
    frames_write_at_once(&Server::start());
}

#[test]
fn two_frames_that_write_at_the_same_moment_lose_nothing_in_responders() {
    frames_write_at_once(&Server::with_fastcgi());
}

#[test]
fn presses_that_no_frame_has_answered_yet_are_made_up_for() {
    let (_server, visitor) = Server::visited();
    for _ in 0..3 {
        send(&visitor, "both", &[]);
    }
    visitor.get(FRAMES[0]).says("Put in: 3 × Goldberg");
    visitor.get(FRAMES[1]).says("The basket holds 6 articles.");
}

#[test]
fn loading_a_frame_buys_nothing_that_no_button_asked_for() {
    let (_server, visitor) = Server::visited();
    send(&visitor, "both", &[]);
    for frame in FRAMES {
        visitor.get(frame).says("Put in: 1 ×");
        visitor.get(frame);
    }
    for frame in FRAMES {
        visitor.get(frame).says("The basket holds 2 articles.");
    }
}

#[test]
fn a_form_of_another_site_puts_nothing_into_the_basket() {
    let (_server, visitor) = Server::visited();
    visitor.get(CART);
    let article = ("article", "Goldberg Variations");
    for page in ["both", "discs", "address", "confirm"] {
        let refused = visitor.post(&format!("{CART}?page={page}"), &[article]);
        assert_eq!(refused.status, StatusCode::FORBIDDEN, "{page}");
    }
    visitor.get(FRAMES[0]).says("The basket holds nothing.");
    visitor.get(BASKET).says("The basket is empty.");
}

#[test]
fn only_what_a_shelf_has_can_be_taken_and_only_what_is_there_removed() {
    let (_server, visitor) = Server::visited();
    for (page, article) in [
        ("discs", "Middlemarch"),
        ("discs", "<script>"),
        ("basket", "Middlemarch"),
    ] {
        send(&visitor, page, &[("article", article)]);
    }
    visitor.get(BASKET).says("The basket is empty.");
    send(&visitor, "books", &[("article", "Middlemarch")]).says("The basket holds 1 article.");
    send(&visitor, "basket", &[("article", "Middlemarch")]).says("The basket is empty.");
}

#[test]
fn an_order_is_confirmed_by_a_page_that_lists_what_the_pages_before_were_told() {
    let (_server, visitor) = Server::visited();
    let empty = visitor.get("/cgi-bin/cart?page=confirm");
    empty.says("The basket is empty.");
    send(&visitor, "discs", &[("article", "Winter Journey")]);
    // What is missing is asked for.
    send(&visitor, "confirm", &[]).says("<h1>Address</h1>");
    let address = [("recipient", "A & B"), ("street", "<1>"), ("town", "T")];
    send(&visitor, "address", &address).says("Message with the present");
    send(&visitor, "present", &[("message", "")]).says("<h1>Card</h1>");
    let confirm = send(&visitor, "card", &[("card", "1111 2222 3333 4444")]);
    confirm
        .says("1 × Winter Journey")
        .says("<dd>A &amp; B</dd>")
        .says("<dd>&lt;1&gt;</dd>")
        .says("<dd>…4444</dd>");
    assert!(!confirm.text.contains("3333"));
    // Gone back, each page still knows what it was told.
    let again = visitor.get("/cgi-bin/cart?page=address");
    again.says("value=\"A &amp; B\"");
    let done = send(&visitor, "confirm", &[]);
    done.says("Thank you. 1 article on the way to A &amp; B.");
    assert!(!visitor.get(CART).text.contains("Thank you"));
    let after = send(&visitor, "confirm", &[]);
    after.says("The basket is empty.");
}
